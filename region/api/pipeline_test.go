package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

type (
	demand = atollv1.PipelineRequest
	reply  = atollv1.PipelineResponse
	stream = atollv1connect.KVPipelineClientStream
)

func askGet(id uint64, key string) *demand {
	return &demand{Id: id, Request: &atollv1.PipelineRequest_Get{Get: &atollv1.GetRequest{Key: key}}}
}

func askPut(id uint64, key, value string) *demand {
	return &demand{Id: id, Request: &atollv1.PipelineRequest_Put{Put: &atollv1.PutRequest{Key: key, Value: []byte(value)}}}
}

func askUpdate(id uint64, key string, op *atollv1.Op) *demand {
	return &demand{Id: id, Request: &atollv1.PipelineRequest_Update{Update: &atollv1.UpdateRequest{Key: key, Op: op}}}
}

func askDelete(id uint64, key string) *demand {
	return &demand{Id: id, Request: &atollv1.PipelineRequest_Delete{Delete: &atollv1.DeleteRequest{Key: key}}}
}

func askCounter(id uint64, key string) *demand {
	return &demand{Id: id, Request: &atollv1.PipelineRequest_Query{Query: &atollv1.QueryRequest{
		Key: key, Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Counter{Counter: &atollv1.CounterQuery{}}},
	}}}
}

// packed makes one message of several requests.
func packed(all ...*demand) *demand {
	all[0].More = all[1:]
	return all[0]
}

// h2c is a client for unencrypted HTTP/2.
func h2c(t testing.TB) *http.Client {
	h := &http.Transport{Protocols: new(http.Protocols)}
	h.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h.CloseIdleConnections)
	return &http.Client{Transport: h}
}

// pipeline opens a stream to a node.
func (r *testRegion) pipeline(ctx context.Context, id topology.NodeID, options ...connecthttp.Option) stream {
	r.t.Helper()
	conn := connect.NewClient(connecthttp.NewTransport(h2c(r.t), r.url(id), options...))
	s, err := atollv1connect.NewKVClient(conn).Pipeline(ctx)
	noError(r.t, err)
	noError(r.t, s.SendHeaders())
	r.t.Cleanup(func() { _ = s.Close() })
	return s
}

// answers receives n answers, by their ids.
func answers(t *testing.T, s stream, n int) map[uint64]*reply {
	t.Helper()
	all := map[uint64]*reply{}
	for len(all) < n {
		msg, err := s.Receive()
		if err != nil {
			t.Fatalf("after %d of %d answers: %v", len(all), n, err)
		}
		for _, a := range append([]*reply{msg}, msg.GetMore()...) {
			if _, twice := all[a.GetId()]; twice {
				t.Fatalf("request %d is answered twice", a.GetId())
			}
			all[a.GetId()] = a
		}
	}
	return all
}

func wantEnd(t *testing.T, s stream) {
	t.Helper()
	if msg, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream goes on with %v, %v", msg, err)
	}
}

func TestPipelineServesEveryKindOfRequest(t *testing.T) {
	for name, options := range map[string][]connecthttp.Option{"Connect": nil, "gRPC": {connecthttp.WithGRPC()}, "JSON": {connecthttp.WithProtoJSON()}} {
		r := setup(t, 1, 4, 0)
		s := r.pipeline(testContext(t), "eu-0", options...)
		noError(t, s.Send(askPut(7, "k", "x")))
		put := answers(t, s, 1)[7].GetPut()
		equal(t, name+": node", put.GetInfo().GetNode(), "eu-0")
		noError(t, s.Send(packed(askGet(1, "k"), askUpdate(2, "c", counterAdd(5)), askGet(3, "absent"), askUpdate(4, "s", setAdd("e")))))
		all := answers(t, s, 4)
		equal(t, "value", string(all[1].GetGet().GetValue()), "x")
		equal(t, "version", all[1].GetGet().GetVersion(), put.GetVersion())
		equal(t, "served", all[1].GetGet().GetInfo().GetServed(), linearizable)
		equal(t, "counter", all[2].GetUpdate().GetResult().GetCounter().GetValue(), 5)
		equal(t, "found", all[3].GetGet().GetFound(), false)
		equal(t, "set", all[4].GetUpdate().GetResult().GetSet().GetSize(), 1)
		noError(t, s.Send(packed(askCounter(1, "c"), askDelete(2, "k"), askGet(3, "s"))))
		all = answers(t, s, 3)
		equal(t, "counter", all[1].GetQuery().GetResult().GetCounter().GetValue(), 5)
		equal(t, "existed", all[2].GetDelete().GetExisted(), true)
		equal(t, "set", all[3].GetGet().GetTyped().GetSet().GetSize(), 1)
		noError(t, s.CloseSend())
		wantEnd(t, s)
	}
}

func TestPipelineRefusesLikeTheUnaryRPCs(t *testing.T) {
	r := setup(t, 1, 1, 0)
	mustUpdate(t, r.kv("eu-0"), "c", counterAdd(1))
	s := r.pipeline(testContext(t), "eu-0")
	unknownRead := askGet(6, "k")
	unknownRead.GetGet().Options = &atollv1.ReadOptions{Consistency: 99}
	regions := askPut(7, "k", "")
	regions.GetPut().Options = &atollv1.WriteOptions{Regions: 1}
	noError(t, s.Send(packed(
		askGet(1, ""), askPut(2, "c", "x"), &demand{Id: 3}, askUpdate(4, "k", nil),
		&demand{Id: 5, Request: &atollv1.PipelineRequest_Query{Query: &atollv1.QueryRequest{Key: "k"}}},
		unknownRead, regions,
	)))
	all := answers(t, s, 7)
	for id, want := range map[uint64]reason{
		1: reasonInvalidKey, 2: reasonWrongType, 3: reasonInvalidArgument, 4: reasonInvalidArgument,
		5: reasonInvalidArgument, 6: reasonInvalidArgument, 7: reasonInvalidArgument,
	} {
		e := all[id].GetError()
		if e.GetReason() != string(want) || e.GetCode() != rowOf(want).code.String() || e.GetMessage() == "" {
			t.Errorf("request %d: %v, want %s", id, e, want)
		}
	}
	equal(t, "type found", all[2].GetError().GetMetadata()["type_found"], "counter")
	equal(t, "field", all[6].GetError().GetMetadata()["field"], "options.consistency")
}

func TestReadsOfOneMessageShareAView(t *testing.T) {
	r := setup(t, 1, 1, 0)
	s := r.pipeline(testContext(t), "eu-0")
	var all []*demand
	for i := range 200 {
		all = append(all, askGet(uint64(i), fmt.Sprint(i)))
	}
	eventually := askGet(200, "k")
	eventually.GetGet().Options = &atollv1.ReadOptions{Consistency: eventual}
	noError(t, s.Send(packed(append(all, eventually)...)))
	got := answers(t, s, 201)
	equal(t, "served", got[200].GetGet().GetInfo().GetServed(), eventual)
	equal(t, "views", r.groups[0].readsTried(), 2)
}

func TestAnswersOvertakeEachOther(t *testing.T) {
	r := setup(t, 1, 16, 0)
	s := r.pipeline(testContext(t), "eu-0")
	release := make(chan struct{})
	r.group("slow").onWrite = func(context.Context) error { <-release; return nil }
	noError(t, s.Send(packed(askPut(1, "slow", "x"), askPut(2, "a", "x"), askGet(3, "b"))))
	all := answers(t, s, 2)
	if all[2] == nil || all[3] == nil {
		t.Errorf("answered first: %v", all)
	}
	close(release)
	answers(t, s, 1)
}

func TestAnswersArePackedForThoseWhoPack(t *testing.T) {
	r := setup(t, 1, 1, 0)
	s := r.pipeline(testContext(t), "eu-0")
	for i := range 50 {
		noError(t, s.Send(askGet(uint64(i), "k")))
	}
	for range 50 {
		msg, err := s.Receive()
		noError(t, err)
		equal(t, "more for who sends none", len(msg.GetMore()), 0)
	}
	var all []*demand
	for i := range 50 {
		all = append(all, askGet(uint64(i), "k"))
	}
	noError(t, s.Send(packed(all...)))
	msg, err := s.Receive()
	noError(t, err)
	equal(t, "more", len(msg.GetMore()), 49)
}

func TestLargeAnswersAreSentApart(t *testing.T) {
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	value := string(make([]byte, maxValueBytes))
	var all []*demand
	for i := range 20 {
		mustPut(t, kv, fmt.Sprint(i), value)
		all = append(all, askGet(uint64(i), fmt.Sprint(i)))
	}
	s := r.pipeline(testContext(t), "eu-0", connecthttp.WithReadMaxBytes(2<<20))
	noError(t, s.Send(packed(all...)))
	for id, a := range answers(t, s, 20) {
		if len(a.GetGet().GetValue()) != maxValueBytes {
			t.Errorf("request %d: %v", id, a.GetError())
		}
	}
	if views := r.groups[0].readsTried(); views < 10 {
		t.Errorf("20 MiB were read in %d views", views)
	}
}

func TestPipelineStopsReadingWhenMuchIsUnderWay(t *testing.T) {
	r := setup(t, 1, 1, 0)
	s := r.pipeline(testContext(t), "eu-0")
	release := make(chan struct{})
	g := r.groups[0]
	g.onWrite = func(context.Context) error { <-release; return nil }
	const more, each = 3 * pipelineRequests, 64
	sent := make(chan error, 1)
	go func() {
		for i := 0; i < more; i += each {
			var all []*demand
			for j := range each {
				all = append(all, askPut(uint64(i+j), "k", "x"))
			}
			if err := s.Send(packed(all...)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	server := r.servers["eu-0"]
	testkit.Eventually(t, 10*time.Second, func() error {
		if server.pipelined.Load() < pipelineRequests*requestOverhead {
			return errNotYet
		}
		return nil
	})
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
	if held := server.pipelined.Load(); held > (pipelineRequests+each)*(requestOverhead+16) {
		t.Errorf("%d bytes are under way", held)
	}
	close(release)
	answers(t, s, more)
	noError(t, <-sent)
	testkit.Eventually(t, 5*time.Second, func() error {
		if server.pipelined.Load() != 0 {
			return errNotYet
		}
		return nil
	})
}

func TestPipelineAsksTheLeader(t *testing.T) {
	r := setup(t, 4, 8, 3) // each partition has a node without a replica
	for id := range r.servers {
		s := r.pipeline(testContext(t), id)
		var all []*demand
		for i := range 40 {
			all = append(all, askPut(uint64(i), fmt.Sprint("k", i), string(id)))
		}
		noError(t, s.Send(packed(all...)))
		for i, a := range answers(t, s, 40) {
			if want := r.group(fmt.Sprint("k", i)).leader; a.GetPut().GetInfo().GetNode() != string(want) {
				t.Errorf("%s: put %d: %v, want node %s", id, i, a, want)
			}
		}
		for i := range 40 {
			all[i] = askGet(uint64(i), fmt.Sprint("k", i))
		}
		noError(t, s.Send(packed(all...)))
		for i, a := range answers(t, s, 40) {
			equal(t, fmt.Sprint("value ", i), string(a.GetGet().GetValue()), string(id))
		}
	}
}

func TestForwardedPipelineIsNotForwardedAgain(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].leader = "eu-2"
	ctx, info := connect.NewClientContext(testContext(t))
	info.RequestHeader().Set(hopsHeader, "1")
	s := r.pipeline(ctx, "eu-0")
	noError(t, s.Send(packed(askPut(1, "k", "x"), askGet(2, "k"))))
	for _, a := range answers(t, s, 2) {
		equal(t, "reason", a.GetError().GetReason(), "NOT_OWNER")
		equal(t, "node", a.GetError().GetMetadata()["node"], "eu-2")
		equal(t, "address", a.GetError().GetMetadata()["address"], r.cluster.Regions[0].Nodes[2].API)
	}
}

func TestPipelineTimeouts(t *testing.T) {
	r := setup(t, 1, 1, 0)
	g := r.groups[0]
	g.onWrite = func(ctx context.Context) error { <-ctx.Done(); return region.ErrOutcomeUnknown }
	s := r.pipeline(testContext(t), "eu-0")
	put := askPut(1, "k", "x")
	put.TimeoutMs = 20
	put.GetPut().Options = &atollv1.WriteOptions{OpId: "id"}
	noError(t, s.Send(put))
	e := answers(t, s, 1)[1].GetError()
	equal(t, "reason", e.GetReason(), "OUTCOME_UNKNOWN")
	equal(t, "op_id", e.GetMetadata()["op_id"], "id")
	g.lead("")
	get := askGet(2, "k")
	get.TimeoutMs = 20
	noError(t, s.Send(get))
	equal(t, "reason", answers(t, s, 1)[2].GetError().GetReason(), "DEADLINE")
}

func TestDeadlinesAreShared(t *testing.T) {
	d := deadlines{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 1000 {
		now := time.Duration(i) * time.Millisecond
		due := d.at(ctx, now, 10_000)
		if late := time.Duration(due)*time.Millisecond - now - 10*time.Second; late < 0 || late > 10*time.Second/8+time.Millisecond {
			t.Fatalf("%v late", late)
		}
		if deadline, ok := d[due].Deadline(); !ok || time.Until(deadline) < 9*time.Second {
			t.Fatalf("the context ends at %v", deadline)
		}
	}
	if len(d) > 3 {
		t.Errorf("%d contexts in a second", len(d))
	}
	equal(t, "no deadline", d.at(ctx, 0, 0), 0)
}

func TestDrainedPipelineAnswersAndEnds(t *testing.T) {
	r := setup(t, 1, 2, 0)
	s := r.pipeline(testContext(t), "eu-0")
	release := make(chan struct{})
	r.group("slow").onWrite = func(context.Context) error { <-release; return nil }
	noError(t, s.Send(askPut(1, "slow", "x")))
	noError(t, s.Send(askGet(2, "k")))
	answers(t, s, 1)
	r.servers["eu-0"].Drain()
	testkit.Eventually(t, 5*time.Second, func() error {
		noError(t, s.Send(askGet(3, "k")))
		if e := answers(t, s, 1)[3].GetError(); e.GetReason() != "SHUTTING_DOWN" {
			return errNotYet
		}
		return nil
	})
	close(release)
	if a := answers(t, s, 1); a[1].GetPut() == nil {
		t.Errorf("got %v", a)
	}
	_, err := s.Receive()
	wantReason(t, err, reasonShuttingDown)
}

func TestPanicInAPipelineCostsItsOwnRequestsOnly(t *testing.T) {
	r := setup(t, 1, 1, 0)
	s := r.pipeline(testContext(t), "eu-0")
	r.groups[0].readsFail(func() error { panic("boom") })
	noError(t, s.Send(packed(askGet(1, "a"), askGet(2, "b"))))
	for _, a := range answers(t, s, 2) {
		equal(t, "reason", a.GetError().GetReason(), "INTERNAL")
	}
	r.groups[0].readsFail(nil)
	noError(t, s.Send(askGet(1, "a")))
	equal(t, "error", answers(t, s, 1)[1].GetError(), nil)
}

func TestOversizedMessageEndsThePipeline(t *testing.T) {
	r := setup(t, 1, 1, 0)
	all := make([]*demand, pipelineRequests+1)
	for i := range all {
		all[i] = askGet(uint64(i), "k")
	}
	s := r.pipeline(testContext(t), "eu-0")
	noError(t, s.Send(packed(all...)))
	_, err := s.Receive()
	wantReason(t, err, reasonBatchTooLarge)

	nested := askGet(0, "k") // requests in requests count like any
	for i := range 100 {
		nested = packed(askGet(uint64(i+1), "k"), nested)
	}
	s = r.pipeline(testContext(t), "eu-0")
	noError(t, s.Send(nested))
	answers(t, s, 101)
}

func TestAbandonedPipelineLeavesNothingBehind(t *testing.T) {
	r := setup(t, 2, 2, 0)
	ctx, cancel := context.WithCancel(t.Context())
	s := r.pipeline(ctx, "eu-0")
	for _, g := range r.groups {
		g.onWrite = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	}
	for i := range 100 {
		noError(t, s.Send(packed(askPut(uint64(2*i), fmt.Sprint(i), "x"), askGet(uint64(2*i+1), fmt.Sprint(i)))))
	}
	cancel()
	_ = s.Close()
	server := r.servers["eu-0"]
	testkit.Eventually(t, 5*time.Second, func() error {
		if server.pipelined.Load() != 0 {
			return errNotYet
		}
		return nil
	})
}
