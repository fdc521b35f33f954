package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/topology"
)

// What members ask each other besides what Raft does, all numbers big-endian:
//
//	kindTerm      a server ID                     -> the server's term u64
//	kindReached   nothing, of the leader          -> reached
//	kindAccepted  a server ID                     -> leads u8 | accepted u64 | reached
//
//	reached       term u64 | index u64 | entry's term u64 | server ID
//
// A server ID must be the answering member's: a node that came back empty is another server.
const (
	kindTerm     = 32
	kindReached  = 33
	kindAccepted = 34
)

const (
	reachedBytes  = 3 * 8
	acceptedBytes = 1 + 8 + reachedBytes
	maxServerID   = 1 << 10
	maxServing    = 64 // questions that wait at once
)

var (
	errAnswer      = errors.New("malformed answer")
	errOtherServer = errors.New("the question is for another server")
)

// reached says how far the log was committed when the leader of a term proved that it led.
type reached struct {
	term, index uint64
	entryTerm   uint64 // of the entry at index; 0 if it is not known any more
	leader      raft.ServerID
}

// accepted says how far a member's log goes.
type accepted struct {
	leads bool
	index uint64
	reached
}

func (r *reached) encode() []byte { return r.appendTo(make([]byte, 0, reachedBytes+len(r.leader))) }

func (r *reached) appendTo(b []byte) []byte {
	for _, n := range []uint64{r.term, r.index, r.entryTerm} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, r.leader...)
}

func decodeReached(b []byte) (reached, error) {
	if len(b) < reachedBytes || len(b) > reachedBytes+maxServerID {
		return reached{}, fmt.Errorf("%w: %d bytes", errAnswer, len(b))
	}
	return reached{
		term: binary.BigEndian.Uint64(b), index: binary.BigEndian.Uint64(b[8:]),
		entryTerm: binary.BigEndian.Uint64(b[16:]), leader: raft.ServerID(b[reachedBytes:]),
	}, nil
}

func (a *accepted) encode() []byte {
	b := make([]byte, 1, acceptedBytes+len(a.leader))
	if a.leads {
		b[0] = 1
	}
	return a.appendTo(binary.BigEndian.AppendUint64(b, a.index))
}

func decodeAccepted(b []byte) (accepted, error) {
	if len(b) < acceptedBytes || b[0] > 1 {
		return accepted{}, fmt.Errorf("%w: %d bytes", errAnswer, len(b))
	}
	r, err := decodeReached(b[9:])
	return accepted{leads: b[0] == 1, index: binary.BigEndian.Uint64(b[1:]), reached: r}, err
}

func decodeTerm(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %d bytes", errAnswer, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// serveConfirms answers other members until ctx ends and what has begun is done.
func (g *Group) serveConfirms(ctx context.Context) {
	g.layer.Handle(kindTerm, kindTerm, func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		if raft.ServerID(body) != g.id {
			reply(nil, errOtherServer)
			return
		}
		term, err := g.current.Load().term() // at once: readers wait for it
		reply(binary.BigEndian.AppendUint64(nil, term), err)
	})
	g.serve(ctx, kindReached, kindAccepted, func(_ topology.NodeID, kind uint8, body []byte) ([]byte, error) {
		if kind == kindAccepted && raft.ServerID(body) != g.id {
			return nil, errOtherServer
		}
		return g.answer(ctx, kind)
	})
	g.layer.Handle(kindTerm, kindTerm, nil)
}

// answer answers what takes a moment.
func (g *Group) answer(ctx context.Context, kind uint8) ([]byte, error) {
	if kind == kindAccepted {
		index, err := g.accepted()
		a := accepted{index: index, reached: g.reachedAt(g.raft().CurrentTerm(), g.raft().CommitIndex())}
		a.leads = g.leads(a.term) // last: it led in that term while the rest was read
		return a.encode(), err
	}
	ctx, cancel := context.WithTimeout(ctx, confirmPatience)
	defer cancel()
	term, committed, err := g.confirm(ctx)
	if err != nil {
		return nil, err
	}
	last, err := g.logs.lastEffective()
	if err != nil {
		return nil, err
	}
	if last > 0 {
		committed = min(committed, last)
	}
	r := g.reachedAt(term, committed)
	return r.encode(), nil
}

// reachedAt says that the log was committed up to index in a term of this member.
func (g *Group) reachedAt(term, index uint64) reached {
	r := reached{term: term, index: index, leader: g.id}
	if e, err := g.log.Entry(index); err == nil {
		r.entryTerm = e.Term
	} else if p := g.fsm.machine.Position(); p.Index == index {
		r.entryTerm = p.Term
	}
	return r
}

// accepted returns the last entry in this member's log that can be acknowledged.
func (g *Group) accepted() (uint64, error) {
	last, err := g.logs.lastEffective()
	return max(last, g.fsm.machine.Position().Index), err
}

// learn tells this node's Raft what the leader has told this node: that an entry is committed. It is a
// message that the leader could have sent, and is checked like one; the leader's own may come only
// with its next entry.
func (g *Group) learn(ctx context.Context, leader topology.NodeID, r *reached) {
	if r.entryTerm == 0 || g.raft().State() != raft.Follower || g.covered(r.index) {
		return
	}
	address := g.trans().EncodePeer(r.leader, raft.ServerAddress(leader))
	ctx, cancel := context.WithTimeout(ctx, leaderGrace)
	defer cancel()
	g.trans().inject(ctx, &raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(r.leader), Addr: address},
		Term:         r.term,
		PrevLogEntry: r.index, PrevLogTerm: r.entryTerm, LeaderCommitIndex: r.index,
	})
}

// tasks are goroutines that somebody waits for, begun at any time.
type tasks struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

// start runs f, unless end was called.
func (t *tasks) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.running.Go(f)
	}
	return !t.ended
}

// end starts no more, and waits.
func (t *tasks) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.running.Wait()
}
