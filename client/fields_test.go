package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// recording answers updates with a result, and queries with pages in turn; it keeps what was asked.
type recording struct {
	result  *atollv1.UpdateResult
	pages   []*atollv1.QueryResult
	ops     []*atollv1.Op
	queries []*atollv1.QueryOp
}

func (r *recording) server() *fakeServer {
	return &fakeServer{
		update: func(_ context.Context, q *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			r.ops = append(r.ops, q.GetOp())
			return &atollv1.UpdateResponse{Result: r.result}, nil
		},
		query: func(_ context.Context, q *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			r.queries = append(r.queries, q.GetQuery())
			page := r.pages[0]
			r.pages = r.pages[1:]
			return &atollv1.QueryResponse{Result: page}, nil
		},
	}
}

func mapPage(size uint64, cursor string, names ...string) *atollv1.QueryResult {
	page := &atollv1.MapPage{Fields: map[string][]byte{}, Size: size, Cursor: []byte(cursor)}
	for _, name := range names {
		page.Fields[name] = []byte("v" + name)
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_Map{Map: page}}
}

func sameOp(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestMap(t *testing.T) {
	ctx := testContext(t)
	r := &recording{
		result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Map{Map: &atollv1.SetChange{Size: 3, Changed: 2}}},
		pages:  []*atollv1.QueryResult{mapPage(3, "b", "a", "b"), mapPage(3, "", "d"), mapPage(3, ""), mapPage(3, "b", "a", "b"), mapPage(3, "", "c"), mapPage(3, "a", "a")},
	}
	m := newClient(t, []string{serve(t, r.server())}).Map("k")
	fields := map[string][]byte{"a": []byte("1"), "b": nil}
	change, err := m.Put(ctx, fields)
	noError(t, err)
	equal(t, "put", change, MapChange{3, 2})
	sameOp(t, r.ops[0], mapPut(fields))
	_, err = m.Remove(ctx, []string{"a"})
	noError(t, err)
	sameOp(t, r.ops[1], mapRemove([]string{"a"}))

	names := []string{"d", "b", "c", "a"}
	got, err := m.Get(ctx, names)
	noError(t, err)
	equal(t, "got", fmt.Sprintf("%s", got), "map[a:va b:vb d:vd]")
	equal(t, "asked again for", fmt.Sprint(r.queries[1].GetMapGet().GetFields()), "[c d]")
	equal(t, "the caller's names", names[0], "d")
	if got, err := m.Get(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
	var all []string
	for f, err := range m.Fields(ctx) {
		noError(t, err)
		all = append(all, f.Name+string(f.Value))
	}
	equal(t, "fields", strings.Join(all, " "), "ava bvb cvc")
	equal(t, "cursor", string(r.queries[4].GetMapAll().GetCursor()), "b")
	n, err := m.Size(ctx)
	noError(t, err)
	equal(t, "size", n, 3)
}

func zsetPage(cursor string, members ...string) *atollv1.QueryResult {
	page := &atollv1.ZSetPage{Size: 9, Cursor: []byte(cursor)}
	for i, m := range members {
		page.Members = append(page.Members, &atollv1.ScoredMember{Member: []byte(m), Score: float64(i)})
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetRange{ZsetRange: page}}
}

func TestZSet(t *testing.T) {
	ctx := testContext(t)
	position := &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetPosition{ZsetPosition: &atollv1.ZSetPosition{Found: true, Score: 2.5, Rank: 7}}}
	r := &recording{
		result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{Zset: &atollv1.ZSetChange{Size: 3, Changed: 1, Score: 2.5}}},
		pages:  []*atollv1.QueryResult{position, position, zsetPage("", "a")},
	}
	z := newClient(t, []string{serve(t, r.server())}).ZSet("k")
	change, err := z.Add(ctx, []byte("m"), 2.5)
	noError(t, err)
	equal(t, "add", change, ZSetChange{3, 1, 2.5})
	_, err = z.Incr(ctx, []byte("m"), -1)
	noError(t, err)
	_, err = z.Remove(ctx, [][]byte{[]byte("m")})
	noError(t, err)
	for i, want := range []*atollv1.Op{zsetAdd([]byte("m"), 2.5), zsetIncr([]byte("m"), -1), zsetRemove([][]byte{[]byte("m")})} {
		sameOp(t, r.ops[i], want)
	}
	score, ok, err := z.Score(ctx, []byte("m"))
	noError(t, err)
	equal(t, "score", fmt.Sprint(score, ok), "2.5 true")
	rank, ok, err := z.Rank(ctx, []byte("m"), true)
	noError(t, err)
	equal(t, "rank", fmt.Sprint(rank, ok, r.queries[1].GetZsetRank().GetReverse()), "7 true true")
	n, err := z.Size(ctx)
	noError(t, err)
	equal(t, "size", n, 9)
}

func TestZSetRange(t *testing.T) {
	ctx := testContext(t)
	r := &recording{pages: []*atollv1.QueryResult{zsetPage("c1", "a", "b"), zsetPage("", "c"), zsetPage("c1", "a", "b"), zsetPage("c2", "c")}}
	z := newClient(t, []string{serve(t, r.server())}).ZSet("k")
	read := func(q ZSetRange) string {
		var all []string
		for m, err := range z.Range(ctx, q) {
			noError(t, err)
			all = append(all, string(m.Member))
		}
		return strings.Join(all, "")
	}
	low := -1.5
	equal(t, "all", read(ZSetRange{Min: &low, Reverse: true, Offset: 4}), "abc")
	sameOp(t, r.queries[0], zsetRange(&atollv1.ZSetRange{MinScore: &low, Reverse: true, Offset: 4, Limit: membersPage}))
	sameOp(t, r.queries[1], zsetRange(&atollv1.ZSetRange{MinScore: &low, Reverse: true, Offset: 4, Limit: membersPage, Cursor: []byte("c1")}))
	equal(t, "three", read(ZSetRange{Limit: 3}), "abc")
	equal(t, "of the last page", r.queries[3].GetZsetRange().GetLimit(), 1)
}

func TestValuesOfMapsAndSortedSets(t *testing.T) {
	m := valueOf(&atollv1.GetResponse{Type: atollv1.Type_TYPE_LWW_MAP, Typed: &atollv1.TypedValue{Value: &atollv1.TypedValue_Map{
		Map: &atollv1.MapValue{Size: 5, Fields: map[string][]byte{"b": []byte("2"), "a": []byte("1")}},
	}}})
	equal(t, "map", fmt.Sprintf("%d %s", m.Size, m.Fields), "5 [{a 1} {b 2}]")
	z := valueOf(&atollv1.GetResponse{Type: atollv1.Type_TYPE_ZSET, Typed: &atollv1.TypedValue{Value: &atollv1.TypedValue_Zset{
		Zset: &atollv1.ZSetValue{Size: 5, Members: []*atollv1.ScoredMember{{Member: []byte("m"), Score: 2.5}}},
	}}})
	equal(t, "sorted set", fmt.Sprintf("%d %v", z.Size, z.Scored), "5 [{[109] 2.5}]")
}

func TestBatchesOfMapsAndSortedSets(t *testing.T) {
	var sent []*atollv1.Op
	f := &fakeServer{batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
		res := &atollv1.BatchWriteResponse{}
		for _, w := range r.GetItems() {
			sent = append(sent, w.GetUpdate().GetOp())
			item := &atollv1.BatchWriteItem{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{Zset: &atollv1.ZSetChange{Score: 1}}}}
			if len(sent) <= 2 {
				item.Result.Result = &atollv1.UpdateResult_Map{Map: &atollv1.SetChange{Size: 1}}
			}
			res.Items = append(res.Items, item)
		}
		return res, nil
	}}
	fields, m := map[string][]byte{"a": nil}, []byte("m")
	results, err := newClient(t, []string{serve(t, f)}).Batch(testContext(t), []Write{
		NewMapPut("k", fields), NewMapRemove("k", []string{"a"}), NewZSetAdd("k", m, 1), NewZSetIncr("k", m, 1), NewZSetRemove("k", [][]byte{m}),
	})
	noError(t, err)
	want := []*atollv1.Op{mapPut(fields), mapRemove([]string{"a"}), zsetAdd(m, 1), zsetIncr(m, 1), zsetRemove([][]byte{m})}
	if !slices.EqualFunc(sent, want, func(a, b *atollv1.Op) bool { return proto.Equal(a, b) }) {
		t.Errorf("sent %v", sent)
	}
	equal(t, "map", results[0].Map.Size, 1)
	equal(t, "sorted set", results[4].ZSet.Score, 1)
}
