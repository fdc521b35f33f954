package client

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Max is a signed 64-bit number that writes only raise: of writes made in different regions at once the
// largest is the value. [Client.Delete] takes away every write before it by time, seen or not, and none
// after it.
type Max struct {
	client *Client
	key    string
}

// Min is a signed 64-bit number that writes only lower; all else is as in [Max].
type Min struct {
	client *Client
	key    string
}

// Max returns the maximum under a key. It does not have to exist.
func (c *Client) Max(key string) *Max { return &Max{client: c, key: key} }

// Min returns the minimum under a key. It does not have to exist.
func (c *Client) Min(key string) *Min { return &Min{client: c, key: key} }

// Raise makes the maximum n unless it is as large already, and returns the maximum in the region after it;
// 0 if it is written with [WithLocalDurability].
//
// Errors: ErrWrongType.
func (m *Max) Raise(ctx context.Context, n int64, opts ...WriteOption) (int64, error) {
	res, err := m.client.update(ctx, m.key, opMax(n), opts)
	return res.GetResult().GetExtreme().GetValue(), err
}

// Lower makes the minimum n unless it is as small already, and returns the minimum in the region after it;
// 0 if it is written with [WithLocalDurability].
//
// Errors: ErrWrongType.
func (m *Min) Lower(ctx context.Context, n int64, opts ...WriteOption) (int64, error) {
	res, err := m.client.update(ctx, m.key, opMin(n), opts)
	return res.GetResult().GetExtreme().GetValue(), err
}

// Value returns the maximum, and whether there is one.
//
// Errors: ErrWrongType.
func (m *Max) Value(ctx context.Context, opts ...ReadOption) (n int64, found bool, err error) {
	return m.client.extreme(ctx, m.key, TypeMax, opts)
}

// Value returns the minimum, and whether there is one.
//
// Errors: ErrWrongType.
func (m *Min) Value(ctx context.Context, opts ...ReadOption) (n int64, found bool, err error) {
	return m.client.extreme(ctx, m.key, TypeMin, opts)
}

// extreme reads a number of one of the two types. It does not ask by a query, which does not tell them
// apart.
func (c *Client) extreme(ctx context.Context, key string, want Type, opts []ReadOption) (int64, bool, error) {
	if len(c.path) > 0 {
		v, found, err := c.leaf(ctx, key, want, opts)
		return v.Counter, found, err
	}
	v, err := c.Get(ctx, key, opts...)
	switch {
	case errors.Is(err, ErrNotFound):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	case v.Type != want:
		return 0, false, wrongType(v.Type)
	default:
		return v.Counter, true, nil
	}
}

func wrongType(found Type) *Error {
	return &Error{
		Code: connect.CodeFailedPrecondition, Reason: ReasonWrongType, Message: fmt.Sprintf("the key holds a %v", found),
		Metadata: map[string]string{"type_found": found.String()},
	}
}

// NewMax returns a write that raises a maximum to n.
func NewMax(key string, n int64, opts ...WriteOption) Write { return newUpdate(key, opMax(n), opts) }

// NewMin returns a write that lowers a minimum to n.
func NewMin(key string, n int64, opts ...WriteOption) Write { return newUpdate(key, opMin(n), opts) }

func opMax(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_Max{Max: &atollv1.Max{Value: n}}}
}

func opMin(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_Min{Min: &atollv1.Min{Value: n}}}
}
