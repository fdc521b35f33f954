package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// BoundedCounter is a counter that never falls below 0. Who adds to it gives its region the right to take
// as much, so a region takes without asking others, as long as it holds rights. It cannot be deleted.
type BoundedCounter struct {
	client *Client
	key    string
}

// RegionRights is how much a region may take of a bounded counter without asking.
type RegionRights struct {
	// Region is the region's name; with an epoch, such as "eu/1", for what was left to a region when it was
	// fenced: nobody can take that.
	Region string
	Rights int64
}

// BoundedCounter returns the bounded counter under a key. It does not have to exist: it begins at 0.
func (c *Client) BoundedCounter(key string) *BoundedCounter {
	return &BoundedCounter{client: c, key: key}
}

// Inc adds n, which must be more than 0, gives the region the right to take as much, and returns the
// counter's value in the region after it; 0 if it is written with [WithLocalDurability].
//
// Errors: ErrWrongType, ErrInvalidArgument if the result would not fit in 64 bits.
func (b *BoundedCounter) Inc(ctx context.Context, n int64, opts ...WriteOption) (int64, error) {
	return b.update(ctx, boundedInc(n), opts)
}

// Dec takes n, which must be more than 0, by rights of the region, and returns the counter's value in the
// region after it.
//
// Errors: ErrInsufficientRights if the region may take less than n, with what it may take as "have" in the
// metadata; others may hold more: see Value and Transfer. ErrWrongType, and ErrInvalidArgument with
// [WithLocalDurability].
func (b *BoundedCounter) Dec(ctx context.Context, n int64, opts ...WriteOption) (int64, error) {
	return b.update(ctx, boundedDec(n), opts)
}

// Transfer gives n of the region's rights, which must be more than 0, to another region, which can use
// them once it has heard of it. The counter's value stays. Giving to the region itself has no effect.
//
// Errors: those of Dec; ErrInvalidArgument if there is no such region.
func (b *BoundedCounter) Transfer(ctx context.Context, n int64, toRegion string, opts ...WriteOption) error {
	_, err := b.update(ctx, &atollv1.Op{Op: &atollv1.Op_BcounterTransfer{
		BcounterTransfer: &atollv1.BCounterTransfer{N: n, ToRegion: toRegion},
	}}, opts)
	return err
}

// Value returns the counter's value, and how much of it each region may take, as the region sees them; 0
// if it does not exist.
func (b *BoundedCounter) Value(ctx context.Context, opts ...ReadOption) (int64, []RegionRights, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_Bcounter{Bcounter: &atollv1.BCounterQuery{}}}
	res, err := b.client.query(ctx, b.key, q, opts)
	return res.GetBounded().GetValue(), rightsOf(res.GetBounded()), err
}

// NewBoundedInc returns a write that adds n to a bounded counter.
func NewBoundedInc(key string, n int64, opts ...WriteOption) Write {
	return newUpdate(key, boundedInc(n), opts)
}

// NewBoundedDec returns a write that takes n from a bounded counter.
func NewBoundedDec(key string, n int64, opts ...WriteOption) Write {
	return newUpdate(key, boundedDec(n), opts)
}

func (b *BoundedCounter) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (int64, error) {
	res, err := b.client.update(ctx, b.key, op, opts)
	return res.GetResult().GetBounded().GetValue(), err
}

func boundedInc(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_BcounterInc{BcounterInc: &atollv1.BCounterInc{N: n}}}
}

func boundedDec(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_BcounterDec{BcounterDec: &atollv1.BCounterDec{N: n}}}
}

func rightsOf(v *atollv1.BoundedValue) []RegionRights {
	var rights []RegionRights
	for _, r := range v.GetRights() {
		rights = append(rights, RegionRights{Region: r.GetRegion(), Rights: r.GetRights()})
	}
	return rights
}
