package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// RegionChange names a region and how it is to change.
type RegionChange struct {
	Region string
	// ID is a new region's, Epoch its first one, or that under which a region comes back; 0 means the next then.
	ID, Epoch uint32
	// Address is the host:port of its vote, of a new region, or one that comes back elsewhere.
	Address string
	// Note says why a region is fenced.
	Note string
	// Heir is the region that takes over.
	Heir string
	// DryRun has nothing done: the plan says what would be.
	DryRun bool
}

// planned is an answer with a plan.
type planned interface{ GetPlan() *atollv1.RegionPlan }

// change has the regions changed. It is safe to repeat: each change names the epoch of the region that it is about.
func change[R planned](ctx context.Context, c *Client, do func(context.Context, *endpoint) (R, error)) (*atollv1.RegionPlan, error) {
	res, err := invoke(ctx, c.shared, "", do)
	return res.GetPlan(), err
}

// AddRegion takes a new region in: it joins. A nil error promises that a majority of the regions has decided it.
// Errors: ErrRegionRefused with why and what to do, ErrUnavailable if no majority answers, ErrOutcomeUnknown.
func (c *Client) AddRegion(ctx context.Context, r RegionChange) (*atollv1.RegionPlan, error) {
	return change(ctx, c, func(ctx context.Context, e *endpoint) (*atollv1.AddResponse, error) {
		return e.regions.Add(ctx, &atollv1.AddRequest{Region: r.Region, Id: r.ID, Epoch: r.Epoch, Address: r.Address, DryRun: r.DryRun})
	})
}

// DrainRegion has a region stop writing, and leave once the others have what it wrote. Errors: as AddRegion.
func (c *Client) DrainRegion(ctx context.Context, r RegionChange) (*atollv1.RegionPlan, error) {
	return change(ctx, c, func(ctx context.Context, e *endpoint) (*atollv1.DrainResponse, error) {
		return e.regions.Drain(ctx, &atollv1.DrainRequest{Region: r.Region, DryRun: r.DryRun})
	})
}

// FenceRegion gives a region up: the others close it at what they have of it. Errors: as AddRegion.
func (c *Client) FenceRegion(ctx context.Context, r RegionChange) (*atollv1.RegionPlan, error) {
	return change(ctx, c, func(ctx context.Context, e *endpoint) (*atollv1.FenceResponse, error) {
		return e.regions.Fence(ctx, &atollv1.FenceRequest{Region: r.Region, Note: r.Note, DryRun: r.DryRun})
	})
}

// RemoveRegion says that a closed region is not expected back. Errors: as AddRegion.
func (c *Client) RemoveRegion(ctx context.Context, r RegionChange) (*atollv1.RegionPlan, error) {
	return change(ctx, c, func(ctx context.Context, e *endpoint) (*atollv1.RemoveResponse, error) {
		return e.regions.Remove(ctx, &atollv1.RemoveRequest{Region: r.Region, DryRun: r.DryRun})
	})
}

// RejoinRegion has a closed region come back under a new epoch, which the plan has. Errors: as AddRegion.
func (c *Client) RejoinRegion(ctx context.Context, r RegionChange) (*atollv1.RegionPlan, error) {
	return change(ctx, c, func(ctx context.Context, e *endpoint) (*atollv1.RejoinResponse, error) {
		return e.regions.Rejoin(ctx, &atollv1.RejoinRequest{Region: r.Region, Epoch: r.Epoch, Address: r.Address, DryRun: r.DryRun})
	})
}

// NameHeir decides that a region takes over the homes of another one, which was fenced or drained and has not come back. It cannot
// be changed; MoveHome has the heir take over, once the other region is closed. Errors: as AddRegion.
func (c *Client) NameHeir(ctx context.Context, r RegionChange) (*atollv1.RegionPlan, error) {
	return change(ctx, c, func(ctx context.Context, e *endpoint) (*atollv1.NameHeirResponse, error) {
		return e.regions.NameHeir(ctx, &atollv1.NameHeirRequest{Region: r.Region, Heir: r.Heir, DryRun: r.DryRun})
	})
}
