package region_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/testkit"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

func deltas(t *testing.T, f *fixture, from uint64) [][]byte {
	t.Helper()
	records, err := f.ReadOutbox(from, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var data [][]byte
	for _, r := range records {
		data = append(data, r.Data)
	}
	return data
}

func TestOutboxKeepsWhatAnyDestinationLacks(t *testing.T) {
	f := newFixture(t, testEU, testUS, testAP)
	for range 10 {
		f.mustWrite(t, "", add("n", 1))
	}
	full, _ := f.Outbox()
	eu := actorOf(testEU)
	for _, step := range []struct {
		marks []region.Watermark
		first uint64
	}{
		{[]region.Watermark{{Region: testUS, Actor: eu, Seq: 8}}, 1}, // ap has said nothing yet
		{[]region.Watermark{{Region: testAP, Actor: eu, Seq: 3}}, 4},
		{[]region.Watermark{{Region: testAP, Actor: eu, Seq: 2}}, 4},               // never back
		{[]region.Watermark{{Region: testAP, Actor: eu, Seq: 11}}, 4},              // more than there is
		{[]region.Watermark{{Region: 9, Actor: eu, Seq: 10}}, 4},                   // nobody we ship to
		{[]region.Watermark{{Region: testAP, Actor: actorOf(testAP), Seq: 10}}, 4}, // another actor's
		{[]region.Watermark{{Region: testAP, Actor: eu, Seq: 10}}, 9},              // us is now the last
		{[]region.Watermark{{Region: testUS, Actor: eu, Seq: 10}}, 11},             // empty
	} {
		if err := f.Acknowledge(t.Context(), step.marks); err != nil {
			t.Fatal(err)
		}
		if state, _ := f.Outbox(); state.First != step.first || state.Head != 10 {
			t.Errorf("after %+v the outbox is %+v, want it to begin at %d", step.marks, state, step.first)
		}
	}
	if state, _ := f.Outbox(); state.Bytes != 0 || state.Appended != full.Appended || full.Appended != full.Bytes || full.Bytes == 0 {
		t.Errorf("%+v became an empty outbox %+v", full, state)
	}
}

// Even a leader that asks for it does not get a delta trimmed that a destination is known to lack.
func TestTrimNeverPassesAKnownWatermark(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	for range 10 {
		f.mustWrite(t, "", add("n", 1))
	}
	entry, err := proto.Marshal(&logv1.LogEntry{Commands: []*logv1.Command{{Command: &logv1.Command_Acknowledge{
		Acknowledge: &logv1.AcknowledgeCommand{
			Watermarks: []*logv1.Watermark{{Region: uint32(testUS), Actor: uint32(actorOf(testEU)), Seq: 4}}, TrimTo: 10,
		},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.machine.Apply([]region.Entry{{Index: 11, Term: 1, Data: entry}}); err != nil {
		t.Fatal(err)
	}
	if state, _ := f.Outbox(); state.First != 5 || state.Head != 10 {
		t.Errorf("the outbox is %+v, want 5 to 10", state)
	}
}

func TestMergeAdvancesTheVectorWithTheEffects(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	for range 5 {
		eu.mustWrite(t, "", add("n", 1))
	}
	us.mustWrite(t, "", add("n", 10))
	data := deltas(t, eu, 1)
	if _, err := us.Merge(t.Context(), actorOf(testEU), data[2:]); err == nil {
		t.Fatal("a gap was merged")
	} else if gap := (*replica.GapError)(nil); !errors.As(err, &gap) {
		t.Fatalf("a gap answers %v", err)
	}
	for i, part := range [][][]byte{data[:3], data[1:4], data, data[:2]} { // with overlaps
		applied, err := us.Merge(t.Context(), actorOf(testEU), part)
		if want := []uint64{3, 4, 5, 5}[i]; err != nil || applied != want {
			t.Fatalf("merge %d reached %d, %v, want %d", i, applied, err, want)
		}
	}
	if got := us.counter(t, "n"); got != 15 {
		t.Errorf("counter is %d", got)
	}
	view := us.View()
	if view.Vector.Get(actorOf(testEU)) != 5 || view.Vector.Get(actorOf(testUS)) != 1 {
		t.Errorf("vector is %v", view.Vector)
	}
	if state, _ := us.Outbox(); state.Head != 1 {
		t.Errorf("what came from eu was put into us's outbox: %+v", state)
	}
	// us has seen eu's clock: what us writes now beats what it saw.
	if eu.View().HLC > us.View().HLC {
		t.Errorf("us's clock %v did not follow eu's %v", us.View().HLC, eu.View().HLC)
	}
}

func TestDeltasFromTheFutureAreRefused(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.clock.advance(time.Minute)
	eu.mustWrite(t, "", put("k", "future"))
	data := deltas(t, eu, 1)
	before := us.View().HLC
	var ahead *region.ClockAheadError
	if _, err := us.Merge(t.Context(), actorOf(testEU), data); !errors.As(err, &ahead) || ahead.Ahead < 55*time.Second {
		t.Fatalf("a clock a minute ahead answers %v", err)
	}
	if us.View().HLC != before {
		t.Errorf("the clock went from %v to %v", before, us.View().HLC)
	}
	us.clock.advance(55 * time.Second)
	if _, err := us.Merge(t.Context(), actorOf(testEU), data); err != nil {
		t.Errorf("after the clocks came close: %v", err)
	}
}

func TestBadDeltasAreRefused(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWrite(t, "", put("k", "v"))
	data := deltas(t, eu, 1)
	truncated := [][]byte{data[0][:len(data[0])-1]}
	if _, err := us.Merge(t.Context(), actorOf(testEU), truncated); err == nil {
		t.Error("a truncated delta was merged")
	}
	if _, err := us.Merge(t.Context(), actorOf(testAP), data); err == nil {
		t.Error("eu's delta was merged as ap's")
	}
	if view := us.View(); view.Vector.Get(actorOf(testEU)) != 0 || view.Vector.Get(actorOf(testAP)) != 0 {
		t.Errorf("vector is %v", view.Vector)
	}
}

func TestRegionOfItsOwnDropsItsOutbox(t *testing.T) {
	f := newFixture(t, testEU)
	for range 30 {
		ops := make([]replica.Op, 100)
		for i := range ops {
			ops[i] = add("n", 1)
		}
		f.mustWrite(t, "", ops...)
	}
	testkit.Eventually(t, 10*time.Second, func() error {
		if state, _ := f.Outbox(); state.Head != 3000 || state.First != 3001 {
			return fmt.Errorf("the outbox stays at %+v", state)
		}
		return nil
	})
}

func TestSnapshotCarriesEverything(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "id-1", add("n", 5))
	s, err := f.machine.OpenSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	if n, err := s.WriteTo(&copied); err != nil || n != s.Size() {
		t.Fatalf("wrote %d of %d bytes: %v", n, s.Size(), err)
	}
	if got := s.Position(); got.Index != 1 || got.Term != 1 {
		t.Errorf("snapshot at %+v", s.Position())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	install := func(to *fixture) error {
		path := filepath.Join(t.TempDir(), "snapshot")
		if err := os.WriteFile(path, copied.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return to.machine.Install(path)
	}
	fresh := newFixture(t, testEU, testUS)
	if err := install(fresh); err != nil {
		t.Fatal(err)
	}
	if a, b := dump(t, f.machine), dump(t, fresh.machine); a != b {
		t.Error("the copy differs")
	}
	if state, _ := fresh.Outbox(); state.Head != 1 || state.Appended == 0 {
		t.Errorf("the installed outbox is %+v", state)
	}
	ahead := newFixture(t, testEU, testUS)
	ahead.mustWrite(t, "", add("n", 1))
	ahead.mustWrite(t, "", add("n", 1))
	if err := install(ahead); err == nil {
		t.Error("a snapshot older than the state was installed")
	}
	if got := ahead.counter(t, "n"); got != 2 {
		t.Errorf("the refused snapshot left counter %d", got)
	}
}
