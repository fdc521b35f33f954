package api

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
)

func locally(opID string) *atollv1.WriteOptions {
	return &atollv1.WriteOptions{Durability: atollv1.Durability_DURABILITY_LOCAL, OpId: opID}
}

func TestLocalWritesNeedNoLeader(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 4, 1, 3) // one node has no replica
	r.groups[0].lead("")
	for id := range r.servers {
		kv := r.kv(id)
		put, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k", Value: []byte(id), Options: locally("put")})
		noError(t, err)
		equal(t, "version", put.GetVersion(), "")
		equal(t, "partition", put.GetInfo().GetPartition(), 0)
		if _, err := r.servers[id].hosted(0); err == nil {
			equal(t, "node", put.GetInfo().GetNode(), string(id))
		}
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k", Options: &atollv1.ReadOptions{Consistency: eventual}})
		noError(t, err)
		equal(t, "value", string(got.GetValue()), string(id))
		del, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k", Options: locally("delete")})
		noError(t, err)
		equal(t, "existed", del.GetExisted(), false)
		update, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "n", Op: counterAdd(1), Options: locally("update")})
		noError(t, err)
		equal(t, "result", update.GetResult(), nil)
		batch, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Items: []*atollv1.Write{putItem("a", "x"), putItem("b", "x")}, Options: locally("batch")})
		noError(t, err)
		equal(t, "items", len(batch.GetItems()), 2)
		equal(t, "error", batch.GetItems()[1].GetError(), nil)
		equal(t, "committed", batch.GetGroups()[0].GetCommitted(), true)
	}
	if want := slices.Repeat([]string{"put", "delete", "update", "batch"}, 4); !slices.Equal(r.groups[0].locals, want) {
		t.Errorf("op_ids are %q", r.groups[0].locals)
	}
}

func TestLocalWritesThroughAPipeline(t *testing.T) {
	r := setup(t, 4, 1, 3)
	r.groups[0].lead("")
	for id := range r.servers {
		s := r.pipeline(testContext(t), id)
		var all []*demand
		for i := range 100 {
			all = append(all, askPut(uint64(i), fmt.Sprint(i), "x"))
			all[i].GetPut().Options = locally("")
		}
		noError(t, s.Send(packed(all...)))
		for _, a := range answers(t, s, 100) {
			if a.GetPut() == nil {
				t.Fatalf("%s: %v", id, a.GetError())
			}
		}
	}
}

func TestLocalWriteThatMayBeOnDiskIsUnknown(t *testing.T) {
	r := setup(t, 1, 1, 0)
	for name, tc := range map[string]struct {
		fail func(context.Context) error
		want reason
	}{
		"condition": {func(context.Context) error { return region.ErrNotMergeable }, reasonInvalidArgument},
		"disk":      {func(context.Context) error { return region.ErrDiskFull }, reasonDiskFull},
		"deadline":  {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, reasonOutcomeUnknown},
		"log":       {func(context.Context) error { return errNotYet }, reasonOutcomeUnknown},
	} {
		r.groups[0].onLocal = tc.fail
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := (*kvService)(r.servers["eu-0"]).Put(ctx, &atollv1.PutRequest{Key: "k", Options: locally("")})
		cancel()
		if f := failureOf(err); f.reason != tc.want {
			t.Errorf("%s: %v, want %s", name, f, tc.want)
		}
	}
}

func TestQueuedWritesFindTheLeader(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 4, 1, 3)
	g := r.groups[0]
	g.leader = r.servers["eu-0"].replicas(0)[2]
	want := 0
	for id, s := range r.servers {
		noError(t, s.SubmitQueued(ctx, 0, [][]byte{[]byte(id), []byte("x")}))
		want += 2
		equal(t, "submitted", len(g.submitted), want)
		equal(t, "first", string(g.submitted[want-2]), string(id))
	}
	g.lead("")
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if f := failureOf(r.servers["eu-0"].SubmitQueued(short, 0, [][]byte{[]byte("x")})); f.reason != reasonDeadline {
		t.Errorf("got %v", f)
	}
}
