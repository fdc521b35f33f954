package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// HLL is a HyperLogLog: an estimate of how many different elements were added, with a standard error of
// 0.81 %. It does not keep the elements. Adds of all regions count, and an element that several add
// counts once. [Client.Delete] takes away every add before it by time, seen or not, and none after it.
type HLL struct {
	client *Client
	key    string
}

// HLLChange is what an add did to a HyperLogLog. It is zero for one with [WithLocalDurability].
type HLLChange struct {
	// Count is the estimate after the add, in the region.
	Count uint64
	// Changed says whether the add may have changed the estimate. If it is false, the add was of elements
	// that were added before, or that the HyperLogLog cannot tell from those.
	Changed bool
}

// HLL returns the HyperLogLog under a key. It does not have to exist: it begins empty.
func (c *Client) HLL(key string) *HLL { return &HLL{client: c, key: key} }

// Add counts elements: 1 to 1024 bytes each, at most 10 000 of them.
//
// Errors: ErrWrongType.
func (h *HLL) Add(ctx context.Context, elements [][]byte, opts ...WriteOption) (HLLChange, error) {
	res, err := h.client.update(ctx, h.key, hllAdd(elements), opts)
	return hllChange(res.GetResult().GetHll()), err
}

// Count returns the estimate of how many different elements were added; 0 if the key does not exist.
//
// Errors: ErrWrongType.
func (h *HLL) Count(ctx context.Context, opts ...ReadOption) (uint64, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_HllCount{HllCount: &atollv1.HLLCount{}}}
	res, err := h.client.query(ctx, h.key, q, opts)
	return res.GetHll().GetCount(), err
}

// NewHLLAdd returns a write that adds elements to a HyperLogLog.
func NewHLLAdd(key string, elements [][]byte, opts ...WriteOption) Write {
	return newUpdate(key, hllAdd(elements), opts)
}

func hllAdd(elements [][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_HllAdd{HllAdd: &atollv1.HLLAdd{Elements: elements}}}
}

func hllChange(v *atollv1.HLLValue) HLLChange {
	return HLLChange{Count: v.GetCount(), Changed: v.GetChanged()}
}
