package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// region is a region that holds what a test says, to show that the checks notice what is wrong.
type region struct {
	atollv1connect.UnimplementedKVHandler
	registers map[string]string
	counters  map[string]int64
	sets      map[string][]string
}

func (r *region) BatchGet(_ context.Context, q *atollv1.BatchGetRequest) (*atollv1.BatchGetResponse, error) {
	reply := &atollv1.BatchGetResponse{}
	for _, item := range q.GetItems() {
		value, found := r.registers[item.GetKey()]
		reply.Items = append(reply.Items, &atollv1.BatchGetItem{Response: &atollv1.GetResponse{
			Found: found, Value: []byte(value), Type: atollv1.Type_TYPE_LWW_REGISTER,
		}})
	}
	return reply, nil
}

func (r *region) Query(_ context.Context, q *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
	result := &atollv1.QueryResult{}
	switch q.GetQuery().GetQuery().(type) {
	case *atollv1.QueryOp_Counter:
		result.Result = &atollv1.QueryResult_Counter{Counter: &atollv1.CounterValue{Value: r.counters[q.GetKey()]}}
	default:
		page := &atollv1.SetMembersPage{}
		for _, m := range r.sets[q.GetKey()] {
			page.Members = append(page.Members, []byte(m))
		}
		result.Result = &atollv1.QueryResult_SetMembers{SetMembers: page}
	}
	return &atollv1.QueryResponse{Result: result}, nil
}

func (r *region) Scan(_ context.Context, q *atollv1.ScanRequest, s atollv1connect.KVScanServerStream) error {
	for _, key := range names(r.registers) {
		if strings.HasPrefix(key, q.GetPrefix()) {
			entry := &atollv1.Entry{Key: key, Type: atollv1.Type_TYPE_LWW_REGISTER}
			if err := s.Send(&atollv1.ScanResponse{Entries: []*atollv1.Entry{entry}}); err != nil {
				return err
			}
		}
	}
	return s.Send(&atollv1.ScanResponse{})
}

func (r *region) serve(t *testing.T) *client.Client {
	t.Helper()
	rpc := connect.NewServer()
	atollv1connect.RegisterKVHandler(rpc, r)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	server := httptest.NewServer(mux)
	c, err := client.New([]string{server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		server.Close()
	})
	return c
}

func TestChecksNoticeWhatIsWrong(t *testing.T) {
	e := newExpectation()
	e.registers["city/a"], e.registers["city/b"] = []string{"1"}, []string{"2", "3"}
	e.counters["c"] = bounds{5, 6}
	e.sets["s"] = members{"x": true, "y": false}
	for _, c := range []struct {
		name   string
		change func(*region)
		want   map[string]string // check to part of its error; the others must pass
	}{
		{"nothing wrong", func(*region) {}, nil},
		{"a register is missing", func(r *region) { delete(r.registers, "city/a") },
			map[string]string{"registers": "not found", "scan": "finds 1 keys, want 2"}},
		{"a register has an old value", func(r *region) { r.registers["city/b"] = "1" },
			map[string]string{"registers": `city/b is "1", want ["2" "3"]`}},
		{"a register too many", func(r *region) { r.registers["city/c"] = "1" },
			map[string]string{"scan": "finds 3 keys, want 2"}},
		{"an increment is missing", func(r *region) { r.counters["c"] = 4 }, map[string]string{"counters": "c is 4"}},
		{"an increment counts twice", func(r *region) { r.counters["c"] = 7 }, map[string]string{"counters": "c is 7"}},
		{"an element is missing", func(r *region) { r.sets["s"] = []string{"y"} }, map[string]string{"sets": `lacks "x"`}},
		{"an element too many", func(r *region) { r.sets["s"] = []string{"x", "z"} }, map[string]string{"sets": `has "z"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &region{
				registers: map[string]string{"city/a": "1", "city/b": "3", "other": "4"},
				counters:  map[string]int64{"c": 5},
				sets:      map[string][]string{"s": {"x", "y"}},
			}
			c.change(r)
			held, ctx := r.serve(t), t.Context()
			for check, err := range map[string]error{
				"registers": verifyRegisters(ctx, held, e.registers),
				"counters":  verifyCounters(ctx, held, e.counters),
				"sets":      verifySets(ctx, held, e.sets),
				"scan":      verifyNoMore(ctx, held, cityPrefix, len(e.registers)),
			} {
				want := c.want[check]
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %q", check, err, want)
				}
			}
		})
	}
}
