package region_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// closedFact is that of an actor which is closed, at what a region has of it.
func (f *fixture) closedFact(a crdt.Actor) region.Fact {
	id, _ := topology.ActorRegion(a)
	return region.Fact{Region: id, Actor: a, State: region.ActorClosed, Released: true, Cut: f.View().Vector.Get(a)}
}

func openFact(a crdt.Actor) region.Fact {
	id, _ := topology.ActorRegion(a)
	return region.Fact{Region: id, Actor: a, State: region.ActorOpen, Destination: true}
}

// knows has a region take in new facts, and heirs, each followed by what it is the heir of.
func (f *fixture) knows(t *testing.T, heirs []region.Heir, facts ...region.Fact) {
	t.Helper()
	f.take(t, region.Facts{Epoch: f.View().Facts.Epoch + 1, Facts: facts, Heirs: heirs})
}

// notTaken checks that a home is not taken over, and who is said to be its heir.
func (f *fixture) notTaken(t *testing.T, why string, heir topology.RegionID) {
	t.Helper()
	var open *region.HomeNotClosedError
	if err := f.TakeHome(t.Context(), "default", testEU); !errors.As(err, &open) || open.Home != testEU || open.Heir != heir {
		t.Errorf("%s: %v", why, err)
	}
}

func (f *fixture) takesHome(t *testing.T) {
	t.Helper()
	for range 2 { // as often as one likes
		if err := f.TakeHome(t.Context(), "default", testEU); err != nil {
			t.Fatal(err)
		}
	}
}

func epoch(r topology.RegionID, e topology.Epoch) crdt.Actor { return topology.Actor(r, e) }

// TestAnHeirTakesOverWhatIsOver: with other regions there, and not before all that counts of the home is here.
func TestAnHeirTakesOverWhatIsOver(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP)
	ap := newFixture(t, testAP, testEU, testUS)
	eu.mustWriteHome(t, "", put("k", "v"))
	us.mustMerge(t, eu, 1)
	heirs := []region.Heir{{Of: actorOf(testEU), Heir: actorOf(testUS)}}
	over, rest := us.closedFact(actorOf(testEU)), []region.Fact{openFact(actorOf(testUS)), openFact(actorOf(testAP))}
	try := func(why string, heirs []region.Heir, heir topology.RegionID, change func(*region.Fact)) {
		t.Helper()
		fact := over
		change(&fact)
		us.knows(t, heirs, append([]region.Fact{fact}, rest...)...)
		us.notTaken(t, why, heir)
		us.refusesHome(t, max(heir, testEU))
	}
	try("no heir", nil, 0, func(*region.Fact) {})
	try("another heir", []region.Heir{{Of: actorOf(testEU), Heir: actorOf(testAP)}}, testAP, func(*region.Fact) {})
	try("open", heirs, testUS, func(f *region.Fact) { f.State, f.Released, f.Cut = region.ActorOpen, false, 0 })
	try("fenced", heirs, testUS, func(f *region.Fact) { f.State, f.Released, f.Cut = region.ActorFenced, false, 0 })
	try("not closed everywhere", heirs, testUS, func(f *region.Fact) { f.Released = false })
	try("beyond what is here", heirs, testUS, func(f *region.Fact) { f.Cut++ })
	us.knows(t, heirs, append([]region.Fact{over}, rest...)...)
	us.knowsHome(t, region.HomeState{Home: testEU, Heir: testUS, Epoch: 1 << 32})
	us.takesHome(t)
	us.knowsHome(t, region.HomeState{Home: testUS, Epoch: 2 << 32, Serving: true, Waiting: []topology.RegionID{testAP}})
	us.mustWriteHome(t, "", replica.Op{
		Kind: replica.OpPut, Namespace: "default", Key: "k", Value: []byte("us"), Condition: replica.Condition{Kind: replica.CondValue, Value: []byte("v")},
	})
	ap.knows(t, heirs, append([]region.Fact{over}, rest...)...)
	ap.notTaken(t, "not the heir", testUS)
	again, err := region.NewMachine(actorOf(testUS), openStore(t, t.TempDir()+"/copy.db"), hlc.NewClock(us.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Apply(us.group.log); err != nil || fmt.Sprint(again.View().Facts.Heirs) != fmt.Sprint(heirs) {
		t.Errorf("after a restart it knows of %v, %v", again.View().Facts.Heirs, err)
	}
}

// TestARegionThatCameBackIsNoHome: if it has an heir; also if it never said that it is the home.
func TestARegionThatCameBackIsNoHome(t *testing.T) {
	heirs := []region.Heir{{Of: epoch(testEU, 0), Heir: epoch(testUS, 0)}}
	us := newFixture(t, testUS, testEU, testAP)
	again := newFixtureOf(t, epoch(testEU, 1), 0, testUS, testAP)
	facts := []region.Fact{again.closedFact(epoch(testEU, 0)), openFact(epoch(testEU, 1)), openFact(actorOf(testUS)), openFact(actorOf(testAP))}
	again.knows(t, nil, facts...)
	again.knowsHome(t, region.HomeState{Home: testEU, Serving: true, Waiting: []topology.RegionID{testUS, testAP}})
	again.knows(t, heirs, facts...)
	us.knows(t, heirs, facts...)
	again.refusesHome(t, testUS)
	again.knowsHome(t, region.HomeState{Home: testEU, Heir: testUS})
	var elsewhere *region.NotHomeError
	if err := again.MoveHome(t.Context(), "default", testAP, true); !errors.As(err, &elsewhere) || elsewhere.Home != testUS || elsewhere.Former != testEU {
		t.Errorf("moved by who is home no more: %v", err)
	}
	again.notTaken(t, "by who is home no more", testUS)
	if view := us.View(); view.FirstHome(testEU) != testUS || view.FirstHome(testAP) != testAP {
		t.Errorf("writes are sent to %d and %d", view.FirstHome(testEU), view.FirstHome(testAP))
	}
	us.takesHome(t)
	us.mustWriteHome(t, "", put("k", "us"))
	again.mustMerge(t, us, 1)
	again.refusesHome(t, testUS)
}

// TestHeirsOfHeirs: also of a later epoch, of the home or of an heir, and as long as anything comes of these nobody takes over.
func TestHeirsOfHeirs(t *testing.T) {
	eu := newFixture(t, testEU, testUS, testAP)
	eu.knows(t, nil, openFact(actorOf(testEU)), openFact(actorOf(testUS)), openFact(actorOf(testAP)))
	eu.mustWriteHome(t, "", put("k", "v"))
	ap := newFixtureOf(t, epoch(testAP, 5), 0, testEU, testUS)
	ap.mustMerge(t, eu, 1)
	// eu came back, was given up again, and inherited by us; which inherited from itself came ap, under an earlier epoch.
	heirs := []region.Heir{{Of: epoch(testUS, 2), Heir: epoch(testAP, 3)}, {Of: epoch(testEU, 4), Heir: epoch(testUS, 1)}}
	facts := []region.Fact{
		ap.closedFact(epoch(testEU, 0)), ap.closedFact(epoch(testEU, 4)), openFact(epoch(testEU, 6)),
		ap.closedFact(epoch(testUS, 1)), ap.closedFact(epoch(testUS, 2)), openFact(epoch(testUS, 7)),
		ap.closedFact(epoch(testAP, 3)), ap.closedFact(epoch(testAP, 4)), openFact(epoch(testAP, 5)),
	}
	for i, fact := range facts {
		if fact.State == region.ActorOpen {
			continue
		}
		facts[i].Released = false
		ap.knows(t, heirs, facts...)
		ap.notTaken(t, fmt.Sprintf("actor %d is not closed everywhere", fact.Actor), testAP)
		facts[i].Released = true
	}
	ap.knows(t, heirs[:1], facts...)
	ap.notTaken(t, "the home has no heir", 0)
	ap.knows(t, heirs[1:], facts...)
	ap.notTaken(t, "the heir came back, and has none", testUS)
	ap.knows(t, heirs, facts[2:]...) // the membership has forgotten the rest
	ap.takesHome(t)
	ap.knowsHome(t, region.HomeState{Home: testAP, Epoch: 2 << 32, Serving: true, Waiting: []topology.RegionID{testEU, testUS}})
}

// TestBadHeirsAreRefused: nobody who sends them is believed.
func TestBadHeirsAreRefused(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	many := make([]*logv1.HeirFact, 257)
	for i := range many {
		many[i] = &logv1.HeirFact{Of: uint32(i<<6 | 1), Heir: 2}
	}
	for name, heirs := range map[string][]*logv1.HeirFact{
		"of nobody": {{Of: 64, Heir: 2}}, "that are nobody": {{Of: 1}}, "twice": {{Of: 1, Heir: 2}, {Of: 1, Heir: 3}}, "too many": many,
	} {
		f.apply(t, &logv1.LogEntry{Commands: []*logv1.Command{{Command: &logv1.Command_Membership{
			Membership: &logv1.MembershipCommand{Epoch: 9, Heirs: heirs},
		}}}})
		if known := f.View().Facts; known.Epoch != 0 || len(known.Heirs) > 0 {
			t.Errorf("heirs %s: %+v", name, known)
		}
	}
}
