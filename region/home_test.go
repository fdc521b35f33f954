package region_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// movable are three regions that all know of the home eu.
func movable(t *testing.T) (q *quietRegions, eu, us, ap *fixture) {
	t.Helper()
	q = newQuietRegions(t, testEU, testUS, testAP)
	eu, us, ap = q.all[0], q.all[1], q.all[2]
	eu.mustWriteHome(t, "", put("k", "first"))
	if err := eu.MoveHome(t.Context(), "default", testUS, true); !errors.Is(err, region.ErrHomeUnsettled) {
		t.Fatalf("moved before anybody knew: %v", err)
	}
	for range 3 {
		q.exchange()
		q.step(time.Second)
	}
	q.exchange()
	return q, eu, us, ap
}

func (f *fixture) mustWriteHome(t *testing.T, opID string, ops ...replica.Op) region.WriteResult {
	t.Helper()
	r, err := f.WriteHome(t.Context(), opID, ops, regionOf(f) == testEU)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// knowsHome checks what a region knows of the home.
func (f *fixture) knowsHome(t *testing.T, want region.HomeState) {
	t.Helper()
	got, err := f.Home(t.Context(), "default", regionOf(f) == testEU)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("region %d knows %+v, %v, want %+v", regionOf(f), got, err, want)
	}
}

// refusesHome checks that a write is refused, and which home the refusal names.
func (f *fixture) refusesHome(t *testing.T, home any) {
	t.Helper()
	_, err := f.WriteHome(t.Context(), "", []replica.Op{put("k", "refused")}, regionOf(f) == testEU)
	var elsewhere *region.NotHomeError
	if !errors.As(err, &elsewhere) || elsewhere.Home != home {
		t.Errorf("region %d answers %v, want that region %d is the home", regionOf(f), err, home)
	}
}

// TestAHomeServesOnceItHasAll: what earlier homes wrote, too, whose deltas come by other ways.
func TestAHomeServesOnceItHasAll(t *testing.T) {
	_, eu, us, ap := movable(t)
	us.refusesHome(t, testEU)
	eu.mustWriteHome(t, "", put("k", "eu"))
	if err := eu.MoveHome(t.Context(), "default", testUS, true); err != nil {
		t.Fatal(err)
	}
	eu.refusesHome(t, testUS)
	if _, err := eu.Write(t.Context(), "", []replica.Op{put("k", "plain")}); err == nil {
		t.Error("a write that does not ask for the home is done elsewhere")
	}
	us.mustMerge(t, eu, us.View().Vector.Get(actorOf(testEU))+1)
	us.mustWriteHome(t, "", replica.Op{
		Kind: replica.OpPut, Namespace: "default", Key: "k", Value: []byte("us"), Condition: replica.Condition{Kind: replica.CondValue, Value: []byte("eu")},
	})
	if err := us.MoveHome(t.Context(), "default", testAP, false); err != nil {
		t.Fatal(err)
	}
	ap.mustMerge(t, us, ap.View().Vector.Get(actorOf(testUS))+1)
	ap.refusesHome(t, testAP) // it lacks what eu did
	ap.mustMerge(t, eu, ap.View().Vector.Get(actorOf(testEU))+1)
	ap.mustWriteHome(t, "", put("k", "ap"))
}

// TestAWriteThatCameTooLateIsDoneWhenRepeated: under its op_id, at the home that gave it up.
func TestAWriteThatCameTooLateIsDoneWhenRepeated(t *testing.T) {
	q, eu, us, _ := movable(t)
	eu.mustWriteHome(t, "id", put("k", "late"))
	if err := us.ForceHome(t.Context(), "default", 2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q.exchange()
	}
	if r := us.mustWriteHome(t, "id", put("k", "late")); r.Repeated {
		t.Error("a write that was given up is answered as done")
	}
	if err := us.ForceHome(t.Context(), "default", 1); err == nil {
		t.Error("taken over under an earlier term")
	}
	eu.refusesHome(t, testUS)
}

// TestOnlyRegistersHaveAHome: other types are refused, and nothing is done.
func TestOnlyRegistersHaveAHome(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	for _, op := range []replica.Op{add("n", 1), {Kind: replica.OpDelete, Namespace: "default", Key: "k"}} {
		if _, err := f.WriteHome(t.Context(), "", []replica.Op{op}, true); !errors.Is(err, replica.ErrNoHome) {
			t.Errorf("%+v answers %v", op, err)
		}
	}
}

// TestHomesSurviveARestart: they are in the state.
func TestHomesSurviveARestart(t *testing.T) {
	_, eu, us, _ := movable(t)
	again, err := region.NewMachine(actorOf(testUS), openStore(t, t.TempDir()+"/copy.db"), hlc.NewClock(eu.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Apply(us.group.log); err != nil {
		t.Fatal(err)
	}
	home, epoch, serving := again.View().Home("default")
	if home != testEU || epoch != 1<<32 || serving || len(again.View().Homes) != 1 {
		t.Errorf("home %d, epoch %d, serving %v", home, epoch, serving)
	}
}

// TestAFencedHomeShowsNothing: another region may be the home, without its knowledge.
func TestAFencedHomeShowsNothing(t *testing.T) {
	for name, mute := range map[string]func(*region.Fact){
		"fenced":  func(f *region.Fact) { f.State = region.ActorFenced },
		"closed":  func(f *region.Fact) { f.State = region.ActorClosed },
		"joining": func(f *region.Fact) { f.Joining = true },
	} {
		f := newFixture(t, testEU, testUS, testAP)
		atHome := func() error {
			_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, _ hlc.Time) error {
				return f.AtHome(r, "default", true)
			})
			return err
		}
		if err := atHome(); err != nil {
			t.Fatal(err)
		}
		f.take(t, facts(2, func(m map[topology.RegionID]*region.Fact) { mute(m[testEU]) }))
		if err := atHome(); !errors.Is(err, region.ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHomesAreBounded: one more is refused, and what has a home keeps it.
func TestHomesAreBounded(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	write := func(i int) error {
		op := put("k", "v")
		op.Namespace = fmt.Sprintf("n%03d", 300-i)
		_, err := f.WriteHome(t.Context(), "", []replica.Op{op}, true)
		return err
	}
	for i := range 256 {
		if err := write(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(256); !errors.Is(err, region.ErrTooManyHomes) {
		t.Errorf("one more: %v", err)
	}
	if err := write(0); err != nil || len(f.View().Homes) != 256 {
		t.Errorf("the first: %v, of %d", err, len(f.View().Homes))
	}
}

// TestAHomeMovesBeforeItsFirstWrite: the region of the configuration says first that it is the home.
func TestAHomeMovesBeforeItsFirstWrite(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS, testAP)
	eu, us := q.all[0], q.all[1]
	eu.knowsHome(t, region.HomeState{Home: testEU, Serving: true, Waiting: []topology.RegionID{testUS, testAP}})
	us.knowsHome(t, region.HomeState{})
	var elsewhere *region.NotHomeError
	if err := us.MoveHome(t.Context(), "default", testUS, false); !errors.As(err, &elsewhere) {
		t.Errorf("moved by who is not the home: %v", err)
	}
	if err := eu.MoveHome(t.Context(), "default", testUS, true); !errors.Is(err, region.ErrHomeUnsettled) {
		t.Fatalf("moved before anybody knew: %v", err)
	}
	for range 4 {
		q.exchange()
		q.step(time.Second)
	}
	q.exchange()
	for range 2 { // as often as one likes
		if err := eu.MoveHome(t.Context(), "default", testUS, true); err != nil {
			t.Fatal(err)
		}
	}
	eu.knowsHome(t, region.HomeState{Home: testUS, Epoch: 1<<32 + 1})
	us.knowsHome(t, region.HomeState{Home: testEU, Epoch: 1 << 32})
	q.exchange()
	us.knowsHome(t, region.HomeState{Home: testUS, Epoch: 1<<32 + 1, Serving: true})
	us.mustWriteHome(t, "", put("k", "v"))
}

// TestAHomeMovesToARegionThatWrites only.
func TestAHomeMovesToARegionThatWrites(t *testing.T) {
	for name, mute := range map[string]func(*region.Fact){
		"fenced":  func(f *region.Fact) { f.State = region.ActorFenced },
		"closed":  func(f *region.Fact) { f.State, f.Cut = region.ActorClosed, 100 },
		"joining": func(f *region.Fact) { f.Joining = true },
	} {
		_, eu, _, _ := movable(t)
		eu.take(t, facts(2, func(m map[topology.RegionID]*region.Fact) { mute(m[testUS]) }))
		var target *region.HomeTargetError
		if err := eu.MoveHome(t.Context(), "default", testUS, true); !errors.As(err, &target) || target.Region != testUS {
			t.Errorf("%s: %v", name, err)
		}
		eu.mustWriteHome(t, "", put("k", "still"))
	}
}

// TestAHomeWaitsForNothingThatIsGivenUp: what its predecessor had of a region that was closed below that will never come.
func TestAHomeWaitsForNothingThatIsGivenUp(t *testing.T) {
	_, eu, us, ap := movable(t)
	kept := us.View().Vector.Get(actorOf(testAP))
	ap.mustWrite(t, "", addsTo("s", "e"))
	eu.mustMerge(t, ap, kept+1)
	if err := eu.MoveHome(t.Context(), "default", testUS, true); err != nil {
		t.Fatal(err)
	}
	us.mustMerge(t, eu, us.View().Vector.Get(actorOf(testEU))+1)
	us.refusesHome(t, testUS)
	for epoch, cut := range []uint64{kept + 1, kept} { // the cut falls when eu is given up, too, which alone had more
		us.refusesHome(t, testUS)
		us.take(t, facts(uint64(epoch)+2, func(m map[topology.RegionID]*region.Fact) {
			m[testAP].State, m[testAP].Cut = region.ActorClosed, cut
		}))
	}
	us.mustWriteHome(t, "", put("k", "v"))
	us.knowsHome(t, region.HomeState{Home: testUS, Epoch: 1<<32 + 1, Serving: true})
}

// TestWhatAHomeDeletedIsKeptUntilAllKnowOfTheHome: who does not know of it writes later, and loses all the same, but only
// against what is still there.
func TestWhatAHomeDeletedIsKeptUntilAllKnowOfTheHome(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU, testUS)
	eu.mustWriteHome(t, "", put("k", "v"))
	eu.mustWriteHome(t, "", replica.Op{Kind: replica.OpDelete, Namespace: "default", Key: "k", Type: crdt.TypeLWWRegister})
	aMinuteLater := func() hlc.Time {
		for _, f := range []*fixture{eu, us, ap} {
			f.clock.advance(time.Minute)
		}
		return hlc.At(eu.clock.wall().UnixMilli(), 0)
	}
	eventOf := func(f *fixture) { // in another namespace, so that it says nothing of the home
		seq := f.View().Outbox.Head + 1
		f.mustWrite(t, "", replica.Op{Kind: replica.OpPut, Namespace: "other", Key: "k", Value: []byte("v")})
		us.mustMerge(t, f, seq)
	}
	us.mustMerge(t, eu, 1)
	later := aMinuteLater()
	eventOf(eu)
	eventOf(ap)
	if cut := us.Cut(); cut >= later {
		t.Errorf("the cut is %v, and ap may still write as if there were no home", cut)
	}
	if g, err := us.Garbage(); err != nil || g.Region != testAP {
		t.Errorf("it is held back by %+v, %v", g, err)
	}
	ap.mustMerge(t, eu, 1)
	aMinuteLater()
	eventOf(eu)
	eventOf(ap)
	if cut := us.Cut(); cut < later {
		t.Errorf("the cut is %v, though all know of the home", cut)
	}
}
