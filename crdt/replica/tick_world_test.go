package replica

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// TestQuietWorldsKeepNothing runs random histories of all types in two to five regions, the last of which never
// writes, and deletes everything at the end, some of it by expiry. Then no more is done than to deliver, to expire
// and to tick. That must come to an end, after which no region has anything left, and nothing happens any more.
func TestQuietWorldsKeepNothing(t *testing.T) {
	t.Parallel()
	for i := range uint64(*schedules) {
		seed := *firstSeed + i
		w := newTickWorld(seed)
		if err := w.run(60 + int(seed%90)); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
	}
}

// tickWorld is some regions. Those that have the same elements inside headers as their neighbours do not.
type tickWorld struct {
	*rand.Rand
	nodes []*node
	logs  [][]Delta
	// clocks are in milliseconds, and wrong by up to a few seconds.
	clocks []int64
	trace  []string
	// ticks are how many were made, and causes how many could be needed: one in each other region for an event
	// with effects, and one in each for an expiry.
	ticks, causes int
}

func newTickWorld(seed uint64) *tickWorld {
	w := &tickWorld{Rand: rand.New(rand.NewPCG(seed, 5))}
	for i := range 2 + w.IntN(4) {
		n := newNode(crdt.Actor(i + 1))
		n.headers = NewHeaders(4)
		n.r.UseHeaders(n.headers)
		w.nodes = append(w.nodes, n)
		w.clocks = append(w.clocks, 10_000+w.Int64N(3_000))
	}
	w.logs = make([][]Delta, len(w.nodes))
	return w
}

func (w *tickWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *tickWorld) now(i int) hlc.Time { return hlc.At(w.clocks[i], 0) }

func (w *tickWorld) run(steps int) error {
	writers := len(w.nodes) - 1
	for range steps {
		i := w.IntN(len(w.nodes))
		w.clocks[i] += w.Int64N(200)
		var err error
		switch p := w.IntN(100); {
		case p < 45:
			err = w.execute(w.IntN(writers), w.randomOp())
		case p < 85:
			err = w.deliver(i, w.IntN(len(w.nodes)), 1+w.IntN(5))
		case p < 93:
			err = w.expire(i)
		default:
			err = w.tick(i)
		}
		if err == nil {
			err = audit(w.nodes[i])
		}
		if err != nil {
			return fmt.Errorf("region %d: %w", i+1, err)
		}
	}
	if err := w.deleteAll(writers); err != nil {
		return err
	}
	// What had expired when it was to be deleted may be there again in part: its region had not seen all of it.
	for range 4 {
		if err := w.everyone(); err != nil {
			return err
		}
	}
	if err := w.deleteAll(1); err != nil {
		return err
	}
	return w.fallSilent()
}

var tickKeys = []string{"x", "y"}

// randomOp is of any type but a bounded counter, which cannot be deleted.
func (w *tickWorld) randomOp() Op {
	e := expiringTypes[w.IntN(len(expiringTypes))]
	n := w.IntN(4)
	op := e.write(n)
	switch w.IntN(9) {
	case 0:
		op = Op{Kind: OpDelete, Type: e.of}
	case 1:
		op = Op{Kind: OpDelete}
	case 2:
		op = Op{Kind: OpPut, Value: []byte{byte(n)}}
	case 3:
		op = w.removal(e.of, fmt.Append(nil, n))
	case 4:
		op = e.write(n)
		if e.of != crdt.TypeORMap && op.Kind != OpMVPut {
			op.Path = leafPath("b", fmt.Sprint(n)) // of a map, and then of another type
		}
	case 5:
		op = Op{Kind: OpORMapRemove}
	}
	if w.IntN(4) == 0 && op.Kind != OpDelete && op.Kind != OpORMapRemove {
		op.Expires = hlc.At(10_000+w.Int64N(20_000), 0)
	}
	op.Key, op.AnyType = tickKeys[w.IntN(len(tickKeys))], true
	return op
}

// removal takes away a part of a value of a type, if there is an operation for that.
func (w *tickWorld) removal(of crdt.Type, n []byte) Op {
	named := func(prefix string) [][]byte { return [][]byte{append([]byte(prefix), n...)} }
	switch of {
	case crdt.TypeCounter:
		return Op{Kind: OpCounterReset}
	case crdt.TypeAWSet:
		return Op{Kind: OpSetRemove, Elements: named("e")}
	case crdt.TypeEWFlag:
		return Op{Kind: OpFlagDisable}
	case crdt.TypeLWWMap:
		return Op{Kind: OpMapRemove, Elements: named("f")}
	case crdt.TypeZSet, crdt.TypeCounterZSet:
		return Op{Kind: OpZSetRemove, Type: of, Elements: named("m")}
	case crdt.TypeTimeline:
		return Op{Kind: OpTimelineTrim, At: hlc.At(10_000+w.Int64N(3_000), 0)}
	default:
		return Op{Kind: OpDelete, Type: of}
	}
}

func (w *tickWorld) execute(i int, op Op) error {
	_, deltas, err := w.nodes[i].r.Execute(w.now(i), []Op{op})
	w.note("%d: at %d %s -> %d deltas, %v", i+1, w.clocks[i], describe([]Op{op}), len(deltas), err)
	return w.log(i, deltas, err)
}

// log sends deltas through their encoding. A refused operation has none.
func (w *tickWorld) log(i int, deltas []Delta, err error) error {
	if err != nil {
		if len(deltas) > 0 || !strings.Contains(fmt.Sprintf("%T", err), "OpError") {
			return err
		}
		return nil
	}
	for _, d := range deltas {
		decoded, err := DecodeDelta(EncodeDelta(d))
		if err != nil {
			return err
		}
		if len(d.Effects) > 0 {
			w.causes += len(w.nodes) - 1
		}
		w.logs[i] = append(w.logs[i], decoded)
	}
	return nil
}

// deliver merges up to n deltas, some of them again, and folded or one by one.
func (w *tickWorld) deliver(to, from, n int) error {
	have := int(w.nodes[to].r.Vector().Get(crdt.Actor(from + 1)))
	if to == from || have == len(w.logs[from]) {
		return nil
	}
	deltas := w.logs[from][max(0, have-w.IntN(3)):min(len(w.logs[from]), have+n)]
	if w.IntN(2) == 0 {
		w.note("%d: merge %v and %d more", to+1, deltas[0].Dot, len(deltas)-1)
		_, err := w.nodes[to].r.Merge(crdt.Actor(from+1), deltas)
		return err
	}
	run, err := Fold(deltas)
	if err != nil {
		return err
	}
	// That something had an effect must be seen of a run, too: it is then that others wait.
	for i := len(deltas) - 1; i >= 0; i-- {
		if len(deltas[i].Effects) == 0 {
			continue
		}
		if left := run.After(deltas[i].Dot.Seq - 1); left[0].Dot != deltas[i].Dot || len(left[0].Effects) == 0 {
			return fmt.Errorf("the last effects of a run, of %v, were folded away: %+v", deltas[i].Dot, left)
		}
		break
	}
	w.note("%d: merge a run of %d from %v", to+1, len(deltas), deltas[0].Dot)
	_, err = w.nodes[to].r.MergeRun(run)
	return err
}

// cut is as the leader of a partition has it.
func (w *tickWorld) cut(i int) hlc.Time {
	r := w.nodes[i].r
	cut := max(w.now(i), r.LastHLC())
	for a := range w.nodes {
		if a != i {
			cut = min(cut, r.HLCOf(crdt.Actor(a+1)))
		}
	}
	return cut
}

func (w *tickWorld) expire(i int) error {
	r := w.nodes[i].r
	x := Expiry{Now: max(w.now(i), r.LastHLC()), Cut: w.cut(i), Others: hlc.At(max(0, w.clocks[i]-5_000), 0), Limit: 1 + w.IntN(20)}
	due, err := r.Due(x)
	if err != nil || !due {
		return err
	}
	found, err := r.Expire(x)
	w.note("%d: expire by %v, cut %v: %d, %d deltas", i+1, x.Now, x.Cut, len(found.Names), len(found.Deltas))
	w.causes += len(found.Names)
	return w.log(i, found.Deltas, err)
}

func (w *tickWorld) tick(i int) error {
	d, ticked, err := w.nodes[i].r.Tick(w.now(i))
	if !ticked || err != nil {
		return err
	}
	w.note("%d: tick %v at %v has seen %v", i+1, d.Dot, d.Time, d.Seen)
	if w.ticks++; w.ticks > w.causes {
		return fmt.Errorf("tick %d, of %d at most", w.ticks, w.causes)
	}
	return w.log(i, []Delta{d}, nil)
}

// deleteAll has some regions delete all that they know of, while they write, and the first one what is left.
func (w *tickWorld) deleteAll(writers int) error {
	for i := range writers {
		for _, key := range tickKeys {
			if w.IntN(2) == 0 {
				if err := w.execute(i, Op{Kind: OpDelete, Key: key, AnyType: true}); err != nil {
					return err
				}
			}
		}
	}
	for from := range w.nodes {
		if err := w.deliver(0, from, 1<<30); err != nil {
			return err
		}
	}
	for _, key := range tickKeys {
		if err := w.execute(0, Op{Kind: OpDelete, Key: key, AnyType: true}); err != nil {
			return err
		}
	}
	return nil
}

// fallSilent lets time pass, until every expiry is past, and checks that nothing is left then, and that nothing
// more happens.
func (w *tickWorld) fallSilent() error {
	const rounds, silent = 14, 4
	for round := range rounds {
		before := fmt.Sprint(w.fingerprints())
		for range 4 * len(w.nodes) * len(w.nodes) {
			i := w.IntN(len(w.nodes))
			var err error
			switch w.IntN(4) {
			case 0:
				err = w.expire(i)
			case 1:
				err = w.tick(i)
			default:
				err = w.deliver(i, w.IntN(len(w.nodes)), 1+w.IntN(9))
			}
			if err != nil {
				return err
			}
		}
		if err := w.everyone(); err != nil {
			return err
		}
		if after := fmt.Sprint(w.fingerprints()); round >= rounds-silent && after != before {
			return fmt.Errorf("round %d: something happens still", round)
		}
	}
	for i, n := range w.nodes {
		if err := emptyOf(n); err != nil {
			return fmt.Errorf("region %d: %w", i+1, err)
		}
	}
	return nil
}

// everyone has every region do once what it does, and lets time pass.
func (w *tickWorld) everyone() error {
	for i := range w.nodes {
		for from := range w.nodes {
			if err := w.deliver(i, from, 1<<30); err != nil {
				return err
			}
		}
		for range 30 {
			if err := w.expire(i); err != nil {
				return err
			}
		}
		if err := w.tick(i); err != nil {
			return err
		}
	}
	for i := range w.clocks {
		w.clocks[i] += 10_000
	}
	return nil
}

func (w *tickWorld) fingerprints() (all []uint64) {
	for _, n := range w.nodes {
		all = append(all, fingerprint(n))
	}
	return all
}

// emptyOf checks that a region in which everything was deleted has no pair but the meta, and what it remembers of
// conflicts.
func emptyOf(n *node) error {
	if n.r.Owed() != 0 {
		return fmt.Errorf("owes an event at %v", n.r.Owed())
	}
	if err := audit(n); err != nil {
		return err
	}
	return n.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		if k[0] != tableMeta && k[0] != tableConflicts && k[0] != tableLosers {
			return false, fmt.Errorf("left with %q: %x", k, v)
		}
		return true, nil
	})
}
