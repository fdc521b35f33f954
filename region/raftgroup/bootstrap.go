package raftgroup

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// The library's names for what it keeps besides the log.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
)

// bootstrap makes the first configuration, the same on every member, if the member has no state.
// A later incarnation never does.
func (g *Group) bootstrap(c *Config) error {
	if c.Incarnation > 0 { // others tell it who the members are
		return nil
	}
	stable := stableStore{c.Log}
	servers := raft.Configuration{}
	for _, m := range c.Members {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(m), Address: raft.ServerAddress(m)})
	}
	exists, err := raft.HasExistingState(g.logs, stable, g.snapshots)
	if err != nil {
		return err
	}
	if !exists {
		if err := raft.BootstrapCluster(g.conf, g.logs, stable, g.snapshots, nil, servers); err != nil {
			return fmt.Errorf("bootstrap raft: %w", err)
		}
		return nil
	}
	if c.Log.LastIndex() > 0 || c.Machine.Durable().Index > 0 {
		return nil
	}
	return finishBootstrap(stable, g.logs, servers)
}

// finishBootstrap repeats the second half of the library's bootstrap, which stores the term 1 and then
// the configuration: after a crash between the two, it would never do anything again. A later term, or
// a vote, means that there was a log once.
func finishBootstrap(stable stableStore, logs logStore, servers raft.Configuration) error {
	term, err := stable.GetUint64([]byte(keyTerm))
	if err != nil {
		return err
	}
	vote, err := stable.GetUint64([]byte(keyVoteTerm))
	if err != nil {
		return err
	}
	if term != 1 || vote != 0 {
		return fmt.Errorf("%w: it is empty, but took part in term %d", errLogLost, term)
	}
	first := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers)}
	if err := logs.StoreLog(first); err != nil {
		return fmt.Errorf("bootstrap raft: %w", err)
	}
	return nil
}
