package api

import (
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

func countAdd(member string, score float64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetAdd{ZsetAdd: &atollv1.ZSetAdd{Member: []byte(member), Score: score, Additive: true}}}
}

func countIncr(member string, delta float64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetIncr{ZsetIncr: &atollv1.ZSetIncr{Member: []byte(member), Delta: delta, Additive: true}}}
}

func countRemove(members ...string) *atollv1.Op {
	remove := &atollv1.ZSetRemove{Additive: true}
	for _, m := range members {
		remove.Members = append(remove.Members, []byte(m))
	}
	return &atollv1.Op{Op: &atollv1.Op_ZsetRemove{ZsetRemove: remove}}
}

func countRangeQuery(q *atollv1.ZSetRange) *atollv1.QueryOp {
	q.Additive = true
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRange{ZsetRange: q}}
}

func mustQuery(t *testing.T, kv atollv1connect.KVClient, key string, q *atollv1.QueryOp) *atollv1.QueryResponse {
	t.Helper()
	res, err := kv.Query(testContext(t), &atollv1.QueryRequest{Key: key, Query: q})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestCountZSet(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	kv := r.kv("eu-1")
	for _, tc := range []struct {
		op   *atollv1.Op
		want *atollv1.ZSetChange
	}{
		{countAdd("a", 7), &atollv1.ZSetChange{Size: 1, Changed: 1, Score: 7}},
		{countAdd("b", -3), &atollv1.ZSetChange{Size: 2, Changed: 1, Score: -3}},
		{countAdd("b", -3), &atollv1.ZSetChange{Size: 2, Score: -3}},
		{countIncr("b", 20), &atollv1.ZSetChange{Size: 2, Changed: 1, Score: 17}},
		{countIncr("c", 0), &atollv1.ZSetChange{Size: 3, Changed: 1}},
		{countRemove("c", "c", "none"), &atollv1.ZSetChange{Size: 2, Changed: 1}},
		{countRemove("c"), &atollv1.ZSetChange{Size: 2}},
	} {
		if got := mustUpdate(t, kv, "z", tc.op).GetResult().GetZset(); !proto.Equal(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc.op, got, tc.want)
		}
	}
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "z"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_COUNTER_ZSET)
	equal(t, "value", fmt.Sprint(told(got.GetTyped().GetZset().GetMembers()), got.GetTyped().GetZset().GetSize()), "[a=7 b=17] 2")
	for member, want := range map[string]*atollv1.ZSetPosition{
		"a": {Found: true, Score: 7}, "b": {Found: true, Score: 17, Rank: 1}, "c": {},
	} {
		for _, reverse := range []bool{false, true} {
			q := &atollv1.ZSetRank{Member: []byte(member), Reverse: reverse, Additive: true}
			res := mustQuery(t, kv, "z", &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{ZsetRank: q}})
			position := res.GetResult().GetZsetPosition()
			if want.GetFound() && reverse {
				want.Rank = 1 - want.GetRank()
			}
			if !proto.Equal(position, want) {
				t.Errorf("rank of %s, reverse %v: %v, want %v", member, reverse, position, want)
			}
		}
		q := &atollv1.ZSetScore{Member: []byte(member), Additive: true}
		position := mustQuery(t, kv, "z", &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetScore{ZsetScore: q}}).GetResult().GetZsetPosition()
		equal(t, "score of "+member, position.GetScore(), want.GetScore())
		equal(t, "presence of "+member, position.GetFound(), want.GetFound())
	}
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "z", Op: counterAdd(1)})
	equal(t, "found", wantReason(t, err, reasonWrongType).metadata["type_found"], "countzset")
	explained, err := r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "z"})
	noError(t, err)
	parts := explained.GetObjects()[0].GetParts()
	equal(t, "parts", parts.GetSize(), 2)
	equal(t, "part", fmt.Sprint(string(parts.GetParts()[1].GetName()), " ", parts.GetParts()[1].GetValue()), "b 17")
	equal(t, "events", len(parts.GetParts()[1].GetEvents()), 1)
	res, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "z"})
	noError(t, err)
	equal(t, "existed", res.GetExisted(), true)
	equal(t, "members of what is gone", len(mustQuery(t, kv, "z", countRangeQuery(&atollv1.ZSetRange{})).GetResult().GetZsetRange().GetMembers()), 0)
}

func told(members []*atollv1.ScoredMember) []string {
	var out []string
	for _, m := range members {
		out = append(out, fmt.Sprintf("%s=%v", m.GetMember(), m.GetScore()))
	}
	return out
}

func TestCountZSetRange(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	for i, member := range []string{"a", "b", "c", "d", "e"} {
		mustUpdate(t, kv, "z", countAdd(member, float64(i/2*10))) // 0 0 10 10 20
	}
	inf := math.Inf(1)
	for _, tc := range []struct {
		q    *atollv1.ZSetRange
		want string
	}{
		{&atollv1.ZSetRange{}, "[a=0 b=0 c=10 d=10 e=20]"},
		{&atollv1.ZSetRange{Reverse: true}, "[e=20 d=10 c=10 b=0 a=0]"},
		{&atollv1.ZSetRange{Offset: 1, Reverse: true}, "[d=10 c=10 b=0 a=0]"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(0.5), MaxScore: proto.Float64(19.9)}, "[c=10 d=10]"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(10), MaxScore: proto.Float64(20), Reverse: true}, "[e=20 d=10 c=10]"},
		{&atollv1.ZSetRange{MaxScore: proto.Float64(-0.5)}, "[]"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(-inf), MaxScore: proto.Float64(inf)}, "[a=0 b=0 c=10 d=10 e=20]"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(inf)}, "[]"},
		{&atollv1.ZSetRange{MaxScore: proto.Float64(-inf)}, "[]"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(11), MaxScore: proto.Float64(9)}, "[]"},
	} {
		for _, limit := range []uint32{0, 1, 2} {
			q := proto.Clone(tc.q).(*atollv1.ZSetRange)
			q.Limit = limit
			var members []*atollv1.ScoredMember
			for {
				page := mustQuery(t, kv, "z", countRangeQuery(q)).GetResult().GetZsetRange()
				members = append(members, page.GetMembers()...)
				equal(t, "size", page.GetSize(), 5)
				if q.Cursor, q.Offset = page.GetCursor(), 0; len(q.Cursor) == 0 {
					break
				}
			}
			equal(t, tc.q.String(), fmt.Sprint(told(members)), tc.want)
		}
	}
}

func TestCountZSetRefuses(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	update := func(op *atollv1.Op) func() error {
		return func() error { _, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "z", Op: op}); return err }
	}
	query := func(q *atollv1.QueryOp) func() error {
		return func() error { _, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "z", Query: q}); return err }
	}
	long := string(make([]byte, maxElementBytes+1))
	mustRefuse(t, []refusedCase{
		{"op.zset_add.member", reasonInvalidArgument, update(countAdd("", 1))},
		{"op.zset_add.member", reasonValueTooLarge, update(countAdd(long, 1))},
		{"op.zset_add.score", reasonInvalidArgument, update(countAdd("m", 0.5))},
		{"op.zset_add.score", reasonInvalidArgument, update(countAdd("m", math.NaN()))},
		{"op.zset_incr.delta", reasonInvalidArgument, update(countIncr("m", 1<<53+2))},
		{"op.zset_incr.delta", reasonInvalidArgument, update(countIncr("m", math.Inf(-1)))},
		{"op.zset_remove.members", reasonInvalidArgument, update(countRemove())},
		{"op.zset_remove.members", reasonBatchTooLarge, update(countRemove(make([]string, maxElements+1)...))},
		{"query.zset_range.min_score", reasonInvalidArgument, query(countRangeQuery(&atollv1.ZSetRange{MinScore: proto.Float64(math.NaN())}))},
		{"query.zset_range.max_score", reasonInvalidArgument, query(countRangeQuery(&atollv1.ZSetRange{MaxScore: proto.Float64(math.NaN())}))},
		{"query.zset_range.limit", reasonInvalidArgument, query(countRangeQuery(&atollv1.ZSetRange{Limit: maxMembersLimit + 1}))},
		{"query.zset_range.offset", reasonInvalidArgument, query(countRangeQuery(&atollv1.ZSetRange{Offset: maxRangeOffset + 1}))},
		{"query.zset_range.offset", reasonInvalidArgument, query(countRangeQuery(&atollv1.ZSetRange{Offset: 1, Cursor: make([]byte, 9)}))},
		{"query.zset_range.cursor", reasonInvalidArgument, query(countRangeQuery(&atollv1.ZSetRange{Cursor: make([]byte, 8)}))},
		{"query.zset_score.member", reasonInvalidArgument, query(&atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetScore{ZsetScore: &atollv1.ZSetScore{Additive: true}}})},
		{"query.zset_rank.member", reasonInvalidArgument, query(&atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{ZsetRank: &atollv1.ZSetRank{Additive: true}}})},
	})
	if r.groups[0].writes+r.groups[0].reads > 0 {
		t.Error("a refused request reached the partition")
	}
	mustUpdate(t, kv, "z", countAdd("m", 1<<53))
	wantReason(t, update(countIncr("m", 1))(), reasonInvalidArgument)
}

// TestCountZSetTooLargeToDelete: a deletion of too many members is refused, and goes through once some
// were removed.
func TestCountZSetTooLargeToDelete(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	batch := &atollv1.BatchWriteRequest{}
	for i := range maxBatchItems {
		batch.Items = append(batch.Items, &atollv1.Write{Write: &atollv1.Write_Update{
			Update: &atollv1.UpdateRequest{Key: "z", Op: countIncr(fmt.Sprint(i), 1)},
		}})
	}
	_, err := kv.BatchWrite(ctx, batch)
	noError(t, err)
	mustUpdate(t, kv, "z", countAdd("one more", 1))
	_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Key: "z"})
	wantReason(t, err, reasonBatchTooLarge)
	mustUpdate(t, kv, "z", countRemove("one more"))
	res, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "z"})
	noError(t, err)
	equal(t, "existed", res.GetExisted(), true)
}
