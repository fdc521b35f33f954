package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// A new incarnation of a node takes the place of the older ones, one step per question. Any step can be
// the last for a while; the next question goes on from what the configuration says.
//
//	the question:  entries that the asker has u64 | its server ID
//	the answer:    joined, joining, or elsewhere u8 | the leader's node, if elsewhere and known
const (
	kindJoin    = 41
	joinHeader  = 8
	joined      = 0
	joining     = 1
	elsewhere   = 2
	joinRetry   = 300 * time.Millisecond
	joinTimeout = 2 * time.Second
	// joinLag is how many entries a member may lack to be given a vote.
	joinLag = 256
)

var (
	errSuperseded = errors.New("a later incarnation of the node is a member already")
	errNoMember   = errors.New("the node holds no replica of this partition")
	errQuestion   = errors.New("malformed question")
)

// Joined reports whether this node is a member, as far as it knows: a new incarnation is one only once
// the others have taken it in.
func (g *Group) Joined() bool { return g.incarnation == 0 || g.joined.Load() }

// join asks the leader to replace this node's older incarnations, until that is done or ctx ends.
func (g *Group) join(ctx context.Context) {
	if g.incarnation == 0 {
		return
	}
	next, told := 0, false
	var leader topology.NodeID
	for {
		to := leader
		if to == "" || to == g.self {
			to = g.members[next%len(g.members)]
			next++
		}
		var done bool
		var err error
		if leader, done, err = g.askToJoin(ctx, to); done {
			g.logger.Info("this node has taken the place of its older incarnation", "server", g.id)
			g.joined.Store(true)
			return
		}
		g.logger.Debug("asked to take the place of an older incarnation", "peer", to, "err", err)
		if remote := (*transport.RemoteError)(nil); errors.As(err, &remote) && !told {
			told = true
			g.logger.Error("cannot take the place of an older incarnation", "server", g.id, "err", err)
		}
		if !pause(ctx, joinRetry) {
			return
		}
	}
}

// askToJoin asks a node once. It returns whom to ask next, if that is known.
func (g *Group) askToJoin(ctx context.Context, to topology.NodeID) (leader topology.NodeID, done bool, err error) {
	if to == g.self {
		return "", false, nil
	}
	have, err := g.accepted()
	if err != nil {
		return "", false, err
	}
	question := append(binary.BigEndian.AppendUint64(nil, have), g.id...)
	answer, err := g.layer.Call(ctx, to, transport.Control, kindJoin, question)
	switch {
	case err != nil:
		return "", false, err
	case len(answer) == 0:
		return "", false, errAnswer
	case answer[0] == elsewhere:
		return topology.NodeID(answer[1:]), false, nil
	default:
		return to, answer[0] == joined, nil
	}
}

// serveJoins answers new incarnations of other nodes, until ctx ends.
func (g *Group) serveJoins(ctx context.Context) {
	turn := make(chan struct{}, 1)
	g.serve(ctx, kindJoin, kindJoin, func(from topology.NodeID, _ uint8, body []byte) ([]byte, error) {
		if len(body) < joinHeader || len(body) > joinHeader+maxServerID {
			return nil, errQuestion
		}
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		default:
			return []byte{joining}, nil
		}
		return g.answerJoin(ctx, from, raft.ServerID(body[joinHeader:]), binary.BigEndian.Uint64(body))
	})
}

// answerJoin does the next step, if this node leads.
func (g *Group) answerJoin(ctx context.Context, node topology.NodeID, id raft.ServerID, have uint64) ([]byte, error) {
	term, _ := g.ready()
	if term == 0 || !g.leads(term) {
		leader, _, _ := g.Leader()
		return append([]byte{elsewhere}, leader...), nil
	}
	if !slices.Contains(g.members, node) && (g.admit == nil || !g.admit(node)) {
		return nil, errNoMember
	}
	last, err := g.accepted()
	if err != nil {
		return nil, err
	}
	before := g.configurationIndex() // before the configuration: a change between the two is noticed
	step, err := nextStep(g.servers(), node, id, have+joinLag >= last)
	if err != nil {
		return nil, err
	}
	if step.change == nil {
		return []byte{step.answer}, nil
	}
	g.logger.Info("changing the members", "step", step.name, "server", step.id, "peer", node)
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err = g.await(ctx, func(r *raft.Raft) error { return step.change(r, before).Error() })
	if err != nil {
		g.logger.Warn("members not changed", "step", step.name, "server", step.id, "err", err)
	}
	return []byte{joining}, nil
}

// configurationIndex returns the entry that made the latest configuration. The library's own is always 0.
func (g *Group) configurationIndex() uint64 {
	g.logs.tail.mu.Lock()
	defer g.logs.tail.mu.Unlock()
	return max(g.logs.tail.configuration, g.fsm.machine.Position().ConfigurationIndex)
}

// joinStep is a change of the configuration, or an answer if there is nothing to change.
type joinStep struct {
	name   string
	id     raft.ServerID
	answer byte
	change func(r *raft.Raft, previous uint64) raft.IndexFuture
}

// nextStep returns what brings a node's new incarnation closer to being a voter. The older ones go first:
// they are dead, so nothing is lost by it, and the library takes no two servers at one address.
func nextStep(servers []raft.Server, node topology.NodeID, id raft.ServerID, caughtUp bool) (joinStep, error) {
	address := raft.ServerAddress(node)
	mine, ok := incarnationOf(id, address)
	if !ok || mine == 0 {
		return joinStep{}, fmt.Errorf("%w: server %s at node %s", errQuestion, id, node)
	}
	for _, s := range servers {
		if s.Address != address {
			continue
		}
		theirs, _ := incarnationOf(s.ID, s.Address)
		switch {
		case theirs > mine:
			return joinStep{}, errSuperseded
		case theirs < mine:
			return joinStep{name: "remove", id: s.ID, change: func(r *raft.Raft, previous uint64) raft.IndexFuture {
				return r.RemoveServer(s.ID, previous, joinTimeout)
			}}, nil
		case s.Suffrage == raft.Voter:
			return joinStep{answer: joined}, nil
		case !caughtUp:
			return joinStep{answer: joining}, nil
		default:
			return joinStep{name: "give a vote", id: id, change: func(r *raft.Raft, previous uint64) raft.IndexFuture {
				return r.AddVoter(id, address, previous, joinTimeout)
			}}, nil
		}
	}
	return joinStep{name: "add", id: id, change: func(r *raft.Raft, previous uint64) raft.IndexFuture {
		return r.AddNonvoter(id, address, previous, joinTimeout)
	}}, nil
}

// serve answers other members in goroutines of their own, until ctx ends and what has begun is done.
func (g *Group) serve(ctx context.Context, first, last uint8, answer func(from topology.NodeID, kind uint8, body []byte) ([]byte, error)) {
	var serving tasks
	places := make(chan struct{}, maxServing)
	g.layer.Handle(first, last, func(from topology.NodeID, kind uint8, body []byte, reply func([]byte, error)) {
		select {
		case places <- struct{}{}:
		default:
			reply(nil, region.ErrOverloaded)
			return
		}
		if !serving.start(func() {
			defer func() { <-places }()
			reply(answer(from, kind, body))
		}) {
			<-places
			reply(nil, region.ErrShuttingDown)
		}
	})
	<-ctx.Done()
	g.layer.Handle(first, last, nil)
	serving.end()
}
