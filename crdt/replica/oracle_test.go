package replica

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

var (
	schedules = flag.Int("schedules", 100, "random schedules per configuration of the oracle test")
	firstSeed = flag.Uint64("seed", 1, "seed of the first schedule of the oracle test")
)

// TestReplicaMeetsTheSpecification runs random schedules of local operations and deliveries between
// regions, and compares what the replicas say with the specification: after every step if delivery
// is causal, else, where removes may overtake the adds they observed, at the end.
func TestReplicaMeetsTheSpecification(t *testing.T) {
	for _, c := range []struct {
		regions int
		causal  bool
	}{{2, true}, {3, true}, {4, true}, {2, false}, {3, false}, {4, false}} {
		t.Run(fmt.Sprintf("regions=%d,causal=%v", c.regions, c.causal), func(t *testing.T) {
			t.Parallel()
			for i := range uint64(*schedules) {
				seed := *firstSeed + i
				w := newWorld(seed, c.regions, c.causal)
				if err := w.run(60 + int(seed%90)); err != nil {
					t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
				}
			}
		})
	}
}

// world is one schedule.
type world struct {
	rng     *rand.Rand
	causal  bool
	regions []*site
	history history
	trace   []string
	// digests are all that were ever seen, by vector.
	digests map[string]Digest
}

// site is one region: its replica, on a leader and on a follower that applies the same.
type site struct {
	actor    crdt.Actor
	clock    int64 // skewed, and may jump
	leader   *node
	follower *node
	log      [][]byte // its encoded deltas; log[i] is sequence number i+1
	// transfer is the resync that is under way.
	transfer *transfer
}

type node struct {
	kv *Memory
	r  *Replica
	// headers is kept over reopening; only leaders have one, so that a wrong one makes them differ from
	// their followers.
	headers *Headers
}

func (n *node) reopen(self crdt.Actor) error {
	if err := n.r.Flush(); err != nil {
		return err
	}
	r, err := openRegion(n.kv, self)
	if err == nil {
		r.UseHeaders(n.headers)
	}
	n.r = r
	return err
}

func newWorld(seed uint64, regions int, causal bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, uint64(regions))), causal: causal, digests: map[string]Digest{}}
	for i := range regions {
		s := &site{actor: crdt.Actor(i + 1), clock: 1000 + w.rng.Int64N(50)}
		s.leader, s.follower = newNode(s.actor), newNode(s.actor)
		s.leader.headers = NewHeaders(2)
		s.leader.r.UseHeaders(s.leader.headers)
		w.regions = append(w.regions, s)
	}
	return w
}

func newNode(self crdt.Actor) *node {
	kv := NewMemory()
	r, err := openRegion(kv, self)
	if err != nil {
		panic(err)
	}
	return &node{kv: kv, r: r}
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) run(steps int) error {
	for range steps {
		s := w.regions[w.rng.IntN(len(w.regions))]
		var err error
		switch p := w.rng.IntN(100); {
		case p < 40:
			err = w.execute(s)
		case p < 75:
			err = w.deliver(s)
		case p < 90:
			err = w.resync(s)
		case p < 93:
			err = errors.Join(s.leader.reopen(s.actor), s.follower.reopen(s.actor))
		case p < 96:
			w.note("%d: the follower takes a snapshot", s.actor)
			if err = s.leader.r.Flush(); err == nil {
				s.follower.kv = s.leader.kv.Clone()
				s.follower.r, err = openRegion(s.follower.kv, s.actor)
			}
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

// quiesce delivers everything everywhere, then checks values, digests and that nothing is left over.
func (w *world) quiesce() error {
	if err := w.endResyncs(); err != nil {
		return err
	}
	for range len(w.regions) * len(w.regions) {
		for _, to := range w.regions {
			for _, from := range w.regions {
				if err := w.deliverRange(to, from, 1, uint64(len(from.log))); err != nil {
					return err
				}
			}
		}
	}
	for _, s := range w.regions {
		if !s.leader.r.Vector().Equal(w.regions[0].leader.r.Vector()) {
			return fmt.Errorf("region %d stays behind", s.actor)
		}
		if err := w.check(s, true); err != nil {
			return err
		}
		for n := s.leader; n.r.meta.garbage > 0; {
			if _, _, err := n.r.Execute(0, nil); err != nil {
				return err
			}
		}
		m := s.leader.r.meta
		if m.preremovals != 0 || m.deferred != 0 {
			return fmt.Errorf("region %d is left with %d pre-removals and %d deferred clears", s.actor, m.preremovals, m.deferred)
		}
		if err := audit(s.leader); err != nil {
			return err
		}
	}
	return nil
}

// execute runs a random batch on the leader and the follower.
func (w *world) execute(s *site) error {
	ops := make([]Op, 1+w.rng.IntN(3)*w.rng.IntN(2))
	for i := range ops {
		ops[i] = w.randomOp(s)
	}
	now := hlc.At(s.clock, 0)
	s.clock += w.rng.Int64N(5)
	seen := vectorMap(s.leader.r)
	if s.leader.r.Resyncing() {
		// What was seen depends on the key, and is not one vector where a cursor is in the middle of it.
		ops = ops[:1]
		now = max(now, s.leader.r.LastHLC().Next())
		whole := false
		if seen, whole = s.seenAt(ops[0].Key); !whole {
			return nil
		}
	}
	before := fingerprint(s.leader)
	outcomes, deltas, err := s.leader.r.Execute(now, ops)
	again, deltas2, err2 := s.follower.r.Execute(now, ops)
	w.note("%d: execute %s -> %d deltas, %v", s.actor, describe(ops), len(deltas), err)
	if fmt.Sprint(outcomes, err) != fmt.Sprint(again, err2) || len(deltas) != len(deltas2) {
		return fmt.Errorf("leader answers %+v %v, follower %+v %v", outcomes, err, again, err2)
	}
	var refused *OpError
	if errors.As(err, &refused) {
		if fingerprint(s.leader) != before {
			return fmt.Errorf("refused batch changed the replica: %w", err)
		}
	} else if err != nil {
		return err
	}
	known := len(w.history)
	if w.causal {
		if err := w.compareBatch(s, seen, now, ops, outcomes, refused); err != nil {
			return err
		}
	}
	w.history = w.history[:known]
	return w.record(s, seen, ops, outcomes, deltas)
}

// record appends a batch that was executed to the history and to the region's log.
func (w *world) record(s *site, seen map[uint32]uint64, ops []Op, outcomes []Outcome, deltas []Delta) error {
	for i := range outcomes {
		if len(deltas) == 0 {
			return nil
		}
		d := deltas[0]
		name := d.Dot.String()
		if d.Effects[0].Type == crdt.TypeLWWRegister {
			name = fmt.Sprintf("%016x%08x", uint64(d.Time), uint32(d.Dot.Actor))
		}
		if outcomes[i].Version != name {
			continue // without effect
		}
		var types []crdt.Type
		for _, e := range d.Effects {
			types = append(types, e.Type)
		}
		e := newEvent(&ops[i], types, maps.Clone(seen))
		e.actor, e.seq, e.time = uint32(d.Dot.Actor), d.Dot.Seq, uint64(d.Time)
		if e.actor != uint32(s.actor) || e.seq != seen[e.actor]+1 {
			return fmt.Errorf("delta %v after %v", d.Dot, seen)
		}
		w.history = append(w.history, e)
		seen[e.actor]++
		s.log = append(s.log, EncodeDelta(d))
		deltas = deltas[1:]
	}
	if len(deltas) > 0 {
		return fmt.Errorf("%d deltas that no outcome names", len(deltas))
	}
	return nil
}

// newEvent returns what an operation with an effect on the given types means.
func newEvent(op *Op, types []crdt.Type, seen map[uint32]uint64) *specEvent {
	e := &specEvent{seen: seen, key: op.Key}
	switch op.Kind {
	case OpPut:
		e.writes, e.value, e.expires = true, string(op.Value), uint64(op.Expires)
	case OpCounterAdd:
		e.adds, e.amount = true, op.Delta
	case OpCounterSet:
		e.resets, e.adds, e.amount = true, true, op.Delta
	case OpSetAdd:
		e.added = texts(op.Elements)
	case OpSetRemove:
		e.removed = texts(op.Elements)
	default: // the deletes, each of the types it found
		e.writes = slices.Contains(types, crdt.TypeLWWRegister)
		e.deleted = e.writes
		e.resets = slices.Contains(types, crdt.TypeCounter)
		e.clears = slices.Contains(types, crdt.TypeAWSet)
	}
	return e
}

// deliver offers a region a random stretch of another's log: new, old, overlapping or with a gap.
func (w *world) deliver(to *site) error {
	from := w.regions[w.rng.IntN(len(w.regions))]
	if from == to || len(from.log) == 0 {
		return nil
	}
	have := to.leader.r.Vector().Get(from.actor)
	first := 1 + w.rng.Uint64N(have+1)
	if w.rng.IntN(3) > 0 {
		first = have + 1
	}
	if w.rng.IntN(10) == 0 {
		first += 1 + w.rng.Uint64N(2)
	}
	return w.deliverRange(to, from, first, first+w.rng.Uint64N(4))
}

// deliverRange merges a stretch of a log, which it cuts off before the first delta that is not
// causally ready if delivery is causal.
func (w *world) deliverRange(to, from *site, first, last uint64) error {
	last = min(last, uint64(len(from.log)))
	if to == from || first > last {
		return nil
	}
	deltas, err := w.stretch(vectorMap(to.leader.r), from, first, last)
	if err != nil || len(deltas) == 0 {
		return err
	}
	have, before := to.leader.r.Vector().Get(from.actor), fingerprint(to.leader)
	last = deltas[len(deltas)-1].Dot.Seq
	n, err := to.leader.r.Merge(from.actor, deltas)
	n2, err2 := to.follower.r.Merge(from.actor, deltas)
	w.note("%d: merge %d/%d..%d -> %d, %v", to.actor, from.actor, first, last, n, err)
	if fmt.Sprint(n, err) != fmt.Sprint(n2, err2) {
		return fmt.Errorf("leader merges %d %v, follower %d %v", n, err, n2, err2)
	}
	if first > have+1 {
		var gap *GapError
		if !errors.As(err, &gap) || gap.Have != have || gap.Got != first || fingerprint(to.leader) != before {
			return fmt.Errorf("gap after %d at %d: %w", have, first, err)
		}
		return nil
	}
	switch {
	case err != nil:
		return err
	case n != max(last, have)-have:
		return fmt.Errorf("%d of %d..%d are new after %d", n, first, last, have)
	case n == 0 && fingerprint(to.leader) != before:
		return errors.New("a duplicate changed the replica")
	}
	return nil
}

// stretch decodes a stretch of a log, up to what may be delivered to one who has applied that much.
func (w *world) stretch(applied map[uint32]uint64, from *site, first, last uint64) ([]Delta, error) {
	var deltas []Delta
	for seq := first; seq <= last; seq++ {
		if w.causal && !w.ready(from.actor, seq, applied) {
			break
		}
		applied[uint32(from.actor)] = max(applied[uint32(from.actor)], seq)
		d, err := DecodeDelta(slices.Clone(from.log[seq-1]))
		if err != nil {
			return nil, err
		}
		deltas = append(deltas, d)
	}
	return deltas, nil
}

// ready reports whether all that an event's author had seen was applied.
func (w *world) ready(actor crdt.Actor, seq uint64, applied map[uint32]uint64) bool {
	for _, e := range w.history {
		if e.actor == uint32(actor) && e.seq == seq {
			for a, n := range e.seen {
				if applied[a] < n {
					return false
				}
			}
		}
	}
	return true
}

func vectorMap(r *Replica) map[uint32]uint64 {
	m := map[uint32]uint64{}
	r.Vector().Each(func(a crdt.Actor, seq uint64) { m[uint32(a)] = seq })
	return m
}

func texts(elements [][]byte) []string {
	var s []string
	for _, e := range elements {
		s = append(s, string(e))
	}
	return s
}

func describe(ops []Op) string {
	var b strings.Builder
	for i := range ops {
		op := &ops[i]
		fmt.Fprintf(&b, "[%d %s/%d %q %d %q cond %d exp %v]", op.Kind, op.Key, op.Type, op.Value, op.Delta, op.Elements, op.Condition.Kind, op.Expires)
	}
	return b.String()
}
