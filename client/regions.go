package client

import (
	"context"
	"fmt"

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

func wrongCount(got, want int) error {
	return &Error{
		Code:    connect.CodeInternal,
		Reason:  ReasonInternal,
		Message: fmt.Sprintf("the server answered %d items for %d: the outcome is unknown", got, want),
	}
}
