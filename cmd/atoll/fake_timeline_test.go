package main

import (
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// updateTimeline does the operations of timelines. Entries are a minute apart, from 2026-01-31 on.
func (f *fakeRegion) updateTimeline(at string, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	o, err := f.typed(at, atollv1.Type_TYPE_TIMELINE)
	if err != nil {
		return nil, err
	}
	trim := r.GetOp().GetTimelineTrim().GetBefore()
	if trim.AsTime().After(time.Now()) {
		return nil, refusal(connect.CodeInvalidArgument, client.ReasonInvalidArgument, map[string]string{"field": "op.timeline_trim.before"})
	}
	f.store.seq++
	o.seq = f.store.seq
	f.store.objects[at] = o
	size := len(o.entries)
	if add := r.GetOp().GetTimelineAdd(); add != nil {
		when := time.Date(2026, 1, 31, 12, size, 0, 0, time.UTC)
		o.entries = append(o.entries, &atollv1.TimelineEntry{Element: add.GetElement(), Time: timestamppb.New(when), Id: []byte{byte(size)}})
	} else {
		o.entries = slices.DeleteFunc(o.entries, func(e *atollv1.TimelineEntry) bool { return e.GetTime().AsTime().Before(trim.AsTime()) })
	}
	if r.GetOptions().GetDurability() == atollv1.Durability_DURABILITY_LOCAL {
		return &atollv1.UpdateResponse{Info: f.info()}, nil
	}
	change := &atollv1.SetChange{Size: uint64(len(o.entries)), Changed: uint64(max(len(o.entries)-size, size-len(o.entries)))}
	return &atollv1.UpdateResponse{
		Version: fmt.Sprint("v", o.seq), Info: f.info(), Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Timeline{Timeline: change}},
	}, nil
}

// queryTimeline answers two entries to a page.
func queryTimeline(want *atollv1.TimelineRange, o *object) *atollv1.QueryResponse {
	page := &atollv1.TimelinePage{}
	if o != nil {
		page.Entries = slices.DeleteFunc(slices.Clone(o.entries), func(e *atollv1.TimelineEntry) bool {
			at := e.GetTime().AsTime()
			return at.Before(want.GetFrom().AsTime()) || want.GetBefore() != nil && !at.Before(want.GetBefore().AsTime())
		})
	}
	if !want.GetOldestFirst() {
		slices.Reverse(page.Entries)
	}
	if i := slices.IndexFunc(page.Entries, func(e *atollv1.TimelineEntry) bool { return string(e.GetId()) == string(want.GetCursor()) }); i >= 0 {
		page.Entries = page.GetEntries()[i+1:]
	}
	if len(page.GetEntries()) > 2 {
		page.Entries = page.GetEntries()[:2]
		page.Cursor = page.GetEntries()[1].GetId()
	}
	return &atollv1.QueryResponse{Found: true, Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Timeline{Timeline: page}}}
}

// shownEntries is what a read shows of a timeline.
func shownEntries(o *object, limit int) *atollv1.TypedValue {
	value := &atollv1.TimelineValue{Size: uint64(len(o.entries)), Entries: slices.Clone(o.entries)}
	slices.Reverse(value.Entries)
	value.Entries = value.GetEntries()[:min(limit, len(o.entries))]
	return &atollv1.TypedValue{Value: &atollv1.TypedValue_Timeline{Timeline: value}}
}

func explainEntries(o *object) *atollv1.ExplainedObject_Parts {
	parts := &atollv1.ExplainParts{Size: uint64(len(o.entries)) + 1}
	parts.Parts = append(parts.Parts, &atollv1.ExplainPart{Value: "trimmed before then", Hidden: true})
	for i, e := range o.entries {
		event := &atollv1.Event{Region: "eu", Seq: uint64(i + 1), Hlc: uint64(e.GetTime().AsTime().UnixMilli()) << 16}
		parts.Parts = append(parts.Parts, &atollv1.ExplainPart{Value: fmt.Sprintf("%q", e.GetElement()), Events: []*atollv1.Event{event}})
	}
	return &atollv1.ExplainedObject_Parts{Parts: parts}
}
