package localqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region/raftlog"
)

// write is an encoded WriteCommand that is told by its op_id.
func write(t testing.TB, name string) []byte {
	t.Helper()
	data, err := proto.Marshal(&logv1.WriteCommand{OpId: name, Operations: []*logv1.Operation{{Key: "k", Value: []byte(name)}}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// machine applies what is submitted as a partition does: a write at or below the last applied position
// of its queue is dropped.
type machine struct {
	fault func() (before, after bool) // fail before or after applying

	mu      sync.Mutex
	applied []string
	numbers map[uint64]uint64
	repeats int
	grown   chan struct{}
}

func newMachine() *machine {
	return &machine{numbers: map[uint64]uint64{}, grown: make(chan struct{}, 1)}
}

var errInjected = errors.New("injected")

func (m *machine) submit(_ context.Context, writes [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var before, after bool
	if m.fault != nil {
		before, after = m.fault()
	}
	if before {
		return errInjected
	}
	for _, data := range writes {
		w := &logv1.WriteCommand{}
		if err := proto.Unmarshal(data, w); err != nil {
			return err
		}
		p := w.GetQueue()
		if string(w.GetOperations()[0].GetValue()) != w.GetOpId() || p.GetQueue() == 0 {
			return fmt.Errorf("malformed %v", w)
		}
		if p.GetSeq() <= m.numbers[p.GetQueue()] {
			m.repeats++
			continue
		}
		m.numbers[p.GetQueue()] = p.GetSeq()
		m.applied = append(m.applied, w.GetOpId())
	}
	select {
	case m.grown <- struct{}{}:
	default:
	}
	if after {
		return errInjected
	}
	return nil
}

func (m *machine) snapshot() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.applied)
}

// await waits until count writes are applied.
func (m *machine) await(t *testing.T, count int) []string {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		applied := m.snapshot()
		if len(applied) >= count {
			return applied
		}
		select {
		case <-m.grown:
		case <-deadline.C:
			t.Fatalf("%d of %d writes were applied", len(applied), count)
		}
	}
}

// fixture is a queue over a log on disk.
type fixture struct {
	log   *raftlog.Log
	queue *Queue
}

func open(t testing.TB, dir string, c Config) fixture {
	t.Helper()
	log, err := raftlog.Open(dir, raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	if c.Log, err = log.Group(Group(3)); err != nil {
		t.Fatal(err)
	}
	c.Logger = slog.New(slog.DiscardHandler)
	q, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{log, q}
}

func (b fixture) append(t testing.TB, name string) uint64 {
	t.Helper()
	seq, err := b.queue.Append(t.Context(), write(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// run drains until stop is called.
func (b fixture) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.queue.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func names(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("w%d", i))
	}
	return out
}

func TestWritesAreAppliedInOrderAndLeaveTheQueue(t *testing.T) {
	m := newMachine()
	b := open(t, t.TempDir(), Config{Submit: m.submit})
	var last uint64
	for _, name := range names(0, 600) {
		seq := b.append(t, name)
		if seq <= last {
			t.Fatalf("number %d after %d", seq, last)
		}
		last = seq
	}
	if s := b.queue.Stats(); s.Writes != 600 || s.Bytes < 6000 {
		t.Fatalf("waiting: %+v", s)
	}
	stop := b.run(t)
	if got := m.await(t, 600); !slices.Equal(got, names(0, 600)) {
		t.Fatalf("applied %v", got)
	}
	b.append(t, "w600") // wakes the drain
	m.await(t, 601)
	stop()
	if s := b.queue.Stats(); s != (Stats{}) {
		t.Fatalf("still waiting: %+v", s)
	}
	if s := b.queue.cfg.Log.Stats(); s.Last-s.First+1 > cutWrites {
		t.Fatalf("the log still has %d to %d", s.First, s.Last)
	}
}

// A restart loses nothing, repeats no number, and what was applied but not yet cut from the log is
// submitted again with the position it had.
func TestRestartsResubmitWithTheSamePositions(t *testing.T) {
	dir, m := t.TempDir(), newMachine()
	var seqs []uint64
	number := uint64(0)
	for round := range 5 {
		b := open(t, dir, Config{Submit: m.submit})
		if number == 0 {
			number = b.queue.Number()
		}
		if b.queue.Number() != number || number == 0 {
			t.Fatalf("the queue's number was %d and is %d", number, b.queue.Number())
		}
		stop := func() {}
		if round%2 == 1 {
			stop = b.run(t)
		}
		for _, name := range names(round*10, round*10+10) {
			seqs = append(seqs, b.append(t, name))
		}
		if round%2 == 1 {
			m.await(t, round*10+10)
		}
		stop()
		if err := b.log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, dir, Config{Submit: m.submit})
	defer b.run(t)()
	if got := m.await(t, 50); !slices.Equal(got, names(0, 50)) {
		t.Fatalf("applied %v", got)
	}
	if !slices.IsSorted(seqs) || len(slices.Compact(seqs)) != 50 {
		t.Fatalf("numbers %v", seqs)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.repeats == 0 || len(m.numbers) != 1 {
		t.Fatalf("%d repeats of %d queues: the test did not reach what it is for", m.repeats, len(m.numbers))
	}
}

// Whether a submission fails before or after it took effect, every write is applied once and in order.
func TestFailedSubmissionsAreRepeated(t *testing.T) {
	m := newMachine()
	rng := rand.New(rand.NewPCG(1, 1))
	m.fault = func() (bool, bool) { return rng.IntN(2) == 0, rng.IntN(3) == 0 }
	b := open(t, t.TempDir(), Config{Submit: m.submit})
	defer b.run(t)()
	for _, name := range names(0, 40) {
		b.append(t, name)
	}
	if got := m.await(t, 40); !slices.Equal(got, names(0, 40)) {
		t.Fatalf("applied %v", got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	for name, c := range map[string]Config{"writes": {MaxWrites: 3}, "bytes": {MaxBytes: int64(3*len(write(t, "w0"))) + 1}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			c.Submit = m.submit
			dir := t.TempDir()
			b := open(t, dir, c)
			for _, name := range names(0, 3) {
				b.append(t, name)
			}
			if _, err := b.queue.Append(t.Context(), write(t, "w3")); !errors.Is(err, ErrQueueFull) {
				t.Fatalf("the fourth write: %v", err)
			}
			if err := b.log.Close(); err != nil {
				t.Fatal(err)
			}
			b = open(t, dir, c) // counts what it finds
			if _, err := b.queue.Append(t.Context(), write(t, "w3")); !errors.Is(err, ErrQueueFull) {
				t.Fatalf("the fourth write after a restart: %v", err)
			}
			stop := b.run(t)
			m.await(t, 3)
			stop()
			b.append(t, "w3")
		})
	}
	b := open(t, t.TempDir(), Config{})
	if _, err := b.queue.Append(t.Context(), make([]byte, MaxWriteBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("too large: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.queue.Append(canceled, write(t, "w")); !errors.Is(err, context.Canceled) {
		t.Fatalf("canceled: %v", err)
	}
	if s := b.queue.Stats(); s != (Stats{}) {
		t.Fatalf("refused writes count: %+v", s)
	}
}

// A submission stays small, unless one write alone is large.
func TestSubmissionsAreBounded(t *testing.T) {
	var sizes []int
	done := make(chan struct{})
	total := 0
	b := open(t, t.TempDir(), Config{Submit: func(_ context.Context, writes [][]byte) error {
		bytes := 0
		for _, w := range writes {
			bytes += len(w)
		}
		if len(writes) > 1 && bytes > submitBytes+32*len(writes) {
			return fmt.Errorf("%d bytes", bytes)
		}
		sizes = append(sizes, len(writes))
		if total += len(writes); total == 603 {
			close(done)
		}
		return nil
	}})
	for range 600 {
		b.append(t, "w")
	}
	for _, size := range []int{submitBytes - 30, submitBytes - 30, 3 * submitBytes} {
		if _, err := b.queue.Append(t.Context(), write(t, string(make([]byte, size/2)))); err != nil {
			t.Fatal(err)
		}
	}
	stop := b.run(t)
	<-done
	stop()
	if sizes[0] != submitWrites || sizes[1] != submitWrites || sizes[len(sizes)-1] != 1 {
		t.Fatalf("submissions of %v writes", sizes)
	}
}

// Writes that come while another is on its way to the disk go there together.
func TestConcurrentWritesShareACommit(t *testing.T) {
	b := open(t, t.TempDir(), Config{})
	q := b.queue
	var callers sync.WaitGroup
	seqs := make([]uint64, 20)
	q.turn.Lock() // the disk is busy
	for i := range seqs {
		callers.Go(func() { seqs[i], _ = q.Append(t.Context(), write(t, "w")) })
	}
	for q.Stats().Writes < len(seqs) {
		runtime.Gosched()
	}
	q.mu.Lock()
	together := len(q.mu.open.writes)
	q.mu.Unlock()
	q.turn.Unlock()
	callers.Wait()
	if together != len(seqs) {
		t.Errorf("%d of %d writes share a commit", together, len(seqs))
	}
	slices.Sort(seqs)
	if len(slices.Compact(seqs)) != 20 || seqs[0] != seq(1, 1) || seqs[19] != seq(1, 20) {
		t.Errorf("numbers %v", seqs)
	}
}

// When the log loses its last entry to damage, its number is not given to another write: who applied
// it would take the new one for a repeat.
func TestNumbersOfLostWritesAreNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, Config{})
	b.append(t, "w0")
	lost := b.append(t, "w1")
	if err := errors.Join(b.queue.cfg.Log.DeleteRange(2, 2), b.log.Close()); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir, Config{}).append(t, "w2"); again <= lost {
		t.Fatalf("number %d was given to a lost write, and then %d to another", lost, again)
	}
}

func TestDamagedQueuesAreRefused(t *testing.T) {
	log, err := raftlog.Open(t.TempDir(), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	g, err := log.Group(Group(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Append([]raftlog.Entry{{Index: 1, Term: 1, Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Log: g}); !errors.Is(err, errIncomplete) {
		t.Fatalf("writes without the queue's number: %v", err)
	}
	if err := errors.Join(g.SetUint64(queueKey, 5), g.SetUint64(generationKey, maxGeneration)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Log: g}); !errors.Is(err, errExhausted) {
		t.Fatalf("after the last generation: %v", err)
	}
	closed, err := log.Group(Group(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Log: closed}); !errors.Is(err, raftlog.ErrClosed) {
		t.Fatalf("over a closed log: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 48} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			q := open(b, b.TempDir(), Config{MaxWrites: 1 << 30, MaxBytes: 1 << 40}).queue
			data := make([]byte, 1<<10)
			b.ReportAllocs()
			b.SetParallelism(max(writers/2, 1))
			b.ResetTimer()
			if writers == 1 {
				for range b.N {
					if _, err := q.Append(b.Context(), data); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := q.Append(b.Context(), data); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
