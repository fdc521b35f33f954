package api

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var timelineAPI = typeAPI{
	of:        crdt.TypeTimeline,
	operation: timelineOperation,
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Timeline{Timeline: &atollv1.SetChange{Size: out.Size, Changed: out.Changed}}}
	},
	value: func(_ *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		newest := replica.TimelineRange{Limit: valueMembers, MaxBytes: valueMemberBytes}
		entries, _, err := r.Timeline(o.Namespace, o.Key, newest)
		if err != nil {
			return nil, err
		}
		value := &atollv1.TimelineValue{Size: o.Size, Entries: timelineEntries(entries)}
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Timeline{Timeline: value}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		asked, ok := q.GetQuery().(*atollv1.QueryOp_TimelineRange)
		if !ok {
			return nil, false
		}
		_, f := timelineRangeOf(asked.TimelineRange)
		return f, true
	},
	answer: answerTimeline,
}

func timelineOperation(s *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_TimelineAdd:
		op := replica.Op{Kind: replica.OpTimelineAdd, Value: o.TimelineAdd.GetElement()}
		if len(op.Value) > maxValueBytes {
			return op, tooLong(reasonValueTooLarge, "op.timeline_add.element", maxValueBytes), true
		}
		return op, nil, true
	case *atollv1.Op_TimelineTrim:
		const field = "op.timeline_trim.before"
		before, f := instantOf(field, o.TimelineTrim.GetBefore())
		op := replica.Op{Kind: replica.OpTimelineTrim, At: before}
		switch {
		case f != nil:
		case before == 0:
			f = invalid(field, "must be set to an instant after 1970")
		case before > hlc.At(s.clock().UnixMilli()+maxTrimAheadMS, 0):
			// The replica judges exactly, but one that only this node acknowledges is not refused later.
			f = invalid(field, "must not be in the future")
		}
		return op, f, true
	default:
		return replica.Op{}, nil, false
	}
}

// maxTrimAheadMS allows for a clock of this node that is behind the leader's.
const maxTrimAheadMS = 500

// instantOf returns the first instant of a timestamp's millisecond, 0 if there is no timestamp. Times of
// entries are rounded down to milliseconds as well, so an entry is before the one that a client read as
// another's time if it is in an earlier millisecond.
func instantOf(field string, t *timestamppb.Timestamp) (hlc.Time, *failure) {
	switch {
	case t == nil:
		return 0, nil
	case t.CheckValid() != nil:
		return 0, invalid(field, "must be a valid timestamp")
	default:
		return hlc.At(t.AsTime().UnixMilli(), 0), nil
	}
}

// timelineRangeOf checks what asks for a page of entries, and returns it for the replica.
func timelineRangeOf(q *atollv1.TimelineRange) (replica.TimelineRange, *failure) {
	const field = "query.timeline_range"
	want := replica.TimelineRange{
		OldestFirst: q.GetOldestFirst(), After: q.GetCursor(), Limit: pageLimit(q.GetLimit()), MaxBytes: membersPageBytes,
	}
	f := checkPage(field, q.GetLimit(), nil)
	if f == nil && len(want.After) != 0 && len(want.After) != replica.TimelineIDBytes {
		f = invalid(field+".cursor", "must be that of a page before, or the id of an entry")
	}
	if f == nil {
		want.From, f = instantOf(field+".from", q.GetFrom())
	}
	if f == nil {
		want.Before, f = instantOf(field+".before", q.GetBefore())
	}
	if q.GetBefore() != nil && want.Before == 0 {
		want.Before = 1 // nothing is before 1970, which is not the same as no bound
	}
	return want, f
}

func answerTimeline(_ *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	want, f := timelineRangeOf(q.GetTimelineRange())
	if f != nil {
		return nil, f
	}
	entries, more, err := r.Timeline(o.Namespace, o.Key, want)
	if err != nil {
		return nil, err
	}
	page := &atollv1.TimelinePage{Entries: timelineEntries(entries), Size: o.Size}
	if more && len(entries) > 0 {
		page.Cursor = replica.TimelineID(entries[len(entries)-1])
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_Timeline{Timeline: page}}, nil
}

func timelineEntries(entries []crdt.TimelineEntry) []*atollv1.TimelineEntry {
	all := make([]*atollv1.TimelineEntry, len(entries))
	for i, e := range entries {
		all[i] = &atollv1.TimelineEntry{Element: e.Value, Time: timestamppb.New(e.Time.Wall()), Id: replica.TimelineID(e)}
	}
	return all
}
