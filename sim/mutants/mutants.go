package main

// mutant is one deliberate error.
type mutant struct {
	name string
	// class says what kind of error it is.
	class string
	// harm says what users would see.
	harm string
	file string
	// old is in the file exactly once; new takes its place.
	old, new string
	// tests are the packages, and what else go test is told.
	tests []string
}

// The classes of errors, after what others have lost data by.
const (
	reuse        = "a name for two events"
	gaps         = "deltas applied with a gap, or twice"
	absolute     = "state taken for a delta"
	resurrection = "removed values come back"
	inversion    = "a remove that comes before its add"
	tooEarly     = "garbage collected too early"
	clocks       = "clocks that are wrong"
	ties         = "ties broken by arrival"
	context_     = "causal context wrong"
	acks         = "acknowledged too early"
)

var (
	pure    = []string{"./crdt"}
	storage = []string{"./crdt/replica"}
	region  = []string{"./region"}
	across  = []string{"./crossregion/protocol"}
)

var mutants = []mutant{
	{"tie by arrival", ties, "two regions keep different values for ever", "crdt/register.go",
		"return cmp.Or(cmp.Compare(r.Home, o.Home), cmp.Compare(r.Time, o.Time), cmp.Compare(r.Actor, o.Actor))",
		"return cmp.Or(cmp.Compare(r.Home, o.Home), cmp.Compare(r.Time, o.Time))", pure},
	{"later arrival wins", ties, "a delayed write replaces a newer one", "crdt/replica/register.go",
		"	if have.Compare(change.LWWRegister) > 0 {\n		return nil", "	if ok && have.Seq == 0 {\n		return nil", storage},
	{"remainder carried over", absolute, "a reset of an older generation is ignored, and the counter doubles", "crdt/counter.go",
		"if old := c.row(d.Actor); old.Live() {", "if old := c.row(d.Actor); old.Entry.Seq != 0 {", append(pure, "./crdt/replica")},
	{"counter sums added", absolute, "a delta that arrives twice counts twice", "crdt/counter.go",
		"		a.Entry = b.Entry\n", "		sum := a.Entry.Sum\n		a.Entry = b.Entry\n		a.Entry.Sum += sum\n", pure},
	{"reset forgets its base", context_, "additions that a reset has seen come back", "crdt/counter.go",
		"	if cmp.Or(cmp.Compare(b.Base.Seq, a.Base.Seq), b.Base.Reset.Compare(a.Base.Reset)) > 0 {", "	if b.Base.Seq > a.Base.Seq && a.Base.Seq != 0 {", pure},
	{"counter rows dropped early", tooEarly, "an actor that has not seen a reset counts on from what was reset", "crdt/counter.go",
		"		if r.Actor == self {\n			return !r.Live()\n		}", "		if !r.Live() {\n			return true\n		}", append(pure, "./crdt/replica")},
	{"join keeps removed dots", resurrection, "a removed element comes back through a third region", "crdt/dot.go",
		"case order < 0 && !coveredB(a[0]):", "case order < 0:", append(pure, "./crdt/replica")},
	{"field of a newer program stays as it is here", ties, "regions keep different fields for ever", "crdt/fields.go",
		"case mine[0] < theirs[0] || mine[0] == theirs[0] && mine.bytes() >= theirs.bytes():", "case mine[0] <= theirs[0]:", pure},
	{"fields of a newer program replaced", absolute, "a delta without fields takes away those of the value", "crdt/counter.go",
		"	c.unknown = c.unknown.Join(o.unknown)\n", "	c.unknown = o.unknown\n", append(pure, "./crdt/replica")},
	{"add wins over nothing", context_, "a concurrent remove takes away an add that it has not seen", "crdt/replica/set_merge.go",
		"		takesAway(m.delta.Dot.Actor, change.Added, change.Removed))", "		func(crdt.Dot) bool { return change.Removed != nil })", storage},
	{"own earlier adds stay", resurrection, "an element that was removed in a run is back where the run began in the middle", "crdt/replica/fold_observed.go",
		"if have.Actor == author && (added || have.Seq <= last) {", "if have.Actor == author && added && last < 1<<60 {", storage},
	{"removes not joined", resurrection, "what a folded delta removed stays", "crdt/replica/fold_observed.go",
		"		if d.Actor != author || !added && d.Seq == last {", "		if d.Actor != author && b.Contains(d) || d.Actor == author && !added && d.Seq == last {", storage},
	{"runs applied anew", gaps, "an overlapping run is refused, or adds what was removed since", "crdt/replica/merge.go",
		"fresh = append(fresh, run.After(last)...)", "fresh = append(fresh, run.Deltas...)", storage},
	{"pre-removals not kept", inversion, "an add that arrives after its removal stays", "crdt/replica/set_merge.go",
		"		if w.meta.vector.Covers(d) {\n			continue\n		}", "		if !w.meta.vector.Covers(d) {\n			continue\n		}", storage},
	{"pre-removals not asked", inversion, "an add that arrives after its removal stays", "crdt/replica/set_merge.go",
		"	_, ok, err := w.kv.Get(preremovalKey(d, objectKey, element))\n	return ok, err", "	_, _, err := w.kv.Get(preremovalKey(d, objectKey, element))\n	return false, err", storage},
	{"deferred clears not kept", inversion, "elements that a clear has seen come back", "crdt/replica/set_merge.go",
		"if !m.meta.vector.Descends(cleared) {", "if m.meta.vector.Descends(cleared) {", storage},
	{"pre-removals forgotten early", tooEarly, "an add that is still on its way stays for ever", "crdt/replica/merge.go",
		"Seq: w.meta.vector.Get(actor) + 1}", "Seq: w.meta.vector.Get(actor) + 3}", storage},
	{"gap accepted", gaps, "a delta that is lost is never missed", "crdt/replica/merge.go",
		"if len(deltas) > 0 && deltas[0].Dot.Seq != have+1 {", "if len(deltas) > 0 && deltas[0].Dot.Seq < have+1 {", storage},
	{"repetitions applied", gaps, "what was removed since a delta was first applied comes back", "crdt/replica/merge.go",
		"for len(deltas) > 0 && deltas[0].Dot.Seq <= have {", "for len(deltas) > 0 && deltas[0].Dot.Seq < have {", storage},
	{"dot of a lost life accepted", reuse, "a region restored from an old copy gives names anew, and its writes are dropped elsewhere", "crdt/replica/merge.go",
		"case d.names(r.meta.self) > r.Seq():", "case d.names(r.meta.self) > r.Seq()+1<<40:", storage},
	{"dot used twice", reuse, "the second event is dropped as a repetition", "crdt/replica/execute.go",
		"w.meta.advance(d.Dot, d.Time)", "w.meta.advance(crdt.Dot{Actor: d.Dot.Actor, Seq: max(1, d.Dot.Seq-d.Dot.Seq%7/6)}, d.Time)", storage},
	{"event applied in part", context_, "a key that a batch changed keeps its old value in other regions", "crdt/replica/merge.go",
		"	for i := range d.Effects {\n		e := &d.Effects[i]\n", "	for i := range d.Effects[:min(1, len(d.Effects))] {\n		e := &d.Effects[i]\n", storage},
	{"nothing marked as applied", context_, "every delta comes again, and what was removed with it", "crdt/replica/merge.go",
		"	w.meta.advance(d.Dot, d.Time)\n	if len(d.Effects) > 0 {", "	w.meta.times[d.Dot.Actor] = d.Time\n	if len(d.Effects) > 0 {", storage},
	{"tombstones collected at once", tooEarly, "a write from before a delete comes back", "crdt/replica/expiry.go",
		"spent, err := instants(r.kv, tableSpent, x.Cut, x.Limit)", "spent, err := instants(r.kv, tableSpent, x.Now, x.Limit)", append(storage, "./region")},
	{"local time behind what was seen", clocks, "a writer loses against what it has replaced", "crdt/replica/meta.go",
		"return max(min(now, maxTime), m.latest().Next())", "return min(now, maxTime)", storage},
	{"time of other regions forgotten", clocks, "a writer loses against what it has replaced", "crdt/replica/meta.go",
		"m.last = max(m.last, at)", "if d.Actor == m.self {\n		m.last = max(m.last, at)\n	}", storage},
	{"time far ahead accepted", clocks, "a wrong clock wins every conflict from then on", "region/partition.go",
		"const DefaultClockAhead = 10 * time.Second", "const DefaultClockAhead = 1000 * time.Hour", region},
	{"op_id not remembered", gaps, "a retry counts twice", "region/apply.go",
		"		a.remember(w, names[0], outcomes, additions)\n", "		_ = additions\n", region},
	{"queued write applied again", gaps, "a local write counts twice", "region/apply.go",
		"if q.GetSeq() <= a.state.queues[q.GetQueue()] {", "if q.GetSeq() < a.state.queues[q.GetQueue()] {", region},
	{"outbox trimmed for the fastest", acks, "a region that was away never gets what was trimmed", "region/outbox_keeper.go",
		"to = min(to, waiters[0].seq)", "to = min(to, waiters[len(waiters)-1].seq)", region},
	{"fold over what begins before it", acks, "events that a run does not have leave the outbox with it", "region/outbox_fold.go",
		"		if p.first != next || p.seq > o.To {", "		if p.seq > o.To {", region},
	{"readmitted region not waited for", acks, "what a region lacks after the state is trimmed", "region/destinations.go",
		"			to = min(to, max(seq, e.ServedFrom-1))", "			to = min(to, a.state.outbox.head)", region},
	{"watermark of an unknown future", acks, "what a region is wrong about leaves the outbox unshipped", "region/partition_outbox.go",
		"		if w.Seq > view.Outbox.Head {", "		if w.Seq > view.Outbox.Head+1<<40 {", region},
	{"receiver believes what it asked for", acks, "a merge that failed is taken for done", "crossregion/protocol/receiver.go",
		"	r.applied = max(r.applied, applied)\n", "	if len(records) > 0 {\n		applied = records[len(records)-1].Seq\n	}\n	r.applied = max(r.applied, applied)\n", across},
	{"whole value replaced", absolute, "a maximum, a bounded counter or an estimate forgets what it had", "crdt/replica/whole.go",
		"	P(&s.value).Join(e.Change.(*wholeChange[V, P, T]).value)", "	s.value = e.Change.(*wholeChange[V, P, T]).value", storage},
	{"tombstone of a field collected at once", tooEarly, "a put from before a remove comes back", "crdt/replica/fields.go",
		"	if err != nil || !reg.Deleted || reg.Time > cut {", "	if err != nil || !reg.Deleted {", storage},
	{"score left in the index", resurrection, "a member is listed under a score that it no longer has", "crdt/replica/fields.go",
		"	return f.index(old.Value, name, false)\n", "	return nil\n", storage},
	{"sweep begins anew", gaps, "clearing a large set slows down every write for minutes", "crdt/replica/replica.go",
		"				start = append(swept, 0)\n", "				start = start[:len(start):len(start)]\n", storage},
	{"page ends one too early", gaps, "the last member of a page is left out", "crdt/replica/score.go",
		"case added >= p.limit ||", "case added+1 >= p.limit ||", storage},
	{"what was seen ahead not asked", context_, "a write that has seen another is taken for concurrent with it, and a conflict is counted that was none", "crdt/replica/causality.go",
		"		saw = first <= applied.Seq\n", "		saw = first == 0\n", storage},
	{"traces dropped before their owner knows", tooEarly, "an actor that has not seen a reset counts on from what was reset", "crdt/replica/settle.go",
		"	return owner == reset.Actor || w.meta.seen[owner].Covers(reset) ||", "	return owner == reset.Actor || w.meta.vector.Covers(reset) ||", storage},
	{"tick answered by a tick", gaps, "regions answer each other for ever, and no partition is ever idle", "crdt/replica/merge.go",
		"	if len(d.Effects) > 0 { // a tick needs no answer\n", "	if d.Dot.Seq > 0 {\n", append(storage, "./region")},
	{"expiry tells nobody", context_, "what has expired is never removed where other regions have nothing to write", "crdt/replica/expiry.go",
		"	e.w.meta.owe(i.at) //", "	//", append(storage, "./region")},
	{"expired before it was written", tooEarly, "a value that was written over comes back in one region", "crdt/replica/expiry.go",
		"{ return max(reg.Expires, reg.Time) }", "{ return reg.Expires }", storage},
	{"remove stops at its path", resurrection, "what is below a removed path stays", "crdt/replica/ormap_remove.go",
		"	prefix := leafPrefix(o.Namespace, o.Key, p)\n", "	prefix := placePrefix(o.Namespace, o.Key, p)\n", storage},
	{"leaf forgotten by its map", context_, "a map is not found although it has leaves", "crdt/replica/ormap.go",
		"	h.moved(before, after)\n	if event.Seq != 0 {", "	if event.Seq != 0 {", storage},
	{"additions to two leaves are one", gaps, "what is added to one leaf is counted in another", "region/coalesce.go",
		" && len(o.GetPath()) == 0 && ", " && ", region},
	{"rank counts the member itself", ties, "every rank from the end is one too high", "crdt/replica/score.go",
		"		start, end = append(own, 0), prefixEnd(prefix)\n", "		start, end = own, prefixEnd(prefix)\n", storage},
	{"end of a deadline lost to it", ties, "a value that was persisted or written anew vanishes in one region", "crdt/replica/deadline.go",
		"return cmp.Or(cmp.Compare(d.at, o.at), cmp.Compare(d.dot.Actor, o.dot.Actor), cmp.Compare(d.ended(), o.ended()))", "return cmp.Or(cmp.Compare(d.at, o.at), cmp.Compare(d.dot.Actor, o.dot.Actor))", storage},
	{"expiry takes what came after it", clocks, "what is written after an expiry goes with what had expired", "crdt/replica/overdue.go",
		"	o.until = held.deadline(t).until(o.at)\n", "	o.until = 0\n", storage},
	{"deadline of another value", resurrection, "a key that is written again vanishes when its old value would have", "crdt/replica/deadline.go",
		"	case active && (!live || !o.existed):\n", "	case active && !live && o.existed:\n", storage},
	{"elements moved out without their order", resurrection, "a sorted set that grew has no members by score", "crdt/replica/elements.go",
		"		if err == nil && in {\n			err = e.index(", "		if err == nil && !in {\n			err = e.index(", storage},
	{"limit of elements inside ignored", gaps, "every change of a large collection rewrites all of it", "crdt/replica/elements.go",
		"	return len(e.inside) <= limits.elements && size <= limits.bytes", "	return size <= limits.bytes || limits.elements > 0", storage},
}
