package raftgroup

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/topology"
)

// Members returns the nodes whose present servers vote, as far as this one knows.
func (g *Group) Members() []topology.NodeID {
	var nodes []topology.NodeID
	for _, s := range g.servers() {
		if s.Suffrage == raft.Voter {
			nodes = append(nodes, topology.NodeID(s.Address))
		}
	}
	return nodes
}

// RemoveMember takes a node's servers out of the group. Only a ready leader can. A leader that removes
// itself steps down when that is committed.
// Errors: region.ErrNotLeader, region.ErrOutcomeUnknown, ctx's own.
func (g *Group) RemoveMember(ctx context.Context, node topology.NodeID) error {
	term, _ := g.ready()
	if term == 0 || !g.leads(term) {
		return region.ErrNotLeader
	}
	before := g.configurationIndex()
	for _, s := range g.servers() {
		if topology.NodeID(s.Address) != node {
			continue
		}
		g.logger.Info("removing a member", "server", s.ID)
		err := g.await(ctx, func(r *raft.Raft) error { return r.RemoveServer(s.ID, before, joinTimeout).Error() })
		if err != nil {
			return outcome(err)
		}
		before = g.configurationIndex()
	}
	return nil
}

// ForceAlone makes a member that is not running the only one of its group. What it has accepted counts
// as decided, whether or not a majority had it: two members that are both forced go different ways for
// good. It is for an operator who knows that the others are gone.
func ForceAlone(log *raftlog.Group, self topology.NodeID, incarnation uint32, machine region.StateMachine) error {
	if err := ClaimLog(log, incarnation); err != nil {
		return err
	}
	term, err := log.GetUint64([]byte(keyTerm))
	if err != nil {
		return err
	}
	last := machine.Durable()
	if log.LastIndex() == 0 && last.Index == 0 {
		return errors.New("this member has never taken part: there is nothing that it could go on from")
	}
	alone := raft.Configuration{Servers: []raft.Server{{ID: serverID(self, incarnation), Address: raft.ServerAddress(self)}}}
	entry := &raft.Log{
		Index: max(log.LastIndex(), last.Index) + 1, Term: max(term, last.Term) + 1,
		Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(alone),
	}
	// The term first: a crash between the two leaves a member that must be forced again.
	if err := (stableStore{log}).SetUint64([]byte(keyTerm), entry.Term); err != nil {
		return fmt.Errorf("raise the term: %w", err)
	}
	logs := logStore{log, machine, &logTail{}, nil}
	if err := logs.StoreLog(entry); err != nil {
		return fmt.Errorf("change the members: %w", err)
	}
	return nil
}
