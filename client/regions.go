package client

import (
	"context"
	"fmt"
	"iter"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Status returns the regions of the deployment and how far apart they are, as the client's region
// knows it.
func (c *Client) Status(ctx context.Context) (*atollv1.StatusResponse, error) {
	return invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.StatusResponse, error) {
		return e.regions.Status(ctx, &atollv1.StatusRequest{})
	})
}

// Digest returns the version vector and state digest of the given partitions, or of all if none are
// given. Two regions whose vectors are equal have equal digests.
func (c *Client) Digest(ctx context.Context, partitions ...uint32) (*atollv1.DigestResponse, error) {
	return invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.DigestResponse, error) {
		return e.regions.Digest(ctx, &atollv1.DigestRequest{Partitions: partitions})
	})
}

// Explain returns what made a key's value in the client's region.
func (c *Client) Explain(ctx context.Context, key string) (*atollv1.ExplainResponse, error) {
	return invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.ExplainResponse, error) {
		return e.regions.Explain(ctx, &atollv1.ExplainRequest{Key: key, Namespace: c.namespace})
	})
}

// Topology returns the region's nodes, and where its partitions are.
func (c *Client) Topology(ctx context.Context) (*atollv1.Topology, error) {
	res, err := invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.TopologyResponse, error) {
		return e.cluster.Topology(ctx, &atollv1.TopologyRequest{})
	})
	return res.GetTopology(), err
}

// WatchTopology yields the topology as it is and after each change, until ctx ends or no node answers;
// the last thing it yields is the error.
func (c *Client) WatchTopology(ctx context.Context) iter.Seq2[*atollv1.Topology, error] {
	return func(yield func(*atollv1.Topology, error) bool) {
		s := c.shared
		var avoid *endpoint
		for n := 1; ; n++ {
			e, done := s.anyNode(avoid), false
			err := followTopology(ctx, e, func(t *atollv1.Topology) bool {
				n = 1
				done = !yield(t, nil)
				return !done
			})
			if done {
				return
			}
			fault, v := judge(ctx, err, false, false)
			if v != notDone || n >= s.cfg.attempts || !pause(ctx, backoff(n, fault.RetryAfter)) {
				yield(nil, conclude(ctx, fault, false, ""))
				return
			}
			avoid = s.learnFrom(ctx, e, nil, fault)
		}
	}
}

func wrongCount(got, want int) error {
	return &Error{
		Code:    connect.CodeInternal,
		Reason:  ReasonInternal,
		Message: fmt.Sprintf("the server answered %d items for %d: the outcome is unknown", got, want),
	}
}
