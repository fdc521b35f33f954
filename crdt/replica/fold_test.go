package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// TestRunsAreTheirDeltas has two replicas of one region go through the same: one merges delta by delta,
// the other runs, of any cut, overlapping, folded again, encoded. Both must say and do the same after
// every step. Other regions' deltas arrive in any order relative to each other.
func TestRunsAreTheirDeltas(t *testing.T) {
	t.Parallel()
	folded := map[crdt.Type]int{}
	for i := range uint64(*schedules) {
		seed := *firstSeed + i
		w := newFoldWorld(seed, folded)
		if err := w.run(80 + int(seed%60)); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
	}
	for _, of := range foldedTypes() {
		if folded[of] == 0 {
			t.Errorf("nothing of a %v was ever folded away", of)
		}
	}
}

// foldedTypes are those of which something can be folded away.
func foldedTypes() []crdt.Type {
	var types []crdt.Type
	for t, k := range kinds {
		if _, ok := k.(folder); ok {
			types = append(types, crdt.Type(t))
		}
	}
	return types
}

// foldWorld is some regions, and one more of which there are two replicas.
type foldWorld struct {
	rng     *rand.Rand
	authors []*foldAuthor
	// bySteps and byRuns are the same region.
	bySteps, byRuns *node
	own             []Delta
	clock           int64
	trace           []string
	folded          map[crdt.Type]int
	// one is the only type there is, 0 for all of them.
	one crdt.Type
}

type foldAuthor struct {
	*node
	actor crdt.Actor
	log   []Delta
}

// twinActor is the region of which there are two replicas.
const twinActor = crdt.Actor(9)

func newFoldWorld(seed uint64, folded map[crdt.Type]int) *foldWorld {
	w := &foldWorld{
		rng: rand.New(rand.NewPCG(seed, 11)), clock: 1000, folded: folded,
		bySteps: newNode(twinActor), byRuns: newNode(twinActor),
	}
	for i := range 2 + w.rng.IntN(2) {
		actor := crdt.Actor(i + 1)
		w.authors = append(w.authors, &foldAuthor{node: newNode(actor), actor: actor})
	}
	if w.rng.IntN(2) == 0 {
		w.one = foldedTypes()[w.rng.IntN(len(foldedTypes()))]
	}
	return w
}

func (w *foldWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *foldWorld) run(steps int) error {
	for range steps {
		var err error
		switch p := w.rng.IntN(100); {
		case p < 45:
			err = w.write(w.authors[w.rng.IntN(len(w.authors))])
		case p < 55:
			err = w.exchange(w.authors[w.rng.IntN(len(w.authors))])
		case p < 63:
			err = w.writeTwins()
		case p < 68:
			err = w.collect()
		default:
			author := w.authors[w.rng.IntN(len(w.authors))]
			err = w.deliver(author, len(author.log))
		}
		if err == nil {
			err = w.compare()
		}
		if err != nil {
			return err
		}
	}
	return w.settle()
}

// settle delivers everything to everyone.
func (w *foldWorld) settle() error {
	for _, a := range w.authors {
		for i := 0; i < 20 && w.bySteps.r.Vector().Get(a.actor) < uint64(len(a.log)); i++ {
			if err := errors.Join(w.deliver(a, len(a.log)), w.compare()); err != nil {
				return err
			}
		}
	}
	for _, a := range w.authors {
		for _, b := range w.authors {
			if _, err := a.r.Merge(b.actor, b.log); a != b && err != nil {
				return err
			}
		}
		if _, err := a.r.Merge(twinActor, w.own); err != nil {
			return err
		}
		have, err := a.r.Digest()
		if err != nil {
			return err
		}
		want, err := w.byRuns.r.Digest()
		if err != nil || a.r.Vector().Equal(w.byRuns.r.Vector()) && have != want {
			return fmt.Errorf("region %d has another digest: %w", a.actor, err)
		}
	}
	return errors.Join(audit(w.bySteps), audit(w.byRuns))
}

func (w *foldWorld) op() Op { return randomOfAll(w.rng, w.clock, w.one) }

func (w *foldWorld) write(a *foldAuthor) error {
	for range 1 + w.rng.IntN(6) {
		op := w.op()
		_, deltas, err := a.r.Execute(hlc.At(w.clock, 0), []Op{op})
		w.clock += w.rng.Int64N(3)
		var refused *OpError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		for _, d := range deltas {
			d = withMore(w.rng, d)
			a.log = append(a.log, d)
			w.note("%d: %v %s", a.actor, d.Dot, describe([]Op{op}))
		}
	}
	return nil
}

// withMore gives a delta, seldom, a newer program's fields.
func withMore(rng *rand.Rand, d Delta) Delta {
	if rng.IntN(25) == 0 {
		d.Unknown = []byte{7, 1, 'x'}
	}
	return d
}

// exchange has an author learn of some of what others did.
func (w *foldWorld) exchange(to *foldAuthor) error {
	from := w.authors[w.rng.IntN(len(w.authors))]
	log, actor := from.log, from.actor
	if from == to {
		log, actor = w.own, twinActor
	}
	have := to.r.Vector().Get(actor)
	n := min(uint64(len(log)), have+uint64(w.rng.IntN(12)))
	if n <= have {
		return nil
	}
	w.note("%d: learns of %d.%d", to.actor, actor, n)
	_, err := to.r.Merge(actor, log[have:n])
	return err
}

func (w *foldWorld) writeTwins() error {
	op, now := w.op(), hlc.At(w.clock, 0)
	w.clock += w.rng.Int64N(3)
	a, deltas, err := w.bySteps.r.Execute(now, []Op{op})
	b, deltas2, err2 := w.byRuns.r.Execute(now, []Op{op})
	if fmt.Sprint(a, err) != fmt.Sprint(b, err2) || len(deltas) != len(deltas2) {
		return fmt.Errorf("%s answers %+v %v, with runs %+v %v", describe([]Op{op}), a, err, b, err2)
	}
	for i := range deltas {
		if !bytes.Equal(EncodeDelta(deltas[i]), EncodeDelta(deltas2[i])) {
			return fmt.Errorf("%s makes %+v, with runs %+v", describe([]Op{op}), deltas[i], deltas2[i])
		}
		w.note("twins: %v %s", deltas[i].Dot, describe([]Op{op}))
	}
	w.own = append(w.own, deltas...)
	return nil
}

// collect removes what nobody needs any more: the cut is before all that is still to come.
func (w *foldWorld) collect() error {
	cut := hlc.At(w.clock, 0)
	for _, a := range w.authors {
		cut = min(cut, w.bySteps.r.HLCOf(a.actor))
	}
	x := Expiry{Now: hlc.At(w.clock, 0), Cut: cut, Limit: 1000}
	found, err := w.bySteps.r.Expire(x)
	if err != nil {
		return err
	}
	found2, err := w.byRuns.r.Expire(x)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(found, found2) {
		return fmt.Errorf("%+v expires, with runs %+v", found, found2)
	}
	w.own = append(w.own, found.Deltas...)
	w.note("twins collect up to %v", cut)
	return nil
}

// deliver brings both replicas some of what an author did up to an event: one by one, and as runs.
func (w *foldWorld) deliver(a *foldAuthor, upTo int) error {
	have := int(w.bySteps.r.Vector().Get(a.actor))
	if upTo <= have {
		return nil
	}
	to := have + 1 + w.rng.IntN(upTo-have)
	for i := have; i < to; i++ {
		if _, err := w.bySteps.r.Merge(a.actor, a.log[i:i+1]); err != nil {
			return err
		}
	}
	for at := have; at < to; {
		from := at - w.rng.IntN(min(at, 5)+1)
		end := at + 1 + w.rng.IntN(to-at)
		run, err := w.fold(a.log[from:end])
		if err != nil {
			return err
		}
		w.note("merge %d/%d..%d", a.actor, from+1, end)
		n, err := w.byRuns.r.MergeRun(run)
		if err != nil || n != uint64(end-at) {
			return fmt.Errorf("%d of run %d..%d are new: %w", n, from+1, end, err)
		}
		at = end
	}
	return nil
}

// fold makes a run, at once or of runs, and takes it through its encoding.
func (w *foldWorld) fold(deltas []Delta) (Run, error) {
	before := make([][]byte, len(deltas))
	for i := range deltas {
		before[i] = EncodeDelta(deltas[i])
	}
	run, err := Fold(deltas)
	if err != nil {
		return Run{}, err
	}
	if err := w.refold(run, deltas); err != nil {
		return Run{}, err
	}
	for i := range deltas {
		if !bytes.Equal(EncodeDelta(deltas[i]), before[i]) {
			return Run{}, fmt.Errorf("folding changed %v", deltas[i].Dot)
		}
		for _, e := range deltas[i].Effects {
			w.folded[e.Type]++
		}
	}
	for _, d := range run.Deltas {
		for _, e := range d.Effects {
			w.folded[e.Type]--
		}
	}
	data := EncodeRun(run)
	back, err := DecodeRun(slices.Clone(data))
	if err != nil || !bytes.Equal(EncodeRun(back), data) || !IsRun(data) || IsRun(before[0]) {
		return Run{}, fmt.Errorf("encoded run %x: %w", data, err)
	}
	return back, nil
}

// refold folds the same in other ways: a run that is folded already, and two runs.
func (w *foldWorld) refold(run Run, deltas []Delta) error {
	if again, err := FoldRuns(run); err != nil || !bytes.Equal(EncodeRun(again), EncodeRun(run)) {
		return fmt.Errorf("a run folds on: %w", err)
	}
	cut := w.rng.IntN(len(deltas))
	if cut == 0 {
		return nil
	}
	first, err := Fold(deltas[:cut])
	second, err2 := Fold(deltas[cut:])
	both, err3 := FoldRuns(first, second)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	if !bytes.Equal(EncodeRun(both), EncodeRun(run)) {
		return fmt.Errorf("runs folded at %d are %+v, all at once %+v", cut, both, run)
	}
	return nil
}

// compare holds both replicas against each other.
func (w *foldWorld) compare() error {
	a, b := w.bySteps.r, w.byRuns.r
	if !a.Vector().Equal(b.Vector()) || a.LastHLC() != b.LastHLC() {
		return fmt.Errorf("vectors %v and %v at %v and %v", a.Vector(), b.Vector(), a.LastHLC(), b.LastHLC())
	}
	for _, dot := range a.Vector().Entries() {
		if a.HLCOf(dot.Actor) != b.HLCOf(dot.Actor) {
			return fmt.Errorf("actor %d was heard of at %v and %v", dot.Actor, a.HLCOf(dot.Actor), b.HLCOf(dot.Actor))
		}
	}
	now := hlc.At(w.clock, 0)
	for _, key := range []string{"k", "l"} {
		for of := range kinds {
			x, found, err := a.LookupType("n", key, crdt.Type(of), now)
			y, found2, err2 := b.LookupType("n", key, crdt.Type(of), now)
			if crdt.Type(of) == crdt.TypeORMap {
				x.Version, y.Version = "", "" // a leaf that came and went within a run did not touch the map
			}
			if fmt.Sprintf("%+v %v %v", x, found, err) != fmt.Sprintf("%+v %v %v", y, found2, err2) {
				return fmt.Errorf("%v of %q is %+v, with runs %+v", crdt.Type(of), key, x, y)
			}
		}
	}
	x, err := a.Digest()
	y, err2 := b.Digest()
	if err != nil || err2 != nil || x != y {
		return fmt.Errorf("digests %x and %x: %w", x, y, errors.Join(err, err2))
	}
	return nil
}

// randomOfAll draws an operation on one type, or with 0 of all, on one of two keys of namespace "n".
func randomOfAll(rng *rand.Rand, clock int64, one crdt.Type) Op {
	all := []OpKind{
		OpPut, OpPut, OpDelete, OpCounterAdd, OpCounterAdd, OpCounterSet, OpCounterReset, OpSetAdd, OpSetAdd, OpSetRemove,
		OpSetClear, OpExpire, OpPersist, OpFlagEnable, OpFlagDisable, OpMax, OpMin, OpMVPut, OpBoundedInc, OpBoundedDec,
		OpBoundedTransfer, OpMapPut, OpMapRemove, OpZSetAdd, OpZSetIncr, OpZSetRemove, OpHLLAdd, OpTimelineAdd, OpTimelineTrim,
	}
	op := Op{
		Namespace: "n", Key: []string{"k", "l"}[rng.IntN(2)], AnyType: true, Kind: all[rng.IntN(len(all))],
		Value: fmt.Appendf(nil, "v%d", rng.IntN(4)), Delta: rng.Int64N(9) - 2, ToActor: crdt.Actor(1 + rng.IntN(3)),
		Score: float64(rng.IntN(4)), At: hlc.At(clock-rng.Int64N(9), 0), Type: []crdt.Type{crdt.TypeZSet, crdt.TypeCounterZSet}[rng.IntN(2)],
	}
	for op.Kind == OpDelete && one == 0 && rng.IntN(3) > 0 { // or all the rest is absent most of the time
		op.Kind = all[rng.IntN(len(all))]
	}
	if op.Kind == OpDelete {
		op.Type = []crdt.Type{0, one, crdt.Type(1 + rng.IntN(len(kinds)-1))}[rng.IntN(3)]
	}
	if op.Kind == OpExpire || op.Kind == OpPersist {
		op.Type = []crdt.Type{0, one, crdt.TypeORMap}[rng.IntN(3)]
	}
	if rng.IntN(4) == 0 || op.Kind == OpExpire {
		op.Expires = hlc.At(clock+rng.Int64N(20), 0)
	}
	for range 1 + rng.IntN(3) {
		op.Elements = append(op.Elements, []byte{'a' + byte(rng.IntN(4))})
		op.Values = append(op.Values, fmt.Appendf(nil, "f%d", rng.IntN(4)))
	}
	if op.Kind == OpZSetAdd || op.Kind == OpZSetIncr {
		op.Elements = op.Elements[:1]
	}
	if one == 0 {
		return inMap(rng, op)
	}
	if t, err := op.check(); err != nil || t != one {
		return randomOfAll(rng, clock, one)
	}
	return op
}

// inMap makes some of the operations that can be one of a leaf, or of a subtree.
func inMap(rng *rand.Rand, op Op) Op {
	paths := []crdt.Path{leafPath("a"), leafPath("a", "b"), leafPath("c")}
	switch n := rng.IntN(12); {
	case n < 3:
		op.Path = paths[rng.IntN(len(paths))]
		if t, err := op.check(); err != nil || !op.fitsLeaf(t) {
			op.Path = crdt.Path{}
		}
	case n == 3:
		op.Kind, op.Path = OpORMapRemove, paths[rng.IntN(len(paths))]
	}
	return op
}
