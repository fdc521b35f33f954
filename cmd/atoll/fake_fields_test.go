package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// This file is what the fake regions do of maps and sorted sets.

// fieldsType returns the type that an operation is on, 0 if it is on no map or sorted set.
func fieldsType(op *atollv1.Op) atollv1.Type {
	switch op.GetOp().(type) {
	case *atollv1.Op_MapPut, *atollv1.Op_MapRemove:
		return atollv1.Type_TYPE_LWW_MAP
	case *atollv1.Op_ZsetAdd, *atollv1.Op_ZsetIncr, *atollv1.Op_ZsetRemove:
		return atollv1.Type_TYPE_ZSET
	default:
		return 0
	}
}

func (f *fakeRegion) updateFields(at string, t atollv1.Type, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	o, err := f.typed(at, t)
	if err != nil {
		return nil, err
	}
	f.store.seq++
	o.seq = f.store.seq
	if f.store.objects[at] == nil {
		o.fields, o.scores = map[string][]byte{}, map[string]float64{}
	}
	f.store.objects[at] = o
	changed, score := o.change(r.GetOp())
	res := &atollv1.UpdateResponse{Info: f.info()}
	switch {
	case r.GetOptions().GetDurability() == atollv1.Durability_DURABILITY_LOCAL:
		return res, nil
	case t == atollv1.Type_TYPE_LWW_MAP:
		res.Result = &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Map{Map: &atollv1.SetChange{Size: uint64(len(o.fields)), Changed: changed}}}
	default:
		res.Result = &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{Zset: &atollv1.ZSetChange{Size: uint64(len(o.scores)), Changed: changed, Score: score}}}
	}
	res.Version = fmt.Sprint("v", o.seq)
	return res, nil
}

func (o *object) change(op *atollv1.Op) (changed uint64, score float64) {
	switch op := op.GetOp().(type) {
	case *atollv1.Op_MapPut:
		for name, value := range op.MapPut.GetFields() {
			if was, ok := o.fields[name]; !ok || string(was) != string(value) {
				changed++
			}
			o.fields[name] = value
		}
	case *atollv1.Op_MapRemove:
		before := len(o.fields)
		for _, name := range op.MapRemove.GetFields() {
			delete(o.fields, name)
		}
		changed = uint64(before - len(o.fields))
	case *atollv1.Op_ZsetAdd:
		score, changed = op.ZsetAdd.GetScore(), 1
		o.scores[string(op.ZsetAdd.GetMember())] = score
	case *atollv1.Op_ZsetIncr:
		score, changed = o.scores[string(op.ZsetIncr.GetMember())]+op.ZsetIncr.GetDelta(), 1
		o.scores[string(op.ZsetIncr.GetMember())] = score
	case *atollv1.Op_ZsetRemove:
		before := len(o.scores)
		for _, m := range op.ZsetRemove.GetMembers() {
			delete(o.scores, string(m))
		}
		changed = uint64(before - len(o.scores))
	}
	return changed, score
}

// sorted returns a sorted set's members in order.
func (o *object) sorted() []*atollv1.ScoredMember {
	var all []*atollv1.ScoredMember
	for m, s := range o.scores {
		all = append(all, &atollv1.ScoredMember{Member: []byte(m), Score: s})
	}
	slices.SortFunc(all, func(a, b *atollv1.ScoredMember) int {
		return cmp.Or(cmp.Compare(a.GetScore(), b.GetScore()), slices.Compare(a.GetMember(), b.GetMember()))
	})
	return all
}

func (o *object) typedFields(limit int) *atollv1.TypedValue {
	if o.typ == atollv1.Type_TYPE_ZSET {
		all := o.sorted()
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Zset{Zset: &atollv1.ZSetValue{Size: uint64(len(all)), Members: all[:min(limit, len(all))]}}}
	}
	m := &atollv1.MapValue{Size: uint64(len(o.fields)), Fields: map[string][]byte{}}
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		if len(m.Fields) < limit {
			m.Fields[name] = o.fields[name]
		}
	}
	return &atollv1.TypedValue{Value: &atollv1.TypedValue_Map{Map: m}}
}

// queryFields answers queries of maps and sorted sets, two to a page; nil for others.
func queryFields(q *atollv1.QueryOp, o *object) *atollv1.QueryResult {
	if o == nil {
		o = &object{}
	}
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_MapGet:
		page := &atollv1.MapPage{Fields: map[string][]byte{}}
		for _, name := range q.MapGet.GetFields() {
			if value, ok := o.fields[name]; ok {
				page.Fields[name] = value
			}
		}
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Map{Map: page}}
	case *atollv1.QueryOp_MapAll:
		page := &atollv1.MapPage{Fields: map[string][]byte{}}
		last := ""
		for _, name := range slices.Sorted(maps.Keys(o.fields)) {
			if name <= string(q.MapAll.GetCursor()) {
				continue
			}
			if len(page.Fields) == 2 {
				page.Cursor = []byte(last)
				break
			}
			page.Fields[name], last = o.fields[name], name
		}
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Map{Map: page}}
	case *atollv1.QueryOp_ZsetRange:
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetRange{ZsetRange: o.rangeOf(q.ZsetRange)}}
	case *atollv1.QueryOp_ZsetScore:
		return o.position(q.ZsetScore.GetMember(), false)
	case *atollv1.QueryOp_ZsetRank:
		return o.position(q.ZsetRank.GetMember(), q.ZsetRank.GetReverse())
	default:
		return nil
	}
}

// rangeOf has the number of members that the pages before had as its cursor.
func (o *object) rangeOf(q *atollv1.ZSetRange) *atollv1.ZSetPage {
	all := slices.DeleteFunc(o.sorted(), func(m *atollv1.ScoredMember) bool {
		return q.MinScore != nil && m.GetScore() < q.GetMinScore() || q.MaxScore != nil && m.GetScore() > q.GetMaxScore()
	})
	if q.GetReverse() {
		slices.Reverse(all)
	}
	skip := int(q.GetOffset())
	if len(q.GetCursor()) > 0 {
		skip = int(q.GetCursor()[0])
	}
	all = all[min(skip, len(all)):]
	page := &atollv1.ZSetPage{Members: all, Size: uint64(len(o.scores))}
	if limit := min(2, int(q.GetLimit())); len(all) > limit {
		page.Members, page.Cursor = all[:limit], []byte{byte(skip + limit)}
	}
	return page
}

func (o *object) position(member []byte, reverse bool) *atollv1.QueryResult {
	all := o.sorted()
	p := &atollv1.ZSetPosition{}
	if at := slices.IndexFunc(all, func(m *atollv1.ScoredMember) bool { return string(m.GetMember()) == string(member) }); at >= 0 {
		p.Found, p.Score, p.Rank = true, all[at].GetScore(), uint64(at)
		if reverse {
			p.Rank = uint64(len(all) - 1 - at)
		}
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetPosition{ZsetPosition: p}}
}

func (o *object) explainFields() *atollv1.ExplainedObject_Parts {
	made := []*atollv1.Event{{Region: "eu", Seq: o.seq, Hlc: 1_700_000_000_000<<16 | 2}}
	parts := &atollv1.ExplainParts{Size: uint64(len(o.fields) + 1), Parts: []*atollv1.ExplainPart{{Name: []byte("old"), Value: "removed", Events: made, Hidden: true}}}
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		parts.Parts = append(parts.Parts, &atollv1.ExplainPart{Name: []byte(name), Value: fmt.Sprintf("%q", o.fields[name]), Events: made})
	}
	return &atollv1.ExplainedObject_Parts{Parts: parts}
}
