package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Home is the home of a namespace in one partition: the region that its writes are made in.
type Home struct {
	Partition uint32
	// Region is the home as far as the asked region knows. Epoch rises with every change.
	Region string
	Epoch  uint64
	// Serving says that the asked region is the home, and serves.
	Serving bool
	// Waiting are the regions that have to tell that they know of the home before it can move.
	Waiting []string
	// Err says why the partition could not be asked.
	Err error
	// Heir is the region that is to take over from the home, which was given up; empty if that has no heir.
	Heir string
}

// HomeMove is how far the move of a home is in one partition.
type HomeMove struct {
	Partition uint32
	State     atollv1.HomeMoveState
	// From is the home before; empty if it is not known any more.
	From    string
	Epoch   uint64
	Waiting []string
	// Err says why it is not known how far it is, or why it cannot go on. What [ErrUnavailable], [ErrDeadline],
	// [ErrOverloaded] and [ErrOutcomeUnknown] match goes away.
	Err error
}

// Homes returns what the client's region knows of the homes of the client's namespace, by partition.
// Errors: ErrInvalidArgument if the namespace has none.
func (c *Client) Homes(ctx context.Context) ([]Home, error) {
	res, err := invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.HomesResponse, error) {
		return e.namespaces.Homes(ctx, &atollv1.HomesRequest{Namespace: c.namespace})
	})
	if err != nil {
		return nil, err
	}
	homes := make([]Home, len(res.GetPartitions()))
	for i, p := range res.GetPartitions() {
		homes[i] = Home{p.GetPartition(), p.GetRegion(), p.GetEpoch(), p.GetServing(), p.GetWaiting(), itemError(p.GetError()), p.GetHeir()}
	}
	return homes, nil
}

// MoveHome makes a region the home of the client's namespace. It does what can be done now, and returns how far each
// partition is: call it again until done, which says that the new home serves in all of them. It may be called as often as
// one likes, and at any region; no write is lost or decided twice in between. With dryRun nothing is done.
// Errors: ErrInvalidArgument if the namespace has no home, or there is no such region; ErrRegionRefused if it takes no writes.
func (c *Client) MoveHome(ctx context.Context, region string, dryRun bool) (moves []HomeMove, done bool, err error) {
	req := &atollv1.MoveHomeRequest{Namespace: c.namespace, Region: region, DryRun: dryRun}
	res, err := invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.MoveHomeResponse, error) {
		return e.namespaces.MoveHome(ctx, req)
	})
	if err != nil {
		return nil, false, err
	}
	moves = make([]HomeMove, len(res.GetMoves()))
	for i, m := range res.GetMoves() {
		moves[i] = HomeMove{m.GetPartition(), m.GetState(), m.GetFrom(), m.GetEpoch(), m.GetWaiting(), itemError(m.GetError())}
	}
	return moves, res.GetDone(), nil
}
