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

// Audit compares the client's region with another one: in which values do they differ, although both have applied the
// same operations? With start it begins that in the given partitions, or in all if none are given, and returns the number
// of each one's audit; without it returns how far the last one is. An audit goes on by itself, and changes nothing.
func (c *Client) Audit(ctx context.Context, region string, start bool, partitions ...uint32) (*atollv1.AuditResponse, error) {
	return invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.AuditResponse, error) {
		return e.regions.Audit(ctx, &atollv1.AuditRequest{Region: region, Partitions: partitions, Start: start})
	})
}

// Explain returns what made a key's value in the client's region.
func (c *Client) Explain(ctx context.Context, key string) (*atollv1.ExplainResponse, error) {
	return invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.ExplainResponse, error) {
		return e.regions.Explain(ctx, &atollv1.ExplainRequest{Key: key, Namespace: c.namespace})
	})
}

// ConflictsQuery selects conflicts. The zero value is the first page of the client's namespace.
type ConflictsQuery struct {
	// AllNamespaces widens the query to all namespaces.
	AllNamespaces bool
	// Key, or else Prefix, narrow it to losers of this key, or of keys that begin like that.
	Key, Prefix string
	// Limit bounds the losers of a page: at most 1000, and 100 if it is 0.
	Limit uint32
	// Cursor is the page's before this one.
	Cursor []byte
}

// Conflicts returns how often the client's region had to decide between concurrent writes, and the values
// that lost lately, the newest of each partition first. Every region counts the merges that it does
// itself.
func (c *Client) Conflicts(ctx context.Context, q ConflictsQuery) (*atollv1.ConflictsResponse, error) {
	req := &atollv1.ConflictsRequest{
		Namespace: c.namespace, AllNamespaces: q.AllNamespaces, Key: q.Key, Prefix: q.Prefix, Limit: q.Limit, Cursor: q.Cursor,
	}
	if q.AllNamespaces {
		req.Namespace = ""
	}
	return invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.ConflictsResponse, error) {
		return e.regions.Conflicts(ctx, req)
	})
}

// RestoreLoser writes a value that lost, which Conflicts has named, once more as an ordinary new write, and
// returns the new version of the key, or of the leaf of an observed-remove map, and the value.
//
// Of options it takes [IfVersion], [WithOpID], [InSession], [WithRegions] and [WithInfo]; durability is that of a quorum. Errors:
// ErrNotPresent if the loser is not kept any more, ErrVersionMismatch, ErrWrongType if the key holds
// something else by now, ErrInvalidArgument if the value has expired.
func (c *Client) RestoreLoser(ctx context.Context, partition uint32, id uint64, opts ...WriteOption) (version string, loser *atollv1.Loser, err error) {
	cfg := c.writeConfigOf(opts)
	req := &atollv1.RestoreLoserRequest{Partition: partition, Id: id, IfVersion: cfg.condition.GetIfVersion(), Options: cfg.options()}
	res, err := invoke(ctx, c.shared, cfg.opID, func(ctx context.Context, e *endpoint) (*atollv1.RestoreLoserResponse, error) {
		return e.regions.RestoreLoser(ctx, req)
	})
	if err != nil {
		return "", nil, err
	}
	cfg.capture(res.GetInfo())
	return res.GetVersion(), res.GetLoser(), nil
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
	return follow(ctx, c, followTopology)
}

// WatchStatus yields what Status returns, as it is and then about once a second, until ctx ends or no node answers; the
// last thing it yields is the error.
func (c *Client) WatchStatus(ctx context.Context) iter.Seq2[*atollv1.StatusResponse, error] {
	return follow(ctx, c, func(ctx context.Context, e *endpoint, each func(*atollv1.StatusResponse) bool) error {
		stream, err := e.regions.WatchStatus(ctx, &atollv1.WatchStatusRequest{})
		if err != nil {
			return err
		}
		defer func() { _ = stream.Close() }()
		for {
			msg, err := stream.Receive()
			if err != nil {
				return err
			}
			if !each(msg.GetStatus()) {
				return nil
			}
		}
	})
}

// follow yields what nodes tell, one after another: of one hands on what a node tells until its stream ends, which it
// returns the reason of, or nil if the caller wants no more.
func follow[T any](ctx context.Context, c *Client, one func(ctx context.Context, e *endpoint, each func(T) bool) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		s := c.shared
		var none T
		var avoid *endpoint
		for n := 1; ; n++ {
			e, done := s.anyNode(avoid), false
			err := one(ctx, e, func(t T) bool {
				n = 1
				done = !yield(t, nil)
				return !done
			})
			if done {
				return
			}
			fault, v := judge(ctx, err, false, false)
			if v != notDone || n >= s.cfg.attempts || !pause(ctx, backoff(n, fault.RetryAfter)) {
				yield(none, conclude(ctx, fault, false, ""))
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
