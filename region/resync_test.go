package region_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

func addsTo(key string, elements ...string) replica.Op {
	op := replica.Op{Kind: replica.OpSetAdd, Namespace: "n", Key: key}
	for _, e := range elements {
		op.Elements = append(op.Elements, []byte(e))
	}
	return op
}

// transfer is a resync of one region from another, as whoever carries it between regions runs it.
type transfer struct {
	to, from *fixture
	id, view uint64
	skipped  int
}

func beginTransfer(t *testing.T, to, from *fixture, id uint64) *transfer {
	t.Helper()
	view, donor, err := from.OpenExport()
	if err != nil {
		t.Fatal(err)
	}
	if err := to.BeginResync(t.Context(), id, donor); err != nil {
		t.Fatal(err)
	}
	return &transfer{to: to, from: from, id: id, view: view}
}

// step carries one chunk, of what is hidden if the next range is the same at both sides, and reports whether all is
// there.
func (x *transfer) step(t *testing.T, maxBytes int) bool {
	t.Helper()
	state := x.to.View().Resync
	if state == nil || state.ID != x.id {
		t.Fatalf("the resync is %+v", state)
	}
	if state.Cursor.End {
		return true
	}
	ranges, err := x.from.ExportFingerprints(x.view, state.Cursor, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	differ, err := x.to.Differing(ranges)
	if err != nil {
		t.Fatal(err)
	}
	var chunk []byte
	if len(differ) == 0 {
		x.skipped++
		chunk, _, err = x.from.ExportHidden(x.view, state.Cursor, ranges[0].To, maxBytes)
	} else {
		chunk, _, err = x.from.ExportChunk(x.view, state.Cursor, replica.Position{End: true}, maxBytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.to.ResyncChunk(t.Context(), x.id, chunk); err != nil {
		t.Fatal(err)
	}
	return false
}

func (x *transfer) end(t *testing.T) {
	t.Helper()
	for !x.step(t, 1000) {
	}
	x.takeWrites(t)
	if err := x.to.EndResync(t.Context(), x.id); err != nil {
		t.Fatal(err)
	}
	if err := x.from.CloseExport(x.view); err != nil {
		t.Fatal(err)
	}
}

// takeWrites carries what the donor remembers of writes, in parts as small as may be.
func (x *transfer) takeWrites(t *testing.T) {
	t.Helper()
	for from, more := []byte(nil), true; more; more = from != nil {
		writes, next, err := x.from.ExportWrites(x.view, from, 1)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // as often as one likes
			if err := x.to.ResyncWrites(t.Context(), x.id, writes); err != nil {
				t.Fatal(err)
			}
		}
		from = next
	}
}

// TestWritesTheDonorKnowsCountOnce: those it executed and those it merged, whether they are repeated here before or after
// its state is taken over.
func TestWritesTheDonorKnowsCountOnce(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU, testUS)
	for _, id := range []string{"before", "after"} {
		us.mustWrite(t, id, add("n", 1))
		eu.mustWrite(t, id+" eu", add("n", 10))
	}
	eu.mustMerge(t, us, 1)
	ap.mustWrite(t, "before", add("n", 1))
	ap.mustWrite(t, "before eu", add("n", 10))
	ap.mustWrite(t, "own", add("n", 100))
	x := beginTransfer(t, ap, eu, 5)
	if err := ap.ResyncWrites(t.Context(), x.id, nil); !errors.Is(err, replica.ErrNoResync) {
		t.Errorf("writes before the state: %v", err)
	}
	x.end(t)
	for id, n := range map[string]int64{"before": 1, "after": 1, "before eu": 10, "after eu": 10, "own": 100} {
		if r := ap.mustWrite(t, id, add("n", n)); !r.Repeated {
			t.Errorf("%q is executed again", id)
		}
	}
	if n := ap.counter(t, "n"); n != 122 {
		t.Errorf("the counter is %d", n)
	}
}

func stateOf(t *testing.T, m *region.Machine) (d replica.Digest, v crdt.VersionVector) {
	t.Helper()
	err := m.Read(func(r *replica.Replica) (err error) {
		v = r.Vector()
		d, err = r.Digest()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, v
}

// TestRegionTakesOverAState while both regions are written, from a donor that is lost half-way and then from another
// one's view.
func TestRegionTakesOverAState(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU, testUS)
	for i := range 300 {
		eu.mustWrite(t, "", put(fmt.Sprintf("k%03d", i), "v"), addsTo("set", fmt.Sprint("e", i)), add("n", 1))
	}
	us.mustMerge(t, eu, 1)
	ap.mustMerge(t, eu, 1)
	eu.mustWrite(t, "", put("k150", "new"), addsTo("set", "late"), add("n", 1000),
		replica.Op{Kind: replica.OpDelete, Namespace: "n", Key: "k007", AnyType: true})
	ap.mustMerge(t, eu, ap.View().Vector.Get(actorOf(testEU))+1)

	lost := beginTransfer(t, us, eu, 11)
	for range 3 {
		lost.step(t, 1000)
		us.mustWrite(t, "", addsTo("set", "own"), add("n", 5))
	}
	if err := us.EndResync(t.Context(), 11); !errors.Is(err, replica.ErrNoResync) {
		t.Errorf("end half-way: %v", err)
	}
	x := beginTransfer(t, us, ap, 12) // another donor
	for i := range 4 {
		x.step(t, 1000)
		us.mustWrite(t, "", put(fmt.Sprint("during", i), "w"))
	}
	if view := us.View(); !view.Resyncing() || view.Vector.Get(actorOf(testEU)) == eu.View().Vector.Get(actorOf(testEU)) {
		t.Errorf("half-way the view is %+v", view)
	}
	x.end(t)
	if x.skipped == 0 {
		t.Error("no range was skipped, although most are the same")
	}
	eu.mustMerge(t, us, 1)
	euDigest, euVector := stateOf(t, eu.machine)
	usDigest, usVector := stateOf(t, us.machine)
	if euDigest != usDigest || !euVector.Equal(usVector) {
		t.Errorf("us is %+v at %v, eu %+v at %v", usDigest, usVector, euDigest, euVector)
	}
	if got := us.counter(t, "n"); got != 1315 {
		t.Errorf("the counter is %d", got)
	}
	if us.View().Resyncing() {
		t.Errorf("something is left: %+v", us.View().Ahead)
	}
	replayed(t, us)
}

// replayed feeds a region's log to another machine, in another number of transactions: it must have the same state.
func replayed(t *testing.T, f *fixture) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "replay.db")
	clock := hlc.NewClock(f.clock.wall)
	m, err := region.NewMachine(actorOf(testUS), openStore(t, path), clock)
	if err != nil {
		t.Fatal(err)
	}
	for log := f.group.log; len(log) > 0; {
		n := min(7, len(log))
		if err := m.Apply(log[:n]); err != nil {
			t.Fatal(err)
		}
		log = log[n:]
	}
	want, vector := stateOf(t, f.machine)
	if got, at := stateOf(t, m); got != want || !at.Equal(vector) || m.View().Owed != f.View().Owed {
		t.Errorf("replayed it is %+v at %v, want %+v at %v", got, at, want, vector)
	}
}

// TestResyncGoesOnAtAnotherLeader: how far it is, is in the state.
func TestResyncGoesOnAtAnotherLeader(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	for i := range 50 {
		eu.mustWrite(t, "", put(fmt.Sprint("k", i), "v"))
	}
	x := beginTransfer(t, us, eu, 5)
	x.step(t, 300)
	m, err := region.NewMachine(actorOf(testUS), openStore(t, filepath.Join(t.TempDir(), "next.db")), hlc.NewClock(us.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(us.group.log); err != nil {
		t.Fatal(err)
	}
	if got, want := m.View().Resync, us.View().Resync; got == nil || got.ID != 5 || got.Cursor != want.Cursor || got.Cursor == (replica.Position{}) {
		t.Errorf("the next leader is at %+v, want %+v", got, want)
	}
	x.end(t)
	replayed(t, us)
}

// TestWatchersHearOfAResync: who follows in the region is told of each value, and who comes from another one has to
// list if it has not seen what the donor has.
func TestWatchersHearOfAResync(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWrite(t, "", put("a", "v"), put("b", "v"))
	behind, err := eu.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	old, err := us.Watch(nil) // before: it has seen nothing
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	feed, err := us.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	beginTransfer(t, us, eu, 5).end(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changed, err := feed.Next(ctx)
	if err != nil || len(changed) != 2 || changed[0].Key != "a" || changed[1].Cause != region.CauseRepaired {
		t.Errorf("%+v, %v", changed, err)
	}
	for cursor, resync := range map[string]bool{string(feed.Cursor()): false, string(behind.Cursor()): false} {
		f, err := us.Watch([]byte(cursor))
		if err != nil {
			t.Fatal(err)
		}
		if f.Resync() != resync {
			t.Errorf("cursor %x has to list: %v", cursor, f.Resync())
		}
		f.Close()
	}
	ap := newFixture(t, testAP, testEU, testUS)
	elsewhere, err := ap.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	f, err := us.Watch(elsewhere.Cursor())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Resync() {
		t.Error("who has seen nothing of the donor's need not list")
	}
}

// TestExportsAreBounded in number and in time.
func TestExportsAreBounded(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("a", "v"))
	var ids []uint64
	for range 2 {
		id, _, err := f.OpenExport()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if _, _, err := f.OpenExport(); !errors.Is(err, region.ErrTooManyExports) {
		t.Errorf("a third view: %v", err)
	}
	f.mustWrite(t, "", put("b", "v")) // the views are of before
	if _, next, err := f.ExportChunk(ids[0], replica.Position{}, replica.Position{End: true}, 1000); err != nil || !next.End {
		t.Errorf("%+v, %v", next, err)
	}
	f.clock.advance(50 * time.Second)
	if ranges, err := f.ExportFingerprints(ids[0], replica.Position{}, 10, 10); err != nil || ranges[0].Items != 1 {
		t.Errorf("%+v, %v", ranges, err)
	}
	f.clock.advance(20 * time.Second) // the other one was not read for a minute
	if _, _, err := f.OpenExport(); err != nil {
		t.Errorf("in place of one that nobody reads: %v", err)
	}
	if _, _, err := f.ExportChunk(ids[1], replica.Position{}, replica.Position{End: true}, 1000); !errors.Is(err, region.ErrNoExport) {
		t.Errorf("a view that is gone: %v", err)
	}
	if err := f.CloseExport(ids[0]); err != nil {
		t.Error(err)
	}
	if _, _, err := f.ExportChunk(ids[0], replica.Position{}, replica.Position{End: true}, 1000); !errors.Is(err, region.ErrNoExport) {
		t.Errorf("a view that was closed: %v", err)
	}
}

// TestBadResyncCommands are refused, and change nothing.
func TestBadResyncCommands(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWrite(t, "", put("a", "v"))
	x := beginTransfer(t, us, eu, 5)
	before := us.View()
	if _, err := us.ResyncChunk(t.Context(), 5, []byte("nonsense")); !errors.Is(err, region.ErrBadCommand) {
		t.Errorf("a chunk of nonsense: %v", err)
	}
	if err := us.AbandonResync(t.Context(), 6); !errors.Is(err, replica.ErrNoResync) {
		t.Errorf("to give up another: %v", err)
	}
	if _, _, err := us.OpenExport(); !errors.Is(err, replica.ErrResyncing) {
		t.Errorf("as a donor: %v", err)
	}
	if _, _, err := us.OpenAudit(1); !errors.Is(err, replica.ErrResyncing) {
		t.Errorf("to be compared: %v", err)
	}
	if after := us.View(); after.Resync.Cursor != before.Resync.Cursor {
		t.Errorf("it moved from %+v to %+v", before.Resync, after.Resync)
	}
	eu.clock.advance(time.Minute)
	eu.mustWrite(t, "", put("a", "future"))
	_, donor, err := eu.OpenExport()
	if err != nil {
		t.Fatal(err)
	}
	var ahead *region.ClockAheadError
	if err := us.BeginResync(t.Context(), 7, donor); !errors.As(err, &ahead) {
		t.Errorf("a donor from the future: %v", err)
	}
	x.end(t)
}

// TestATransferCanBeBegunAnewWhileItsActorIsBeingClosed: a partition that has some of a state does not tell how far it has an
// actor before it has all of it, so it must be able to get that. One that has nothing of it yet is told to wait.
func TestATransferCanBeBegunAnewWhileItsActorIsBeingClosed(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU, testUS)
	for i := range 100 {
		us.mustWrite(t, "", put(fmt.Sprintf("k%03d", i), "v"))
	}
	lost := beginTransfer(t, ap, us, 5)
	for range 3 {
		lost.step(t, 1000)
	}
	us.mustWrite(t, "", put("k", "after the view"))
	fenced := facts(5, func(f map[topology.RegionID]*region.Fact) { f[testUS].State = region.ActorFenced })
	ap.take(t, fenced)
	eu.take(t, fenced)
	beginTransfer(t, ap, us, 6).end(t)
	if view := ap.View(); view.Resyncing() || view.Vector.Get(actorOf(testUS)) != 101 {
		t.Errorf("in the end the view is %+v", view)
	}
	_, donor, err := us.OpenExport()
	if err != nil {
		t.Fatal(err)
	}
	if err := eu.BeginResync(t.Context(), 7, donor); !errors.Is(err, region.ErrClosing) {
		t.Errorf("a transfer that nothing was taken over of yet: %v", err)
	}
}

// TestAStateThatHasMoreOfSeveralClosedActors: while a partition has a part of one it tells nothing, so that all of them wait for
// it. A donor that has more of another, too, is then the only way on.
func TestAStateThatHasMoreOfSeveralClosedActors(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU, testUS)
	for i := range 100 {
		us.mustWrite(t, "", put(fmt.Sprintf("k%03d", i), "v"))
	}
	lost := beginTransfer(t, ap, us, 5)
	for range 3 {
		lost.step(t, 1000)
	}
	eu.mustWrite(t, "", put("k", "only eu and us have this"))
	us.mustMerge(t, eu, 1)
	ap.take(t, facts(5, func(f map[topology.RegionID]*region.Fact) {
		f[testUS].State, f[testEU].State = region.ActorFenced, region.ActorFenced
	}))
	beginTransfer(t, ap, us, 6).end(t)
	if view := ap.View(); view.Resyncing() || view.Vector.Get(actorOf(testUS)) != 100 || view.Vector.Get(actorOf(testEU)) != 1 {
		t.Errorf("in the end the view is %+v", view)
	}
}
