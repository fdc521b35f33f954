package main

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func onSiblings(op *atollv1.Op) bool {
	return op.GetFlagEnable() != nil || op.GetFlagDisable() != nil || op.GetMvrPut() != nil
}

// updateSiblings does the operations of flags and multi-value registers. A put takes the place of
// those of its own region only, as if no region had heard of the others' yet.
func (f *fakeRegion) updateSiblings(at string, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	if err := f.check(at, r.GetCondition()); err != nil {
		return nil, err
	}
	t := atollv1.Type_TYPE_EW_FLAG
	if r.GetOp().GetMvrPut() != nil {
		t = atollv1.Type_TYPE_MV_REGISTER
	}
	o, err := f.typed(at, t)
	if err != nil {
		return nil, err
	}
	f.store.seq++
	o.seq = f.store.seq
	if r.GetOp().GetFlagDisable() != nil {
		delete(f.store.objects, at)
		return &atollv1.UpdateResponse{Info: f.info()}, nil
	}
	o.siblings = slices.DeleteFunc(o.siblings, func(s *atollv1.Sibling) bool { return s.GetRegion() == f.name })
	put := &atollv1.Sibling{Value: r.GetOp().GetMvrPut().GetValue(), Region: f.name, Time: timestamppb.New(time.Unix(1_700_000_000+int64(o.seq), 0))}
	o.siblings = slices.Insert(o.siblings, 0, put)
	f.store.objects[at] = o
	if r.GetOptions().GetDurability() == atollv1.Durability_DURABILITY_LOCAL {
		return &atollv1.UpdateResponse{Info: f.info()}, nil
	}
	return &atollv1.UpdateResponse{Version: fmt.Sprint("v", o.seq), Info: f.info()}, nil
}

func siblingsQuery(q *atollv1.QueryOp, o *object) *atollv1.QueryResult {
	if o == nil {
		o = &object{}
	}
	switch {
	case q.GetFlag() != nil:
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Flag{Flag: &atollv1.FlagValue{Enabled: len(o.siblings) > 0}}}
	case q.GetMvrSiblings() != nil:
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Siblings{Siblings: &atollv1.SiblingsValue{Siblings: o.siblings}}}
	default:
		return nil
	}
}

// addSiblings completes what a read shows of a flag or a multi-value register.
func addSiblings(e *atollv1.Entry, o *object) {
	if o.typ == atollv1.Type_TYPE_EW_FLAG {
		e.Typed = &atollv1.TypedValue{Value: &atollv1.TypedValue_Flag{Flag: &atollv1.FlagValue{Enabled: true}}}
		return
	}
	e.Value = o.siblings[0].GetValue()
	e.Typed = &atollv1.TypedValue{Value: &atollv1.TypedValue_Siblings{Siblings: &atollv1.SiblingsValue{Siblings: o.siblings}}}
}

func explainSiblings(o *object) *atollv1.ExplainedObject_Parts {
	parts := &atollv1.ExplainParts{Size: uint64(len(o.siblings))}
	for _, s := range o.siblings {
		event := &atollv1.Event{Region: s.GetRegion(), Seq: o.seq, Hlc: uint64(s.GetTime().AsTime().UnixMilli()) << 16}
		parts.Parts = append(parts.Parts, &atollv1.ExplainPart{Value: fmt.Sprintf("%q", s.GetValue()), Events: []*atollv1.Event{event}})
	}
	return &atollv1.ExplainedObject_Parts{Parts: parts}
}
