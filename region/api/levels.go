package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/session"
	"github.com/atolldb/atoll/topology"
)

const (
	// leaderPatience is for how long a read that may do without a leader looks for one.
	leaderPatience = time.Second
	// maxStaleness is the largest bound that a read may ask for.
	maxStaleness = 24 * time.Hour
)

// reading is how a read wants to be served.
type reading struct {
	region.ReadOptions
	onStale atollv1.OnStale
	// session is the token of the read's session, and wantSession says that it wants one.
	session     string
	wantSession bool
	// byName says that the request names CONSISTENCY_LINEARIZABLE: of a namespace that has a home it is about that.
	byName bool
}

// carries reports whether the answer has a session token. Whoever asks for none pays for none.
func (how reading) carries() bool {
	return how.session != "" || how.wantSession || how.Level == region.Confirmed
}

// checkReadOptions returns how the options want a read to be served.
func checkReadOptions(o *atollv1.ReadOptions) (reading, *failure) {
	how := reading{onStale: o.GetOnStale(), session: string(o.GetSession()), wantSession: o.GetWantSession()}
	if len(how.session) > session.MaxBytes {
		return how, tooLong(reasonInvalidArgument, "options.session", session.MaxBytes)
	}
	var ok bool
	if how.Strategy, ok = strategyOf(o.GetStrategy()); !ok {
		return how, invalid("options.strategy", "unknown strategy %d", o.GetStrategy())
	}
	if _, ok := atollv1.OnStale_name[int32(o.GetOnStale())]; !ok {
		return how, invalid("options.on_stale", "unknown value %d", o.GetOnStale())
	}
	switch o.GetConsistency() {
	case atollv1.Consistency_CONSISTENCY_UNSPECIFIED, atollv1.Consistency_CONSISTENCY_LINEARIZABLE:
		how.Level = region.Linearizable
		how.byName = o.GetConsistency() == atollv1.Consistency_CONSISTENCY_LINEARIZABLE
	case atollv1.Consistency_CONSISTENCY_BOUNDED:
		how.Level, how.MaxStaleness = region.Bounded, o.GetMaxStaleness().AsDuration()
		if o.GetMaxStaleness() == nil || o.GetMaxStaleness().CheckValid() != nil || how.MaxStaleness <= 0 || how.MaxStaleness > maxStaleness {
			return how, fail(reasonInvalidArgument, "options.max_staleness: must be more than 0 and at most "+maxStaleness.String(),
				"field", "options.max_staleness", "limit", maxStaleness.String())
		}
		return how, nil
	case atollv1.Consistency_CONSISTENCY_SESSION:
		how.Level = region.Confirmed
	case atollv1.Consistency_CONSISTENCY_EVENTUAL:
		how.Level, how.Strategy = region.Eventual, region.StrategyAuto // nothing is confirmed
	default:
		return how, invalid("options.consistency", "unknown consistency %d", o.GetConsistency())
	}
	if o.GetMaxStaleness() != nil {
		return how, invalid("options.max_staleness", "only reads of CONSISTENCY_BOUNDED have a bound")
	}
	return how, nil
}

func strategyOf(s atollv1.Strategy) (region.Strategy, bool) {
	switch s {
	case atollv1.Strategy_STRATEGY_UNSPECIFIED, atollv1.Strategy_STRATEGY_AUTO:
		return region.StrategyAuto, true
	case atollv1.Strategy_STRATEGY_LEADER:
		return region.StrategyLeader, true
	case atollv1.Strategy_STRATEGY_FOLLOWER:
		return region.StrategyFollower, true
	case atollv1.Strategy_STRATEGY_MAJORITY:
		return region.StrategyMajority, true
	default:
		return 0, false
	}
}

// options is the reverse of checkReadOptions.
func (how reading) options() *atollv1.ReadOptions {
	o := &atollv1.ReadOptions{
		Consistency: consistencyOf(how.Level), Strategy: strategyName(how.Strategy), OnStale: how.onStale, WantSession: how.wantSession,
	}
	if how.Level == region.Linearizable && !how.byName {
		o.Consistency = atollv1.Consistency_CONSISTENCY_UNSPECIFIED
	}
	if how.session != "" {
		o.Session = []byte(how.session)
	}
	if how.Level == region.Bounded {
		o.MaxStaleness = durationpb.New(how.MaxStaleness)
	}
	return o
}

func consistencyOf(l region.Level) atollv1.Consistency {
	switch l {
	case region.Eventual:
		return atollv1.Consistency_CONSISTENCY_EVENTUAL
	case region.Bounded:
		return atollv1.Consistency_CONSISTENCY_BOUNDED
	case region.Confirmed:
		return atollv1.Consistency_CONSISTENCY_SESSION
	default:
		return atollv1.Consistency_CONSISTENCY_LINEARIZABLE
	}
}

func strategyName(s region.Strategy) atollv1.Strategy {
	switch s {
	case region.StrategyLeader:
		return atollv1.Strategy_STRATEGY_LEADER
	case region.StrategyFollower:
		return atollv1.Strategy_STRATEGY_FOLLOWER
	case region.StrategyMajority:
		return atollv1.Strategy_STRATEGY_MAJORITY
	default:
		return atollv1.Strategy_STRATEGY_UNSPECIFIED
	}
}

// anyReplica reports whether a replica may serve that does not lead.
func (how reading) anyReplica() bool {
	switch how.Strategy {
	case region.StrategyLeader:
		return false
	case region.StrategyFollower, region.StrategyMajority:
		return true
	default:
		// A session's read that does not wait goes to the replica that is behind the least.
		return how.Level != region.Linearizable && (how.Level != region.Confirmed || how.patient())
	}
}

// patient reports whether the read waits at a replica that is behind.
func (how reading) patient() bool {
	return how.onStale == atollv1.OnStale_ON_STALE_UNSPECIFIED || how.onStale == atollv1.OnStale_ON_STALE_WAIT
}

// waits reports whether the read waits for a replica that is not too far behind.
func (how reading) waits() bool {
	return how.Level == region.Bounded && how.patient()
}

// withoutLeader returns how to serve the read if no leader can be reached, and whether it may be.
func (how reading) withoutLeader() (reading, bool) {
	if how.Level != region.Linearizable || how.Strategy != region.StrategyAuto {
		return how, false
	}
	how.Strategy = region.StrategyMajority
	return how, true
}

// readFrom has fn read this node's replica in the way asked for, and says in info what was served.
func (s *Server) readFrom(
	ctx context.Context, p Partition, how reading, info *atollv1.ReplyInfo, fn func(*replica.Replica, hlc.Time) error,
) error {
	if how.carries() {
		return s.readSession(ctx, p, how, info, fn)
	}
	return readAs(ctx, p, how.ReadOptions, how.onStale, info, fn)
}

// readSession is readFrom for a read that has a session token, or wants one.
func (s *Server) readSession(
	ctx context.Context, p Partition, how reading, info *atollv1.ReplyInfo, fn func(*replica.Replica, hlc.Time) error,
) error {
	id := topology.PartitionID(info.GetPartition())
	r, err := s.beginSession(ctx, p, id, how)
	if err != nil {
		return err
	}
	if err := readAs(ctx, p, r.options, how.onStale, info, r.reading(s, id, fn)); err != nil {
		return err
	}
	info.Session = r.token.Bytes()
	switch {
	case r.stale:
		info.Stale, info.Staleness = true, r.late
	case how.Level == region.Confirmed:
		info.Served = atollv1.Consistency_CONSISTENCY_SESSION
	}
	return nil
}

func readAs(
	ctx context.Context, p Partition, o region.ReadOptions, onStale atollv1.OnStale, info *atollv1.ReplyInfo,
	fn func(*replica.Replica, hlc.Time) error,
) error {
	served, err := p.Read(ctx, o, fn)
	stale := false
	if as[*region.StaleError](err) && onStale == atollv1.OnStale_ON_STALE_SERVE {
		stale = true
		served, err = p.Read(ctx, region.ReadOptions{Level: region.Eventual}, fn)
	}
	if err != nil {
		return err
	}
	info.Served, info.Strategy, info.Stale = consistencyOf(served.Served), strategyName(served.Strategy), stale
	if served.Known {
		info.Staleness = durationpb.New(served.Staleness)
	}
	return nil
}

// readCall is a read of one partition: how to do it here and how to ask another node for it.
type readCall[T any] struct {
	partition topology.PartitionID
	how       reading
	local     func(ctx context.Context, p Partition, how reading) (T, error)
	remote    func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (T, error)
	// timeout bounds one try at another node; 0 means peerTimeout.
	timeout time.Duration
}

func (c readCall[T]) as(how reading, patience time.Duration) call[T] {
	return call[T]{
		partition:  c.partition,
		anyReplica: how.anyReplica(),
		waitsStale: how.waits(),
		patience:   patience,
		timeout:    c.timeout,
		local:      func(ctx context.Context, p Partition) (T, error) { return c.local(ctx, p, how) },
		remote:     func(ctx context.Context, p *peer) (T, error) { return c.remote(ctx, p, how.options()) },
	}
}

// routeRead serves a read where it can be served. One that may do without a leader does so if none
// is found.
func routeRead[T any](ctx context.Context, s *Server, c readCall[T]) (T, error) {
	majority, fallback := c.how.withoutLeader()
	if !fallback || wasForwarded(ctx) {
		reply, err := route(ctx, s, c.as(c.how, leaderWait))
		if f, ok := errors.AsType[*failure](err); ok && f.reason == reasonStale &&
			c.how.onStale == atollv1.OnStale_ON_STALE_REDIRECT && c.how.Level == region.Bounded && !wasForwarded(ctx) {
			how := reading{ReadOptions: region.ReadOptions{Level: region.Linearizable, Strategy: region.StrategyLeader}, wantSession: c.how.carries()}
			return route(ctx, s, c.as(how, leaderWait))
		}
		return reply, err
	}
	reply, err := route(ctx, s, c.as(c.how, leaderPatience))
	f, failed := errors.AsType[*failure](err)
	if !failed || !f.lacksLeader() || ctx.Err() != nil {
		return reply, err
	}
	short, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	reply, err = route(short, s, c.as(majority, leaderWait))
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		err = fail(reasonNoQuorum, "the partition has no leader now, and no majority of its replicas answers; try again").because(err)
	}
	return reply, err
}

// lacksLeader reports whether the request found no leader that could serve it.
func (f *failure) lacksLeader() bool {
	switch f.reason {
	case reasonNoLeader, reasonNotOwner:
		return true
	case reasonNoQuorum, reasonShuttingDown, reasonDeadline:
		return f.peer != "" // another node's may differ from what this one can reach
	default:
		return false
	}
}
