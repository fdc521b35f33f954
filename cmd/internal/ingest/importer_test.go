package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSink is a region: it runs every operation id once, and fails as its hook says.
type fakeSink struct {
	mu       sync.Mutex
	seen     map[string]bool
	requests int
	ids      []string
	keys     map[string]string
	counters map[string]int64
	sets     map[string]map[string]bool
	// before and after run around the effect of a request; an error is the request's answer.
	before, after func(n int, id string) error
	refuse        func(w *Write) error
}

func newFakeSink() *fakeSink {
	return &fakeSink{seen: map[string]bool{}, keys: map[string]string{}, counters: map[string]int64{}, sets: map[string]map[string]bool{}}
}

func (s *fakeSink) Write(ctx context.Context, id string, writes []Write) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(id) > 64 {
		return nil, fmt.Errorf("operation id of %d bytes", len(id))
	}
	s.requests++
	n := s.requests
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(ErrRetry, err)
	}
	if s.before != nil {
		if err := s.before(n, id); err != nil {
			return nil, err
		}
	}
	results := make([]error, len(writes))
	refused := false
	for i := range writes {
		if s.refuse != nil && s.refuse(&writes[i]) != nil {
			refused = true
		}
	}
	if refused {
		for i := range results {
			results[i] = fmt.Errorf("%w: together with another", ErrRefused)
		}
		return results, nil
	}
	if !s.seen[id] {
		s.seen[id] = true
		s.ids = append(s.ids, id)
		for i := range writes {
			s.apply(&writes[i])
		}
	}
	if s.after != nil {
		if err := s.after(n, id); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (s *fakeSink) apply(w *Write) {
	switch w.Kind {
	case KindPut:
		s.keys[w.Key] = string(w.Value)
	case KindCounterAdd:
		s.counters[w.Key] += w.Delta
	case KindCounterSet:
		s.counters[w.Key] = w.Delta
	case KindSetAdd:
		if s.sets[w.Key] == nil {
			s.sets[w.Key] = map[string]bool{}
		}
		for _, e := range w.Elements {
			s.sets[w.Key][string(e)] = true
		}
	}
}

// cities has n records in 3 countries, with some names twice and every 17th line bad.
func cities(n int) (input string, bad int) {
	var b strings.Builder
	for i := range n {
		if i%17 == 16 {
			b.WriteString("{\"name\":\n")
			bad++
			continue
		}
		fmt.Fprintf(&b, `{"name":"city %d","country":"%c","i":%d}`+"\n", i%50, 'A'+rune(i%3), i)
	}
	return b.String(), bad
}

func cityMapper(t *testing.T) Mapper {
	names, err := ParseCollect("names/{country}={name}")
	if err != nil {
		t.Fatal(err)
	}
	return NewMapper(Mapping{
		Key: template(t, "city/{country}/{name}/{#}"), Count: []*Template{template(t, "cities/{country}")}, Collect: []Collect{names},
	})
}

func testConfig(t *testing.T, input string, sink Sink) Config {
	t.Helper()
	r, err := NewReader(strings.NewReader(input), "", FormatNDJSON)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Reader: r, Mapper: cityMapper(t), Sink: sink, Input: "test", Run: "run", Batch: 10, Concurrency: 3,
		Clock: time.Now, Patience: 5 * time.Second,
	}
}

// wantCities checks that the sink holds each good record of cities(n) exactly once.
func wantCities(t *testing.T, s *fakeSink, n int) {
	t.Helper()
	counters, keys := map[string]int64{}, 0
	for i := range n {
		if i%17 != 16 {
			counters[fmt.Sprintf("cities/%c", 'A'+rune(i%3))]++
			keys++
		}
	}
	if !maps.Equal(s.counters, counters) {
		t.Errorf("counters are %v, want %v", s.counters, counters)
	}
	if len(s.keys) != keys {
		t.Errorf("%d keys, want %d", len(s.keys), keys)
	}
	for c, set := range s.sets {
		if len(set) == 0 || len(set) > 50 {
			t.Errorf("%s has %d members", c, len(set))
		}
	}
}

func run(ctx context.Context, t *testing.T, cfg Config) (Stats, error) {
	t.Helper()
	im, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = im.Run(ctx)
	return im.Stats(), err
}

func TestImport(t *testing.T) {
	const n = 1000
	input, bad := cities(n)
	sink := newFakeSink()
	cfg := testConfig(t, input, sink)
	var lines []int64
	cfg.OnBad = func(b *BadRecord) { lines = append(lines, b.Line) }
	stats, err := run(t.Context(), t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantCities(t, sink, n)
	if stats.Records != int64(n-bad) || stats.Bad != int64(bad) || len(lines) != bad || lines[0] != 17 || stats.ReadBytes != int64(len(input)) {
		t.Errorf("got %+v and %d bad lines", stats, len(lines))
	}
	if got, want := stats.Batches, int64((n-bad+9)/10); got != want {
		t.Errorf("%d batches, want %d", got, want)
	}
}

// TestResumeAtEveryBatch stops an import at every request, once before its effect and once behind
// it, and lets a second run finish it.
func TestResumeAtEveryBatch(t *testing.T) {
	const n = 130 // every run syncs its checkpoint many times
	input, bad := cities(n)
	batches := (n - bad + 9) / 10
	for stop := 1; stop <= batches; stop++ {
		for _, behind := range []bool{false, true} {
			checkpointFile := filepath.Join(t.TempDir(), "checkpoint")
			sink := newFakeSink()
			ctx, cancel := context.WithCancel(t.Context())
			kill := func(at int, _ string) error {
				if at >= stop {
					cancel()
					return errors.Join(ErrRetry, context.Canceled)
				}
				return nil
			}
			if behind {
				sink.after = kill
			} else {
				sink.before = kill
			}
			first := testConfig(t, input, sink)
			first.Checkpoint = checkpointFile
			if _, err := run(ctx, t, first); !errors.Is(err, context.Canceled) {
				t.Fatalf("stop %d: %v", stop, err)
			}
			cancel()
			sink.before, sink.after = nil, nil
			second := testConfig(t, input, sink)
			second.Checkpoint, second.Run = checkpointFile, "another"
			stats, err := run(t.Context(), t, second)
			if err != nil {
				t.Fatalf("stop %d: %v", stop, err)
			}
			wantCities(t, sink, n)
			if stats.Records != int64(n-bad) || stats.Bad != int64(bad) || stats.Batches != int64(batches) {
				t.Errorf("stop %d: %+v", stop, stats)
			}
			if len(sink.ids) != batches {
				t.Errorf("stop %d: %d operation ids for %d batches: %q", stop, len(sink.ids), batches, sink.ids)
			}
			if _, err := os.Stat(checkpointFile); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the checkpoint is still there: %v", err)
			}
		}
	}
}

// TestResumeManyTimes stops again and again at random, with answers lost on the way.
func TestResumeManyTimes(t *testing.T) {
	const n = 300
	input, bad := cities(n)
	rng := rand.New(rand.NewPCG(1, 2))
	sink := newFakeSink()
	checkpointFile := filepath.Join(t.TempDir(), "checkpoint")
	for round := 0; ; round++ {
		if round > 200 {
			t.Fatal("no end")
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := rng.IntN(15)
		sink.after = func(int, string) error {
			if left--; left < 0 {
				cancel()
			}
			if rng.IntN(4) == 0 {
				return fmt.Errorf("%w: the answer was lost", ErrRetry)
			}
			return nil
		}
		cfg := testConfig(t, input, sink)
		cfg.Checkpoint = checkpointFile
		cfg.Run = fmt.Sprint("run", round) // only the first one's may count
		stats, err := run(ctx, t, cfg)
		cancel()
		if err == nil {
			if stats.Records != int64(n-bad) {
				t.Errorf("got %+v", stats)
			}
			break
		}
	}
	wantCities(t, sink, n)
}

// A bad line is reported by the run that gets past it, and by no later one.
func TestBadLinesAreReportedOnceAndCountedAlways(t *testing.T) {
	const n = 340
	input, bad := cities(n)
	checkpointFile := filepath.Join(t.TempDir(), "checkpoint")
	sink := newFakeSink()
	reported := map[int64]int{}
	cfg := testConfig(t, input, sink)
	cfg.Checkpoint, cfg.Concurrency = checkpointFile, 1
	cfg.OnBad = func(b *BadRecord) { reported[b.Line]++ }
	boom := errors.New("boom")
	sink.before = func(at int, _ string) error {
		if at == 20 {
			return boom
		}
		return nil
	}
	if _, err := run(t.Context(), t, cfg); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	sink.before = nil
	again := testConfig(t, input, sink)
	again.Checkpoint, again.OnBad = checkpointFile, cfg.OnBad
	stats, err := run(t.Context(), t, again)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Bad != int64(bad) || len(reported) != bad {
		t.Errorf("%d counted, %d reported, want %d", stats.Bad, len(reported), bad)
	}
	twice := 0
	for _, times := range reported {
		if times > 1 {
			twice++
		}
	}
	// Only what lies between the checkpoint and where the first run had read to is told again.
	if twice > 3 {
		t.Errorf("%d lines are reported twice", twice)
	}
}

func TestRefusedWritesAreReportedAndTheRestIsDone(t *testing.T) {
	input, bad := cities(100)
	sink := newFakeSink()
	sink.refuse = func(w *Write) error {
		if w.Key == "cities/B" {
			return errors.New("holds another type")
		}
		return nil
	}
	cfg := testConfig(t, input, sink)
	var reports []string
	cfg.OnBad = func(b *BadRecord) { reports = append(reports, b.Error()) }
	stats, err := run(t.Context(), t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := 0
	for i := range 100 {
		if i%17 != 16 && i%3 == 1 {
			b++
		}
	}
	if stats.Refused != int64(b) || len(reports) != b+bad || stats.Records != int64(100-bad) {
		t.Errorf("%+v with %d reports, want %d refused", stats, len(reports), b)
	}
	if len(sink.keys) != 100-bad || sink.counters["cities/A"] == 0 || sink.counters["cities/B"] != 0 {
		t.Errorf("%d keys, counters %v", len(sink.keys), sink.counters)
	}
	if !slices.ContainsFunc(reports, func(s string) bool {
		return strings.HasPrefix(s, "line 2, record 2: counter \"cities/B\": refused")
	}) {
		t.Errorf("reports: %q", reports)
	}
}

func TestPatience(t *testing.T) {
	input, _ := cities(100)
	sink := newFakeSink()
	down := fmt.Errorf("%w: nobody there", ErrRetry)
	sink.before = func(n int, _ string) error {
		if n > 4 {
			return down
		}
		return nil
	}
	cfg := testConfig(t, input, sink)
	cfg.Patience, cfg.Checkpoint = 300*time.Millisecond, filepath.Join(t.TempDir(), "checkpoint")
	stats, err := run(t.Context(), t, cfg)
	var gaveUp *GaveUpError
	if !errors.As(err, &gaveUp) || !errors.Is(err, ErrRetry) {
		t.Fatalf("got %v", err)
	}
	if stats.Records != 40 {
		t.Errorf("%+v", stats)
	}
	sink.before = nil
	again := testConfig(t, input, sink)
	again.Checkpoint = cfg.Checkpoint
	if _, err := run(t.Context(), t, again); err != nil {
		t.Fatal(err)
	}
	wantCities(t, sink, 100)
}

// The last record of a key wins, however batches overtake each other.
func TestLastRecordOfAKeyWins(t *testing.T) {
	var input strings.Builder
	for i := range 400 {
		fmt.Fprintf(&input, `{"k":%d,"v":%d}`+"\n", i%7, i)
	}
	sink := newFakeSink()
	cfg := testConfig(t, input.String(), sink)
	cfg.Mapper = NewMapper(Mapping{Key: template(t, "{k}"), Value: "v"})
	cfg.Batch = 3
	if _, err := run(t.Context(), t, cfg); err != nil {
		t.Fatal(err)
	}
	for i := 393; i < 400; i++ {
		if got := sink.keys[fmt.Sprint(i%7)]; got != fmt.Sprint(i) {
			t.Errorf("key %d is %s, want %d", i%7, got, i)
		}
	}
}

func TestBatchesStayBelowTheLimits(t *testing.T) {
	var input strings.Builder
	value := strings.Repeat("x", 900<<10)
	for i := range 9 {
		fmt.Fprintf(&input, `{"k":%d,"v":"%s"}`+"\n", i, value)
	}
	cfg := testConfig(t, input.String(), sinkFunc(func(writes []Write) error {
		if n := sizeOf(writes); n > maxBatchBytes {
			return fmt.Errorf("a batch of %d bytes", n)
		}
		return nil
	}))
	cfg.Mapper = NewMapper(Mapping{Key: template(t, "{k}")})
	stats, err := run(t.Context(), t, cfg)
	if err != nil || stats.Records != 9 || stats.Batches != 3 {
		t.Errorf("%+v, %v", stats, err)
	}
}

type sinkFunc func([]Write) error

func (f sinkFunc) Write(_ context.Context, _ string, writes []Write) ([]error, error) {
	return make([]error, len(writes)), f(writes)
}

func TestCheckpointsOfOthersAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	cfg := testConfig(t, "", newFakeSink())
	cfg.Checkpoint = path
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"version":1,"input":"other","run":"r"}`)
	var mismatch *MismatchError
	if _, err := New(cfg); !errors.As(err, &mismatch) {
		t.Errorf("another import's: %v", err)
	}
	for _, s := range []string{"", "{", `{"version":2,"input":"test","run":"r"}`, `{"version":1,"input":"test"}`, `{"version":1,"input":"test","run":"r","low":-1}`} {
		write(s)
		var damaged *CheckpointError
		if _, err := New(cfg); !errors.As(err, &damaged) {
			t.Errorf("%q: %v", s, err)
		}
	}
	cfg.Checkpoint = filepath.Join(t.TempDir(), "no", "such", "directory")
	im, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Run(t.Context()); err == nil {
		t.Error("an import that cannot save its checkpoint went on")
	}
}

func TestInputErrorEndsTheImport(t *testing.T) {
	broken := errors.New("pipe broke")
	r, err := NewReader(io.MultiReader(strings.NewReader("{\"name\":\"a\",\"country\":\"A\"}\n"), &failing{broken}), "", FormatNDJSON)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, "", newFakeSink())
	cfg.Reader = r
	if _, err := run(t.Context(), t, cfg); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
