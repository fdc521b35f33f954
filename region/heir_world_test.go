package region_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// life is one epoch of a region: what of it is decided, and what it has.
type life struct {
	*fixture
	actor    crdt.Actor
	state    region.ActorState
	cut      uint64
	released bool
	joining  bool
	// since is the membership that its present state was decided in, and known the one that its partition has taken in.
	since, known uint64
	timer        *region.TickTimer
}

func (l *life) region() topology.RegionID {
	id, _ := topology.ActorRegion(l.actor)
	return id
}

func (l *life) living() bool { return l.state == region.ActorOpen }

// heirWorld is three regions with one home, of which any may be lost, closed by the others, inherited from, and come back. What the
// membership decides each hears of at some time. What is lost goes on to write as long as it has not heard.
type heirWorld struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	lives   []*life // by region and epoch
	history []region.Facts
	heirs   []region.Heir
	value   map[string]string
	next    int
	ending  bool
	// Of the run: how often each thing happened.
	inherited, chained, back, outlawed, zombie, beyond, moves int
}

func newHeirWorld(t *testing.T, seed uint64) *heirWorld {
	w := &heirWorld{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 31)), value: map[string]string{}}
	for _, id := range []topology.RegionID{testEU, testUS, testAP} {
		w.begin(topology.Actor(id, 0))
	}
	w.decided()
	for _, l := range w.lives {
		w.hear(l, 1)
	}
	return w
}

func (w *heirWorld) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

func (w *heirWorld) begin(a crdt.Actor) *life {
	id, _ := topology.ActorRegion(a)
	others := slices.DeleteFunc([]topology.RegionID{testEU, testUS, testAP}, func(o topology.RegionID) bool { return o == id })
	l := &life{fixture: newFixtureOf(w.t, a, 0, others...), actor: a, state: region.ActorOpen, timer: &region.TickTimer{}}
	if n := len(w.history); n > 0 { // its clock goes as the others'
		l.clock.now = w.lives[0].clock.wall()
	}
	w.lives = append(w.lives, l)
	slices.SortFunc(w.lives, func(a, b *life) int {
		return int(a.region())*1000 + int(a.actor) - int(b.region())*1000 - int(b.actor)
	})
	return l
}

func (w *heirWorld) present(id topology.RegionID) *life {
	var last *life
	for _, l := range w.lives {
		if l.region() == id {
			last = l
		}
	}
	return last
}

// decided is a new membership.
func (w *heirWorld) decided(changed ...*life) {
	f := region.Facts{Epoch: uint64(len(w.history)) + 1, Heirs: slices.Clone(w.heirs)}
	for _, l := range changed {
		l.since = f.Epoch
	}
	for _, l := range w.lives {
		last := w.present(l.region()) == l
		f.Facts = append(f.Facts, region.Fact{
			Region: l.region(), Actor: l.actor, State: l.state, Cut: l.cut, Released: l.released, Joining: l.joining,
			Destination: last && !l.released,
		})
	}
	w.history = append(w.history, f)
}

// hear has a region take in a membership.
func (w *heirWorld) hear(l *life, epoch uint64) {
	if epoch > l.known {
		l.take(w.t, w.history[epoch-1])
		l.known = epoch
	}
}

func (w *heirWorld) all(of func(*life) bool) bool {
	return !slices.ContainsFunc(w.lives, func(l *life) bool { return l.living() && !of(l) })
}

// decide goes on with what is under way, and begins something now and then.
func (w *heirWorld) decide() {
	var under *life
	for _, l := range w.lives {
		if !l.living() && !l.released || l.joining {
			under = l
		}
	}
	switch {
	case under != nil && under.joining:
		w.join(under)
	case under != nil:
		w.closeUp(under)
	case !w.ending && w.rng.IntN(3) == 0:
		w.beginChange(w.present(topology.RegionID(1 + w.rng.IntN(3))))
	}
}

// closeUp closes who was given up, at the most that anybody living has, and then has it released.
func (w *heirWorld) closeUp(under *life) {
	switch {
	case under.state == region.ActorFenced && w.all(func(l *life) bool { return l.known >= under.since }):
		for _, l := range w.lives {
			if l.living() {
				under.cut = max(under.cut, l.View().Vector.Get(under.actor))
			}
		}
		under.state = region.ActorClosed
		w.decided(under)
	case under.state == region.ActorClosed && w.all(func(l *life) bool { return l.View().Vector.Get(under.actor) >= under.cut }):
		under.released = true
		w.decided(under)
	}
}

// join has a region write that has what another one has, and that everybody waits for.
func (w *heirWorld) join(l *life) {
	if !w.all(func(o *life) bool { return o.known >= l.since }) || !w.hasAll(l) {
		return
	}
	l.joining = false
	w.decided(l)
	w.hear(l, uint64(len(w.history)))
	if home, _, serving := l.View().Home("default"); home == l.region() && serving {
		w.back++ // nobody was named its heir
		w.survives(l)
	}
}

// hasAll reports whether a region has what another one has.
func (w *heirWorld) hasAll(joining *life) bool {
	return slices.ContainsFunc(w.lives, func(l *life) bool {
		return l != joining && l.living() && !slices.ContainsFunc(l.View().Vector.Entries(), func(d crdt.Dot) bool { return !joining.View().Vector.Covers(d) })
	})
}

func (w *heirWorld) beginChange(l *life) {
	others := 0
	for _, o := range w.lives {
		if o != l && o.living() {
			others++
		}
	}
	switch {
	case l.living() && others > 0 && w.rng.IntN(3) == 0:
		l.state = region.ActorFenced
		w.decided(l)
	case !l.living():
		_, e := topology.ActorRegion(l.actor)
		again := w.begin(topology.Actor(l.region(), e+1))
		again.joining = true
		w.decided(again)
		w.hear(again, uint64(len(w.history)))
	}
}

// nameHeir decides who takes over from a region that was given up.
func (w *heirWorld) nameHeir(of, heir *life) {
	named := slices.ContainsFunc(w.heirs, func(h region.Heir) bool { return h.Of == of.actor })
	if of.living() || named || w.present(of.region()) != of || !heir.living() || heir.joining {
		return
	}
	w.heirs = append(w.heirs, region.Heir{Of: of.actor, Heir: heir.actor})
	slices.SortFunc(w.heirs, func(a, b region.Heir) int { return int(a.Of) - int(b.Of) })
	w.decided()
}

// deliver has one region merge some of what another one wrote, as far as it may.
func (w *heirWorld) deliver(to, from *life, most int) {
	have, box := to.View().Vector.Get(from.actor), from.View().Outbox
	if to == from || !to.living() || have >= box.Head {
		return
	}
	data := deltas(w.t, from.fixture, have+1)
	if from.state == region.ActorClosed && have < from.cut && w.rng.IntN(3) > 0 { // as who relays it
		data = data[:from.cut-have]
	}
	data = data[:min(len(data), most)]
	_, err := to.Merge(w.t.Context(), from.actor, data)
	var closed *region.ClosedError
	switch {
	case errors.As(err, &closed), errors.Is(err, region.ErrClosing):
		if !from.living() && to.known >= from.since {
			w.beyond++
		}
	case err != nil:
		w.fatalf("%v", err)
	case from.state == region.ActorClosed && to.View().Vector.Get(from.actor) > from.cut:
		w.fatalf("actor %d took event %d of actor %d, closed at %d", to.actor, to.View().Vector.Get(from.actor), from.actor, from.cut)
	}
}

// write has a region write, and holds the answer against the one copy, if the region takes part.
func (w *heirWorld) write(l *life) {
	key := fmt.Sprint("k", w.rng.IntN(3))
	op := put(key, fmt.Sprint("v", w.next))
	w.next++
	before, present := w.value[key]
	holds := true
	switch w.rng.IntN(4) {
	case 0:
		op.Condition, holds = replica.Condition{Kind: replica.CondAbsent}, !present
	case 1:
		op.Condition, holds = replica.Condition{Kind: replica.CondValue, Value: []byte(before)}, present
	}
	_, err := l.WriteHome(w.t.Context(), "", []replica.Op{op}, l.region() == testEU)
	condition, elsewhere := (*replica.ConditionError)(nil), (*region.NotHomeError)(nil)
	switch {
	case errors.Is(err, region.ErrFenced):
	case errors.As(err, &elsewhere):
		if slices.ContainsFunc(w.heirs, func(h region.Heir) bool {
			of, _ := topology.ActorRegion(h.Of)
			return of == l.region() && h.Of < l.actor
		}) {
			w.outlawed++
		}
	case err != nil && !errors.As(err, &condition):
		w.fatalf("%v", err)
	case !l.living():
		w.zombie++
	case (err == nil) != holds:
		w.fatalf("actor %d on %q (%v): condition %d answers %v", l.actor, before, present, op.Condition.Kind, err)
	case err == nil:
		w.value[key] = string(op.Value)
	}
}

// take has a region try to take over the home.
func (w *heirWorld) take(l *life) {
	_, before, _ := l.View().Home("default")
	homes := l.View().Homes
	err := l.TakeHome(w.t.Context(), "default", testEU)
	var open *region.HomeNotClosedError
	switch {
	case errors.Is(err, region.ErrFenced), errors.As(err, &open), errors.Is(err, region.ErrHomeUnsettled):
		return
	case err != nil:
		w.fatalf("%v", err)
	}
	if _, epoch, serving := l.View().Home("default"); epoch == before || !l.living() {
		return
	} else if !serving {
		w.fatalf("actor %d took over, and does not serve", l.actor)
	}
	w.inherits(l, homes)
}

// inherits checks that who took over has all that counts of the home before.
func (w *heirWorld) inherits(l *life, homes []replica.Home) {
	former := topology.Actor(testEU, 0)
	if len(homes) > 0 {
		former = homes[0].Given
	}
	alone := true
	for _, o := range w.lives {
		if o.living() && l.View().Vector.Get(former) < o.View().Vector.Get(former) {
			w.fatalf("actor %d took over with less of actor %d than actor %d has", l.actor, former, o.actor)
		}
		alone = alone && (o == l || !o.living())
	}
	if !alone {
		w.inherited++
	}
	if i := slices.IndexFunc(w.heirs, func(h region.Heir) bool { return h.Of == former }); i >= 0 && w.heirs[i].Heir != l.actor {
		w.chained++
	}
	w.survives(l)
}

// survives makes the one copy what a region has.
func (w *heirWorld) survives(l *life) {
	for i := range 3 {
		key := fmt.Sprint("k", i)
		delete(w.value, key)
		if v, err := w.get(l, key, false); err == nil && v != "" {
			w.value[key] = v
		}
	}
}

func (w *heirWorld) get(l *life, key string, home bool) (value string, err error) {
	_, err = l.Read(w.t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		if home {
			if err := l.AtHome(r, "default", l.region() == testEU); err != nil {
				return err
			}
		}
		o, _, err := r.Lookup("default", key, now)
		value = string(o.Value)
		return err
	})
	return value, err
}

// read checks that what a home shows is the one copy.
func (w *heirWorld) read(l *life) {
	for i := range 3 {
		key := fmt.Sprint("k", i)
		if got, err := w.get(l, key, true); err == nil && l.living() && got != w.value[key] {
			w.fatalf("actor %d shows %q of %s at home, want %q", l.actor, got, key, w.value[key])
		}
	}
}

func (w *heirWorld) move(l, to *life) {
	if !l.living() || w.rng.IntN(4) > 0 {
		return
	}
	err := l.MoveHome(w.t.Context(), "default", to.region(), l.region() == testEU)
	var target *region.HomeTargetError
	var elsewhere *region.NotHomeError
	switch {
	case err == nil:
		w.moves++
	case errors.As(err, &target), errors.As(err, &elsewhere), errors.Is(err, region.ErrHomeUnsettled), errors.Is(err, region.ErrFenced):
	default:
		w.fatalf("%v", err)
	}
}

func (w *heirWorld) step() {
	l, other := w.lives[w.rng.IntN(len(w.lives))], w.lives[w.rng.IntN(len(w.lives))]
	switch w.rng.IntN(20) {
	case 0:
		w.decide()
	case 1, 2:
		if l.living() || w.rng.IntN(20) == 0 { // who was given up hears late, if at all
			w.hear(l, l.known+w.rng.Uint64N(uint64(len(w.history))-l.known+1))
		}
	case 3:
		if w.rng.IntN(3) == 0 {
			w.nameHeir(l, other)
		}
	case 4, 5:
		w.take(l)
	case 6:
		w.move(l, other)
	case 7:
		w.tick()
	case 8, 9:
		w.read(l)
	case 10, 11, 12, 13, 14, 15:
		w.deliver(l, other, 1+w.rng.IntN(12))
	default:
		w.write(l)
	}
}

func (w *heirWorld) tick() {
	for _, l := range w.lives {
		l.clock.advance(2 * time.Second)
	}
	for _, l := range w.lives {
		if l.living() && !l.joining {
			if err := errors.Join(l.ExpireDue(w.t.Context()), l.TickDue(w.t.Context(), l.timer)); err != nil && !errors.Is(err, region.ErrFenced) {
				w.fatalf("%v", err)
			}
		}
	}
}

// settle ends all that is under way, has an heir take over if the home is lost, and compares the regions.
func (w *heirWorld) settle() {
	w.ending = true
	for range 40 {
		for _, l := range w.lives {
			if l.living() {
				w.hear(l, uint64(len(w.history)))
			}
			for _, from := range w.lives {
				w.deliver(l, from, 10000)
			}
		}
		w.decide()
	}
	w.end()
	for _, l := range w.lives {
		if !l.living() || l.joining {
			continue
		}
		w.read(l)
		for i := range 3 {
			key := fmt.Sprint("k", i)
			if got, err := w.get(l, key, false); err != nil || got != w.value[key] {
				w.fatalf("actor %d has %q of %s at the end, want %q: %v", l.actor, got, key, w.value[key], err)
			}
		}
	}
}

// end has the home that is lost taken over.
func (w *heirWorld) end() {
	var heir *life
	for _, l := range w.lives {
		if l.living() && !l.joining {
			heir = l
		}
	}
	for _, l := range w.lives {
		w.nameHeir(l, heir)
	}
	for range 3 {
		for _, l := range w.lives {
			if l.living() {
				w.hear(l, uint64(len(w.history)))
				w.take(l)
			}
			for _, from := range w.lives {
				w.deliver(l, from, 10000)
			}
		}
		for _, l := range w.lives {
			w.deliver(heir, l, 10000)
		}
	}
}

// TestAnInheritedHomeBehavesAsOneCopy: whoever is lost, heard late, came back or was an heir itself.
func TestAnInheritedHomeBehavesAsOneCopy(t *testing.T) {
	var inherited, chained, back, outlawed, zombie, beyond, moves int
	for seed := range *homeRuns {
		w := newHeirWorld(t, uint64(seed))
		for range 600 {
			w.step()
		}
		w.settle()
		inherited, chained, back, moves = inherited+w.inherited, chained+w.chained, back+w.back, moves+w.moves
		outlawed, zombie, beyond = outlawed+w.outlawed, zombie+w.zombie, beyond+w.beyond
	}
	t.Logf("%d inherited, %d of them from an heir; %d homes that came back, %d writes refused by those that are home no more; %d writes of who is lost, %d times refused; %d moves",
		inherited, chained, back, outlawed, zombie, beyond, moves)
	if inherited == 0 || chained == 0 || back == 0 || outlawed == 0 || zombie == 0 || beyond == 0 || moves == 0 {
		t.Error("something never happened")
	}
}
