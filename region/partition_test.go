package region_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func put(key, value string) replica.Op {
	return replica.Op{Kind: replica.OpPut, Namespace: "default", Key: key, Value: []byte(value)}
}

func add(key string, n int64) replica.Op {
	return replica.Op{Kind: replica.OpCounterAdd, Namespace: "default", Key: key, Delta: n}
}

func (f *fixture) mustWrite(t *testing.T, opID string, ops ...replica.Op) region.WriteResult {
	t.Helper()
	r, err := f.Write(t.Context(), opID, ops)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fixture) counter(t *testing.T, key string) int64 {
	t.Helper()
	var object replica.Object
	_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) (err error) {
		object, _, err = r.Lookup("default", key, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return object.Counter
}

func TestWriteIsReadBackAndWaitsInTheOutbox(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("k", "v1"), add("n", 5))
	f.mustWrite(t, "", add("n", 6))
	var value []byte
	_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		o, _, err := r.Lookup("default", "k", now)
		value = append(value, o.Value...)
		return err
	})
	if err != nil || string(value) != "v1" {
		t.Errorf("read %q, %v", value, err)
	}
	if got := f.counter(t, "n"); got != 11 {
		t.Errorf("counter is %d", got)
	}
	state, _ := f.Outbox()
	if state.First != 1 || state.Head != 3 || state.Bytes == 0 {
		t.Errorf("outbox is %+v", state)
	}
	records, err := f.ReadOutbox(2, 1)
	if err != nil || len(records) != 1 || records[0].Seq != 2 {
		t.Errorf("one byte's worth from 2 is %v, %v: want one record", records, err)
	}
	if records, _ = f.ReadOutbox(1, 1<<20); len(records) != 3 {
		t.Errorf("%d records, want 3", len(records))
	}
}

func TestRefusedWriteChangesNothing(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("k", "v"))
	_, err := f.Write(t.Context(), "", []replica.Op{add("fresh", 1), add("k", 1)})
	var op *replica.OpError
	var wrong *replica.WrongTypeError
	if !errors.As(err, &op) || op.Index != 1 || !errors.As(err, &wrong) {
		t.Fatalf("counting a register answers %v", err)
	}
	if got := f.counter(t, "fresh"); got != 0 {
		t.Errorf("the refused group left %d behind", got)
	}
	if state, _ := f.Outbox(); state.Head != 1 {
		t.Errorf("the refused group reached the outbox: %+v", state)
	}
}

func TestSameOpIDAnswersAsBefore(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	first := f.mustWrite(t, "id-1", add("n", 5))
	again := f.mustWrite(t, "id-1", add("n", 5))
	if first.Repeated || !again.Repeated || fmt.Sprint(first.Outcomes) != fmt.Sprint(again.Outcomes) {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if got := f.counter(t, "n"); got != 5 {
		t.Errorf("counter is %d: the retry counted", got)
	}
	if _, err := f.Write(t.Context(), "id-1", []replica.Op{add("n", 6)}); !errors.Is(err, region.ErrOpIDReused) {
		t.Errorf("another write under the same op_id answers %v", err)
	}
	// After the window the op_id is forgotten, as some later write finds out.
	f.clock.advance(16 * time.Minute)
	f.mustWrite(t, "id-2", add("other", 1))
	if r := f.mustWrite(t, "id-1", add("n", 5)); r.Repeated {
		t.Error("the op_id is remembered for ever")
	}
}

func TestWriteOutcomes(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	boom := errors.New("boom")
	for _, c := range []struct {
		name         string
		fail, failed error
		want         error
		counted      int64
	}{
		{"deposed before commit", region.ErrNotLeader, nil, region.ErrNotLeader, 0},
		{"lost on the way", fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, boom), nil, region.ErrOutcomeUnknown, 0},
		{"lost on the way without a word", boom, nil, region.ErrOutcomeUnknown, 0},
		{"applied, whatever the group says", nil, region.ErrOutcomeUnknown, nil, 1},
	} {
		f.group.set(func() { f.group.fail, f.group.failed = c.fail, c.failed })
		_, err := f.Write(t.Context(), "", []replica.Op{add(c.name, 1)})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if got := f.counter(t, c.name); got != c.counted {
			t.Errorf("%s: counted %d, want %d", c.name, got, c.counted)
		}
	}
	f.group.set(func() { f.group.fail, f.group.failed, f.group.leading, f.group.leader = nil, nil, false, "eu-2" })
	_, err := f.Write(t.Context(), "", []replica.Op{add("n", 1)})
	var not *region.NotLeaderError
	if !errors.As(err, &not) || not.Leader != "eu-2" {
		t.Errorf("a follower answers %v", err)
	}
}

func TestGivingUpIsNotDoneBeforeTheProposalAndUnknownAfter(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	hold := make(chan struct{})
	f.group.set(func() { f.group.hold = hold })
	proposed, cancelProposed := context.WithCancel(t.Context())
	waiting, cancelWaiting := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	go func() {
		_, err := f.Write(proposed, "", []replica.Op{add("proposed", 1)})
		errs <- err
	}()
	<-f.group.entered
	cancelProposed()
	if err := <-errs; !errors.Is(err, region.ErrOutcomeUnknown) {
		t.Errorf("given up after the proposal: %v", err)
	}
	go func() {
		_, err := f.Write(waiting, "", []replica.Op{add("waiting", 1)})
		errs <- err
	}()
	cancelWaiting()
	if err := <-errs; errors.Is(err, region.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up before the proposal: %v", err)
	}
	_, changed := f.Outbox()
	f.group.set(func() { f.group.hold = nil })
	close(hold)
	<-changed // the proposal is applied in the end
	if got := f.counter(t, "waiting"); got != 0 {
		t.Errorf("the withdrawn write counted %d", got)
	}
	if got := f.counter(t, "proposed"); got != 1 {
		t.Errorf("the proposed write counted %d", got)
	}
}

func TestWritesThatWaitShareAnEntry(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	hold := make(chan struct{})
	f.group.set(func() { f.group.hold = hold })
	var wg sync.WaitGroup
	write := func() {
		if _, err := f.Write(t.Context(), "", []replica.Op{add("n", 1)}); err != nil {
			t.Error(err)
		}
	}
	wg.Go(write)
	<-f.group.entered
	for range 100 {
		wg.Go(write)
	}
	testkit.Eventually(t, 10*time.Second, func() error {
		if commands, _ := f.Waiting(); commands != 100 {
			return fmt.Errorf("%d writes wait", commands)
		}
		return nil
	})
	f.group.set(func() { f.group.hold = nil })
	close(hold)
	wg.Wait()
	if got := f.counter(t, "n"); got != 101 {
		t.Errorf("counter is %d", got)
	}
	f.group.set(func() {
		if len(f.group.log) != 2 {
			t.Errorf("%d entries for one write and 100 that waited for it", len(f.group.log))
		}
	})
}

func TestReadersShareAProof(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	hold := make(chan struct{})
	f.group.set(func() { f.group.hold = hold })
	var wg sync.WaitGroup
	nop := func(*replica.Replica, hlc.Time) error { return nil }
	read := func() {
		if _, err := f.Read(t.Context(), region.ReadOptions{}, nop); err != nil {
			t.Error(err)
		}
	}
	wg.Go(read)
	<-f.group.entered
	for range 100 {
		wg.Go(read)
	}
	testkit.Eventually(t, 10*time.Second, func() error {
		if _, readers := f.Waiting(); readers != 100 {
			return fmt.Errorf("%d readers wait", readers)
		}
		return nil
	})
	f.group.set(func() { f.group.hold = nil })
	close(hold)
	wg.Wait()
	f.group.set(func() {
		if n := f.group.proofs[region.StrategyLeader]; n != 2 {
			t.Errorf("%d proofs for one reader and 100 that waited for it", n)
		}
		f.group.leading = false
	})
	if _, err := f.Read(t.Context(), region.ReadOptions{}, nop); !errors.Is(err, region.ErrNotLeader) {
		t.Errorf("a follower's linearizable read answers %v", err)
	}
	if _, err := f.Read(t.Context(), region.ReadOptions{Level: region.Eventual}, nop); err != nil {
		t.Errorf("a follower's eventual read answers %v", err)
	}
}

func TestMalformedEntryIsSkippedAndItsOutcomeUnknown(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.group.set(func() { f.group.tamper = func([]byte) []byte { return []byte{0xff, 0xff, 0xff} } })
	if _, err := f.Write(t.Context(), "", []replica.Op{add("n", 1)}); !errors.Is(err, region.ErrOutcomeUnknown) {
		t.Errorf("a malformed entry answers %v", err)
	}
	f.group.set(func() { f.group.tamper = nil })
	f.mustWrite(t, "", add("n", 1))
	if got := f.counter(t, "n"); got != 1 {
		t.Errorf("counter is %d", got)
	}
}

// Two machines that are fed the same log, in other transactions, with repeats and after restarts,
// end up with the same bytes.
func TestSameLogMakesTheSameBytes(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	for i := range 50 {
		id := "" // without one, nothing but the position tells a repeated entry
		if i%2 == 0 {
			id = fmt.Sprint("id-", i)
		}
		f.mustWrite(t, id, put(fmt.Sprint("k-", i%7), fmt.Sprint(i)), add("n", int64(i)),
			replica.Op{Kind: replica.OpSetAdd, Namespace: "default", Key: "s", Elements: [][]byte{{byte(i)}, {byte(i % 3)}}})
	}
	if err := f.Acknowledge(t.Context(), []region.Watermark{{Region: testUS, Actor: actorOf(testEU), Seq: 20}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "twin.db")
	for from := 0; from < len(f.group.log); from += 10 {
		s := openStore(t, path)
		twin, err := region.NewMachine(actorOf(testEU), s, hlc.NewClock(f.clock.wall))
		if err != nil {
			t.Fatal(err)
		}
		for _, batch := range [][]region.Entry{
			f.group.log[max(0, from-15):min(len(f.group.log), from+5)], // some of it again
			f.group.log[from:min(len(f.group.log), from+10)],
		} {
			if err := twin.Apply(batch); err != nil {
				t.Fatal(err)
			}
		}
		if last := from+10 >= len(f.group.log); last {
			if a, b := dump(t, f.machine), dump(t, twin); a != b {
				t.Error("the twin differs")
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// dump returns everything in a machine's store.
func dump(t *testing.T, m *region.Machine) string {
	t.Helper()
	s, err := m.OpenSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	withKV, ok := s.(interface{ KV() replica.KV })
	if !ok {
		t.Fatal("the snapshot cannot be read")
	}
	var all []byte
	err = withKV.KV().Scan(nil, nil, func(k, v []byte) (bool, error) {
		all = fmt.Appendf(all, "%x=%x\n", k, v)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}
