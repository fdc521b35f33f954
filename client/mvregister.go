package client

import (
	"context"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// MVRegister is a multi-value register: of values put at once in different regions none is lost. All
// of them, the siblings, stay until somebody who has seen them puts another value or deletes the key.
// To merge siblings, Get the key, and Put what they come to with [IfVersion] of what was got: a sibling
// that arrives meanwhile makes it fail with ErrVersionMismatch instead of being overwritten unread.
type MVRegister struct {
	client *Client
	key    string
}

// Sibling is one value of a multi-value register.
type Sibling struct {
	Value []byte
	// Time is when it was put, by the clock of the region that did, and Region where.
	Time   time.Time
	Region string
}

// MVRegister returns the multi-value register under a key. It does not have to exist.
func (c *Client) MVRegister(key string) *MVRegister { return &MVRegister{client: c, key: key} }

// Put writes a value of at most 1 MiB in place of the siblings that the region has, and returns the new
// version; "" if it is written with [WithLocalDurability]. Values put elsewhere meanwhile stay beside it.
//
// Errors: ErrWrongType, ErrInvalidArgument for too large a value, and those of its conditions.
func (r *MVRegister) Put(ctx context.Context, value []byte, opts ...WriteOption) (version string, err error) {
	res, err := r.client.update(ctx, r.key, mvrPut(value), opts)
	return res.GetVersion(), err
}

// Delete removes the siblings that the region has, and reports whether there were any. Values put
// elsewhere meanwhile survive.
//
// Errors: those of its conditions.
func (r *MVRegister) Delete(ctx context.Context, opts ...WriteOption) (existed bool, err error) {
	return r.client.Delete(ctx, r.key, append(opts[:len(opts):len(opts)], OfType(TypeMVRegister))...)
}

// Siblings returns the values, the latest first; none if the register does not exist.
//
// Errors: ErrWrongType, ErrStale if the bound of a bounded read cannot be met.
func (r *MVRegister) Siblings(ctx context.Context, opts ...ReadOption) ([]Sibling, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_MvrSiblings{MvrSiblings: &atollv1.MVRSiblings{}}}
	res, err := r.client.query(ctx, r.key, q, opts)
	return siblingsOf(res.GetSiblings()), err
}

// NewMVRegisterPut returns a write that puts a value into a multi-value register.
func NewMVRegisterPut(key string, value []byte, opts ...WriteOption) Write {
	return newUpdate(key, mvrPut(value), opts)
}

func mvrPut(value []byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_MvrPut{MvrPut: &atollv1.MVRPut{Value: value}}}
}

func siblingsOf(v *atollv1.SiblingsValue) []Sibling {
	var siblings []Sibling
	for _, s := range v.GetSiblings() {
		siblings = append(siblings, Sibling{Value: s.GetValue(), Time: s.GetTime().AsTime(), Region: s.GetRegion()})
	}
	return siblings
}
