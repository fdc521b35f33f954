package load

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// counter counts requests, and refuses some.
type counter struct {
	atollv1connect.UnimplementedKVHandler
	gets, puts, eventual, filled atomic.Int64
	refuse                       atomic.Bool
}

func (c *counter) Get(_ context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	c.gets.Add(1)
	if r.GetOptions().GetConsistency() == atollv1.Consistency_CONSISTENCY_EVENTUAL {
		c.eventual.Add(1)
	}
	if c.refuse.Load() {
		return nil, connect.NewError(connect.CodePermissionDenied, "no")
	}
	return &atollv1.GetResponse{Found: true}, nil
}

func (c *counter) Put(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	c.puts.Add(1)
	return &atollv1.PutResponse{}, nil
}

func (c *counter) BatchWrite(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
	c.filled.Add(int64(len(r.GetItems())))
	return &atollv1.BatchWriteResponse{Items: make([]*atollv1.BatchWriteItem, len(r.GetItems()))}, nil
}

func start(t *testing.T) (*counter, *client.Client) {
	c := &counter{}
	rpc := connect.NewServer()
	atollv1connect.RegisterKVHandler(rpc, c)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	kv, err := client.New([]string{s.URL}, client.WithUnary())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return c, kv
}

func TestRunDoesWhatTheMixSays(t *testing.T) {
	for text, want := range map[string]struct {
		gets, puts bool
	}{"put": {false, true}, "get": {true, false}, "eventual": {true, false}, "80/20": {true, true}} {
		s, kv := start(t)
		mix, err := ParseMix(text)
		if err != nil {
			t.Fatal(err)
		}
		r := Run(t.Context(), Config{
			Client: kv, Clients: 4, ValueBytes: 16, Keys: 10, Mix: mix, Warmup: 20 * time.Millisecond, Duration: 200 * time.Millisecond, Clock: time.Now,
		})
		if (s.gets.Load() > 0) != want.gets || (s.puts.Load() > 0) != want.puts {
			t.Errorf("%s: %d gets, %d puts", text, s.gets.Load(), s.puts.Load())
		}
		if (s.eventual.Load() > 0) != (text == "eventual") {
			t.Errorf("%s: %d eventual reads", text, s.eventual.Load())
		}
		if n := r.Gets.Total() + r.Puts.Total(); n == 0 || n > s.gets.Load()+s.puts.Load() || r.Elapsed < 200*time.Millisecond || r.CPU <= 0 {
			t.Errorf("%s: measured %d in %v, CPU %v", text, n, r.Elapsed, r.CPU)
		}
		if text == "80/20" && (r.Gets.Total() < 2*r.Puts.Total() || r.Gets.Total() > 8*r.Puts.Total()) {
			t.Errorf("%d gets and %d puts are not 80/20", r.Gets.Total(), r.Puts.Total())
		}
	}
}

func TestRunCountsFailures(t *testing.T) {
	s, kv := start(t)
	s.refuse.Store(true)
	r := Run(t.Context(), Config{Client: kv, Clients: 2, Keys: 1, Mix: Mix{Gets: 100}, Duration: 100 * time.Millisecond, Clock: time.Now})
	if r.Failures["DENIED"] == 0 || r.Gets.Total() != 0 || r.LastError == nil {
		t.Errorf("got %v, %d gets, %v", r.Failures, r.Gets.Total(), r.LastError)
	}
}

func TestRunEndsWithItsContextAndTellsProgress(t *testing.T) {
	_, kv := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	told := 0
	Run(ctx, Config{
		Client: kv, Clients: 1, Keys: 1, Duration: time.Hour, Clock: time.Now,
		Progress: func(p Progress) {
			if told++; p.Done == 0 || p.Failed != 0 {
				t.Errorf("told of %+v", p)
			}
			cancel()
		},
	})
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestFillWritesEveryKey(t *testing.T) {
	s, kv := start(t)
	if err := Fill(t.Context(), Config{Client: kv, Keys: 1234, ValueBytes: 10}); err != nil || s.filled.Load() != 1234 {
		t.Errorf("%d keys, %v", s.filled.Load(), err)
	}
}

func TestKeysAreInOrder(t *testing.T) {
	for n, want := range map[int]string{0: "bench/00000000", 1234: "bench/00001234", 99999999: "bench/99999999", 100000000: "bench/100000000"} {
		if got := Key(n); got != want {
			t.Errorf("key %d is %s", n, got)
		}
	}
}

func TestParseMixRefusesNonsense(t *testing.T) {
	for _, text := range []string{"", "read", "80", "80/30", "-1/101", "a/b", "80/20/0"} {
		if _, err := ParseMix(text); err == nil {
			t.Errorf("%q is a mix", text)
		}
	}
}

// The twin keeps and sorts every value.
func TestQuantilesAreThoseOfASortedList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var l Latencies
	var all []time.Duration
	for range 20000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		l.Note(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.95, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))]
		if got := l.Quantile(q); got < want || float64(got-want) > 0.02*float64(want)+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if l.Quantile(1) != all[len(all)-1] || l.Max() != all[len(all)-1] || l.Total() != 20000 {
		t.Errorf("largest %v, total %d", l.Quantile(1), l.Total())
	}
	for _, d := range []time.Duration{0, 1, parts - 1, parts, parts + 1, 12345, 1<<63 - 1} {
		if top := topOf(bucketOf(uint64(d))); top < d || bucketOf(uint64(top)) != bucketOf(uint64(d)) {
			t.Errorf("%d is in a bucket up to %d", d, top)
		}
	}
	twice := Merge(&l, &l)
	if twice.Total() != 40000 || twice.Quantile(0.5) != l.Quantile(0.5) || l.Total() != 20000 {
		t.Error("merging changes more than the count")
	}
}
