package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// FutureQuery selects values with events from the future. The zero value is about all partitions.
type FutureQuery struct {
	Partitions []uint32
	// Ahead is how far from the present the future begins; 0 means as far as the region believes others' clocks.
	Ahead time.Duration
	// Present is what events are judged by; zero means the middle one of the clocks of all regions, as far as the node
	// that answers knows them.
	Present time.Time
	// WithValues asks for what registers hold.
	WithValues bool
	// Limit bounds the values of a page; 0 means 100, and the most is 1000.
	Limit uint32
}

// FutureValues yields page by page the values of the client's region, of all namespaces, that a clock made which was ahead.
// All pages are judged by the same present. A value may be named more than once, with different events. The last thing it
// yields may be an error; after one of a request, nothing is known of what was not yielded.
func (c *Client) FutureValues(ctx context.Context, q FutureQuery) iter.Seq2[*atollv1.FutureValuesResponse, error] {
	req := &atollv1.FutureValuesRequest{Partitions: q.Partitions, WithValues: q.WithValues, Limit: q.Limit}
	if q.Ahead != 0 {
		req.Ahead = durationpb.New(q.Ahead)
	}
	if !q.Present.IsZero() {
		req.PresentMs = uint64(max(q.Present.UnixMilli(), 0))
	}
	return func(yield func(*atollv1.FutureValuesResponse, error) bool) {
		for {
			res, err := invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.FutureValuesResponse, error) {
				return e.regions.FutureValues(ctx, req)
			})
			if !yield(res, err) || err != nil || len(res.GetCursor()) == 0 {
				return
			}
			req.Cursor, req.PresentMs = res.GetCursor(), res.GetPresentMs()
		}
	}
}
