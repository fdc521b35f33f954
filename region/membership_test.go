package region_test

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// facts returns those of three open regions at a membership epoch, changed.
func facts(epoch uint64, change func(map[topology.RegionID]*region.Fact)) region.Facts {
	byRegion := map[topology.RegionID]*region.Fact{}
	for _, id := range []topology.RegionID{testEU, testUS, testAP} {
		byRegion[id] = &region.Fact{Region: id, Actor: actorOf(id), State: region.ActorOpen, Destination: true}
	}
	change(byRegion)
	f := region.Facts{Epoch: epoch}
	for _, id := range []topology.RegionID{testEU, testUS, testAP} {
		f.Facts = append(f.Facts, *byRegion[id])
	}
	return f
}

func (f *fixture) take(t *testing.T, known region.Facts) {
	t.Helper()
	if err := f.TakeMembership(t.Context(), known); err != nil {
		t.Fatal(err)
	}
}

// apply applies an entry that somebody else proposed.
func (f *fixture) apply(t *testing.T, e *logv1.LogEntry) {
	t.Helper()
	data, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.machine.Apply([]region.Entry{{Index: f.machine.Position().Index + 1, Term: 1, Data: data}}); err != nil {
		t.Fatal(err)
	}
}

func TestAClosedActorCountsUpToItsCut(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP)
	for range 9 {
		us.mustWrite(t, "", add("n", 1))
	}
	data, actor := deltas(t, us, 1), actorOf(testUS)
	merge := func(from, to int) (uint64, error) { return eu.Merge(t.Context(), actor, data[from-1:to]) }
	if applied, err := merge(1, 3); applied != 3 || err != nil {
		t.Fatalf("before any facts: %d, %v", applied, err)
	}
	eu.take(t, facts(5, func(f map[topology.RegionID]*region.Fact) { f[testUS].State = region.ActorFenced }))
	if _, err := merge(4, 4); !errors.Is(err, region.ErrClosing) {
		t.Errorf("after a fence: %v", err)
	}
	if applied, err := merge(1, 3); applied != 3 || err != nil {
		t.Errorf("what was merged before the fence, again: %d, %v", applied, err)
	}
	closed := facts(6, func(f map[topology.RegionID]*region.Fact) {
		f[testUS].State, f[testUS].Cut = region.ActorClosed, 6
	})
	eu.take(t, closed)
	eu.take(t, facts(5, func(map[topology.RegionID]*region.Fact) {})) // an old word
	if applied, err := eu.Merge(t.Context(), actor, data[3:]); applied != 6 || err != nil {
		t.Errorf("across the cut: %d, %v", applied, err)
	}
	var beyond *region.ClosedError
	if _, err := merge(7, 7); !errors.As(err, &beyond) || beyond.Cut != 6 || beyond.Dot != (crdt.Dot{Actor: actor, Seq: 7}) {
		t.Errorf("beyond the cut: %v", err)
	}
	if got := eu.counter(t, "n"); got != 6 {
		t.Errorf("the counter is %d", got)
	}
	if err := closed.Admits(crdt.Dot{Actor: topology.Actor(testUS, 4), Seq: 1}, 0); !errors.As(err, &beyond) {
		t.Errorf("an event of an actor that nobody knows: %v", err)
	}
}

func TestWhatNobodyShipsAnyMore(t *testing.T) {
	closed := func(f map[topology.RegionID]*region.Fact) { f[testUS].State, f[testUS].Cut = region.ActorClosed, 6 }
	released := func(f map[topology.RegionID]*region.Fact) { closed(f); f[testUS].Released = true }
	fenced := func(f map[topology.RegionID]*region.Fact) { f[testUS].State = region.ActorFenced }
	for _, c := range []struct {
		name           string
		change         func(map[topology.RegionID]*region.Fact)
		applied, ahead uint64
		lacks          bool
	}{
		{"an open actor", func(map[topology.RegionID]*region.Fact) {}, 0, 6, false},
		{"a fenced one, of which there is no part", fenced, 5, 5, false},
		{"a fenced one, of which there is a part", fenced, 5, 6, true},
		{"a closed one, that others still fetch", closed, 5, 5, false},
		{"a released one, before its cut", released, 5, 5, true},
		{"a released one, at its cut", released, 6, 6, false},
	} {
		var vector, ahead crdt.VersionVector
		vector.Set(actorOf(testUS), c.applied)
		ahead.Set(actorOf(testUS), c.ahead)
		known := facts(3, c.change)
		if got := known.Lacks(vector, ahead); got != c.lacks {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	// Under its new epoch the region ships nothing of its old one, and nobody asks third regions for it.
	again := facts(3, closed)
	at := slices.IndexFunc(again.Facts, func(f region.Fact) bool { return f.Region == testUS })
	_, epoch := topology.ActorRegion(actorOf(testUS))
	again.Facts = slices.Insert(again.Facts, at+1, region.Fact{Region: testUS, Actor: topology.Actor(testUS, epoch+1), State: region.ActorOpen})
	for applied, lacks := range map[uint64]bool{5: true, 6: false} {
		var vector crdt.VersionVector
		vector.Set(actorOf(testUS), applied)
		if got := again.Lacks(vector, vector); got != lacks {
			t.Errorf("with %d of a closed actor whose region has begun another epoch: %v", applied, got)
		}
	}
}

func TestAMutedRegionMakesNoEvents(t *testing.T) {
	for name, mute := range map[string]func(*region.Fact){
		"fenced":  func(f *region.Fact) { f.State = region.ActorFenced },
		"closed":  func(f *region.Fact) { f.State = region.ActorClosed },
		"joining": func(f *region.Fact) { f.Joining = true },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, testEU, testUS, testAP)
			f.mustWrite(t, "", add("n", 1))
			f.take(t, facts(2, func(m map[topology.RegionID]*region.Fact) { mute(m[testEU]) }))
			head := f.View().Outbox.Head
			if _, err := f.Write(t.Context(), "", []replica.Op{add("n", 1)}); !errors.Is(err, region.ErrFenced) {
				t.Errorf("a write: %v", err)
			}
			if err := f.WriteLocal(t.Context(), "", []replica.Op{add("n", 1)}); !errors.Is(err, region.ErrFenced) {
				t.Error("a local write is taken")
			}
			if err := f.WantTick(f.instant(time.Second)); !errors.Is(err, region.ErrFenced) {
				t.Errorf("an event that another region asks for: %v", err)
			}
			// What was on its way is refused where it is applied.
			late := &logv1.LogEntry{Commands: []*logv1.Command{
				region.WriteCommand("", []replica.Op{add("n", 1)}), region.WriteCommand("", []replica.Op{add("n", 2)}),
				region.WriteCommand("", []replica.Op{put("k", "v")}),
				{Command: &logv1.Command_Queued{Queued: &logv1.QueuedCommand{Writes: []*logv1.WriteCommand{
					region.WriteCommand("", []replica.Op{add("n", 3)}).GetWrite(),
				}}}},
				{Command: &logv1.Command_Tick{Tick: &logv1.TickCommand{}}},
			}}
			f.apply(t, late)
			if got := f.View().Outbox.Head; got != head {
				t.Errorf("%d events were made", got-head)
			}
			if got := f.counter(t, "n"); got != 1 {
				t.Errorf("the counter is %d", got)
			}
		})
	}
}

func TestGarbageWaitsUntilAnActorIsReleasedAndItsEventsAreHere(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU)
	us.mustWrite(t, "", add("n", 1))
	us.mustWrite(t, "", add("n", 1))
	ap.mustWrite(t, "", add("n", 1))
	both := deltas(t, us, 1)
	merge := func(a crdt.Actor, data [][]byte) {
		t.Helper()
		if _, err := eu.Merge(t.Context(), a, data); err != nil {
			t.Fatal(err)
		}
	}
	ap.clock.advance(time.Second)
	ap.mustWrite(t, "", add("n", 1))
	merge(actorOf(testAP), deltas(t, ap, 1))
	merge(actorOf(testUS), both[:1])
	view := eu.View()
	first := view.HLCs[actorOf(testUS)]
	released := facts(4, func(f map[topology.RegionID]*region.Fact) {
		*f[testUS] = region.Fact{Region: testUS, Actor: actorOf(testUS), State: region.ActorClosed, Cut: 2}
	})
	eu.take(t, released)
	if cut := eu.Cut(); cut > first {
		t.Errorf("the cut %v passes the last event of an actor that is not released", cut)
	}
	released.Epoch, released.Facts[1].Released = 5, true
	eu.take(t, released)
	if cut := eu.Cut(); cut > first {
		t.Errorf("the cut %v passes events below the actor's cut that are not here", cut)
	}
	merge(actorOf(testUS), both[1:])
	if cut, want := eu.Cut(), eu.View().HLCs[actorOf(testAP)]; cut != want {
		t.Errorf("the cut is %v, want that of the last who writes, %v", cut, want)
	}
	// Who joins holds back everything.
	joins := facts(6, func(f map[topology.RegionID]*region.Fact) {
		f[testUS].Actor, f[testUS].Joining = topology.Actor(testUS, 1), true
	})
	eu.take(t, joins)
	if cut := eu.Cut(); cut != hlc.Time(0) {
		t.Errorf("the cut is %v while a region joins", cut)
	}
}

func TestOutboxFollowsTheMembership(t *testing.T) {
	eu := actorOf(testEU)
	f := newFixture(t, testEU, testUS, testAP)
	for range 10 {
		f.mustWrite(t, "", add("n", 1))
	}
	acknowledge := func(r topology.RegionID, seq uint64) uint64 {
		t.Helper()
		if err := f.Acknowledge(t.Context(), []region.Watermark{{Region: r, Actor: eu, Seq: seq}}); err != nil {
			t.Fatal(err)
		}
		state, _ := f.Outbox()
		return state.First
	}
	f.take(t, facts(1, func(map[topology.RegionID]*region.Fact) {}))
	acknowledge(testUS, 5)
	f.take(t, facts(2, func(m map[topology.RegionID]*region.Fact) { m[testUS].State = region.ActorFenced }))
	if first := acknowledge(testAP, 9); first != 6 {
		t.Errorf("the outbox begins at %d though a fenced region is waited for", first)
	}
	f.take(t, facts(3, func(m map[topology.RegionID]*region.Fact) {
		m[testUS].State, m[testUS].Released, m[testUS].Destination = region.ActorClosed, true, false
	}))
	if first := acknowledge(testAP, 10); first != 11 {
		t.Errorf("the outbox begins at %d though nobody waits for the released region", first)
	}
	// It comes back, and what it acknowledged in its earlier life does not count.
	f.mustWrite(t, "", add("n", 1), add("m", 1))
	f.take(t, facts(4, func(m map[topology.RegionID]*region.Fact) {
		m[testUS].Actor, m[testUS].Joining = topology.Actor(testUS, 1), true
	}))
	if slices.ContainsFunc(f.View().Watermarks, func(w region.Watermark) bool { return w.Region == testUS }) {
		t.Error("the watermark of an earlier life is kept")
	}
	if first := acknowledge(testAP, f.View().Outbox.Head); first != 11 {
		t.Errorf("the outbox begins at %d, past what the region that joins may need", first)
	}
	if first := acknowledge(testUS, f.View().Outbox.Head); first != f.View().Outbox.Head+1 {
		t.Errorf("the outbox begins at %d after everybody has it", first)
	}
}

func TestALonelyRegionKeepsDeltasForOneThatJoins(t *testing.T) {
	f := newFixture(t, testEU)
	f.mustWrite(t, "", add("n", 1))
	f.take(t, region.Facts{Epoch: 2, Facts: []region.Fact{
		{Region: testEU, Actor: actorOf(testEU), State: region.ActorOpen, Destination: true},
		{Region: testUS, Actor: actorOf(testUS), State: region.ActorOpen, Destination: true, Joining: true},
	}})
	f.mustWrite(t, "", add("n", 1))
	if state, _ := f.Outbox(); state.First != 2 || state.Head != 2 {
		t.Errorf("the outbox is %+v", state)
	}
}

func TestFactsSurviveARestartAndMakeSense(t *testing.T) {
	f := newFixture(t, testEU, testUS, testAP)
	want := facts(7, func(m map[topology.RegionID]*region.Fact) {
		m[testUS].State, m[testUS].Cut, m[testUS].Released = region.ActorClosed, math.MaxUint64, true
	})
	f.take(t, want)
	path := filepath.Join(t.TempDir(), "other.db")
	other, err := region.NewMachine(actorOf(testEU), openStore(t, path), hlc.NewClock(f.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Apply(f.group.log), other.Flush()); err != nil {
		t.Fatal(err)
	}
	again, err := region.NewMachine(actorOf(testEU), openStore(t, copyFile(t, path)), hlc.NewClock(f.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if got := again.View().Facts; got.Epoch != 7 || !slices.Equal(got.Facts, want.Facts) {
		t.Errorf("after a restart: %+v", got)
	}
	for name, spoil := range map[string]func(*region.Facts){
		"state": func(x *region.Facts) { x.Facts[0].State = 9 },
		"order": func(x *region.Facts) { x.Facts[0], x.Facts[1] = x.Facts[1], x.Facts[0] },
		"actor": func(x *region.Facts) { x.Facts[0].Actor = actorOf(testAP) },
	} {
		bad := facts(9, func(map[topology.RegionID]*region.Fact) {})
		spoil(&bad)
		if err := f.TakeMembership(t.Context(), bad); !errors.Is(err, region.ErrBadCommand) {
			t.Errorf("facts with a wrong %s: %v", name, err)
		}
	}
	if got := f.View().Facts.Epoch; got != 7 {
		t.Errorf("facts that make no sense were taken: %d", got)
	}
}
