package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// timelineDeltas are what a replica makes of the operations of a timeline.
func timelineDeltas(t testing.TB) []Delta {
	t.Helper()
	r := open(t, NewMemory(), 1)
	_, add := do(t, r, Op{Kind: OpTimelineAdd, Namespace: "n", Key: "t", Value: []byte("entry")})
	_, again := do(t, r, Op{Kind: OpTimelineAdd, Namespace: "n", Key: "t"})
	_, trim := do(t, r, Op{Kind: OpTimelineTrim, Namespace: "n", Key: "t", At: again[0].Time})
	_, all := do(t, r, Op{Kind: OpDelete, Namespace: "n", Key: "t"})
	return []Delta{add[0], trim[0], all[0]}
}

// timeline notes a timeline's header.
func (a *auditor) timeline(k, v []byte) error {
	h, err := decodeTimelineHeader(v)
	if err != nil {
		return err
	}
	if h.kid != 0 {
		a.timelines[h.kid] = h
	}
	if h.mark != 0 {
		a.tables[tableSpent|0x80]++
		key := string(instantKey(tableSpent, h.mark-1, k))
		a.spent[key] = a.spent[key] || false // table Y comes later
	}
	return nil
}

// auditTimelines checks what must hold of timelines: the header counts the entries, each is of an event
// that was applied, none is before the mark, and table Y has every mark.
func (a *auditor) auditTimelines() error {
	for i, e := range a.entries {
		h, ok := a.timelines[a.entryKids[i]]
		switch {
		case !ok && a.garbage[a.entryKids[i]]:
		case !ok:
			return fmt.Errorf("entry %v of no timeline", e)
		case e.Time < h.mark || !somewhere(a.meta, crdt.Dot{Actor: e.Actor, Seq: e.Seq}):
			return fmt.Errorf("entry %v in timeline %+v", e, h)
		}
	}
	for kid, h := range a.timelines {
		if a.elements[kid] != h.count || a.garbage[kid] || kid >= a.meta.nextKid {
			return fmt.Errorf("timeline %+v has %d entries", h, a.elements[kid])
		}
		delete(a.elements, kid)
	}
	for key, found := range a.spent {
		if !found {
			return fmt.Errorf("table Y lacks %x", key)
		}
	}
	return nil
}

// timelineEvent is what an operation with an effect meant: an entry, or a trim if before is set.
type timelineEvent struct {
	actor  crdt.Actor
	seq    uint64
	time   hlc.Time
	before hlc.Time
	value  string
}

// timelineSpec returns the entries that a region which has applied that much sees: those that are not
// before any trim.
func timelineSpec(events []timelineEvent, applied crdt.VersionVector) []timelineEvent {
	var mark hlc.Time
	var entries []timelineEvent
	for _, e := range events {
		if e.seq <= applied.Get(e.actor) {
			mark = max(mark, e.before)
		}
	}
	for _, e := range events {
		if e.seq <= applied.Get(e.actor) && e.before == 0 && e.time >= mark {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b timelineEvent) int {
		return (crdt.TimelineEntry{Time: a.time, Actor: a.actor, Seq: a.seq}).Compare(crdt.TimelineEntry{Time: b.time, Actor: b.actor, Seq: b.seq})
	})
	return entries
}

// timelineWorld is a random history of one timeline in three regions. Each region is run twice, with
// a node that collects and one that does not.
type timelineWorld struct {
	*rand.Rand
	nodes, keeping []*node
	clocks         []int64
	logs           [][]Delta
	events         []timelineEvent
	digests        map[string]Digest
}

func TestTimelineMeetsTheSpecification(t *testing.T) {
	for seed := range uint64(80) {
		w := &timelineWorld{Rand: rand.New(rand.NewPCG(seed, 9)), digests: map[string]Digest{}}
		for i := range 3 {
			w.nodes, w.keeping = append(w.nodes, newNode(crdt.Actor(i+1))), append(w.keeping, newNode(crdt.Actor(i+1)))
			w.nodes[i].headers = NewHeaders(2)
			w.nodes[i].r.UseHeaders(w.nodes[i].headers)
			w.clocks = append(w.clocks, 1000+w.Int64N(20))
		}
		w.logs = make([][]Delta, 3)
		for step := range 120 {
			if err := w.step(w.IntN(3)); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
		if err := w.settle(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func (w *timelineWorld) step(i int) error {
	var err error
	switch p := w.IntN(100); {
	case p < 40:
		err = w.operate(i)
	case p < 85:
		err = w.deliver(i, w.IntN(3), 1+w.IntN(4))
	case p < 90:
		err = errors.Join(w.nodes[i].reopen(0), w.keeping[i].reopen(0))
	case p < 96:
		_, err = w.nodes[i].r.Expire(Expiry{Cut: w.cut(i), Limit: 1 + w.IntN(3)})
	default:
		w.clocks[i] += w.Int64N(60) - 25
	}
	return errors.Join(err, w.check(i))
}

// cut returns an instant from before which nothing can arrive at a region any more.
func (w *timelineWorld) cut(i int) hlc.Time {
	cut := max(w.nodes[i].r.LastHLC(), at(w.clocks[i]))
	for j := range w.nodes {
		if j != i {
			cut = min(cut, w.nodes[i].r.HLCOf(crdt.Actor(j+1)))
		}
	}
	return cut
}

func (w *timelineWorld) operate(i int) error {
	now := at(w.clocks[i])
	w.clocks[i] += w.Int64N(3)
	ops := make([]Op, 1+w.IntN(2))
	for j := range ops {
		ops[j] = Op{Kind: OpTimelineAdd, Key: "t", Value: fmt.Appendf(nil, "v%d", w.IntN(9))}
		switch w.IntN(8) {
		case 0:
			ops[j] = Op{Kind: OpDelete, Key: "t", Type: crdt.Type(w.IntN(2)) * crdt.TypeTimeline}
		case 1, 2:
			ops[j] = Op{Kind: OpTimelineTrim, Key: "t", At: now - hlc.Time(w.IntN(30)<<16) + hlc.Time(w.IntN(3))}
		}
	}
	visible := len(timelineSpec(w.events, w.nodes[i].r.Vector()))
	outcomes, deltas, err := w.nodes[i].r.Execute(now, ops)
	again, deltas2, err2 := w.keeping[i].r.Execute(now, ops)
	if refused := (&OpError{}); errors.As(err, &refused) && errors.Is(err, ErrTrimInFuture) {
		if ops[refused.Index].At <= max(now, w.nodes[i].r.LastHLC()) {
			return err
		}
		return nil
	}
	// The trims of one that has forgotten its mark are events even if they change nothing here.
	if err != nil || len(deltas) < len(deltas2) || err2 != nil {
		return fmt.Errorf("%v, %v; %v, %v: %w", outcomes, deltas, again, deltas2, errors.Join(err, err2))
	}
	if len(deltas) != len(deltas2) {
		if err := errors.Join(w.nodes[i].r.Flush(), w.keeping[i].open(w.nodes[i].kv.Clone())); err != nil {
			return err
		}
	}
	for _, d := range deltas {
		c := d.Effects[0].Change.(*TimelineChange)
		w.events = append(w.events, timelineEvent{d.Dot.Actor, d.Dot.Seq, d.Time, c.Before, string(c.Value)})
	}
	w.logs[i] = append(w.logs[i], deltas...)
	return checkTimelineOutcomes(ops, outcomes, visible)
}

// open has a node go on with a copy of another's storage.
func (n *node) open(kv *Memory) error {
	r, err := Open(kv, 0)
	n.kv, n.r = kv, r
	return err
}

// checkTimelineOutcomes checks answers by how many entries there were before.
func checkTimelineOutcomes(ops []Op, outcomes []Outcome, size int) error {
	for i, o := range outcomes {
		existed := size > 0
		switch {
		case ops[i].Kind == OpTimelineAdd:
			size++
			if o.Changed != 1 {
				return fmt.Errorf("add answers %+v", o)
			}
		case ops[i].Kind == OpDelete:
			size = 0
		default:
			size -= int(o.Changed)
		}
		if o.Existed != existed || o.Size != uint64(size) {
			return fmt.Errorf("operation %d answers %+v, %d entries are left", i, o, size)
		}
	}
	return nil
}

// deliver merges the next few deltas of a region, with some that were there before.
func (w *timelineWorld) deliver(to, from, n int) error {
	if to == from {
		return nil
	}
	have := int(w.nodes[to].r.Vector().Get(crdt.Actor(from + 1)))
	first, last := max(0, have-w.IntN(3)), min(len(w.logs[from]), have+n)
	var deltas []Delta
	for _, d := range w.logs[from][min(first, last):last] {
		back, err := DecodeDelta(EncodeDelta(d))
		if err != nil {
			return err
		}
		deltas = append(deltas, back)
	}
	_, err := w.nodes[to].r.Merge(crdt.Actor(from+1), deltas)
	_, err2 := w.keeping[to].r.Merge(crdt.Actor(from+1), deltas)
	return errors.Join(err, err2)
}

// check holds a region against the specification, and against all that had applied as much before.
func (w *timelineWorld) check(i int) error {
	for _, n := range []*node{w.nodes[i], w.keeping[i]} {
		if err := audit(n); err != nil {
			return err
		}
		digest, err := n.r.Digest()
		vector := fmt.Sprint(n.r.Vector())
		if earlier, ok := w.digests[vector]; err != nil || ok && earlier != digest {
			return fmt.Errorf("digests differ at %s, %w", vector, err)
		}
		w.digests[vector] = digest
		if err := w.compare(n.r, timelineSpec(w.events, n.r.Vector())); err != nil {
			return fmt.Errorf("region %d: %w", i, err)
		}
	}
	return nil
}

func (w *timelineWorld) compare(r *Replica, want []timelineEvent) error {
	o, found, err := r.Lookup("", "t", 0)
	if err != nil || found != (len(want) > 0) || o.Size != uint64(len(want)) {
		return fmt.Errorf("%+v %v, want %v, %w", o, found, want, err)
	}
	page := TimelineRange{OldestFirst: w.IntN(2) == 0, Limit: 1 + w.IntN(5), MaxBytes: 1 + w.IntN(9)}
	if w.IntN(2) == 0 && len(want) > 0 {
		page.From, page.Before = want[w.IntN(len(want))].time, want[w.IntN(len(want))].time
		want = slices.DeleteFunc(slices.Clone(want), func(e timelineEvent) bool { return e.time < page.From || e.time >= page.Before })
	}
	if !page.OldestFirst {
		slices.Reverse(want)
	}
	got, err := pages(r, page)
	same := slices.EqualFunc(got, want, func(a crdt.TimelineEntry, b timelineEvent) bool {
		return a.Time == b.time && a.Actor == b.actor && a.Seq == b.seq && string(a.Value) == b.value
	})
	if err != nil || !same {
		return fmt.Errorf("%+v: entries %v, want %v, %w", page, got, want, err)
	}
	return nil
}

// pages reads all pages of a range of the timeline "t".
func pages(r *Replica, want TimelineRange) (all []crdt.TimelineEntry, err error) {
	for {
		entries, more, err := r.Timeline("", "t", want)
		if err != nil || more && len(entries) == 0 || len(entries) > want.Limit {
			return nil, fmt.Errorf("%d entries, more %v, %w", len(entries), more, err)
		}
		all = append(all, entries...)
		if !more {
			return all, nil
		}
		want.After = TimelineID(entries[len(entries)-1])
	}
}

// settle delivers everything, then ends the timeline, and checks that nothing is left of it.
func (w *timelineWorld) settle() error {
	if err := errors.Join(w.deliverAll(), w.deliverAll()); err != nil {
		return err
	}
	for i, n := range w.nodes {
		op := Op{Kind: OpPut, Key: "other"} // lets the others know that nothing older comes
		if i == 0 {
			op = Op{Kind: OpTimelineTrim, Key: "t", At: at(5000)}
		}
		_, deltas, err := n.r.Execute(at(6000), []Op{op})
		if err != nil {
			return err
		}
		w.logs[i] = append(w.logs[i], deltas...)
		if i == 0 {
			w.events = append(w.events, timelineEvent{1, deltas[0].Dot.Seq, deltas[0].Time, at(5000), ""})
		}
	}
	if err := w.deliverAll(); err != nil {
		return err
	}
	for i, n := range w.nodes {
		if _, err := n.r.Expire(Expiry{Cut: w.cut(i), Limit: 100}); err != nil {
			return err
		}
		for n.r.meta.garbage > 0 {
			if _, _, err := n.r.Execute(0, nil); err != nil {
				return err
			}
		}
		if left := timelineResidue(n); left > 0 {
			return fmt.Errorf("region %d is left with %d pairs", i, left)
		}
	}
	return nil
}

func (w *timelineWorld) deliverAll() error {
	for to := range w.nodes {
		for from := range w.nodes {
			if err := w.deliver(to, from, 1000); err != nil {
				return err
			}
		}
		if err := w.check(to); err != nil {
			return err
		}
	}
	return nil
}

// timelineResidue counts what could be of the timeline "t".
func timelineResidue(n *node) int {
	left := 0
	_ = n.kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
		if bytes.Contains(k, []byte("t\x00\x01")) || k[0] == tableElement || k[0] == tableGarbage || k[0] == tableSpent {
			left++
		}
		return true, nil
	})
	return left
}

// explainTimeline returns how many parts the timeline "t" has, and their values, those that readers do
// not see in brackets.
func explainTimeline(t *testing.T, n *node) (uint64, []string) {
	t.Helper()
	e, err := n.r.Explain("", "t")
	if err != nil || len(e) != 1 {
		t.Fatalf("explain %+v, %v", e, err)
	}
	var parts []string
	for _, p := range e[0].Parts {
		text, _, _ := strings.Cut(p.Value, " before")
		if p.Hidden {
			text = "[" + text + "]"
		}
		parts = append(parts, text)
	}
	return e[0].Size, parts
}

// wantTimeline checks what explains the timeline "t", and that the tables agree.
func wantTimeline(t *testing.T, n *node, want ...string) {
	t.Helper()
	if size, parts := explainTimeline(t, n); size != uint64(len(want)) || !slices.Equal(parts, want) {
		t.Fatalf("%d parts %q, want %q", size, parts, want)
	}
	if err := audit(n); err != nil {
		t.Fatal(err)
	}
}

// TestTimelineTrims: what arrives late is dropped until nothing can arrive late, then the mark goes.
func TestTimelineTrims(t *testing.T) {
	a, b := newNode(1), newNode(2)
	_, late := do(t, a.r, Op{Kind: OpTimelineAdd, Key: "t", Value: []byte("late")})
	_, kept := do(t, a.r, Op{Kind: OpTimelineAdd, Key: "t", Value: []byte("kept")})
	outcome, trim := do(t, b.r, Op{Kind: OpTimelineTrim, Key: "t", At: kept[0].Time})
	if outcome != (Outcome{Version: "2.1"}) || len(trim) != 1 {
		t.Fatalf("a trim ahead of what it trims: %+v, %v", outcome, trim)
	}
	if _, found, err := b.r.Lookup("", "t", noon); found || err != nil {
		t.Fatalf("a mark alone is seen: %v", err)
	}
	for _, before := range []hlc.Time{late[0].Time, kept[0].Time} {
		again, deltas := do(t, b.r, Op{Kind: OpTimelineTrim, Key: "t", At: before})
		if again != (Outcome{}) || len(deltas) > 0 {
			t.Fatalf("a trim that is not later has an effect: %+v", again)
		}
	}
	merge(t, b.r, late...)
	if due, err := b.r.Due(Expiry{Cut: kept[0].Time - 2}); due || err != nil {
		t.Fatalf("due too early, %v", err)
	}
	wantTimeline(t, b, "[trimmed]")
	merge(t, b.r, kept...)
	wantTimeline(t, b, "[trimmed]", `"kept"`)
	if err := (timelineKind{}).collect(b.r.begin(false), objectKey("", "t", crdt.TypeTimeline), kept[0].Time-2, nil); err != nil {
		t.Fatal(err)
	}
	wantTimeline(t, b, "[trimmed]", `"kept"`)
	if _, err := b.r.Expire(Expiry{Cut: kept[0].Time - 1, Limit: 9}); err != nil {
		t.Fatal(err)
	}
	wantTimeline(t, b, `"kept"`)
}

// TestTimelineTrimInFuture: a trim may take the present instant with it, and not more. One that was
// acknowledged before is cut down instead.
func TestTimelineTrimInFuture(t *testing.T) {
	for _, c := range []struct {
		at      hlc.Time
		anyType bool
		refused bool
	}{{noon + 1, false, false}, {noon + 2, false, true}, {maxTime, false, true}, {maxTime, true, false}} {
		r := open(t, NewMemory(), 1)
		_, deltas, err := r.Execute(noon, []Op{{Kind: OpTimelineTrim, Key: "t", At: c.at, AnyType: c.anyType}})
		if errors.Is(err, ErrTrimInFuture) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
		if !c.refused && deltas[0].Effects[0].Change.(*TimelineChange).Before != noon+1 {
			t.Errorf("%+v: %+v", c, deltas)
		}
	}
}

func TestTimelineIsFull(t *testing.T) {
	n := newNode(1)
	h := timelineHeader{last: crdt.Dot{Actor: 1, Seq: 1}, elements: elements{kid: 1}, count: MaxSetElements}
	if err := n.kv.Put(objectKey("", "t", crdt.TypeTimeline), h.append(nil)); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(n)
	if _, _, err := n.r.Execute(noon, []Op{{Kind: OpTimelineAdd, Key: "t"}}); !errors.Is(err, ErrTooManyElements) || fingerprint(n) != before {
		t.Errorf("%v", err)
	}
}

func TestTimelineHeaderRefuses(t *testing.T) {
	outside := elements{kid: 1}
	for _, h := range []timelineHeader{{}, {elements: outside}, {count: 1}, {elements: outside, mark: 5}, {count: 1, mark: 5}} {
		h.last = crdt.Dot{Actor: 1, Seq: 1}
		if _, err := decodeTimelineHeader(h.append(nil)); !errors.Is(err, crdt.ErrCorrupt) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// TestTimelineCosts: what an operation or a page costs does not grow with the timeline, a trim costs
// what it removes, and a trim of all is spread over later calls. The entries come in bursts: a
// thousand in a millisecond, then none for a while.
func TestTimelineCosts(t *testing.T) {
	n := newNode(1)
	const size = 5000
	for i := range size {
		now := at(1_000_000 + int64(i/1000)*86_400_000)
		if _, _, err := n.r.Execute(now, []Op{{Kind: OpTimelineAdd, Key: "t", Value: fmt.Appendf(nil, "%04d", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.r.Flush(); err != nil {
		t.Fatal(err)
	}
	kv := &counting{KV: n.kv}
	n.r = open(t, kv, 1)
	*kv = counting{KV: n.kv}
	do(t, n.r, Op{Kind: OpTimelineAdd, Key: "t", Value: []byte("5000")})
	kv.wantAtMost(t, "add", counting{gets: 2, visits: 2, writes: 2, bytes: 200})
	entries, more, err := n.r.Timeline("", "t", TimelineRange{Limit: 10, MaxBytes: 1000})
	if err != nil || !more || len(entries) != 10 || string(entries[9].Value) != "4991" {
		t.Errorf("%d entries, %v, %v", len(entries), more, err)
	}
	kv.wantAtMost(t, "newest", counting{gets: 20, visits: 2500})
	outcome, _ := do(t, n.r, Op{Kind: OpTimelineTrim, Key: "t", At: at(1_000_000 + 1)})
	if outcome.Changed != 1000 || outcome.Size != size-999 {
		t.Errorf("trim: %+v", outcome)
	}
	kv.wantAtMost(t, "trim", counting{gets: 2, visits: 1003, writes: 1002, bytes: 200})
	outcome, deltas := do(t, n.r, Op{Kind: OpDelete, Key: "t"})
	if outcome.Changed != size-999 || outcome.Size != 0 || len(EncodeDelta(deltas[0])) > 40 {
		t.Errorf("delete: %+v", outcome)
	}
	kv.wantAtMost(t, "delete", counting{gets: 2, visits: sweepBudget + 3, writes: sweepBudget + 5, bytes: 200})
}

// TestTimelinePagesHoweverSpread: the newest come first and each once, and cost alike, whether entries
// are bunched or far apart.
func TestTimelinePagesHoweverSpread(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 3))
		n := newNode(1)
		var all []hlc.Time
		now, gap := noon, 0
		for range 1500 {
			if rng.IntN(100) == 0 {
				gap = rng.IntN(50)
			}
			now += 1 + hlc.Time(rng.Uint64N(1<<gap))
			value := make([]byte, rng.IntN(2)*rng.IntN(60))
			if _, _, err := n.r.Execute(now, []Op{{Kind: OpTimelineAdd, Key: "t", Value: value}}); err != nil {
				t.Fatal(err)
			}
			all = append(all, now)
		}
		slices.Reverse(all)
		kv := &counting{KV: n.kv}
		n.r.kv = kv
		for range 10 {
			first, last := rng.IntN(len(all)), rng.IntN(len(all)+1)
			want := TimelineRange{Before: all[first] + 1, Limit: 1 + rng.IntN(100), MaxBytes: 1 + rng.IntN(4000)}
			if last < len(all) {
				want.From = all[last]
			}
			if rng.IntN(4) == 0 {
				want.MaxBytes = 1 // less than most entries have
			}
			wantPages(t, kv, n.r, want, all[first:max(first, min(last+1, len(all)))])
		}
	}
}

// wantPages checks the pages of a range, and what each costs.
func wantPages(t *testing.T, kv *counting, r *Replica, want TimelineRange, times []hlc.Time) {
	t.Helper()
	for {
		*kv = counting{KV: kv.KV}
		entries, more, err := r.Timeline("", "t", want)
		if err != nil || len(entries) > len(times) || more && len(entries) == 0 {
			t.Fatalf("%+v: %d entries of %d, %v", want, len(entries), len(times), err)
		}
		for i, e := range entries {
			if e.Time != times[i] {
				t.Fatalf("%+v: entry %d is of %v, want %v", want, i, e.Time, times[i])
			}
		}
		if kv.visits > 1500+8*want.Limit {
			t.Errorf("%+v: %+v", want, kv)
		}
		if times = times[len(entries):]; !more {
			break
		}
		want.After = TimelineID(entries[len(entries)-1])
	}
	if len(times) > 0 {
		t.Fatalf("%+v: %d entries are missing", want, len(times))
	}
}

// wantAtMost checks what was counted, and begins anew.
func (c *counting) wantAtMost(t *testing.T, what string, most counting) {
	t.Helper()
	if c.gets > most.gets || c.visits > most.visits || c.writes > most.writes || c.bytes > most.bytes {
		t.Errorf("%s: %+v", what, c)
	}
	*c = counting{KV: c.KV}
}
