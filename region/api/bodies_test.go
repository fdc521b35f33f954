package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

func TestLargeBodiesTakeTurns(t *testing.T) {
	const size = 8 << 20 // four of them fit, thrice each
	var held, most atomic.Int64
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(boundBodies(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for n := held.Add(1); ; {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		entered <- struct{}{}
		<-leave
		_, _ = io.Copy(io.Discard, r.Body)
		held.Add(-1)
	})))
	defer server.Close()
	post := func(ctx context.Context, n int) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, bytes.NewReader(make([]byte, n)))
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	answers := make(chan error, 20)
	for range 12 {
		go func() { answers <- post(t.Context(), size) }()
	}
	for range 4 {
		<-entered
	}
	// A small one passes them all.
	go func() { answers <- post(t.Context(), 10) }()
	<-entered
	if n := most.Load(); n != 5 {
		t.Errorf("%d requests at once, want 4 large and a small one", n)
	}
	close(leave)
	for range 13 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}
