package replica

import (
	"bytes"
	"cmp"
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
)

// countedEvent is one event of the specification: what it resets, and what it adds to one member.
type countedEvent struct {
	actor uint32
	seq   uint64
	// seen is what its author had applied before.
	seen   map[uint32]uint64
	resets []string
	member string // empty if nothing is added
	amount int64
}

// countedSpec says what members there are, in order, from the events that a region has applied: a score
// is the sum of the additions that no reset has observed.
func countedSpec(events []countedEvent, applied map[uint32]uint64) []crdt.CountedMember {
	scores := map[string]int64{}
	for _, add := range events {
		if add.member == "" || add.seq > applied[add.actor] {
			continue
		}
		observed := func(e countedEvent) bool {
			return e.seq <= applied[e.actor] && slices.Contains(e.resets, add.member) && add.seq <= e.seen[add.actor]
		}
		if !slices.ContainsFunc(events, observed) {
			scores[add.member] += add.amount
		}
	}
	var ranked []crdt.CountedMember
	for member, score := range scores {
		ranked = append(ranked, crdt.CountedMember{Member: member, Score: score})
	}
	slices.SortFunc(ranked, func(a, b crdt.CountedMember) int {
		return cmp.Or(cmp.Compare(a.Score, b.Score), strings.Compare(a.Member, b.Member))
	})
	return ranked
}

// countedSite is one region: a leader, a follower that does the same, and its log of deltas.
type countedSite struct {
	actor            crdt.Actor
	leader, follower *node
	log              [][]byte
	delivered        map[crdt.Actor]uint64
}

type countedWorld struct {
	rng *rand.Rand
	// causal means that nothing is delivered before what its author had seen.
	causal  bool
	sites   []*countedSite
	events  []countedEvent
	digests map[string]Digest
	trace   []string
}

// TestCounterZSetMeetsTheSpecification runs random schedules, and compares values after every step if
// delivery is causal, else at the end: a reset does not name again what was reset before.
func TestCounterZSetMeetsTheSpecification(t *testing.T) {
	for seed := range uint64(200) {
		w := &countedWorld{rng: rand.New(rand.NewPCG(seed, 12)), causal: seed%2 == 0, digests: map[string]Digest{}}
		for i := range 3 {
			s := &countedSite{actor: crdt.Actor(i + 1), delivered: map[crdt.Actor]uint64{}}
			s.leader, s.follower = newNode(s.actor), newNode(s.actor)
			s.leader.headers = NewHeaders(2)
			s.leader.r.UseHeaders(s.leader.headers)
			w.sites = append(w.sites, s)
		}
		if err := w.run(60 + int(seed%40)); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
	}
}

func (w *countedWorld) run(steps int) error {
	for range steps {
		s := w.sites[w.rng.IntN(len(w.sites))]
		var err error
		switch p := w.rng.IntN(100); {
		case p < 45:
			err = w.execute(s)
		case p < 92:
			err = w.deliver(s, w.sites[w.rng.IntN(len(w.sites))], 1+w.rng.IntN(3))
		case p < 96:
			err = errors.Join(s.leader.reopen(s.actor), s.follower.reopen(s.actor))
		default:
			if err = s.leader.r.Flush(); err == nil {
				s.follower.kv = s.leader.kv.Clone()
				s.follower.r, err = openRegion(s.follower.kv, s.actor)
			}
		}
		if err := cmp.Or(err, w.check(s, w.causal)); err != nil {
			return err
		}
	}
	return w.quiesce()
}

// quiesce delivers everything everywhere.
func (w *countedWorld) quiesce() error {
	for range 3 * len(w.events) { // what is causal may wait for each other
		for i := range 9 {
			if err := w.deliver(w.sites[i/3], w.sites[i%3], math.MaxInt); err != nil {
				return err
			}
		}
	}
	for _, to := range w.sites {
		if !to.leader.r.Vector().Equal(w.sites[0].leader.r.Vector()) {
			return fmt.Errorf("region %d stays behind", to.actor)
		}
		if err := w.check(to, true); err != nil {
			return err
		}
		if m := to.leader.r.meta; m.preremovals != 0 || m.deferred != 0 || m.garbage != 0 {
			return fmt.Errorf("region %d is left with %+v", to.actor, m)
		}
	}
	return nil
}

func (w *countedWorld) randomOp() Op {
	op := Op{Key: "z", Type: crdt.TypeCounterZSet, Score: float64(w.rng.IntN(7) - 3)}
	op.Kind = []OpKind{OpZSetAdd, OpZSetIncr, OpZSetIncr, OpZSetIncr, OpZSetRemove, OpZSetRemove, OpDelete}[w.rng.IntN(7)]
	members := 1
	if op.Kind == OpZSetRemove {
		members += w.rng.IntN(3)
	}
	for range members {
		op.Elements = append(op.Elements, []byte{'a' + byte(w.rng.IntN(4))})
	}
	if op.Kind == OpDelete && w.rng.IntN(2) == 0 {
		op.Type = 0
	}
	return op
}

// expect returns what an operation means and answers, given the members that its author sees.
func (w *countedWorld) expect(op *Op, have []crdt.CountedMember) (e countedEvent, out Outcome, effect bool) {
	scores := map[string]int64{}
	for _, m := range have {
		scores[m.Member] = m.Score
	}
	out.Existed = len(have) > 0
	switch op.Kind {
	case OpZSetAdd, OpZSetIncr:
		e.member, e.amount = string(op.Elements[0]), int64(op.Score)
		old, in := scores[e.member]
		scores[e.member] = e.amount
		if op.Kind == OpZSetAdd {
			e.resets = []string{e.member}
		} else {
			scores[e.member] += old
		}
		if out.Score = float64(scores[e.member]); !in || scores[e.member] != old {
			out.Changed = 1
		}
	default:
		if op.Kind == OpDelete {
			e.resets = slices.Sorted(maps.Keys(scores))
		} else {
			for _, m := range texts(op.Elements) {
				if _, in := scores[m]; in && !slices.Contains(e.resets, m) {
					e.resets = append(e.resets, m)
				}
			}
		}
		for _, m := range e.resets {
			delete(scores, m)
		}
		out.Changed = uint64(len(e.resets))
	}
	if op.Kind != OpDelete || len(have) == 0 {
		out.Size = uint64(len(scores))
	}
	return e, out, e.member != "" || len(e.resets) > 0
}

func (w *countedWorld) execute(s *countedSite) error {
	ops := make([]Op, 1+w.rng.IntN(3)*w.rng.IntN(2))
	for i := range ops {
		ops[i] = w.randomOp()
	}
	seen := vectorMap(s.leader.r)
	now := hlc.At(1000+w.rng.Int64N(50), 0)
	outcomes, deltas, err := s.leader.r.Execute(now, ops)
	again, _, err2 := s.follower.r.Execute(now, ops)
	w.trace = append(w.trace, fmt.Sprintf("%d: execute %s", s.actor, describe(ops)))
	if err != nil || err2 != nil || !slices.Equal(outcomes, again) {
		return fmt.Errorf("%v %v, follower %v %w", outcomes, err, again, err2)
	}
	for i := range ops {
		e, want, effect := w.expect(&ops[i], countedSpec(w.events, seen))
		if !w.causal { // what the author sees may not be what the specification says
			effect = len(deltas) > 0 && outcomes[i].Version == deltas[0].Dot.String()
			if want = outcomes[i]; e.member == "" {
				e.resets = []string{"a", "b", "c", "d"}
			}
			if ops[i].Kind == OpZSetRemove {
				e.resets = texts(ops[i].Elements)
			}
		}
		if effect {
			e.actor, e.seq, e.seen = uint32(s.actor), seen[uint32(s.actor)]+1, maps.Clone(seen)
			want.Version = crdt.Dot{Actor: s.actor, Seq: e.seq}.String()
			if want.Version != deltas[0].Dot.String() {
				return fmt.Errorf("delta %v, want %s", deltas[0].Dot, want.Version)
			}
			s.log = append(s.log, EncodeDelta(deltas[0]))
			deltas = deltas[1:]
			w.events = append(w.events, e)
			seen[e.actor]++
		} else {
			want.Version = outcomes[i].Version
		}
		if outcomes[i] != want {
			return fmt.Errorf("operation %d answers %+v, want %+v", i, outcomes[i], want)
		}
	}
	if len(deltas) > 0 {
		return fmt.Errorf("%d deltas without effect", len(deltas))
	}
	return nil
}

// deliver merges the next deltas of a region, and some that were merged before.
func (w *countedWorld) deliver(to, from *countedSite, n int) error {
	first := to.delivered[from.actor]
	last := min(first+uint64(n), uint64(len(from.log)))
	if to == from || first == last {
		return nil
	}
	applied := vectorMap(to.leader.r)
	for i := first; w.causal && i < last; i++ {
		if !w.ready(from.actor, i+1, applied) {
			last = i
			break
		}
		applied[uint32(from.actor)] = i + 1
	}
	if first == last {
		return nil
	}
	var deltas []Delta
	for i := first - min(first, w.rng.Uint64N(3)); i < last; i++ {
		d, err := DecodeDelta(slices.Clone(from.log[i]))
		if err != nil || !bytes.Equal(EncodeDelta(d), from.log[i]) {
			return fmt.Errorf("delta %d comes back as %+v, %w", i, d, err)
		}
		deltas = append(deltas, d)
	}
	w.trace = append(w.trace, fmt.Sprintf("%d: merge %d/%d..%d", to.actor, from.actor, first+1, last))
	to.delivered[from.actor] = last
	_, err := to.leader.r.Merge(from.actor, deltas)
	_, err2 := to.follower.r.Merge(from.actor, deltas)
	return errors.Join(err, err2)
}

// ready reports whether all that an event's author had seen was applied.
func (w *countedWorld) ready(actor crdt.Actor, seq uint64, applied map[uint32]uint64) bool {
	i := slices.IndexFunc(w.events, func(e countedEvent) bool { return e.actor == uint32(actor) && e.seq == seq })
	for a, n := range w.events[i].seen {
		if applied[a] < n {
			return false
		}
	}
	return true
}

func (w *countedWorld) check(s *countedSite, exact bool) error {
	if fingerprint(s.leader) != fingerprint(s.follower) {
		return fmt.Errorf("region %d: leader and follower differ", s.actor)
	}
	if err := audit(s.leader); err != nil {
		return fmt.Errorf("region %d: %w", s.actor, err)
	}
	digest, err := s.leader.r.Digest()
	if err != nil {
		return err
	}
	vector := fmt.Sprint(s.leader.r.Vector())
	if earlier, ok := w.digests[vector]; ok && earlier != digest {
		return fmt.Errorf("region %d: digests differ at vector %s", s.actor, vector)
	}
	w.digests[vector] = digest
	if !exact {
		return nil
	}
	want := countedSpec(w.events, vectorMap(s.leader.r))
	if uint64(len(want)) != digest.Items {
		return fmt.Errorf("%d items for %v", digest.Items, want)
	}
	if err := compareCounted(s.leader.r, want); err != nil {
		return fmt.Errorf("region %d: %w", s.actor, err)
	}
	return compareCountedRange(w.rng, s.leader.r, want)
}

// compareCounted compares sizes, scores and ranks with what they should be.
func compareCounted(r *Replica, want []crdt.CountedMember) error {
	o, ok, err := r.LookupType("", "z", crdt.TypeCounterZSet, 0)
	if err != nil || ok != (len(want) > 0) || o.Size != uint64(len(want)) {
		return fmt.Errorf("found %v, %+v, want %v, %w", ok, o, want, err)
	}
	for _, member := range []string{"a", "b", "c", "d"} {
		rank := slices.IndexFunc(want, func(m crdt.CountedMember) bool { return m.Member == member })
		score, ok, err := r.CounterZSetScore("", "z", []byte(member))
		if err != nil || ok != (rank >= 0) || ok && score != want[rank].Score {
			return fmt.Errorf("%s: score %d, %v, want %v, %w", member, score, ok, want, err)
		}
		if err := compareRanks(r, member, rank, len(want)); err != nil {
			return err
		}
	}
	return nil
}

func compareRanks(r *Replica, member string, rank, size int) error {
	for reverse, wanted := range map[bool]int{false: rank, true: size - 1 - rank} {
		_, got, ok, err := r.CounterZSetRank("", "z", []byte(member), reverse)
		if err != nil || ok != (rank >= 0) || ok && got != uint64(wanted) {
			return fmt.Errorf("%s: rank %d, %v, reverse %v, want %v, %w", member, got, ok, reverse, wanted, err)
		}
	}
	return nil
}

// compareCountedRange reads a random range page by page.
func compareCountedRange(rng *rand.Rand, r *Replica, all []crdt.CountedMember) error {
	q := CounterZSetRange{
		Low: math.MinInt64, High: math.MaxInt64, Reverse: rng.IntN(2) == 0,
		Offset: rng.IntN(3) * rng.IntN(2), Limit: 1 + rng.IntN(3), MaxBytes: 1 + rng.IntN(3),
	}
	if rng.IntN(2) == 0 {
		q.Low, q.High = rng.Int64N(9)-6, rng.Int64N(9)-2
	}
	want := slices.DeleteFunc(slices.Clone(all), func(m crdt.CountedMember) bool { return m.Score < q.Low || m.Score > q.High })
	if q.Reverse {
		slices.Reverse(want)
	}
	want = want[min(q.Offset, len(want)):]
	described := fmt.Sprintf("%+v", q)
	var got []crdt.CountedMember
	for {
		page, more, err := r.CounterZSetRange("", "z", q)
		if err != nil || len(page) > q.Limit || more && len(page) == 0 {
			return fmt.Errorf("page %v, %v, %w", page, more, err)
		}
		if got = append(got, page...); !more {
			break
		}
		q.After, q.Offset = &got[len(got)-1], 0
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("range %s has %v, want %v", described, got, want)
	}
	return nil
}
