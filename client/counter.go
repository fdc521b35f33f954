package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Counter is a signed 64-bit counter. Adds made in different regions at once all count.
type Counter struct {
	client *Client
	key    string
}

// Counter returns the counter under a key. It does not have to exist: it begins at 0.
func (c *Client) Counter(key string) *Counter { return &Counter{client: c, key: key} }

// Add adds n, which may be negative, and returns the counter's value in the region after it; 0 if it
// is written with [WithLocalDurability].
//
// Errors: ErrWrongType, ErrInvalidArgument if the result would not fit in 64 bits.
func (c *Counter) Add(ctx context.Context, n int64, opts ...WriteOption) (int64, error) {
	return c.update(ctx, counterAdd(n), opts)
}

// Set makes the counter n as the region sees it, and returns n. Adds made elsewhere meanwhile
// survive: they add to n.
func (c *Counter) Set(ctx context.Context, n int64, opts ...WriteOption) (int64, error) {
	return c.update(ctx, counterSet(n), opts)
}

// Reset makes the counter 0 as the region sees it. Adds made elsewhere meanwhile survive.
func (c *Counter) Reset(ctx context.Context, opts ...WriteOption) error {
	op := &atollv1.Op{Op: &atollv1.Op_CounterReset{CounterReset: &atollv1.CounterReset{}}}
	_, err := c.update(ctx, op, opts)
	return err
}

// Value returns the counter's value; 0 if it does not exist.
func (c *Counter) Value(ctx context.Context, opts ...ReadOption) (int64, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_Counter{Counter: &atollv1.CounterQuery{}}}
	res, err := c.client.query(ctx, c.key, q, opts)
	return res.GetCounter().GetValue(), err
}

func (c *Counter) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (int64, error) {
	res, err := c.client.update(ctx, c.key, op, opts)
	return res.GetResult().GetCounter().GetValue(), err
}

func counterAdd(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_CounterAdd{CounterAdd: &atollv1.CounterAdd{Delta: n}}}
}

func counterSet(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_CounterSet{CounterSet: &atollv1.CounterSet{Value: n}}}
}
