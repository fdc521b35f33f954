package api

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

func putItem(key, value string) *atollv1.Write {
	return &atollv1.Write{Write: &atollv1.Write_Put{Put: &atollv1.PutRequest{Key: key, Value: []byte(value)}}}
}

func TestBatchWriteIsAtomicPerPartition(t *testing.T) {
	ctx := testContext(t)
	for _, node := range []topology.NodeID{"eu-0", "eu-1"} { // the leader, and one that asks it
		r := setup(t, 2, 8, 0)
		kv := r.kv(node)
		mustUpdate(t, kv, "bad", counterAdd(1))
		req := &atollv1.BatchWriteRequest{}
		for i := range 40 {
			req.Items = append(req.Items, putItem(fmt.Sprintf("k%d", i), "x"))
		}
		req.Items = append(req.Items, putItem("bad", "x")) // it holds a counter
		res, err := kv.BatchWrite(ctx, req)
		if err != nil || len(res.GetItems()) != 41 {
			t.Fatalf("%s: %v, %v", node, res, err)
		}
		badPartition := uint32(r.cluster.PartitionOf("default", "bad"))
		for i, item := range res.GetItems() {
			g := res.GetGroups()[item.GetGroup()]
			refused := g.GetPartition() == badPartition
			if refused != (item.GetError() != nil) || refused == g.GetCommitted() {
				t.Fatalf("%s: item %d: %v in %v", node, i, item, g)
			}
			if refused {
				equal(t, "reason", item.GetError().GetReason(), "WRONG_TYPE")
				equal(t, "refused item", item.GetError().GetMetadata()["item"], "40")
			}
			if i == 40 {
				break
			}
			got, err := kv.Get(ctx, &atollv1.GetRequest{Key: req.GetItems()[i].GetPut().GetKey()})
			noError(t, err)
			equal(t, "written", got.GetFound(), !refused)
			equal(t, "version", got.GetVersion(), item.GetVersion())
		}
	}
}

func TestBatchWriteResultsByKind(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 2, 4, 0).kv("eu-1")
	mustPut(t, kv, "old", "x")
	req := &atollv1.BatchWriteRequest{Options: &atollv1.WriteOptions{OpId: "id"}, Items: []*atollv1.Write{
		putItem("a", "x"),
		{Write: &atollv1.Write_Delete{Delete: &atollv1.DeleteRequest{Key: "old"}}},
		{Write: &atollv1.Write_Update{Update: &atollv1.UpdateRequest{Key: "c", Op: counterAdd(3)}}},
		{Write: &atollv1.Write_Update{Update: &atollv1.UpdateRequest{Key: "s", Op: setAdd("e")}}},
	}}
	for range 2 { // the second time it is only repeated
		res, err := kv.BatchWrite(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		i := res.GetItems()
		if i[0].GetVersion() == "" || !i[1].GetExisted() || i[2].GetResult().GetCounter().GetValue() != 3 || i[3].GetResult().GetSet().GetChanged() != 1 {
			t.Errorf("got %v", i)
		}
	}
}

func TestBatchGroupsFailApart(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 8, 0)
	r.group("lost").onRead = func() error { return region.ErrOverloaded }
	req := &atollv1.BatchGetRequest{Items: []*atollv1.GetRequest{{Key: "lost"}}}
	for i := range 20 {
		req.Items = append(req.Items, &atollv1.GetRequest{Key: fmt.Sprint(i)})
	}
	for _, id := range []topology.NodeID{"eu-0", "eu-1"} {
		res, err := r.kv(id).BatchGet(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		lost := 0
		for _, item := range res.GetItems() {
			if item.GetError().GetReason() == "OVERLOADED" && item.GetError().GetRetryAfter() != nil {
				lost++
			} else if item.GetResponse() == nil {
				t.Errorf("%s: %v", id, item)
			}
		}
		if lost == 0 || lost == len(res.GetItems()) {
			t.Errorf("%s: %d items failed", id, lost)
		}
	}
}

func TestBatchGetReplyIsBounded(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	value := string(bytes.Repeat([]byte("v"), maxValueBytes))
	req := &atollv1.BatchGetRequest{}
	for i := range 12 {
		key := fmt.Sprint(i)
		mustPut(t, r.kv("eu-0"), key, value)
		req.Items = append(req.Items, &atollv1.GetRequest{Key: key})
	}
	for _, id := range []topology.NodeID{"eu-0", "eu-1"} {
		res, err := r.kv(id).BatchGet(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		served := 0
		for _, item := range res.GetItems() {
			if item.GetResponse().GetFound() {
				served++
			} else if item.GetError().GetReason() != "BATCH_TOO_LARGE" {
				t.Errorf("%s: %v", id, item.GetError())
			}
		}
		if served < 6 || served > 8 {
			t.Errorf("%s: %d values of 1 MiB served", id, served)
		}
	}
}

func TestRefusedBatches(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	many := make([]*atollv1.Write, maxBatchItems+1)
	for i := range many {
		many[i] = putItem("k", "")
	}
	huge := make([]*atollv1.Write, 5)
	for i := range huge {
		huge[i] = putItem("k", strings.Repeat("x", 1<<20-100))
	}
	for name, tc := range map[string]struct {
		items  []*atollv1.Write
		reason reason
		field  string
	}{
		"empty":         {nil, reasonInvalidArgument, "items"},
		"many":          {many, reasonBatchTooLarge, "items"},
		"huge":          {huge, reasonBatchTooLarge, "items"},
		"an item's key": {[]*atollv1.Write{putItem("k", ""), putItem("", "")}, reasonInvalidKey, "items[1].key"},
		"a type of 9 bits": {[]*atollv1.Write{{Write: &atollv1.Write_Delete{
			Delete: &atollv1.DeleteRequest{Key: "k", Type: 256 + atollv1.Type_TYPE_COUNTER},
		}}}, reasonInvalidArgument, "items[0].type"},
		"no write": {[]*atollv1.Write{{}}, reasonInvalidArgument, "items[0].write"},
		"item options": {[]*atollv1.Write{{Write: &atollv1.Write_Put{
			Put: &atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{}},
		}}}, reasonInvalidArgument, "items[0].put.options"},
	} {
		_, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Items: tc.items})
		if f := wantReason(t, err, tc.reason); f.metadata["field"] != tc.field {
			t.Errorf("%s: field is %q", name, f.metadata["field"])
		}
	}
	_, err := kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: []*atollv1.GetRequest{{Key: "k", Options: &atollv1.ReadOptions{}}}})
	wantReason(t, err, reasonInvalidArgument)
	_, err = kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: []*atollv1.GetRequest{{}}})
	wantReason(t, err, reasonInvalidKey)
	if r.groups[0].writes+r.groups[0].reads > 0 {
		t.Error("a refused batch reached the partition")
	}
}

// TestWritesDoneElsewhereSaySo: there are versions, and no results that nobody here knows.
func TestWritesDoneElsewhereSaySo(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	options := &atollv1.WriteOptions{OpId: elsewhere}
	for _, node := range []topology.NodeID{"eu-0", "eu-1"} { // the leader, and one that asks it
		kv := r.kv(node)
		put, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k", Options: options})
		noError(t, err)
		update, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "c", Op: counterAdd(3), Options: options})
		noError(t, err)
		batch, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Options: options, Items: []*atollv1.Write{
			{Write: &atollv1.Write_Update{Update: &atollv1.UpdateRequest{Key: "c", Op: counterAdd(3)}}},
		}})
		noError(t, err)
		item := batch.GetItems()[0]
		if put.GetVersion() != "7.1" || update.GetVersion() != "7.1" || item.GetVersion() != "7.1" {
			t.Errorf("versions of %v, %v and %v", put, update, item)
		}
		if update.GetResult() != nil || item.GetResult() != nil {
			t.Errorf("results of %v and %v", update, item)
		}
		if !put.GetInfo().GetElsewhere() || !update.GetInfo().GetElsewhere() || !batch.GetGroups()[0].GetInfo().GetElsewhere() {
			t.Errorf("%v, %v and %v do not say so", put, update, batch)
		}
		equal(t, "info of others", mustPut(t, kv, "k", "x").GetInfo().GetElsewhere(), false)
	}
	s := r.pipeline(ctx, "eu-0")
	ask := &atollv1.PipelineRequest{Id: 1, Request: &atollv1.PipelineRequest_Update{
		Update: &atollv1.UpdateRequest{Key: "c", Op: counterAdd(3), Options: options},
	}}
	noError(t, s.Send(ask))
	if got := answers(t, s, 1)[1].GetUpdate(); got.GetResult() != nil || !got.GetInfo().GetElsewhere() || got.GetVersion() != "7.1" {
		t.Errorf("in a pipeline: %v", got)
	}
}
