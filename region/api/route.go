package api

import (
	"cmp"
	"context"
	"errors"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/topology"
)

const (
	// leaderWait is for how long a request waits until its partition has a leader that answers.
	leaderWait     = 5 * time.Second
	firstRouteWait = 10 * time.Millisecond
	maxRouteWait   = 200 * time.Millisecond
)

// call is a request to one partition: how to serve it here and how to ask another node for it.
type call[T any] struct {
	partition topology.PartitionID
	local     func(context.Context, Partition) (T, error)
	remote    func(context.Context, *peer) (T, error)
	// anyReplica lets a replica serve that does not lead.
	anyReplica bool
	// noWait gives up when there is no leader now.
	noWait bool
	// waitsStale waits for a replica that is not too far behind.
	waitsStale bool
	// patience is for how long to wait for a node that serves; 0 means leaderWait.
	patience time.Duration
	// write makes an unanswered request one that may have been done; with an opID it can be repeated.
	write bool
	opID  string
	// timeout bounds one try at another node; 0 means peerTimeout.
	timeout time.Duration
}

// route serves a call here or at the node that can. What nobody did is tried again for a while.
func route[T any](ctx context.Context, s *Server, c call[T]) (T, error) {
	var zero T
	var waited time.Duration
	var hint topology.NodeID
	maybeDone := false
	for attempt := 0; ; attempt++ {
		reply, f := routeOnce(ctx, s, &c, hint, attempt)
		if f == nil {
			return reply, nil
		}
		maybeDone = maybeDone || c.write && rowOf(f.reason).outcome == unknown
		hint = topology.NodeID(f.metadata["node"])
		again := (canTryAgain(f, c.opID) || c.waitsStale && f.reason == reasonStale) && !wasForwarded(ctx) && !c.noWait && ctx.Err() == nil
		pause := min(firstRouteWait<<min(attempt, 10), maxRouteWait)
		if attempt == 0 && f.reason == reasonNotOwner {
			pause = 0 // ask the right node at once
		}
		if !again || waited >= cmp.Or(c.patience, leaderWait) || !wait(ctx, pause) {
			return zero, s.conclude(ctx, f, c.opID, maybeDone)
		}
		waited += max(pause, f.spent)
	}
}

// canTryAgain reports whether another try can help and is safe.
func canTryAgain(f *failure, opID string) bool {
	switch f.reason {
	case reasonNotOwner, reasonNoLeader:
		return true
	case reasonShuttingDown, reasonDeadline:
		return f.peer != "" // not this node's own: that would not change
	case reasonOutcomeUnknown:
		return f.peer != "" && opID != ""
	default:
		return false
	}
}

// conclude makes the last failure the answer. Once a try may have been done, later ones that were
// not cannot make that undone.
func (s *Server) conclude(ctx context.Context, f *failure, opID string, maybeDone bool) *failure {
	routing := aboutRouting(f.reason)
	f = s.named(f)
	if maybeDone && routing {
		f = fail(reasonOutcomeUnknown, outcomeUnknownText).because(f)
	} else if routing && ctx.Err() != nil {
		f = failureOf(ctx.Err())
	}
	if f.reason == reasonOutcomeUnknown {
		f = f.clone()
		if opID != "" {
			f = f.with("op_id", opID)
		} else if f.metadata["done_in"] == "" {
			f.message = "the write may or may not have taken effect, and had no op_id to repeat it with; read the key to find out"
		}
	}
	if f.reason == reasonNotOwner && f.metadata["address"] == "" {
		if n, ok := s.region.Node(topology.NodeID(f.metadata["node"])); ok {
			f = f.clone().with("address", n.API)
		}
	}
	return f
}

// aboutRouting reports whether a reason says only who does not serve a request now.
func aboutRouting(r reason) bool {
	switch r {
	case reasonNotOwner, reasonNoLeader, reasonNotHome, reasonNoLease, reasonShuttingDown, reasonDeadline:
		return true
	default:
		return false
	}
}

// routeOnce tries a call once: at the hinted node, or here, or at the node that this one believes to
// be right.
func routeOnce[T any](ctx context.Context, s *Server, c *call[T], hint topology.NodeID, attempt int) (T, *failure) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, failureOf(err)
	}
	p, err := s.hosted(c.partition)
	hosted := err == nil
	if hosted && (hint == "" || hint == s.self) || wasForwarded(ctx) {
		if !hosted {
			return zero, failureOf(err).with("node", string(s.replicas(c.partition)[0]))
		}
		reply, err := c.local(ctx, p)
		if err == nil {
			return reply, nil
		}
		f := failureOf(err)
		if c.write {
			f = failureOfWrite(ctx, err)
		}
		if f.reason != reasonNotOwner || wasForwarded(ctx) {
			return zero, f
		}
		hint = topology.NodeID(f.metadata["node"])
	}
	if hint == "" {
		hint = s.guess(c.partition, c.anyReplica, attempt)
	}
	target, ok := s.peers[hint]
	if !ok {
		return zero, fail(reasonNoLeader, "the partition's leader cannot be told now; try again")
	}
	return routeTo(ctx, s, c, target)
}

func routeTo[T any](ctx context.Context, s *Server, c *call[T], target *peer) (T, *failure) {
	began := s.clock()
	reply, sent, err := ask(ctx, target, cmp.Or(c.timeout, peerTimeout), c.remote)
	if err == nil {
		if !c.anyReplica {
			s.leaders[c.partition].Store(target)
		}
		return reply, nil
	}
	s.leaders[c.partition].CompareAndSwap(target, nil)
	f := s.failureOfAsking(ctx, target, err, c.write && sent).clone()
	f.peer, f.spent = target.id, s.clock().Sub(began)
	var zero T
	return zero, f
}

// guess returns a node that may serve a partition of which this node has no replica.
func (s *Server) guess(p topology.PartitionID, anyReplica bool, attempt int) topology.NodeID {
	if leader := s.leaders[p].Load(); leader != nil && !anyReplica {
		return leader.id
	}
	replicas := s.replicas(p)
	return replicas[attempt%len(replicas)]
}

// failureOfAsking returns the failure of a call at another node: its own verdict, or, if there is
// none, what the silence means.
func (s *Server) failureOfAsking(ctx context.Context, p *peer, err error, maybeDone bool) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*connect.Error](err); ok && !as[*lostError](err) {
		if f := failureOfPeer(e); f != nil {
			return f
		}
	}
	switch {
	case maybeDone:
		return fail(reasonOutcomeUnknown, outcomeUnknownText).because(err)
	case ctx.Err() != nil:
		return failureOf(ctx.Err())
	default:
		return fail(reasonNoLeader, "node "+string(p.id)+" does not answer; try again").because(err)
	}
}

// wait waits for d and reports whether the context is still alive then.
func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// replicas returns the nodes that hold a replica of a partition.
func (s *Server) replicas(p topology.PartitionID) []topology.NodeID { return s.placement[p] }
