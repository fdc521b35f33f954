package raftgroup

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// confirmPatience bounds a confirmation. Longer than an election between living members takes, so
	// that most readers see none of it.
	confirmPatience = 3 * time.Second
	// confirmRetry is the pause after a round that failed at once.
	confirmRetry = 20 * time.Millisecond
	// leaderGrace is how long a majority's answers wait for the leader's, which can spare the reader
	// the time until the next message from the leader.
	leaderGrace = 10 * time.Millisecond
)

var errNoMajority = errors.New("no majority confirms")

// ConfirmLeader returns nil once this node has proved that it led the group, in its present term, at
// an instant after the call began, and has applied everything that anybody could have read before.
// Nothing is written. The proof is a majority's word, given after the call began, that its term is no
// later than ours: whoever was elected later than that was elected after the call began.
//
// Errors: region.ErrNotLeader, region.ErrNoQuorum after some seconds, region.ErrShuttingDown, ctx's.
func (g *Group) ConfirmLeader(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, confirmPatience)
	defer cancel()
	_, committed, err := g.confirm(patient)
	if err == nil {
		// A follower can have served what this node has committed but not yet applied.
		err = g.awaitApplied(patient, committed)
	}
	return confirmError(ctx, err)
}

// ConfirmFollower returns nil once the leader has proved what ConfirmLeader proves, and this node has
// applied everything that was committed then. Any replica may call it.
//
// Errors: region.ErrNoQuorum after some seconds, region.ErrShuttingDown, ctx's.
func (g *Group) ConfirmFollower(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, confirmPatience)
	defer cancel()
	return confirmError(ctx, g.retry(patient, func() error {
		if g.raft().State() == raft.Leader {
			_, committed, err := g.confirm(patient)
			if err != nil {
				return err
			}
			return g.awaitApplied(patient, committed)
		}
		leader, _, known := g.Leader()
		if !known {
			return region.ErrNotLeader
		}
		answer, err := g.layer.Call(patient, leader, transport.Control, kindReached, nil)
		if err != nil {
			return err
		}
		reached, err := decodeReached(answer)
		if err != nil {
			return err
		}
		g.learn(patient, leader, &reached)
		return g.awaitApplied(patient, reached.index)
	}))
}

// ConfirmMajority returns nil once this node has applied every entry that was acknowledged before the
// call began. It asks all voters how far their logs go; any majority has every acknowledged entry. No
// leader is needed for that, unless an entry is in doubt: then it waits until a leader has decided.
//
// Errors: region.ErrNoQuorum after some seconds, region.ErrShuttingDown, ctx's.
func (g *Group) ConfirmMajority(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, confirmPatience)
	defer cancel()
	return confirmError(ctx, g.retry(patient, func() error {
		before := g.servers()
		index, err := g.askMajority(patient, before)
		if err != nil {
			return err
		}
		if err := g.awaitApplied(patient, index); err != nil {
			return err
		}
		// Voters that this node did not know of may have acknowledged entries without those it asked.
		// The entry that made them voters is among what it has waited for.
		if !slices.Equal(before, g.servers()) {
			return errNoMajority
		}
		return nil
	}))
}

// confirmError is what a caller hears. Every attempt ended, or was given up.
func confirmError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, region.ErrNotLeader), errors.Is(err, region.ErrShuttingDown):
		return err
	default:
		return region.ErrNoQuorum
	}
}

// retry tries until it succeeds or ctx ends, which gives the reason.
func (g *Group) retry(ctx context.Context, try func() error) error {
	for {
		err := try()
		switch {
		case err == nil, errors.Is(err, region.ErrShuttingDown):
			return err
		case g.stopped():
			return region.ErrShuttingDown
		case !pause(ctx, confirmRetry):
			return ctx.Err()
		}
	}
}

// confirm proves that this node leads, and returns its term and how far the log was committed when it began.
func (g *Group) confirm(ctx context.Context) (term, committed uint64, err error) {
	for {
		term = g.raft().CurrentTerm()
		ready, changed := g.ready()
		switch {
		case g.stopped() || g.fsm.failed.Load():
			return 0, 0, region.ErrShuttingDown
		case !g.leads(term):
			return 0, 0, region.ErrNotLeader
		case ready != term: // elected, but its barrier is under way
			if !waitChange(ctx, changed) {
				return 0, 0, ctx.Err()
			}
			continue
		}
		committed = g.raft().CommitIndex()
		servers := g.servers()
		err := g.proveLeadership(ctx, term, servers)
		if ready, _ := g.ready(); err == nil && ready == term && g.leads(term) && slices.Equal(servers, g.servers()) {
			return term, committed, nil
		}
		if !g.leads(term) {
			return 0, 0, region.ErrNotLeader
		}
		if !pause(ctx, confirmRetry) {
			return 0, 0, ctx.Err()
		}
	}
}

// waitChange waits for a change, but not for long, as it may never come. It returns false if ctx ended.
func waitChange(ctx context.Context, changed <-chan struct{}) bool {
	timer := time.NewTimer(confirmRetry)
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// servers returns the latest configuration that this node knows, committed or not.
func (g *Group) servers() []raft.Server {
	f := g.raft().GetConfiguration() // answered at once
	return f.Configuration().Servers
}

// voters returns the other voters of a configuration, how many voters are needed for a majority, and
// whether this node is one.
func (g *Group) voters(servers []raft.Server) (others []raft.Server, majority int, self bool) {
	for _, s := range servers {
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == g.id:
			self = true
		default:
			others = append(others, s)
		}
	}
	count := len(others)
	if self {
		count++
	}
	return others, count/2 + 1, self
}

// ask sends a question to voters, who answer in any order.
func (g *Group) ask(voters []raft.Server, kind uint8) <-chan voterAnswer {
	answers := make(chan voterAnswer, len(voters))
	for _, v := range voters {
		g.layer.Go(topology.NodeID(v.Address), transport.Control, kind, []byte(v.ID), func(body []byte, err error) {
			answers <- voterAnswer{topology.NodeID(v.Address), body, err}
		})
	}
	return answers
}

type voterAnswer struct {
	node topology.NodeID
	body []byte
	err  error
}

// askTerms returns nil if a majority's terms, asked for after the call, are no later than term.
func (g *Group) askTerms(ctx context.Context, term uint64, servers []raft.Server) error {
	others, need, self := g.voters(servers)
	if self {
		need--
	}
	answers := g.ask(others, kindTerm)
	for left := len(others); need > 0; left-- {
		if left < need {
			return errNoMajority
		}
		select {
		case a := <-answers:
			if theirs, err := decodeTerm(a.body); a.err == nil && err == nil && theirs <= term {
				need--
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// askMajority returns the highest index of an entry that may have been acknowledged: the last one in
// the log of any member of some majority.
func (g *Group) askMajority(ctx context.Context, servers []raft.Server) (index uint64, err error) {
	others, need, self := g.voters(servers)
	if self {
		need--
		if index, err = g.accepted(); err != nil {
			return 0, err
		}
	}
	answers := g.ask(others, kindAccepted)
	left := len(others)
	for ; need > 0; left-- {
		if left < need {
			return 0, errNoMajority
		}
		select {
		case a := <-answers:
			if theirs, err := g.hear(ctx, a); err == nil {
				index, need = max(index, theirs), need-1
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	grace := time.NewTimer(leaderGrace)
	defer grace.Stop()
	for ; left > 0 && !g.covered(index); left-- {
		select {
		case a := <-answers:
			_, _ = g.hear(ctx, a) // a majority has answered; this one only may be the leader
		case <-grace.C:
			return index, nil
		}
	}
	return index, nil
}

// hear reads a voter's answer, and learns from it if the voter leads.
func (g *Group) hear(ctx context.Context, a voterAnswer) (index uint64, err error) {
	if a.err != nil {
		return 0, a.err
	}
	r, err := decodeAccepted(a.body)
	if err == nil && r.leads {
		g.learn(ctx, a.node, &r.reached)
	}
	return r.index, err
}
