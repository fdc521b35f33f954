package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// fakeRegions answers about conflicts with functions.
type fakeRegions struct {
	atollv1connect.UnimplementedRegionsHandler
	conflicts func(*atollv1.ConflictsRequest) (*atollv1.ConflictsResponse, error)
	restore   func(*atollv1.RestoreLoserRequest) (*atollv1.RestoreLoserResponse, error)
	future    func(*atollv1.FutureValuesRequest) (*atollv1.FutureValuesResponse, error)
}

func (f *fakeRegions) FutureValues(_ context.Context, r *atollv1.FutureValuesRequest) (*atollv1.FutureValuesResponse, error) {
	return f.future(r)
}

func (f *fakeRegions) Conflicts(_ context.Context, r *atollv1.ConflictsRequest) (*atollv1.ConflictsResponse, error) {
	return f.conflicts(r)
}

func (f *fakeRegions) RestoreLoser(_ context.Context, r *atollv1.RestoreLoserRequest) (*atollv1.RestoreLoserResponse, error) {
	return f.restore(r)
}

func (f *fakeRegions) serve(t *testing.T) string {
	t.Helper()
	rpc := connect.NewServer()
	atollv1connect.RegisterRegionsHandler(rpc, f)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func TestConflicts(t *testing.T) {
	var asked *atollv1.ConflictsRequest
	f := &fakeRegions{conflicts: func(r *atollv1.ConflictsRequest) (*atollv1.ConflictsResponse, error) {
		asked = r
		return &atollv1.ConflictsResponse{Region: "eu"}, nil
	}}
	c := newClient(t, []string{f.serve(t)}, WithNamespace("n"))
	res, err := c.Conflicts(testContext(t), ConflictsQuery{Prefix: "p", Limit: 3, Cursor: []byte{1}})
	noError(t, err)
	equal(t, "region", res.GetRegion(), "eu")
	equal(t, "namespace and prefix", asked.GetNamespace()+asked.GetPrefix(), "np")
	equal(t, "limit and cursor", int(asked.GetLimit())+len(asked.GetCursor()), 4)
	_, err = c.Conflicts(testContext(t), ConflictsQuery{AllNamespaces: true, Key: "k"})
	noError(t, err)
	equal(t, "namespace and key", asked.GetNamespace()+asked.GetKey(), "k")
	equal(t, "all namespaces", asked.GetAllNamespaces(), true)
}

// TestRestoreLoser loses the first answer: the same request is sent again, with the same op_id.
func TestRestoreLoser(t *testing.T) {
	var asked []*atollv1.RestoreLoserRequest
	f := &fakeRegions{restore: func(r *atollv1.RestoreLoserRequest) (*atollv1.RestoreLoserResponse, error) {
		asked = append(asked, r)
		switch {
		case r.GetId() == 99:
			return nil, refusal(connect.CodeFailedPrecondition, ReasonNotPresent, 0)
		case len(asked) == 1:
			dropConnection()
		}
		return &atollv1.RestoreLoserResponse{Version: "v2", Loser: &atollv1.Loser{Key: "k"}, Info: &atollv1.ReplyInfo{Region: "eu"}}, nil
	}}
	c := newClient(t, []string{f.serve(t)})
	var info Info
	version, loser, err := c.RestoreLoser(testContext(t), 3, 17, IfVersion("v1"), WithInfo(&info))
	noError(t, err)
	equal(t, "answer", version+loser.GetKey()+info.Region, "v2keu")
	if len(asked) != 2 || asked[0].GetOptions().GetOpId() == "" || asked[0].GetOptions().GetOpId() != asked[1].GetOptions().GetOpId() {
		t.Errorf("asked %v", asked)
	}
	equal(t, "names", int(asked[1].GetPartition())+int(asked[1].GetId()), 20)
	equal(t, "condition", asked[1].GetIfVersion(), "v1")
	if _, _, err := c.RestoreLoser(testContext(t), 0, 99); !errors.Is(err, ErrNotPresent) {
		t.Errorf("error %v", err)
	}
}

// Pages are asked for until the last, by the present that the first was judged by, and no further once one fails.
func TestFutureValues(t *testing.T) {
	pages := 0
	f := &fakeRegions{future: func(r *atollv1.FutureValuesRequest) (*atollv1.FutureValuesResponse, error) {
		pages++
		equal(t, "cursor", len(r.GetCursor()), pages-1)
		equal(t, "bound", r.GetAhead().AsDuration(), time.Minute)
		equal(t, "present", int(r.GetPresentMs()), map[bool]int{true: 1000, false: 7000}[pages == 1])
		equal(t, "limit, values and partition", fmt.Sprint(r.GetLimit(), r.GetWithValues(), r.GetPartitions()), "9 true [3]")
		if pages == 4 {
			return nil, connect.NewError(connect.CodePermissionDenied, "no more")
		}
		return &atollv1.FutureValuesResponse{PresentMs: 7000, Cursor: make([]byte, pages)}, nil
	}}
	c := newClient(t, []string{f.serve(t)})
	var failed error
	got := 0
	q := FutureQuery{Partitions: []uint32{3}, Ahead: time.Minute, Present: time.UnixMilli(1000), WithValues: true, Limit: 9}
	for _, err := range c.FutureValues(testContext(t), q) {
		if failed = err; err == nil {
			got++
		}
	}
	if got != 3 || pages != 4 || failed == nil {
		t.Errorf("%d pages of %d, then %v", got, pages, failed)
	}
	pages = 0
	for _, err := range c.FutureValues(testContext(t), q) {
		noError(t, err)
		break
	}
	equal(t, "pages of one who wants one", pages, 1)
}
