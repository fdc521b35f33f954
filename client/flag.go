package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Flag is an enable-wins flag: of an enable and a disable made at once in different regions, the
// enable wins. A flag that is not enabled does not exist: Get answers ErrNotFound.
type Flag struct {
	client *Client
	key    string
}

// Flag returns the flag under a key. It does not have to exist: it begins disabled.
func (c *Client) Flag(key string) *Flag { return &Flag{client: c, key: key} }

// Enable enables the flag and returns its new version; "" if it is written with [WithLocalDurability].
// Of a flag that is enabled already it survives a disable made elsewhere meanwhile.
//
// Errors: ErrWrongType, and those of its conditions.
func (f *Flag) Enable(ctx context.Context, opts ...WriteOption) (version string, err error) {
	res, err := f.client.update(ctx, f.key, flagEnable(), opts)
	return res.GetVersion(), err
}

// Disable disables the flag as the region sees it. Enables made elsewhere meanwhile survive.
//
// Errors: ErrWrongType, and those of its conditions.
func (f *Flag) Disable(ctx context.Context, opts ...WriteOption) error {
	_, err := f.client.update(ctx, f.key, flagDisable(), opts)
	return err
}

// Enabled says whether the flag is enabled.
//
// Errors: ErrWrongType, ErrStale if the bound of a bounded read cannot be met.
func (f *Flag) Enabled(ctx context.Context, opts ...ReadOption) (bool, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_Flag{Flag: &atollv1.FlagQuery{}}}
	res, err := f.client.query(ctx, f.key, q, opts)
	return res.GetFlag().GetEnabled(), err
}

// NewFlagEnable returns a write that enables a flag.
func NewFlagEnable(key string, opts ...WriteOption) Write {
	return newUpdate(key, flagEnable(), opts)
}

// NewFlagDisable returns a write that disables a flag as the region sees it.
func NewFlagDisable(key string, opts ...WriteOption) Write {
	return newUpdate(key, flagDisable(), opts)
}

func flagEnable() *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_FlagEnable{FlagEnable: &atollv1.FlagEnable{}}}
}

func flagDisable() *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_FlagDisable{FlagDisable: &atollv1.FlagDisable{}}}
}
