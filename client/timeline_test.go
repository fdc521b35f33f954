package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func timelineEntry(n int) *atollv1.TimelineEntry {
	return &atollv1.TimelineEntry{
		Element: fmt.Appendf(nil, "e%d", n), Time: timestamppb.New(time.UnixMilli(int64(n))), Id: []byte{byte(n)},
	}
}

func TestTimelineEntriesPages(t *testing.T) {
	ctx := testContext(t)
	var asked []*atollv1.TimelineRange
	f := &fakeServer{query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
		want := r.GetQuery().GetTimelineRange()
		asked = append(asked, want)
		page := &atollv1.TimelinePage{Size: 5, Entries: []*atollv1.TimelineEntry{timelineEntry(2 * len(asked)), timelineEntry(2*len(asked) + 1)}}
		if len(asked) < 3 {
			page.Cursor = page.GetEntries()[1].GetId()
		}
		return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Timeline{Timeline: page}}}, nil
	}}
	timeline := newClient(t, []string{serve(t, f)}).Timeline("k")
	n := 2
	from := time.Unix(1_700_000_000, 5)
	for e, err := range timeline.Entries(ctx, TimelineRange{From: from, OldestFirst: true, After: []byte{9}}) {
		noError(t, err)
		equal(t, "value", string(e.Value), fmt.Sprint("e", n))
		equal(t, "time", e.Time.UnixMilli(), int64(n))
		equal(t, "id", e.ID[0], byte(n))
		n++
	}
	equal(t, "entries", n, 8)
	for i, cursor := range []byte{9, 3, 5} {
		equal(t, "cursor", asked[i].GetCursor()[0], cursor)
		equal(t, "order", asked[i].GetOldestFirst(), true)
		equal(t, "from", asked[i].GetFrom().AsTime().Equal(from), true)
		equal(t, "no bound", asked[i].GetBefore(), nil)
	}
	asked = nil
	for range timeline.Entries(ctx, TimelineRange{}) {
		break
	}
	equal(t, "pages", len(asked), 1)
}

func TestTimelineOperations(t *testing.T) {
	ctx := testContext(t)
	now := time.Unix(1_700_000_000, 0)
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			change := &atollv1.SetChange{Size: 10, Changed: 1}
			if trim := r.GetOp().GetTimelineTrim(); trim != nil {
				change.Changed = uint64(now.Sub(trim.GetBefore().AsTime()) / time.Second)
			} else {
				equal(t, "element", string(r.GetOp().GetTimelineAdd().GetElement()), "x")
			}
			return &atollv1.UpdateResponse{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Timeline{Timeline: change}}}, nil
		},
		query: func(context.Context, *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			return nil, refusal(9, ReasonWrongType, 0)
		},
		get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			value := &atollv1.TimelineValue{Size: 7, Entries: []*atollv1.TimelineEntry{timelineEntry(3)}}
			return &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_TIMELINE, Typed: &atollv1.TypedValue{
				Value: &atollv1.TypedValue_Timeline{Timeline: value},
			}}, nil
		},
		batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
			equal(t, "item", string(r.GetItems()[0].GetUpdate().GetOp().GetTimelineAdd().GetElement()), "x")
			equal(t, "item", r.GetItems()[1].GetUpdate().GetOp().GetTimelineTrim().GetBefore().AsTime().Equal(now), true)
			change := &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Timeline{Timeline: &atollv1.SetChange{Size: 2, Changed: 1}}}
			return &atollv1.BatchWriteResponse{Items: []*atollv1.BatchWriteItem{{Result: change}, {Result: change}}}, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	timeline := c.Timeline("k")
	change, err := timeline.Add(ctx, []byte("x"))
	noError(t, err)
	equal(t, "add", change, SetChange{10, 1})
	change, err = timeline.Trim(ctx, now.Add(-8*time.Second))
	noError(t, err)
	equal(t, "trim", change, SetChange{10, 8})
	for _, err := range timeline.Entries(ctx, TimelineRange{}) {
		equal(t, "error", errors.Is(err, ErrWrongType), true)
	}
	v, err := c.Get(ctx, "k")
	noError(t, err)
	equal(t, "type", v.Type, TypeTimeline)
	equal(t, "size", v.Size, 7)
	equal(t, "newest", string(v.Entries[0].Value), "e3")
	results, err := c.Batch(ctx, []Write{NewTimelineAdd("k", []byte("x")), NewTimelineTrim("k", now)})
	noError(t, err)
	equal(t, "batch", results[1].Timeline, SetChange{2, 1})
}
