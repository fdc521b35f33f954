package client

import (
	"context"
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestCounterZSetOperations(t *testing.T) {
	ctx := testContext(t)
	var got *atollv1.Op
	f := &fakeServer{update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
		got = r.GetOp()
		return &atollv1.UpdateResponse{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{
			Zset: &atollv1.ZSetChange{Size: 3, Changed: 1, Score: -7},
		}}}, nil
	}}
	z := newClient(t, []string{serve(t, f)}).CounterZSet("k")
	m := []byte("m")
	for want, do := range map[string]func() (CounterZSetChange, error){
		`zset_add:{member:"m" score:5 additive:true}`:   func() (CounterZSetChange, error) { return z.Add(ctx, m, 5) },
		`zset_incr:{member:"m" delta:-2 additive:true}`: func() (CounterZSetChange, error) { return z.Incr(ctx, m, -2) },
		`zset_remove:{members:"m" additive:true}`:       func() (CounterZSetChange, error) { return z.Remove(ctx, [][]byte{m}) },
	} {
		change, err := do()
		noError(t, err)
		equal(t, want, change, CounterZSetChange{Size: 3, Changed: 1, Score: -7})
		wanted := &atollv1.Op{}
		noError(t, prototext.Unmarshal([]byte(want), wanted))
		if !proto.Equal(got, wanted) {
			t.Errorf("sent %v, want %s", got, want)
		}
	}
}

func TestCounterZSetPositions(t *testing.T) {
	ctx := testContext(t)
	position := &atollv1.ZSetPosition{Found: true, Score: 1 << 53, Rank: 4}
	var asked *atollv1.QueryOp
	f := &fakeServer{query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
		asked = r.GetQuery()
		return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetPosition{ZsetPosition: position}}}, nil
	}}
	z := newClient(t, []string{serve(t, f)}).CounterZSet("k")
	score, ok, err := z.Score(ctx, []byte("m"))
	if q := asked.GetZsetScore(); err != nil || !ok || score != 1<<53 || string(q.GetMember()) != "m" || !q.GetAdditive() {
		t.Errorf("score: %d, %v, %v; asked %v", score, ok, err, q)
	}
	rank, ok, err := z.Rank(ctx, []byte("m"), true)
	if q := asked.GetZsetRank(); err != nil || !ok || rank != 4 || string(q.GetMember()) != "m" || !q.GetAdditive() || !q.GetReverse() {
		t.Errorf("rank: %d, %v, %v; asked %v", rank, ok, err, q)
	}
	position = &atollv1.ZSetPosition{}
	if _, ok, err := z.Score(ctx, []byte("m")); err != nil || ok {
		t.Errorf("score of no member: %v, %v", ok, err)
	}
}

func TestScoresOutOfRangeStayOutOfRange(t *testing.T) {
	const most = 1 << 53
	for score, in := range map[int64]bool{most: true, -most: true, most + 1: false, -most - 1: false, math.MaxInt64: false, math.MinInt64: false} {
		if got := exactly(score); math.Abs(got) <= most != in || in && int64(got) != score {
			t.Errorf("%d is sent as %v", score, got)
		}
	}
	equal(t, "largest", wholeScore(1<<63), math.MaxInt64)
	equal(t, "smallest", wholeScore(-1<<63), math.MinInt64)
}

func TestCounterZSetRange(t *testing.T) {
	ctx := testContext(t)
	const total = 2500
	var first *atollv1.ZSetRange
	asked := 0
	f := &fakeServer{query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
		q := r.GetQuery().GetZsetRange()
		begin := int(q.GetOffset())
		if asked++; len(q.GetCursor()) > 0 {
			_, err := fmt.Sscan(string(q.GetCursor()), &begin)
			noError(t, err)
		} else {
			first = q
		}
		page := &atollv1.ZSetPage{Size: total}
		for i := begin; i < total; i++ {
			if len(page.Members) == int(q.GetLimit()) {
				page.Cursor = fmt.Append(nil, i)
				break
			}
			page.Members = append(page.Members, &atollv1.ScoredMember{Member: fmt.Append(nil, i), Score: float64(i)})
		}
		return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetRange{ZsetRange: page}}}, nil
	}}
	z := newClient(t, []string{serve(t, f)}).CounterZSet("k")
	low := int64(-3)
	for _, c := range []struct {
		r                 CounterZSetRange
		from, want, pages int
	}{
		{CounterZSetRange{}, 0, total, 3},
		{CounterZSetRange{Offset: 7, Limit: 3, Reverse: true}, 7, 3, 1},
		{CounterZSetRange{Limit: 1001, Min: &low, Max: new(int64)}, 0, 1001, 2},
		{CounterZSetRange{Limit: total}, 0, total, 3},
	} {
		n := c.from
		asked = 0
		for m, err := range z.Range(ctx, c.r) {
			if err != nil || string(m.Member) != fmt.Sprint(n) || m.Score != int64(n) {
				t.Fatalf("%+v: %s %d, %v, want %d", c.r, m.Member, m.Score, err, n)
			}
			n++
		}
		equal(t, "members", n-c.from, c.want)
		equal(t, "pages", asked, c.pages)
		if first.GetReverse() != c.r.Reverse || (first.MinScore != nil) != (c.r.Min != nil) || c.r.Min != nil && (first.GetMinScore() != -3 || first.GetMaxScore() != 0) {
			t.Errorf("sent %v for %+v", first, c.r)
		}
	}
	for range z.Range(ctx, CounterZSetRange{}) {
		break // must not go on after this
	}
}

func TestCounterZSetValueAndBatch(t *testing.T) {
	ctx := testContext(t)
	value := &atollv1.ZSetValue{Size: 2, Members: []*atollv1.ScoredMember{{Member: []byte("m"), Score: 3}}}
	f := &fakeServer{
		get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			return &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_COUNTER_ZSET, Typed: &atollv1.TypedValue{Value: &atollv1.TypedValue_Zset{Zset: value}}}, nil
		},
		batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
			res := &atollv1.BatchWriteResponse{}
			for _, w := range r.GetItems() {
				change := &atollv1.ZSetChange{Size: 9, Score: w.GetUpdate().GetOp().GetZsetAdd().GetScore() + w.GetUpdate().GetOp().GetZsetIncr().GetDelta()}
				change.Changed = uint64(len(w.GetUpdate().GetOp().GetZsetRemove().GetMembers()))
				res.Items = append(res.Items, &atollv1.BatchWriteItem{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{Zset: change}}})
			}
			return res, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	v, err := c.Get(ctx, "k")
	noError(t, err)
	if v.Type != TypeCounterZSet || v.Size != 2 || len(v.Counted) != 1 || string(v.Counted[0].Member) != "m" || v.Counted[0].Score != 3 {
		t.Errorf("got %+v", v)
	}
	m := []byte("m")
	got, err := c.Batch(ctx, []Write{NewCounterZSetAdd("k", m, 4), NewCounterZSetIncr("k", m, -1), NewCounterZSetRemove("k", [][]byte{m})})
	noError(t, err)
	for i, want := range []CounterZSetChange{{9, 0, 4}, {9, 0, -1}, {9, 1, 0}} {
		equal(t, "result", got[i].Counted, want)
	}
}
