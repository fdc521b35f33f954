package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// scanServer serves keys k000, k001, ... It ends each request after perRequest entries, with a cursor
// or, if breaks is set, by breaking the connection.
type scanServer struct {
	keys, perRequest int
	breaks           bool
	requests         int
}

func (s *scanServer) scan(_ context.Context, r *atollv1.ScanRequest, stream atollv1connect.KVScanServerStream) error {
	s.requests++
	limit := s.perRequest
	if r.GetLimit() > 0 {
		limit = min(limit, int(r.GetLimit()))
	}
	sent := 0
	for i := range s.keys {
		key := fmt.Sprintf("k%03d", i)
		if key <= string(r.GetCursor()) || !strings.HasPrefix(key, r.GetPrefix()) {
			continue
		}
		sent++
		msg := &atollv1.ScanResponse{Entries: []*atollv1.Entry{{Key: key, Value: []byte(key)}}}
		last := sent == limit && i < s.keys-1
		if last && !s.breaks {
			msg.Cursor = []byte(key)
		}
		if err := stream.Send(msg); err != nil {
			return err
		}
		if last && s.breaks {
			dropConnection()
		}
		if last {
			break
		}
	}
	return nil
}

func checkScan(t *testing.T, c *Client, opts ScanOptions, from, to int) {
	t.Helper()
	next := from
	for e, err := range c.Scan(testContext(t), opts) {
		if want := fmt.Sprintf("k%03d", next); err != nil || e.Key != want || string(e.Bytes) != want {
			t.Fatalf("got %q, %v, want %s", e.Key, err, want)
		}
		next++
	}
	if next != to {
		t.Errorf("scan ended at %d, want %d", next, to)
	}
}

func TestScanContinuesByCursor(t *testing.T) {
	s := &scanServer{keys: 25, perRequest: 10}
	c := newClient(t, []string{serve(t, &fakeServer{scan: s.scan})})
	checkScan(t, c, ScanOptions{}, 0, 25)
	if s.requests != 3 {
		t.Errorf("%d requests, want 3", s.requests)
	}
	checkScan(t, c, ScanOptions{Limit: 12}, 0, 12)
	checkScan(t, c, ScanOptions{After: "k004", Limit: 20}, 5, 25)
	checkScan(t, c, ScanOptions{Prefix: "k01"}, 10, 20)
}

func TestScanSurvivesBrokenConnections(t *testing.T) {
	s := &scanServer{keys: 25, perRequest: 2, breaks: true}
	c := newClient(t, []string{serve(t, &fakeServer{scan: s.scan})}, WithMaxAttempts(3))
	checkScan(t, c, ScanOptions{}, 0, 25)
	if s.requests != 13 {
		t.Errorf("%d requests, want 13", s.requests)
	}
}

func TestScanStopsWhenTheCallerDoes(t *testing.T) {
	s := &scanServer{keys: 25, perRequest: 10}
	c := newClient(t, []string{serve(t, &fakeServer{scan: s.scan})})
	for range c.Scan(testContext(t), ScanOptions{}) {
		break
	}
	if s.requests != 1 {
		t.Errorf("%d requests, want 1", s.requests)
	}
}

func TestScanYieldsALastingErrorOnce(t *testing.T) {
	requests := 0
	f := &fakeServer{scan: func(_ context.Context, _ *atollv1.ScanRequest, s atollv1connect.KVScanServerStream) error {
		if requests++; requests == 1 {
			if err := s.Send(&atollv1.ScanResponse{Entries: []*atollv1.Entry{{Key: "a"}}}); err != nil {
				return err
			}
		}
		return refusal(connect.CodeUnavailable, ReasonNoLeader, time.Millisecond)
	}}
	c := newClient(t, []string{serve(t, f)}, WithMaxAttempts(2))
	var keys, errs int
	for e, err := range c.Scan(testContext(t), ScanOptions{}) {
		switch {
		case err == nil && e.Key == "a":
			keys++
		case errors.Is(err, ErrUnavailable):
			errs++
		default:
			t.Errorf("got %+v, %v", e, err)
		}
	}
	if keys != 1 || errs != 1 {
		t.Errorf("%d keys and %d errors, want one of each", keys, errs)
	}
}
