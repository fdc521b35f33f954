package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
)

func TestRequestsToAnotherNodeShareAStream(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0) // eu-0 leads
	var calls atomic.Int32
	inner := r.web["eu-0"].Config.Handler
	r.web["eu-0"].Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		calls.Add(1)
		inner.ServeHTTP(w, q)
	})
	kv := r.kv("eu-1")
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			key := fmt.Sprint(i)
			if put, err := kv.Put(ctx, &atollv1.PutRequest{Key: key, Value: []byte(key)}); err != nil || put.GetInfo().GetNode() != "eu-0" {
				t.Errorf("put %s: %v, %v", key, put, err)
			}
			if got, err := kv.Get(ctx, &atollv1.GetRequest{Key: key}); err != nil || string(got.GetValue()) != key {
				t.Errorf("get %s: %v, %v", key, got, err)
			}
		})
	}
	all.Wait()
	equal(t, "calls", calls.Load(), 1)
}

func TestTrunkThatIsLostIsReplaced(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 1, 0)
	g := r.groups[0]
	kv := r.kv("eu-1")
	mustPut(t, kv, "k", "x")
	for _, opID := range []string{"", "id"} {
		arrived := make(chan struct{})
		g.mu.Lock()
		first := true
		g.onWrite = func(ctx context.Context) error {
			if first {
				first = false
				close(arrived)
				<-ctx.Done() // until the stream is lost
				return region.ErrOutcomeUnknown
			}
			return nil
		}
		g.mu.Unlock()
		done := make(chan error, 1)
		go func() {
			_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "n", Op: counterAdd(1), Options: &atollv1.WriteOptions{OpId: opID}})
			done <- err
		}()
		<-arrived
		r.web["eu-0"].CloseClientConnections()
		if err := <-done; opID == "" {
			wantReason(t, err, reasonOutcomeUnknown)
		} else {
			noError(t, err)
		}
	}
	q, err := r.kv("eu-0").Get(ctx, &atollv1.GetRequest{Key: "n"})
	noError(t, err)
	equal(t, "counter", q.GetTyped().GetCounter().GetValue(), 1)
}

func TestTrunkKnowsWhatWasNotSent(t *testing.T) {
	r := setup(t, 2, 1, 0)
	r.web["eu-0"].Close()
	p := r.servers["eu-1"].peers["eu-0"]
	_, sent, err := ask(testContext(t), p, time.Second, func(ctx context.Context, p *peer) (*atollv1.PutResponse, error) {
		return p.put(ctx, &atollv1.PutRequest{Key: "k"})
	})
	if err == nil || sent {
		t.Errorf("sent is %v, %v", sent, err)
	}
}

func TestTrunkIsBounded(t *testing.T) {
	l := &line{wake: make(chan struct{}, 1), lost: make(chan struct{})}
	l.mu.waiting = map[uint64]*asked{}
	for range trunkRequests {
		_, err := l.enqueue(askGet(0, "k"))
		noError(t, err)
	}
	_, err := l.enqueue(askGet(0, "k"))
	equal(t, "reason", failureOf(err).reason, reasonOverloaded)
	asked := 0
	for msg := l.take(); msg != nil; msg = l.take() {
		n := 1 + len(msg.GetMore())
		if n > 1+pipelineRequests/4 {
			t.Errorf("%d requests in one message", n)
		}
		asked += n
	}
	equal(t, "requests sent", asked, trunkRequests)
}

func TestClosedTrunkAnswersThoseWhoWait(t *testing.T) {
	r := setup(t, 2, 1, 0)
	arrived := make(chan struct{})
	r.groups[0].onWrite = func(ctx context.Context) error { close(arrived); <-ctx.Done(); return ctx.Err() }
	done := make(chan error, 1)
	s := r.servers["eu-1"]
	go func() {
		_, err := (*kvService)(s).Put(t.Context(), &atollv1.PutRequest{Key: "k"})
		done <- err
	}()
	<-arrived
	noError(t, s.Close())
	if f := failureOf(<-done); f.reason != reasonOutcomeUnknown {
		t.Errorf("got %v", f)
	}
	testkit.Eventually(t, 5*time.Second, func() error {
		if r.servers["eu-0"].pipelined.Load() != 0 {
			return errNotYet
		}
		return nil
	})
}
