package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func isAdditive(op *atollv1.Op) bool {
	return op.GetZsetAdd().GetAdditive() || op.GetZsetIncr().GetAdditive() || op.GetZsetRemove().GetAdditive()
}

func (f *fakeRegion) updateCounted(at string, op *atollv1.Op) (*atollv1.UpdateResponse, error) {
	o, err := f.typed(at, atollv1.Type_TYPE_COUNTER_ZSET)
	if err != nil {
		return nil, err
	}
	if o.counted == nil {
		o.counted = map[string]int64{}
	}
	f.store.seq++
	o.seq = f.store.seq
	f.store.objects[at] = o
	change := &atollv1.ZSetChange{Changed: 1}
	switch op := op.GetOp().(type) {
	case *atollv1.Op_ZsetAdd:
		o.counted[string(op.ZsetAdd.GetMember())] = int64(op.ZsetAdd.GetScore())
		change.Score = op.ZsetAdd.GetScore()
	case *atollv1.Op_ZsetIncr:
		o.counted[string(op.ZsetIncr.GetMember())] += int64(op.ZsetIncr.GetDelta())
		change.Score = float64(o.counted[string(op.ZsetIncr.GetMember())])
	case *atollv1.Op_ZsetRemove:
		size := len(o.counted)
		for _, m := range op.ZsetRemove.GetMembers() {
			delete(o.counted, string(m))
		}
		change.Changed = uint64(size - len(o.counted))
	}
	change.Size = uint64(len(o.counted))
	return &atollv1.UpdateResponse{
		Version: fmt.Sprint("v", o.seq), Info: f.info(),
		Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{Zset: change}},
	}, nil
}

// ranked returns the members in order.
func (o *object) ranked() []*atollv1.ScoredMember {
	var all []*atollv1.ScoredMember
	for member, score := range o.counted {
		all = append(all, &atollv1.ScoredMember{Member: []byte(member), Score: float64(score)})
	}
	slices.SortFunc(all, func(a, b *atollv1.ScoredMember) int {
		return cmp.Or(cmp.Compare(a.GetScore(), b.GetScore()), bytes.Compare(a.GetMember(), b.GetMember()))
	})
	return all
}

func (o *object) countedValue(members int) *atollv1.TypedValue {
	all := o.ranked()
	value := &atollv1.ZSetValue{Size: uint64(len(all)), Members: all[:min(members, len(all))]}
	return &atollv1.TypedValue{Value: &atollv1.TypedValue_Zset{Zset: value}}
}

// queryCounted answers about an additive sorted set, nil if the query is about something else.
func (f *fakeRegion) queryCounted(at string, q *atollv1.QueryOp) *atollv1.QueryResult {
	o := f.store.objects[at]
	if o == nil {
		o = &object{}
	}
	all := o.ranked()
	member, reverse := q.GetZsetScore().GetMember(), q.GetZsetRank().GetReverse() || q.GetZsetRange().GetReverse()
	if q.GetZsetRank().GetAdditive() {
		member = q.GetZsetRank().GetMember()
	}
	if reverse {
		slices.Reverse(all)
	}
	switch {
	case q.GetZsetRange().GetAdditive():
		r := q.GetZsetRange()
		all = slices.DeleteFunc(all, func(m *atollv1.ScoredMember) bool {
			return r.MinScore != nil && m.GetScore() < r.GetMinScore() || r.MaxScore != nil && m.GetScore() > r.GetMaxScore()
		})
		all = all[min(int(r.GetOffset()), len(all)):]
		page := &atollv1.ZSetPage{Size: uint64(len(o.counted)), Members: all[:min(int(r.GetLimit()), len(all))]}
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetRange{ZsetRange: page}}
	case q.GetZsetScore().GetAdditive() || q.GetZsetRank().GetAdditive():
		position := &atollv1.ZSetPosition{}
		if i := slices.IndexFunc(all, func(m *atollv1.ScoredMember) bool { return bytes.Equal(m.GetMember(), member) }); i >= 0 {
			position = &atollv1.ZSetPosition{Found: true, Score: all[i].GetScore(), Rank: uint64(i)}
		}
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetPosition{ZsetPosition: position}}
	default:
		return nil
	}
}
