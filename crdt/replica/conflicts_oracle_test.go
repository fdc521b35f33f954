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

var conflictWorlds = flag.Uint64("conflict-worlds", 300, "random schedules of the test that counts conflicts")

// TestConflictsAreCountedExactly runs random schedules in which events arrive in order per region and in
// any order otherwise, also against causality, and compares what replicas count, and which values they
// say have lost, with an oracle that knows of every event what its author had applied.
func TestConflictsAreCountedExactly(t *testing.T) {
	total := map[crdt.Type]uint64{}
	inversions := 0
	for seed := *firstSeed; seed < *firstSeed+*conflictWorlds; seed++ {
		w := newConflictWorld(seed)
		if err := w.run(120); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
		for _, s := range w.sites {
			for id, n := range s.want {
				total[id.of] += n
			}
		}
		inversions += w.inversions
	}
	t.Logf("conflicts %v, %d decided by what was seen ahead", total, inversions)
	for _, of := range []crdt.Type{
		crdt.TypeLWWRegister, crdt.TypeLWWMap, crdt.TypeZSet, crdt.TypeMVRegister, crdt.TypeEWFlag,
		crdt.TypeAWSet, crdt.TypeCounter, crdt.TypeCounterZSet,
	} {
		if total[of] == 0 {
			t.Errorf("no conflict of %v was seen", of)
		}
	}
	if inversions == 0 || len(total) != 8 {
		t.Errorf("%d inversions, types %v", inversions, total)
	}
}

// witnessed is an event as the oracle knows it.
type witnessed struct {
	Delta
	seen map[crdt.Actor]uint64
}

type conflictSite struct {
	*node
	actor   crdt.Actor
	clock   int64
	log     []*witnessed
	applied []*witnessed
	want    map[conflictID]uint64
	losers  []string
}

type conflictWorld struct {
	rng        *rand.Rand
	sites      []*conflictSite
	trace      []string
	inversions int
}

func newConflictWorld(seed uint64) *conflictWorld {
	w := &conflictWorld{rng: rand.New(rand.NewPCG(seed, 21))}
	for i := range 3 + w.rng.IntN(3) {
		a := crdt.Actor(i + 1)
		w.sites = append(w.sites, &conflictSite{node: newNode(a), actor: a, clock: 1000 + w.rng.Int64N(30), want: map[conflictID]uint64{}})
	}
	return w
}

func (w *conflictWorld) run(steps int) error {
	for range steps {
		s := w.sites[w.rng.IntN(len(w.sites))]
		var err error
		switch p := w.rng.IntN(20); {
		case p < 8:
			err = w.execute(s)
		case p < 18:
			from := w.sites[w.rng.IntN(len(w.sites))]
			err = w.deliver(s, from, 1+w.rng.IntN(4))
		case p < 19:
			err = s.reopen(s.actor)
		default:
			s.clock += w.rng.Int64N(60) - 25
		}
		if err != nil {
			return err
		}
	}
	if err := w.deliverAll(); err != nil {
		return err
	}
	if err := w.settled(); err != nil {
		return err
	}
	// Once every region has told all that it has seen, nobody keeps what a reset took away.
	for _, s := range w.sites {
		if _, deltas, err := s.r.Execute(hlc.At(s.clock, 0), []Op{{Kind: OpTimelineAdd, Key: "t"}}); err != nil {
			return err
		} else if err := s.note(deltas[0]); err != nil {
			return err
		}
	}
	if err := w.deliverAll(); err != nil {
		return err
	}
	return errors.Join(w.settled(), w.noTraces())
}

func (w *conflictWorld) deliverAll() error {
	for _, to := range w.sites {
		for _, from := range w.sites {
			if err := w.deliver(to, from, len(from.log)); err != nil {
				return err
			}
		}
	}
	return nil
}

// noTraces checks that no row of a counter is left that is wholly reset.
func (w *conflictWorld) noTraces() error {
	for _, s := range w.sites {
		if n := s.r.meta.unsettled; n != 0 {
			return fmt.Errorf("region %d has %d resets that are not settled", s.actor, n)
		}
		for key, of := range map[string]crdt.Type{"c": crdt.TypeCounter, "q": crdt.TypeCounterZSet} {
			h, err := readHoldings(s.kv, objectPrefix("n", key), true)
			if err != nil {
				return err
			}
			switch o := h.get(of).(type) {
			case *counterState:
				if o.rows.LiveRows().Len() != o.rows.Len() {
					return fmt.Errorf("region %d keeps rows %v", s.actor, o.rows.Rows())
				}
			case *counterZSetHeader:
				if o.traces != 0 {
					return fmt.Errorf("region %d keeps traces of %d members", s.actor, o.traces)
				}
			}
		}
	}
	return nil
}

// settled checks that what was kept for events still to come is gone, and that all agree.
func (w *conflictWorld) settled() error {
	first, err := w.sites[0].r.Digest()
	for _, s := range w.sites {
		digest, err2 := s.r.Digest()
		if err = errors.Join(err, err2, audit(s.node)); err != nil {
			return err
		}
		if m := s.r.meta; digest != first || m.ahead != 0 || m.unsure != 0 {
			return fmt.Errorf("region %d: digest %v, want %v; %d seen ahead, %d unsure", s.actor, digest, first, m.ahead, m.unsure)
		}
	}
	return nil
}

func (w *conflictWorld) execute(s *conflictSite) error {
	op := w.randomOp()
	s.clock += w.rng.Int64N(5)
	_, deltas, err := s.r.Execute(hlc.At(s.clock, 0), []Op{op})
	if err != nil {
		var refused *OpError
		if errors.As(err, &refused) {
			return nil
		}
		return err
	}
	for _, d := range deltas {
		if err := s.note(d); err != nil {
			return err
		}
		w.trace = append(w.trace, fmt.Sprintf("%d: %v %d/%s at %v", s.actor, d.Dot, op.Kind, op.Key, d.Time))
	}
	return s.compare()
}

// note takes in a region's own event.
func (s *conflictSite) note(d Delta) error {
	decoded, err := DecodeDelta(EncodeDelta(d))
	if err != nil {
		return err
	}
	seen := s.seen()
	seen[s.actor] = d.Dot.Seq - 1
	e := &witnessed{decoded, seen}
	s.log, s.applied = append(s.log, e), append(s.applied, e)
	return nil
}

func (s *conflictSite) seen() map[crdt.Actor]uint64 {
	seen := map[crdt.Actor]uint64{}
	for _, d := range s.r.Vector().Entries() {
		seen[d.Actor] = d.Seq
	}
	return seen
}

// randomOp draws operations of every type that can conflict, and of some that cannot, on one key each.
func (w *conflictWorld) randomOp() Op {
	names := func() [][]byte {
		var list [][]byte
		for range 1 + w.rng.IntN(2) {
			list = append(list, []byte{'a' + byte(w.rng.IntN(3))})
		}
		return list
	}
	op := Op{Namespace: "n", Delta: 1 + w.rng.Int64N(5), Value: fmt.Appendf(nil, "v%d", w.rng.IntN(100))}
	drawn := []struct {
		key string
		op  OpKind
		of  crdt.Type
	}{
		{"r", OpPut, 0}, {"r", OpPut, 0}, {"r", OpDelete, 0},
		{"c", OpCounterAdd, 0}, {"c", OpCounterAdd, 0}, {"c", OpCounterSet, 0}, {"c", OpCounterReset, 0},
		{"s", OpSetAdd, 0}, {"s", OpSetAdd, 0}, {"s", OpSetRemove, 0}, {"s", OpSetClear, 0},
		{"f", OpFlagEnable, 0}, {"f", OpFlagDisable, 0}, {"v", OpMVPut, 0}, {"v", OpMVPut, 0}, {"v", OpDelete, 0},
		{"m", OpMapPut, 0}, {"m", OpMapPut, 0}, {"m", OpMapRemove, 0}, {"m", OpDelete, 0},
		{"z", OpZSetAdd, crdt.TypeZSet}, {"z", OpZSetAdd, crdt.TypeZSet}, {"z", OpZSetRemove, crdt.TypeZSet}, {"z", OpDelete, 0},
		{"q", OpZSetIncr, crdt.TypeCounterZSet}, {"q", OpZSetAdd, crdt.TypeCounterZSet}, {"q", OpZSetRemove, crdt.TypeCounterZSet}, {"q", OpDelete, 0},
		{"x", OpMax, 0}, {"x", OpDelete, 0}, {"t", OpTimelineAdd, 0},
	}
	d := drawn[w.rng.IntN(len(drawn))]
	op.Kind, op.Key, op.Type = d.op, d.key, d.of
	op.Elements, op.Score = names(), float64(1+w.rng.IntN(9))
	if op.Kind == OpZSetAdd || op.Kind == OpZSetIncr {
		op.Elements = op.Elements[:1]
	}
	for i := range op.Elements {
		op.Values = append(op.Values, fmt.Appendf(nil, "w%d", i))
	}
	return op
}

func (w *conflictWorld) deliver(to, from *conflictSite, n int) error {
	if to == from {
		return nil
	}
	have := int(to.r.Vector().Get(from.actor))
	deltas := make([]Delta, 0, n)
	for _, e := range from.log[have:min(have+n, len(from.log))] {
		w.judge(to, e)
		to.applied = append(to.applied, e)
		deltas = append(deltas, e.Delta)
	}
	w.trace = append(w.trace, fmt.Sprintf("%d: merges %d of %d", to.actor, len(deltas), from.actor))
	if _, err := to.r.Merge(from.actor, deltas); err != nil {
		return err
	}
	return to.compare()
}

// compare compares what a replica says with what the oracle does.
func (s *conflictSite) compare() error {
	counts, err := s.r.ConflictCounts(nil)
	if err != nil {
		return err
	}
	got := map[conflictID]uint64{}
	for _, c := range counts {
		got[conflictID{c.Namespace, c.Type, c.A, c.B}] = c.Count
	}
	if !maps.Equal(got, s.want) {
		return fmt.Errorf("region %d counts %v, want %v", s.actor, got, s.want)
	}
	losers, _, err := s.r.Losers(LoserQuery{Limit: MaxLosers, Bytes: MaxLoserBytes})
	if err != nil {
		return err
	}
	texts := make([]string, len(losers))
	for i, l := range losers {
		texts[len(losers)-1-i] = fmt.Sprintf("%s/%s/%q lost by %v at %v to %v at %v", l.Key, l.Field, l.Value, l.Lost, l.LostAt, l.Won, l.WonAt)
	}
	if !slices.Equal(texts, s.losers) {
		return fmt.Errorf("region %d says that these lost:\n%s\nwant\n%s", s.actor, strings.Join(texts, "\n"), strings.Join(s.losers, "\n"))
	}
	return nil
}
