package replica

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/spec"
)

// TestLeavesMeetTheSpecification runs random schedules of operations on leaves of all types, removals of
// whole subtrees, deliveries and collections of garbage, and compares what the replicas say with the
// specification: after every step if delivery is causal, else at the end.
func TestLeavesMeetTheSpecification(t *testing.T) {
	for _, c := range []struct {
		regions int
		causal  bool
	}{{2, true}, {3, true}, {2, false}, {3, false}, {4, false}} {
		t.Run(fmt.Sprintf("regions=%d,causal=%v", c.regions, c.causal), func(t *testing.T) {
			t.Parallel()
			for i := range uint64(max(1, *schedules/4)) {
				w := newLeafWorld(*firstSeed+i, c.regions, c.causal)
				if err := w.run(80); err != nil {
					t.Fatalf("seed %d: %v\n%s", *firstSeed+i, err, strings.Join(w.trace, "\n"))
				}
			}
		})
	}
}

// leafWorld is one schedule.
type leafWorld struct {
	rng     *rand.Rand
	causal  bool
	sites   []*site
	events  []*leafEvent
	seen    map[crdt.Dot]map[uint32]uint64
	digests map[string]Digest
	trace   []string
}

func newLeafWorld(seed uint64, regions int, causal bool) *leafWorld {
	w := &leafWorld{rng: rand.New(rand.NewPCG(seed, uint64(regions))), causal: causal, seen: map[crdt.Dot]map[uint32]uint64{}, digests: map[string]Digest{}}
	for i := range regions {
		s := &site{actor: crdt.Actor(i + 1), clock: 1000 + w.rng.Int64N(50), leader: newNode(crdt.Actor(i + 1)), follower: newNode(crdt.Actor(i + 1))}
		s.leader.headers = NewHeaders(2)
		s.leader.r.UseHeaders(s.leader.headers)
		w.sites = append(w.sites, s)
	}
	return w
}

func (w *leafWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *leafWorld) run(steps int) error {
	for range steps {
		s := w.sites[w.rng.IntN(len(w.sites))]
		var err error
		switch p := w.rng.IntN(100); {
		case p < 50:
			err = w.execute(s)
		case p < 85:
			from := w.sites[w.rng.IntN(len(w.sites))]
			err = w.deliver(s, from, 1+w.rng.IntN(4))
		case p < 90:
			err = errors.Join(s.leader.reopen(s.actor), s.follower.reopen(s.actor))
		case p < 95:
			err = w.collect(s)
		default:
			s.clock += w.rng.Int64N(200) - 80
		}
		if err == nil {
			err = w.check(s, w.causal)
		}
		if err != nil {
			return err
		}
	}
	return w.quiesce()
}

var (
	leafPaths   = []crdt.Path{leafPath("a"), leafPath("a", "b"), leafPath("a", "c", "d", "e"), leafPath("a\x00"), leafPath("ab")}
	leafTypes   = []crdt.Type{1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14}
	removePaths = append([]crdt.Path{{}, leafPath("a", "c"), leafPath("nothing")}, leafPaths...)
)

func leafPath(names ...string) crdt.Path {
	p, err := crdt.NewPath(names...)
	if err != nil {
		panic(err)
	}
	return p
}

func leafName(p crdt.Path, t crdt.Type) string { return fmt.Sprintf("%q %v", p.Names(), t) }

// op draws an operation. What it does, if anything, is in the event, but for what a removal found.
func (w *leafWorld) op(s *site) (Op, leafEvent) {
	op := Op{Namespace: "n", Key: "m", Path: leafPaths[w.rng.IntN(len(leafPaths))], AnyType: w.rng.IntN(2) == 0}
	t := leafTypes[w.rng.IntN(len(leafTypes))]
	switch w.rng.IntN(12) {
	case 0:
		op.Kind, op.Path = OpORMapRemove, removePaths[w.rng.IntN(len(removePaths))]
		return op, leafEvent{}
	case 1:
		op.Kind, op.Type = OpDelete, t*crdt.Type(w.rng.IntN(2))
		if w.rng.IntN(4) == 0 {
			op.Path, op.Type = crdt.Path{}, crdt.TypeORMap*crdt.Type(w.rng.IntN(2))
		}
		return op, leafEvent{}
	}
	e := leafEvent{Event: spec.Event{Of: t}, leaf: leafName(op.Path, t)}
	switch t {
	case crdt.TypeAWSet, crdt.TypeLWWMap, crdt.TypeZSet, crdt.TypeCounterZSet, crdt.TypeHLL:
		w.collectionOp(&op, &e)
	default:
		w.plainOp(s, &op, &e)
	}
	return op, e
}

// plainOp draws an operation of a type without names.
func (w *leafWorld) plainOp(s *site, op *Op, e *leafEvent) {
	n := w.rng.Int64N(21) - 10
	op.Delta, op.Value = n, fmt.Appendf(nil, "v%d", n)
	e.Names, e.Values, e.N = []string{""}, []string{string(op.Value)}, n
	again := w.rng.IntN(3) == 0
	switch e.Of {
	case crdt.TypeLWWRegister:
		op.Kind = OpPut
	case crdt.TypeCounter:
		op.Kind = OpCounterAdd
		if again {
			op.Kind, e.Replaces = OpCounterSet, true
		}
	case crdt.TypeMVRegister:
		op.Kind, e.Replaces = OpMVPut, true
	case crdt.TypeEWFlag:
		op.Kind, e.Replaces = OpFlagEnable, true
	case crdt.TypeMaxRegister:
		op.Kind = OpMax
	case crdt.TypeMinRegister:
		op.Kind = OpMin
	default:
		op.Kind = OpTimelineAdd
		if again {
			op.Kind, op.At = OpTimelineTrim, hlc.At(s.clock-200+w.rng.Int64N(150), 0)
			*e = leafEvent{Event: spec.Event{Of: e.Of, Before: uint64(op.At)}, leaf: e.leaf}
		}
	}
}

// collectionOp draws an operation of a type with names.
func (w *leafWorld) collectionOp(op *Op, e *leafEvent) {
	name := string(rune('p' + w.rng.IntN(3)))
	value := fmt.Sprint("v", w.rng.IntN(5))
	op.Elements, op.Type = [][]byte{[]byte(name)}, e.Of
	removes := w.rng.IntN(3) == 0
	e.N = w.rng.Int64N(9) - 4
	op.Score = float64(e.N)
	switch e.Of {
	case crdt.TypeAWSet:
		op.Kind, e.Replaces = OpSetAdd, true
		if removes {
			op.Kind = OpSetRemove
		}
	case crdt.TypeLWWMap:
		op.Kind, op.Values = OpMapPut, [][]byte{[]byte(value)}
		if removes {
			op.Kind = OpMapRemove
		}
	case crdt.TypeHLL:
		op.Kind, removes = OpHLLAdd, false
	default:
		op.Kind, e.Replaces = OpZSetAdd, true
		if w.rng.IntN(2) == 0 {
			op.Kind, e.Replaces = OpZSetIncr, false
		}
		if removes {
			op.Kind = OpZSetRemove
		}
	}
	if removes {
		e.Resets = []string{name}
	} else {
		e.Names, e.Values = []string{name}, []string{value}
	}
}

func (w *leafWorld) execute(s *site) error {
	op, e := w.op(s)
	now := hlc.At(s.clock, 0)
	s.clock += w.rng.Int64N(5)
	applied := vectorMap(s.leader.r)
	want := leavesOf(w.events, applied)
	before := fingerprint(s.leader)
	outcomes, deltas, err := s.leader.r.Execute(now, []Op{op})
	again, _, err2 := s.follower.r.Execute(now, []Op{op})
	w.note("%d: kind %d at %v of %v %q %q %v %d -> %+v, %d deltas, %v", s.actor, op.Kind, op.Path.Names(), op.Type, op.Elements, op.Value, op.Score, op.Delta, outcomes, len(deltas), err)
	if fmt.Sprint(outcomes, err) != fmt.Sprint(again, err2) {
		return fmt.Errorf("leader answers %+v %v, follower %+v %v", outcomes, err, again, err2)
	}
	if w.causal {
		if err := compareRefusal(&op, want, err); err != nil {
			return err
		}
	}
	var refused *OpError
	switch {
	case errors.As(err, &refused):
		if fingerprint(s.leader) != before {
			return fmt.Errorf("refused operation changed the replica: %w", err)
		}
		return nil
	case err != nil:
		return err
	case len(deltas) == 0:
		return nil
	}
	return w.record(s, &op, e, deltas[0], outcomes[0], applied, want)
}

// compareRefusal says what is wrong about how an operation on a leaf was answered, given what its region
// sees: it is refused if and only if there are leaves of other types only at its path.
func compareRefusal(op *Op, leaves map[string]string, err error) error {
	t, _ := op.check()
	if op.Kind == OpORMapRemove || op.Path.IsRoot() || op.AnyType || t == 0 {
		if err != nil {
			return fmt.Errorf("operation should not be refused: %w", err)
		}
		return nil
	}
	others := false
	for _, o := range leafTypes {
		if _, live := leaves[leafName(op.Path, o)]; live && o != t {
			others = true
		}
	}
	_, own := leaves[leafName(op.Path, t)]
	var wrong *WrongTypeError
	if errors.As(err, &wrong) != (others && !own) || err != nil && wrong == nil {
		return fmt.Errorf("operation on a %v at %v answers %w", t, op.Path.Names(), err)
	}
	return nil
}

// record appends what an operation did to the history and to the region's log.
func (w *leafWorld) record(s *site, op *Op, e leafEvent, d Delta, out Outcome, applied map[uint32]uint64, leaves map[string]string) error {
	e.Actor, e.Seq, e.Time, e.Seen = uint32(d.Dot.Actor), d.Dot.Seq, uint64(d.Time), applied
	w.seen[d.Dot] = applied
	s.log = append(s.log, EncodeDelta(d))
	if e.leaf != "" {
		if e.Of == crdt.TypeZSet && len(e.Names) > 0 {
			e.Values = []string{fmt.Sprint(out.Score)} // an increment writes the sum
		}
		w.events = append(w.events, &e)
		return nil
	}
	var removed []string
	for i := range d.Effects {
		part := e
		part.Clears, part.Of = true, d.Effects[i].Type
		part.leaf = leafName(d.Effects[i].Path, part.Of)
		removed = append(removed, part.leaf)
		w.events = append(w.events, &part)
	}
	if w.causal {
		if want := removedBy(op, leaves); !slices.Equal(slices.Sorted(slices.Values(removed)), want) {
			return fmt.Errorf("removed %q, want %q", removed, want)
		}
	}
	return nil
}

// removedBy returns the leaves that an operation that removes should take, sorted.
func removedBy(op *Op, leaves map[string]string) []string {
	var want []string
	for _, p := range leafPaths {
		for _, t := range leafTypes {
			if _, live := leaves[leafName(p, t)]; !live {
				continue
			}
			below := slices.Equal(p.Names()[:min(len(p.Names()), len(op.Path.Names()))], op.Path.Names())
			if op.Kind == OpDelete && !op.Path.IsRoot() {
				below = p == op.Path && (op.Type == 0 || op.Type == t)
			}
			if below {
				want = append(want, leafName(p, t))
			}
		}
	}
	slices.Sort(want)
	return want
}

// deliver merges what follows of another's log, up to the first delta that is not causally ready if
// delivery is causal.
func (w *leafWorld) deliver(to, from *site, limit int) error {
	if to == from {
		return nil
	}
	applied := vectorMap(to.leader.r)
	var deltas []Delta
	for seq := applied[uint32(from.actor)]; seq < uint64(len(from.log)) && len(deltas) < limit; seq++ {
		d, err := DecodeDelta(slices.Clone(from.log[seq]))
		if err != nil {
			return err
		}
		ready := true
		for a, n := range w.seen[d.Dot] {
			ready = ready && (applied[a] >= n || a == uint32(from.actor))
		}
		if w.causal && !ready {
			break
		}
		deltas = append(deltas, d)
	}
	if len(deltas) == 0 {
		return nil
	}
	_, err := to.leader.r.Merge(from.actor, deltas)
	_, err2 := to.follower.r.Merge(from.actor, deltas)
	w.note("%d: merge %d of %d -> %v", to.actor, len(deltas), from.actor, err)
	return errors.Join(err, err2)
}

// collect removes what is not needed behind the last that was heard of every other region.
func (w *leafWorld) collect(s *site) error {
	cut := hlc.Time(math.MaxUint64)
	for _, o := range w.sites {
		if o != s {
			cut = min(cut, s.leader.r.HLCOf(o.actor))
		}
	}
	w.note("%d: collect behind %v", s.actor, cut)
	_, err := s.leader.r.Expire(Expiry{Cut: cut, Limit: 1000})
	_, err2 := s.follower.r.Expire(Expiry{Cut: cut, Limit: 1000})
	return errors.Join(err, err2)
}

// check holds a region against the rules that hold at every step, and its leaves against the
// specification if they are exact now.
func (w *leafWorld) check(s *site, exact bool) error {
	r := s.leader.r
	if fingerprint(s.leader) != fingerprint(s.follower) {
		return fmt.Errorf("region %d: leader and follower differ", s.actor)
	}
	if err := audit(s.leader); err != nil {
		return fmt.Errorf("region %d: %w", s.actor, err)
	}
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	vector := fmt.Sprint(r.Vector())
	if earlier, ok := w.digests[vector]; ok && earlier != digest {
		return fmt.Errorf("region %d: digests differ at vector %s", s.actor, vector)
	}
	w.digests[vector] = digest
	if !exact {
		return nil
	}
	got, err := readLeaves(r, "n", "m")
	if want := leavesOf(w.events, vectorMap(r)); err != nil || !maps.Equal(got, want) {
		return fmt.Errorf("region %d: leaves %v, want %v, %w", s.actor, got, want, err)
	}
	o, found, err := r.LookupType("n", "m", crdt.TypeORMap, 0)
	if err != nil || found != (len(got) > 0) || o.Size != uint64(len(got)) {
		return fmt.Errorf("region %d: map of %d leaves is %+v, %v, %w", s.actor, len(got), o, found, err)
	}
	return nil
}

// exchange delivers everything, and checks all regions.
func (w *leafWorld) exchange() error {
	for range w.sites {
		for _, to := range w.sites {
			for _, from := range w.sites {
				if err := w.deliver(to, from, math.MaxInt); err != nil {
					return err
				}
			}
		}
	}
	for _, s := range w.sites {
		if err := w.check(s, true); err != nil {
			return err
		}
	}
	return nil
}

// quiesce delivers everything, removes everything, and finds nothing left but what counters keep.
func (w *leafWorld) quiesce() error {
	if err := w.exchange(); err != nil {
		return err
	}
	if err := w.removeAll(w.sites[0]); err != nil {
		return err
	}
	if err := w.exchange(); err != nil {
		return err
	}
	for _, s := range w.sites { // every region is heard of once more
		s.clock += 10_000
		heard := []Op{{Kind: OpFlagEnable, Key: "heard"}}
		_, deltas, err := s.leader.r.Execute(hlc.At(s.clock, 0), heard)
		_, _, err2 := s.follower.r.Execute(hlc.At(s.clock, 0), heard)
		if err != nil || err2 != nil {
			return errors.Join(err, err2)
		}
		s.log = append(s.log, EncodeDelta(deltas[0]))
	}
	if err := w.exchange(); err != nil {
		return err
	}
	for _, s := range w.sites {
		if err := w.nothingLeft(s); err != nil {
			return err
		}
	}
	return nil
}

func (w *leafWorld) removeAll(s *site) error {
	op, applied := Op{Kind: OpORMapRemove, Namespace: "n", Key: "m"}, vectorMap(s.leader.r)
	_, deltas, err := s.leader.r.Execute(hlc.At(s.clock, 0), []Op{op})
	_, _, err2 := s.follower.r.Execute(hlc.At(s.clock, 0), []Op{op})
	if err != nil || err2 != nil || len(deltas) == 0 {
		return errors.Join(err, err2)
	}
	return w.record(s, &op, leafEvent{}, deltas[0], Outcome{}, applied, leavesOf(w.events, applied))
}

// nothingLeft finds leaves of counters only in table N, once everything was removed and heard of.
func (w *leafWorld) nothingLeft(s *site) error {
	if err := w.collect(s); err != nil {
		return err
	}
	if err := w.check(s, true); err != nil {
		return err
	}
	m := s.leader.r.meta
	if m.preremovals != 0 || m.deferred != 0 {
		return fmt.Errorf("region %d is left with %d pre-removals and %d deferred clears", s.actor, m.preremovals, m.deferred)
	}
	return s.leader.kv.Scan([]byte{tableLeaf}, []byte{tableLeaf + 1}, func(k, _ []byte) (bool, error) {
		_, t, err := parseLeafKey(k)
		if err == nil && t != crdt.TypeCounter && t != crdt.TypeCounterZSet {
			err = fmt.Errorf("region %d is left with a %v", s.actor, t)
		}
		return err == nil, err
	})
}

// readLeaves reads all leaves by walking down the names, two at a time.
func readLeaves(r *Replica, namespace, key string) (map[string]string, error) {
	values := map[string]string{}
	var walk func(p crdt.Path) error
	walk = func(p crdt.Path) error {
		after := ""
		for {
			page, more, err := r.ORMapBranches(namespace, key, p, BranchPage{After: after, Limit: 2, MaxBytes: 1000})
			if err != nil || more && len(page) == 0 {
				return fmt.Errorf("page of %d names: %w", len(page), err)
			}
			for _, b := range page {
				below := leafPath(append(p.Names(), b.Name)...)
				if err := readBranch(r.Below(below), namespace+"\x00"+key, b, values); err != nil {
					return err
				}
				if b.Below {
					if err := walk(below); err != nil {
						return err
					}
				}
				after = b.Name
			}
			if !more {
				return nil
			}
		}
	}
	return values, walk(crdt.Path{})
}

// readBranch reads the leaves at the view's path; name is the namespace, 0x00 and the key.
func readBranch(view *Replica, name string, b Branch, values map[string]string) error {
	namespace, key, _ := strings.Cut(name, "\x00")
	p := view.path
	leaves, err := view.ORMapLeaves(namespace, key, p, 0)
	if err != nil || fmt.Sprint(leaves) != fmt.Sprint(b.Leaves) {
		return fmt.Errorf("leaves %+v at %v, %+v in the page, %w", leaves, p.Names(), b.Leaves, err)
	}
	for i := range leaves {
		text, err := leafText(view, &leaves[i])
		if err != nil {
			return err
		}
		values[leafName(p, leaves[i].Type)] = text
	}
	return nil
}

// leafText writes the value of a leaf as the specification does.
func leafText(r *Replica, o *Object) (string, error) {
	switch o.Type {
	case crdt.TypeLWWRegister:
		return "=" + string(o.Value), nil
	case crdt.TypeCounter, crdt.TypeMaxRegister, crdt.TypeMinRegister:
		return fmt.Sprint(o.Counter), nil
	case crdt.TypeHLL:
		return fmt.Sprint(o.Size), nil
	case crdt.TypeEWFlag:
		return "enabled", nil
	case crdt.TypeMVRegister:
		var parts []string
		for _, s := range o.Siblings {
			parts = append(parts, "="+string(s.Value))
		}
		return strings.Join(parts, " "), nil
	default:
		parts, err := leafParts(r, o)
		return strings.Join(parts, " "), err
	}
}

// leafParts reads a collection.
func leafParts(r *Replica, o *Object) (parts []string, err error) {
	all := func(name string, value any) { parts = append(parts, fmt.Sprint(name, "=", value)) }
	switch o.Type {
	case crdt.TypeAWSet:
		var m [][]byte
		m, _, err = r.SetMembers(o.Namespace, o.Key, nil, 100, 1000)
		parts = texts(m)
	case crdt.TypeLWWMap:
		var f []Field
		f, _, err = r.MapFields(o.Namespace, o.Key, nil, 100, 1000)
		for _, f := range f {
			all(string(f.Name), string(f.Value))
		}
	case crdt.TypeTimeline:
		var entries []crdt.TimelineEntry
		entries, _, err = r.Timeline(o.Namespace, o.Key, TimelineRange{Limit: 100, MaxBytes: 1000})
		for _, e := range entries {
			all("", string(e.Value))
		}
	case crdt.TypeZSet:
		var m []crdt.ZSetMember
		m, _, err = r.ZSetRange(o.Namespace, o.Key, ZSetRange{Low: math.Inf(-1), High: math.Inf(1), Limit: 100, MaxBytes: 1000})
		for _, m := range m {
			all(m.Member, m.Score)
		}
		slices.Sort(parts) // from the order of scores
	default:
		var m []crdt.CountedMember
		m, _, err = r.CounterZSetRange(o.Namespace, o.Key, CounterZSetRange{Low: math.MinInt64, High: math.MaxInt64, Limit: 100, MaxBytes: 1000})
		for _, m := range m {
			all(m.Member, m.Score)
		}
		slices.Sort(parts)
	}
	return parts, err
}
