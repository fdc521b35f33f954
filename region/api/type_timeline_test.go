package api

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

func timelineAdd(element string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_TimelineAdd{TimelineAdd: &atollv1.TimelineAdd{Element: []byte(element)}}}
}

func timelineTrim(before *timestamppb.Timestamp) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_TimelineTrim{TimelineTrim: &atollv1.TimelineTrim{Before: before}}}
}

func testTime(after time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(testClock().Add(after))
}

// timelineRange reads all pages of a range of the timeline "t".
func timelineRange(t *testing.T, kv atollv1connect.KVClient, want *atollv1.TimelineRange) (elements []string) {
	t.Helper()
	for {
		res, err := kv.Query(testContext(t), &atollv1.QueryRequest{Key: "t", Query: &atollv1.QueryOp{
			Query: &atollv1.QueryOp_TimelineRange{TimelineRange: want},
		}})
		noError(t, err)
		page := res.GetResult().GetTimeline()
		for _, e := range page.GetEntries() {
			elements = append(elements, string(e.GetElement()))
			if !e.GetTime().AsTime().Equal(testClock()) || len(e.GetId()) != replica.TimelineIDBytes {
				t.Errorf("entry %v", e)
			}
		}
		if want.Cursor = page.GetCursor(); len(want.GetCursor()) == 0 {
			return elements
		}
	}
}

// In these tests time stands still, so all entries are of one millisecond.
func TestTimelines(t *testing.T) {
	kv := setup(t, 2, 4, 0).kv("eu-1")
	oldest := []string{"a", "b", "c", "d", "e"}
	for i, element := range oldest {
		res := mustUpdate(t, kv, "t", timelineAdd(element))
		equal(t, "size", res.GetResult().GetTimeline().GetSize(), uint64(i+1))
		equal(t, "changed", res.GetResult().GetTimeline().GetChanged(), 1)
	}
	newest := slices.Clone(oldest)
	slices.Reverse(newest)
	for _, c := range []struct {
		want   *atollv1.TimelineRange
		answer []string
	}{
		{&atollv1.TimelineRange{}, newest},
		{&atollv1.TimelineRange{Limit: 2}, newest},
		{&atollv1.TimelineRange{Limit: 2, OldestFirst: true}, oldest},
		{&atollv1.TimelineRange{From: testTime(0), Before: testTime(time.Millisecond)}, newest},
		{&atollv1.TimelineRange{From: testTime(999 * time.Microsecond)}, newest}, // rounded down
		{&atollv1.TimelineRange{From: testTime(time.Millisecond)}, nil},
		{&atollv1.TimelineRange{Before: testTime(0)}, nil},
		{&atollv1.TimelineRange{Before: timestamppb.New(time.Unix(-5, 0))}, nil},
		{&atollv1.TimelineRange{From: timestamppb.New(time.Unix(-5, 0))}, newest},
	} {
		name := fmt.Sprint(c.want)
		if got := timelineRange(t, kv, c.want); !slices.Equal(got, c.answer) {
			t.Errorf("%s: %q, want %q", name, got, c.answer)
		}
	}
	got, err := kv.Get(testContext(t), &atollv1.GetRequest{Key: "t"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_TIMELINE)
	equal(t, "size", got.GetTyped().GetTimeline().GetSize(), 5)
	equal(t, "newest", string(got.GetTyped().GetTimeline().GetEntries()[0].GetElement()), "e")
}

func TestTimelineTrims(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 2, 4, 0).kv("eu-1")
	for range 3 {
		mustUpdate(t, kv, "t", timelineAdd("x"))
	}
	for before, left := range map[time.Duration]uint64{-time.Hour: 3, 0: 3, time.Microsecond: 3} {
		res := mustUpdate(t, kv, "t", timelineTrim(testTime(before)))
		equal(t, "size", res.GetResult().GetTimeline().GetSize(), left)
		equal(t, "changed", res.GetResult().GetTimeline().GetChanged(), 0)
	}
	// The replica refuses what this node's clock might be wrong about.
	for _, before := range []time.Duration{time.Millisecond, time.Hour} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "t", Op: timelineTrim(testTime(before))})
		f := wantReason(t, err, reasonInvalidArgument)
		equal(t, "field", f.metadata["field"], "op.timeline_trim.before")
	}
	res, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "t"})
	noError(t, err)
	equal(t, "existed", res.GetExisted(), true)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "t"})
	noError(t, err)
	equal(t, "found", got.GetFound(), false)
	again := mustUpdate(t, kv, "t", timelineAdd("y"))
	equal(t, "size after the delete", again.GetResult().GetTimeline().GetSize(), 1)
}

// TestTimelineLocally: a trim that one node acknowledges is judged by that node's clock, roughly.
func TestTimelineLocally(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	for _, op := range []*atollv1.Op{timelineAdd("x"), timelineTrim(testTime(0)), timelineTrim(testTime(400 * time.Millisecond))} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "t", Op: op, Options: locally("")})
		noError(t, err)
	}
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "t", Op: timelineTrim(testTime(time.Second)), Options: locally("")})
	wantReason(t, err, reasonInvalidArgument)
}

func TestTimelineRefusals(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 2, 4, 0).kv("eu-1")
	mustPut(t, kv, "register", "x")
	for _, c := range []struct {
		key   string
		op    *atollv1.Op
		want  reason
		field string
	}{
		{"t", timelineAdd(string(make([]byte, maxValueBytes+1))), reasonValueTooLarge, "op.timeline_add.element"},
		{"t", timelineTrim(nil), reasonInvalidArgument, "op.timeline_trim.before"},
		{"t", timelineTrim(timestamppb.New(time.Unix(-1, 0))), reasonInvalidArgument, "op.timeline_trim.before"},
		{"t", timelineTrim(&timestamppb.Timestamp{Nanos: -1}), reasonInvalidArgument, "op.timeline_trim.before"},
		{"register", timelineAdd("x"), reasonWrongType, ""},
	} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: c.key, Op: c.op})
		equal(t, "field", wantReason(t, err, c.want).metadata["field"], c.field)
	}
	for field, want := range map[string]*atollv1.TimelineRange{
		"limit": {Limit: maxMembersLimit + 1}, "cursor": {Cursor: []byte("x")}, "from": {From: &timestamppb.Timestamp{Nanos: -1}},
		"before": {Before: &timestamppb.Timestamp{Nanos: -1}},
	} {
		_, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "t", Query: &atollv1.QueryOp{
			Query: &atollv1.QueryOp_TimelineRange{TimelineRange: want},
		}})
		equal(t, "field", wantReason(t, err, reasonInvalidArgument).metadata["field"], "query.timeline_range."+field)
	}
}
