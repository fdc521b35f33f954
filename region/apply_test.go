package region_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// together writes what the commands say in one entry, and returns their results in order.
func together(t *testing.T, f *fixture, ids []string, ops [][]replica.Op) ([]region.WriteResult, []error) {
	t.Helper()
	hold := make(chan struct{})
	f.group.set(func() { f.group.hold = hold })
	first := make(chan error, 1)
	f.WriteAsync(t.Context(), "", []replica.Op{put("first", "1")}, func(_ region.WriteResult, err error) { first <- err })
	<-f.group.entered
	results, errs := make([]region.WriteResult, len(ops)), make([]error, len(ops))
	done := make(chan struct{}, len(ops))
	for i := range ops {
		f.WriteAsync(t.Context(), ids[i], ops[i], func(r region.WriteResult, err error) {
			results[i], errs[i] = r, err
			done <- struct{}{}
		})
	}
	f.group.set(func() { f.group.hold = nil })
	close(hold)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	for range ops {
		<-done
	}
	return results, errs
}

func TestAdditionsToOneCounterAreOneEvent(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", add("n", 100))
	before := f.View().Outbox.Head
	var ids []string
	var ops [][]replica.Op
	for i := range 50 {
		ids = append(ids, fmt.Sprint("id-", i))
		ops = append(ops, []replica.Op{add("n", int64(i)-10)})
	}
	ids[7], ids[8] = "", ""
	ids, ops = append(ids, "other"), append(ops, []replica.Op{put("k", "1")})
	results, errs := together(t, f, ids, ops)
	want := int64(100)
	for i := range 50 {
		want += int64(i) - 10
		if errs[i] != nil || results[i].Outcomes[0].Counter != want || !results[i].Outcomes[0].Existed {
			t.Fatalf("addition %d: %+v, %v; want %d", i, results[i], errs[i], want)
		}
	}
	if got := f.counter(t, "n"); got != want {
		t.Errorf("counter is %d, want %d", got, want)
	}
	if events := f.View().Outbox.Head - before; events != 3 { // first, n, k
		t.Errorf("%d events", events)
	}
	again, errs := together(t, f, ids[:3], [][]replica.Op{ops[0], ops[1], {add("n", 77)}})
	for i := range 2 {
		if errs[i] != nil || !again[i].Repeated || again[i].Outcomes[0].Counter != results[i].Outcomes[0].Counter {
			t.Errorf("repeated addition %d: %+v, %v", i, again[i], errs[i])
		}
	}
	if !errors.Is(errs[2], region.ErrOpIDReused) {
		t.Errorf("another addition under a known op_id: %v", errs[2])
	}
	if got := f.counter(t, "n"); got != want {
		t.Errorf("counter is %d after repeats, want %d", got, want)
	}
}

func TestAdditionsThatCannotShareAnEventDoNot(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", add("n", math.MaxInt64-5))
	ops := [][]replica.Op{{add("n", 3)}, {add("n", 4)}, {add("n", -10)}, {add("n", 7)}}
	results, errs := together(t, f, make([]string, 4), ops)
	if errs[0] != nil || errs[1] == nil || errs[2] != nil || errs[3] != nil {
		t.Fatalf("errors %v", errs)
	}
	if got := results[3].Outcomes[0].Counter; got != math.MaxInt64-5 || f.counter(t, "n") != got {
		t.Errorf("counter is %d", got)
	}
	// The same op_id twice, and a delete in between.
	same := [][]replica.Op{{add("m", 1)}, {add("m", 1)}, {add("m", 1)}}
	if _, errs := together(t, f, []string{"x", "x", "y"}, same); errors.Join(errs...) != nil || f.counter(t, "m") != 2 {
		t.Errorf("counter is %d: %v", f.counter(t, "m"), errs)
	}
	mixed := [][]replica.Op{{add("m", 1)}, {{Kind: replica.OpDelete, Namespace: "default", Key: "m"}}, {add("m", 5)}}
	if _, errs := together(t, f, make([]string, 3), mixed); errors.Join(errs...) != nil || f.counter(t, "m") != 5 {
		t.Errorf("counter is %d: %v", f.counter(t, "m"), errs)
	}
}

func TestAWriteThatIsGivenUpInTheQueueIsNotDone(t *testing.T) {
	f := newFixture(t, testEU)
	hold := make(chan struct{})
	f.group.set(func() { f.group.hold = hold })
	nothing := func(region.WriteResult, error) {}
	f.WriteAsync(t.Context(), "", []replica.Op{put("first", "1")}, nothing)
	<-f.group.entered
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	f.WriteAsync(ctx, "", []replica.Op{add("n", 1)}, func(_ region.WriteResult, err error) { given <- err })
	cancel()
	f.group.set(func() { f.group.hold = nil })
	close(hold)
	if err := <-given; !errors.Is(err, context.Canceled) || errors.Is(err, region.ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
	if got := f.counter(t, "n"); got != 0 {
		t.Errorf("counter is %d", got)
	}
}

func queued(t *testing.T, queue, seq uint64, key string, delta int64) []byte {
	t.Helper()
	data, err := proto.Marshal(&logv1.WriteCommand{
		Queue: &logv1.QueuePosition{Queue: queue, Seq: seq},
		Operations: []*logv1.Operation{{
			Kind: uint32(replica.OpCounterAdd), Namespace: "default", Key: key, Delta: delta,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestQueuedWritesAreAppliedOnceAndInOrder(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("taken", "1"))
	writes := [][]byte{queued(t, 9, 1, "n", 1), queued(t, 9, 2, "n", 10), queued(t, 9, 3, "taken", 5)}
	for range 3 {
		if err := f.SubmitQueued(t.Context(), writes); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.counter(t, "n"); got != 11 {
		t.Errorf("counter is %d", got)
	}
	head := len(f.group.log)
	if err := f.SubmitQueued(t.Context(), [][]byte{queued(t, 8, 1, "n", 1000), queued(t, 9, 7, "n", 100)}); err != nil {
		t.Error(err)
	}
	if got := f.counter(t, "n"); got != 1111 {
		t.Errorf("counter is %d", got)
	}
	if n := len(f.group.log) - head; n != 1 {
		t.Errorf("%d entries for one submission: the second could be applied without the first", n)
	}
	// What was acknowledged takes effect beside another type.
	_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		o, found, err := r.LookupType("default", "taken", 2, now)
		if !found || o.Counter != 5 {
			t.Errorf("the counter beside the register: %+v, %v", o, found)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := f.SubmitQueued(t.Context(), [][]byte{{1, 2, 3}}); !errors.Is(err, region.ErrBadCommand) {
		t.Errorf("garbage: %v", err)
	}
}

func TestLocalWritesRefuseWhatMayBeRefusedLater(t *testing.T) {
	f := newFixture(t, testEU)
	op := put("k", "1")
	op.Condition.Kind = replica.CondAbsent
	for _, op := range []replica.Op{
		op,
		{Kind: replica.OpBoundedDec, Namespace: "default", Key: "b", Delta: 1},
		{Kind: replica.OpBoundedTransfer, Namespace: "default", Key: "b", Delta: 1, ToActor: 2},
		{Kind: replica.OpDelete, Namespace: "default", Key: "b", Type: crdt.TypeBoundedCounter},
	} {
		if err := f.WriteLocal(t.Context(), "", []replica.Op{op}); !errors.Is(err, region.ErrNotMergeable) {
			t.Errorf("%+v: got %v", op, err)
		}
	}
}

// What was applied and not flushed is gone after a crash, and comes back when the log is applied anew.
func TestFlushMakesDurableAndTheLogBringsBackTheRest(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "id-1", add("n", 1))
	if f.machine.Durable().Index != 0 {
		t.Fatalf("durable at %d before any flush", f.machine.Durable().Index)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	s := openStore(t, path)
	m, err := region.NewMachine(actorOf(testEU), s, hlc.NewClock(f.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(f.group.log[:1]); err != nil {
		t.Fatal(err)
	}
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	f.mustWrite(t, "id-2", add("n", 10))
	if err := m.Apply(f.group.log[:2]); err != nil {
		t.Fatal(err)
	}
	if d, p := m.Durable().Index, m.Position().Index; d != 1 || p != 2 {
		t.Fatalf("durable at %d, applied at %d", d, p)
	}
	crashed := openStore(t, copyFile(t, path))
	again, err := region.NewMachine(actorOf(testEU), crashed, hlc.NewClock(f.clock.wall))
	if err != nil {
		t.Fatal(err)
	}
	if again.Position().Index != 1 {
		t.Fatalf("came back at %d", again.Position().Index)
	}
	if err := again.Apply(f.group.log); err != nil {
		t.Fatal(err)
	}
	if dump(t, again) != dump(t, m) {
		t.Error("replaying the log made another state")
	}
}
