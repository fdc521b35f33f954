package api

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

func mapPut(fields map[string][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_MapPut{MapPut: &atollv1.MapPut{Fields: fields}}}
}

func mapRemove(names ...string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_MapRemove{MapRemove: &atollv1.MapRemove{Fields: names}}}
}

func zsetAdd(member string, score float64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetAdd{ZsetAdd: &atollv1.ZSetAdd{Member: []byte(member), Score: score}}}
}

func zsetIncr(member string, delta float64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetIncr{ZsetIncr: &atollv1.ZSetIncr{Member: []byte(member), Delta: delta}}}
}

func zsetRemove(members ...string) *atollv1.Op {
	op := &atollv1.ZSetRemove{}
	for _, m := range members {
		op.Members = append(op.Members, []byte(m))
	}
	return &atollv1.Op{Op: &atollv1.Op_ZsetRemove{ZsetRemove: op}}
}

func zsetRange(q *atollv1.ZSetRange) *atollv1.QueryOp {
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRange{ZsetRange: q}}
}

func inquire(t *testing.T, kv atollv1connect.KVClient, key string, q *atollv1.QueryOp) *atollv1.QueryResult {
	t.Helper()
	res, err := kv.Query(testContext(t), &atollv1.QueryRequest{Key: key, Query: q})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetResult()
}

func text(fields map[string][]byte) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&b, "%s=%s ", name, fields[name])
	}
	return strings.TrimSpace(b.String())
}

func TestMap(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	for i, kv := range []atollv1connect.KVClient{r.kv("eu-0"), r.kv("eu-1")} {
		key := fmt.Sprint("m", i)
		res := mustUpdate(t, kv, key, mapPut(map[string][]byte{"b": []byte("2"), "a": []byte("1"), "c": nil}))
		equal(t, "size", res.GetResult().GetMap().GetSize(), 3)
		equal(t, "changed", res.GetResult().GetMap().GetChanged(), 3)
		res = mustUpdate(t, kv, key, mapPut(map[string][]byte{"b": []byte("2"), "a": []byte("x")}))
		equal(t, "changed", res.GetResult().GetMap().GetChanged(), 1)
		res = mustUpdate(t, kv, key, mapRemove("c", "absent"))
		equal(t, "size", res.GetResult().GetMap().GetSize(), 2)
		equal(t, "changed", res.GetResult().GetMap().GetChanged(), 1)
		same := mustUpdate(t, kv, key, mapRemove("absent"))
		equal(t, "version of no event", same.GetVersion(), res.GetVersion())
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: key})
		noError(t, err)
		equal(t, "type", got.GetType(), atollv1.Type_TYPE_LWW_MAP)
		equal(t, "value", text(got.GetTyped().GetMap().GetFields()), "a=x b=2")
		page := inquire(t, kv, key, &atollv1.QueryOp{Query: &atollv1.QueryOp_MapGet{MapGet: &atollv1.MapGet{Fields: []string{"b", "c", "b"}}}}).GetMap()
		equal(t, "fields", text(page.GetFields()), "b=2")
		equal(t, "size", page.GetSize(), 2)
		del, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: key, Type: atollv1.Type_TYPE_LWW_MAP})
		noError(t, err)
		equal(t, "existed", del.GetExisted(), true)
		equal(t, "fields", len(inquire(t, kv, key, &atollv1.QueryOp{Query: &atollv1.QueryOp_MapAll{MapAll: &atollv1.MapAll{}}}).GetMap().GetFields()), 0)
	}
}

// TestMapRetries: a retry is the same write, in whatever order its fields come.
func TestMapRetries(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	fields := map[string][]byte{}
	for i := range 20 {
		fields[fmt.Sprint(i)] = fmt.Append(nil, "v", i)
	}
	var versions []string
	for range 5 {
		res, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "m", Op: mapPut(fields), Options: &atollv1.WriteOptions{OpId: "id"}})
		noError(t, err)
		versions = append(versions, res.GetVersion())
	}
	equal(t, "versions", len(slices.Compact(versions)), 1)
}

func TestMapPages(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	names := []string{}
	for i := range 6 {
		names = append(names, fmt.Sprint("f", i))
		mustUpdate(t, kv, "m", mapPut(map[string][]byte{names[i]: bytes.Repeat([]byte{'x'}, 300<<10)}))
	}
	for _, q := range []func(cursor []byte, left []string) *atollv1.QueryOp{
		func(cursor []byte, _ []string) *atollv1.QueryOp {
			return &atollv1.QueryOp{Query: &atollv1.QueryOp_MapAll{MapAll: &atollv1.MapAll{Cursor: cursor}}}
		},
		func(_ []byte, left []string) *atollv1.QueryOp {
			return &atollv1.QueryOp{Query: &atollv1.QueryOp_MapGet{MapGet: &atollv1.MapGet{Fields: left}}}
		},
	} {
		var cursor []byte
		left, pages := slices.Clone(names), 0
		for {
			page := inquire(t, kv, "m", q(cursor, left)).GetMap()
			left = left[len(page.GetFields()):]
			pages++
			if cursor = page.GetCursor(); len(cursor) == 0 {
				break
			}
		}
		equal(t, "pages", pages, 2)
		equal(t, "left", len(left), 0)
	}
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "m"})
	noError(t, err)
	equal(t, "size", got.GetTyped().GetMap().GetSize(), 6)
	equal(t, "fields of a get", len(got.GetTyped().GetMap().GetFields()), 0) // the first one is too large
}

func TestZSet(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	kv := r.kv("eu-1")
	res := mustUpdate(t, kv, "z", zsetAdd("ann", 2.5)).GetResult().GetZset()
	equal(t, "added", fmt.Sprint(res.GetSize(), res.GetChanged(), res.GetScore()), "1 1 2.5")
	res = mustUpdate(t, kv, "z", zsetIncr("ann", -4)).GetResult().GetZset()
	equal(t, "incremented", fmt.Sprint(res.GetSize(), res.GetChanged(), res.GetScore()), "1 1 -1.5")
	mustUpdate(t, kv, "z", zsetIncr("bob", 7))
	mustUpdate(t, kv, "z", zsetAdd("cid", 7))
	mustUpdate(t, kv, "z", zsetAdd("dan", math.Inf(1)))
	res = mustUpdate(t, kv, "z", zsetRemove("dan", "eve")).GetResult().GetZset()
	equal(t, "removed", fmt.Sprint(res.GetSize(), res.GetChanged()), "3 1")
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "z"})
	noError(t, err)
	equal(t, "value", members(got.GetTyped().GetZset().GetMembers()), "ann:-1.5 bob:7 cid:7")
	equal(t, "size", got.GetTyped().GetZset().GetSize(), 3)
	for _, tc := range []struct {
		q    *atollv1.ZSetRange
		want string
	}{
		{&atollv1.ZSetRange{}, "ann:-1.5 bob:7 cid:7"},
		{&atollv1.ZSetRange{Reverse: true}, "cid:7 bob:7 ann:-1.5"},
		{&atollv1.ZSetRange{Offset: 1, Limit: 1}, "bob:7"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(0)}, "bob:7 cid:7"},
		{&atollv1.ZSetRange{MaxScore: proto.Float64(0)}, "ann:-1.5"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(7), MaxScore: proto.Float64(7), Reverse: true, Limit: 1}, "cid:7"},
		{&atollv1.ZSetRange{MinScore: proto.Float64(8), MaxScore: proto.Float64(7)}, ""},
	} {
		equal(t, fmt.Sprint(tc.q), members(inquire(t, kv, "z", zsetRange(tc.q)).GetZsetRange().GetMembers()), tc.want)
	}
	score := inquire(t, kv, "z", &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetScore{ZsetScore: &atollv1.ZSetScore{Member: []byte("ann")}}}).GetZsetPosition()
	equal(t, "score", fmt.Sprint(score.GetFound(), score.GetScore()), "true -1.5")
	rank := &atollv1.ZSetRank{Member: []byte("ann"), Reverse: true}
	position := inquire(t, kv, "z", &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{ZsetRank: rank}}).GetZsetPosition()
	equal(t, "rank", fmt.Sprint(position.GetFound(), position.GetScore(), position.GetRank()), "true -1.5 2")
	rank.Member = []byte("eve")
	equal(t, "absent", inquire(t, kv, "z", &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{ZsetRank: rank}}).GetZsetPosition().GetFound(), false)
}

func members(all []*atollv1.ScoredMember) string {
	var texts []string
	for _, m := range all {
		texts = append(texts, fmt.Sprintf("%s:%v", m.GetMember(), m.GetScore()))
	}
	return strings.Join(texts, " ")
}

func TestZSetPages(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	for i := range 25 {
		mustUpdate(t, kv, "z", zsetAdd(fmt.Sprintf("m%02d", i), float64(i%3)))
	}
	for _, reverse := range []bool{false, true} {
		whole := inquire(t, kv, "z", zsetRange(&atollv1.ZSetRange{Reverse: reverse, Offset: 2})).GetZsetRange().GetMembers()
		equal(t, "members", len(whole), 23)
		var paged []*atollv1.ScoredMember
		q := &atollv1.ZSetRange{Reverse: reverse, Offset: 2, Limit: 4} // the offset stays in the request
		for {
			page := inquire(t, kv, "z", zsetRange(q)).GetZsetRange()
			equal(t, "size", page.GetSize(), 25)
			paged = append(paged, page.GetMembers()...)
			if q.Cursor = page.GetCursor(); len(q.GetCursor()) == 0 {
				break
			}
		}
		equal(t, "paged", members(paged), members(whole))
	}
}

func TestRefusedMapsAndSortedSets(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	update := func(op *atollv1.Op) func() error {
		return func() error { _, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "k", Op: op}); return err }
	}
	query := func(q *atollv1.QueryOp) func() error {
		return func() error { _, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "k", Query: q}); return err }
	}
	long, big, many := strings.Repeat("x", maxElementBytes+1), make([]byte, maxValueBytes+1), map[string][]byte{}
	for i := range maxElements + 1 {
		many[fmt.Sprint(i)] = nil
	}
	full := map[string][]byte{"a": big[1:], "b": big[1:], "c": big[1:], "d": big[1:]}
	mustRefuse(t, []refusedCase{
		{"op.map_put.fields", reasonInvalidArgument, update(mapPut(nil))},
		{"op.map_put.fields", reasonInvalidArgument, update(mapPut(map[string][]byte{"": nil}))},
		{"op.map_put.fields", reasonValueTooLarge, update(mapPut(map[string][]byte{long: nil}))},
		{"op.map_put.fields", reasonValueTooLarge, update(mapPut(map[string][]byte{"f": big}))},
		{"op.map_put.fields", reasonBatchTooLarge, update(mapPut(many))},
		{"op.map_put.fields", reasonBatchTooLarge, update(mapPut(full))},
		{"op.map_remove.fields", reasonInvalidArgument, update(mapRemove())},
		{"query.map_get.fields", reasonInvalidArgument, query(&atollv1.QueryOp{Query: &atollv1.QueryOp_MapGet{}})},
		{"query.map_all.limit", reasonInvalidArgument, query(&atollv1.QueryOp{Query: &atollv1.QueryOp_MapAll{MapAll: &atollv1.MapAll{Limit: maxMembersLimit + 1}}})},
		{"op.zset_add.score", reasonInvalidArgument, update(zsetAdd("m", math.NaN()))},
		{"op.zset_add.member", reasonInvalidArgument, update(zsetAdd("", 1))},
		{"op.zset_incr.delta", reasonInvalidArgument, update(zsetIncr("m", math.NaN()))},
		{"op.zset_incr.member", reasonValueTooLarge, update(zsetIncr(long, 1))},
		{"op.zset_remove.members", reasonInvalidArgument, update(zsetRemove())},
		{"query.zset_range.min_score", reasonInvalidArgument, query(zsetRange(&atollv1.ZSetRange{MinScore: proto.Float64(math.NaN())}))},
		{"query.zset_range.max_score", reasonInvalidArgument, query(zsetRange(&atollv1.ZSetRange{MaxScore: proto.Float64(math.NaN())}))},
		{"query.zset_range.offset", reasonInvalidArgument, query(zsetRange(&atollv1.ZSetRange{Offset: maxOffset + 1}))},
		{"query.zset_range.limit", reasonInvalidArgument, query(zsetRange(&atollv1.ZSetRange{Limit: maxMembersLimit + 1}))},
		{"query.zset_range.cursor", reasonInvalidArgument, query(zsetRange(&atollv1.ZSetRange{Cursor: make([]byte, 8)}))},
		{"query.zset_score.member", reasonInvalidArgument, query(&atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetScore{}})},
		{"query.zset_rank.member", reasonInvalidArgument, query(&atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{}})},
	})
	if r.groups[0].writes+r.groups[0].reads > 0 {
		t.Error("a refused request reached the partition")
	}
}

func TestSortedSetRefusesWhatIsNoScore(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	mustUpdate(t, kv, "z", zsetAdd("m", math.Inf(1)))
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "z", Op: zsetIncr("m", math.Inf(-1))})
	wantReason(t, err, reasonInvalidArgument)
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "z", Op: mapPut(map[string][]byte{"f": nil})})
	wantReason(t, err, reasonWrongType)
}
