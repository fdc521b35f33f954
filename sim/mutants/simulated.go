package main

// protocolMutants are errors that only regions together show: the simulated world has to notice them. Their
// classes are those of others' accounts of lost data.
var protocolMutants = []mutant{
	{"applied what only arrived", acks, "a region's crash loses what the origin has trimmed", "crossregion/protocol/receiver.go",
		"func (r *Receiver) Applied() uint64 { return r.applied }", "func (r *Receiver) Applied() uint64 { return r.head }", nil},
	{"watermark one too high", acks, "the last event is trimmed before it is applied", "crossregion/protocol/watermark.go",
		"	r.applied[p] = seq\n", "	r.applied[p] = seq + 1\n", nil},
	{"trimmed by the slowest but one", acks, "a region that was away never gets what was trimmed", "region/outbox.go",
		"	seq = min(seq, o.bounds.head)\n", "	seq = min(seq+1, o.bounds.head)\n", nil},
	{"gap in the buffer merged", gaps, "a delta that is lost is never missed", "crossregion/protocol/receiver.go",
		"	return len(r.waiting) > 0 && r.waiting[0].Begin() <= r.applied+1", "	return len(r.waiting) > 0 && r.waiting[0].Begin() <= r.applied+2", nil},
	{"gap never fetched", gaps, "what is lost stays lost", "crossregion/protocol/receiver.go",
		"		return r.gapAt.Add(r.tuning.GapWait)", "		return time.Time{}", nil},
	{"lost tail never fetched", gaps, "the last write before an idle time does not arrive", "crossregion/protocol/receiver.go",
		"		return r.movedAt.Add(r.tuning.StallWait)", "		return time.Time{}", nil},
	{"watermarks sent once", acks, "a lost watermark keeps the outbox for ever", "crossregion/protocol/watermark.go",
		"		send = maps.Clone(r.applied)\n", "		send = map[topology.PartitionID]uint64{}\n", nil},
	{"watermark recorded though it failed", acks, "the outbox is never trimmed", "crossregion/protocol/watermark.go",
		"		a.retry.Failed(now)\n		return\n", "		a.retry.Failed(now)\n", nil},
	{"lowest records dropped from a full buffer", gaps, "a region that was cut off does not catch up", "crossregion/protocol/receiver.go",
		"		last := len(r.waiting) - 1\n		r.waitingBytes -= r.waiting[last].bytes\n		r.waiting[last] = chunk{}\n		r.waiting = r.waiting[:last]\n",
		"		r.waitingBytes -= r.waiting[0].bytes\n		r.waiting = r.waiting[1:]\n", nil},
	{"entries applied again after a restart", gaps, "a counter is inflated by every restart", "region/apply.go",
		"	if e.Index <= a.state.position.Index {\n		return nil\n	}\n", "	if e.Index+1 <= a.state.position.Index {\n		return nil\n	}\n", nil},
	{"additions together lose one", absolute, "one of many increments is lost", "region/coalesce.go",
		"	op[0].Delta = end - start\n", "	op[0].Delta = end - start - int64(len(fresh)-1)\n", nil},
	{"id not remembered where additions are one", gaps, "a retry counts twice", "region/coalesce.go",
		"		a.remember(w, names[0], results[i].outcomes, own)\n", "		_ = own\n", nil},
	{"old view after a snapshot", context_, "a replica that was set up anew answers from before", "region/snapshot.go",
		"	return m.refresh()\n", "	_ = m.refresh\n	return nil\n", nil},
	{"cut without one region", tooEarly, "a write from before a delete comes back", "region/expire.go",
		"	for _, d := range p.destinations {\n		last := hlc.Time(0)", "	for _, d := range p.destinations[1:] {\n		last := hlc.Time(0)", nil},
	{"no ticks", tooEarly, "what was deleted is kept for ever", "region/tick.go",
		"	if view.Owed == 0 {\n", "	if view.Owed != 1 {\n", nil},
	{"outbox trimmed beyond watermarks", acks, "a region that was away never gets what was trimmed", "region/destinations.go",
		"			to = min(to, seq)", "			to = min(to, seq+1)", nil},
	{"transfer ended after a chunk", gaps, "a region says it has what it was never sent", "crdt/replica/resync_join.go",
		"	l.cursor = j.cursor\n", "	l.cursor = Position{End: true}\n", nil},
	{"chunks of the live state", context_, "a transfer counts twice what happened while it went on", "region/export.go",
		"	if err := fn(x.snapshot.KV(), x.replica); err != nil {",
		"	live := func(kv replica.KV) error {\n		r, _ := replica.Open(kv, e.machine.self)\n		return fn(kv, r)\n	}\n	if err := e.machine.store.View(live); err != nil {", nil},
}

// alsoSimulated names those of the other mutants that the simulated world has to notice, too.
var alsoSimulated = map[string]bool{
	"dot used twice":                      true,
	"event applied in part":               true,
	"nothing marked as applied":           true,
	"tombstones collected at once":        true,
	"later arrival wins":                  true,
	"tie by arrival":                      true,
	"counter sums added":                  true,
	"reset forgets its base":              true,
	"counter rows dropped early":          true,
	"join keeps removed dots":             true,
	"add wins over nothing":               true,
	"own earlier adds stay":               true,
	"removes not joined":                  true,
	"pre-removals not kept":               true,
	"pre-removals not asked":              true,
	"deferred clears not kept":            true,
	"pre-removals forgotten early":        true,
	"dot of a lost life accepted":         true,
	"local time behind what was seen":     true,
	"time of other regions forgotten":     true,
	"op_id not remembered":                true,
	"outbox trimmed for the fastest":      true,
	"receiver believes what it asked for": true,
	"whole value replaced":                true,
}

// all returns every mutant.
func all() []mutant { return append(append([]mutant(nil), mutants...), protocolMutants...) }

// simulated reports whether the simulated world has to notice a mutant.
func (m *mutant) simulated() bool { return m.tests == nil || alsoSimulated[m.name] }
