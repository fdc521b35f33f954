package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const entriesPage = 1000

// Timeline is a log of entries in the order of their times, such as a feed or a history. Entries that
// are added in different regions at once are all kept. An entry cannot be removed by itself: [Timeline.Trim]
// removes all that are older than an instant, and [Client.Delete] all that there are.
type Timeline struct {
	client *Client
	key    string
}

// TimelineEntry is one entry of a timeline.
type TimelineEntry struct {
	// Value is what was added.
	Value []byte
	// Time is when, rounded down to milliseconds.
	Time time.Time
	// ID names the entry. IDs sort bytewise as the entries do, also those of one millisecond.
	ID []byte
}

// TimelineRange says which entries of a timeline are wanted.
type TimelineRange struct {
	// From is inclusive, Before exclusive; zero means no bound. Both are rounded down to milliseconds.
	From, Before time.Time
	// OldestFirst turns the order; otherwise the newest come first.
	OldestFirst bool
	// After is the ID of an entry to begin behind, in the order asked for.
	After []byte
}

// Timeline returns the timeline under a key. It does not have to exist: it begins empty.
func (c *Client) Timeline(key string) *Timeline { return &Timeline{client: c, key: key} }

// Add adds an entry of at most 1 MiB. Its time is that of the write, by the clock of the region, and
// after the times of all entries that the region has. Changed is 1.
//
// Errors: ErrWrongType, ErrInvalidArgument if the entry is too large, ErrOverloaded with
// ReasonQuotaExceeded if the region has 1 000 000 entries. Without [WithOpID], adding again after
// ErrOutcomeUnknown may add the entry twice.
func (t *Timeline) Add(ctx context.Context, value []byte, opts ...WriteOption) (SetChange, error) {
	return t.update(ctx, timelineAdd(value), opts)
}

// Trim removes the entries from before an instant, which is rounded down to milliseconds; also those of
// other regions that have not arrived yet. Changed is how many the region had. A trim to before an earlier
// one changes nothing.
//
// Errors: ErrWrongType, ErrInvalidArgument if the instant is later than the region's clock.
func (t *Timeline) Trim(ctx context.Context, before time.Time, opts ...WriteOption) (SetChange, error) {
	return t.update(ctx, timelineTrim(before), opts)
}

// Entries yields the entries of a range, the newest first unless it says otherwise, and ends after the
// first error. They are read a page at a time: each page is linearizable by itself, the iteration as a
// whole is not.
func (t *Timeline) Entries(ctx context.Context, r TimelineRange, opts ...ReadOption) iter.Seq2[TimelineEntry, error] {
	return func(yield func(TimelineEntry, error) bool) {
		want := &atollv1.TimelineRange{
			From: timestampOf(r.From), Before: timestampOf(r.Before), OldestFirst: r.OldestFirst, Limit: entriesPage, Cursor: r.After,
		}
		for {
			q := &atollv1.QueryOp{Query: &atollv1.QueryOp_TimelineRange{TimelineRange: want}}
			res, err := t.client.query(ctx, t.key, q, opts)
			if err != nil {
				yield(TimelineEntry{}, err)
				return
			}
			page := res.GetTimeline()
			for _, e := range timelineEntries(page.GetEntries()) {
				if !yield(e, nil) {
					return
				}
			}
			if want.Cursor = page.GetCursor(); len(want.GetCursor()) == 0 {
				return
			}
		}
	}
}

func (t *Timeline) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (SetChange, error) {
	res, err := t.client.update(ctx, t.key, op, opts)
	return changeOf(res.GetResult().GetTimeline()), err
}

func changeOf(c *atollv1.SetChange) SetChange {
	return SetChange{Size: c.GetSize(), Changed: c.GetChanged()}
}

// NewTimelineAdd returns a write that adds an entry to a timeline.
func NewTimelineAdd(key string, value []byte, opts ...WriteOption) Write {
	return newUpdate(key, timelineAdd(value), opts)
}

// NewTimelineTrim returns a write that removes the entries of a timeline from before an instant.
func NewTimelineTrim(key string, before time.Time, opts ...WriteOption) Write {
	return newUpdate(key, timelineTrim(before), opts)
}

func timelineAdd(value []byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_TimelineAdd{TimelineAdd: &atollv1.TimelineAdd{Element: value}}}
}

func timelineTrim(before time.Time) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_TimelineTrim{TimelineTrim: &atollv1.TimelineTrim{Before: timestampOf(before)}}}
}

func timestampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timelineEntries(entries []*atollv1.TimelineEntry) []TimelineEntry {
	if len(entries) == 0 {
		return nil
	}
	all := make([]TimelineEntry, len(entries))
	for i, e := range entries {
		all[i] = TimelineEntry{Value: e.GetElement(), Time: e.GetTime().AsTime(), ID: e.GetId()}
	}
	return all
}
