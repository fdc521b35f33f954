package region_test

import (
	"errors"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
)

// folded returns the run of what an outbox has from one number to another.
func folded(t *testing.T, f *fixture, from, to uint64) []byte {
	t.Helper()
	records, err := f.ReadOutbox(from, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	data, err := region.FoldOutbox(records[:to-from+1])
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRunsAreMergedLikeTheirDeltas(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU), newFixture(t, testAP, testEU)
	for i := range 20 {
		eu.mustWrite(t, "", add("n", 1))
		eu.mustWrite(t, "", put("k", string(rune('a'+i))))
	}
	actor := actorOf(testEU)
	if _, err := ap.Merge(t.Context(), actor, deltas(t, eu, 1)); err != nil {
		t.Fatal(err)
	}
	single := deltas(t, eu, 1)
	for i, step := range []struct {
		parts [][]byte
		want  uint64
	}{
		{[][]byte{folded(t, eu, 1, 7), single[7], folded(t, eu, 6, 12)}, 12}, // each overlaps, or follows on
		{[][]byte{folded(t, eu, 1, 12), single[3]}, 12},
		{[][]byte{folded(t, eu, 3, 40)}, 40},
	} {
		applied, err := us.Merge(t.Context(), actor, step.parts)
		if err != nil || applied != step.want {
			t.Fatalf("merge %d reached %d, %v, want %d", i, applied, err, step.want)
		}
	}
	if got := us.counter(t, "n"); got != 20 {
		t.Errorf("counter is %d", got)
	}
	digest := func(f *fixture) (d replica.Digest) {
		err := f.machine.Read(func(r *replica.Replica) (err error) {
			d, err = r.Digest()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if a, b := digest(us), digest(ap); a != b {
		t.Errorf("digest %x, want %x", a, b)
	}
	if a, b := us.View(), ap.View(); a.HLC != b.HLC || a.HLCs[actor] != b.HLCs[actor] {
		t.Errorf("clocks %v and %v", a.HLCs, b.HLCs)
	}
}

func TestRunsAreRefusedLikeDeltas(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	for range 4 {
		eu.mustWrite(t, "", add("n", 1))
	}
	actor := actorOf(testEU)
	var gap *replica.GapError
	if _, err := us.Merge(t.Context(), actor, [][]byte{folded(t, eu, 2, 3)}); !errors.As(err, &gap) {
		t.Errorf("a gap answers %v", err)
	}
	var bad *replica.BadDeltaError
	for name, parts := range map[string][][]byte{
		"a gap inside":     {folded(t, eu, 1, 2), folded(t, eu, 4, 4)},
		"another actor's":  {folded(t, eu, 1, 2)},
		"another's behind": {deltas(t, eu, 1)[0], nil},
	} {
		from := actor
		if name == "another actor's" {
			from = actorOf(testAP)
		}
		if name == "another's behind" {
			ap := newFixture(t, testAP, testEU)
			ap.mustWrite(t, "", add("n", 1))
			ap.mustWrite(t, "", add("n", 1))
			parts[1] = folded(t, ap, 2, 2)
		}
		if _, err := us.Merge(t.Context(), from, parts); !errors.As(err, &bad) {
			t.Errorf("%s answers %v", name, err)
		}
	}
	run := folded(t, eu, 1, 4)
	var damaged *crdt.DecodeError
	if _, err := us.Merge(t.Context(), actor, [][]byte{run[:len(run)-1]}); !errors.As(err, &damaged) {
		t.Errorf("a truncated run answers %v", err)
	}
	if view := us.View(); view.Vector.Get(actor) != 0 {
		t.Errorf("vector is %v", view.Vector)
	}
	eu.clock.advance(time.Minute)
	eu.mustWrite(t, "", add("n", 1))
	if _, err := us.Merge(t.Context(), actor, [][]byte{folded(t, eu, 1, 5)}); !errors.As(err, new(*region.ClockAheadError)) {
		t.Errorf("a clock a minute ahead answers %v", err)
	}
}

// TestWatchersSeeWhatRunsLeave: every key that the run's deltas touched, once or more.
func TestWatchersSeeWhatRunsLeave(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	for _, key := range []string{"a", "b", "a", "a"} {
		eu.mustWrite(t, "", put(key, "v"))
	}
	gone := put("b", "")
	gone.Kind = replica.OpDelete
	eu.mustWrite(t, "", gone)
	feed, err := us.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if _, err := us.Merge(t.Context(), actorOf(testEU), [][]byte{folded(t, eu, 1, 5)}); err != nil {
		t.Fatal(err)
	}
	changes, err := feed.Next(t.Context())
	if err != nil || len(changes) != 2 || changes[0].Key != "a" || changes[1].Key != "b" || changes[0].Cause != region.CauseRemote {
		t.Errorf("%+v, %v", changes, err)
	}
}

func TestDamagedOutboxIsNotFolded(t *testing.T) {
	if data, err := region.FoldOutbox([]region.OutboxRecord{{Seq: 1, Data: []byte{1}}}); !errors.Is(err, crdt.ErrCorrupt) {
		t.Errorf("%x, %v", data, err)
	}
	if data, err := region.FoldOutbox(nil); err == nil {
		t.Errorf("nothing folds to %x", data)
	}
}
