package raftgroup

import (
	"cmp"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/topology"
)

// sendLogBytes is after how much a long transfer is heard of again.
const sendLogBytes = 256 << 20

// Transfer is a snapshot on its way to another member.
type Transfer struct {
	Peer        topology.NodeID
	Sent, Total int64
}

// Transfers returns the snapshots that this member sends now.
func (g *Group) Transfers() []Transfer { return g.sends.list() }

// sends are a member's snapshots on their way out.
type sends struct {
	budget *Budget
	logger *slog.Logger
	mu     sync.Mutex
	now    map[*send]struct{}
}

// send reads a snapshot at the budget's pace, and counts.
type send struct {
	io.Reader
	all   *sends
	peer  topology.NodeID
	total int64
	sent  atomic.Int64
	owed  int64 // bytes sent since the last pause
}

func (s *sends) begin(to topology.NodeID, total int64, data io.Reader) *send {
	one := &send{Reader: data, all: s, peer: to, total: total}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		s.now = map[*send]struct{}{}
	}
	s.now[one] = struct{}{}
	s.logger.Info("sending a snapshot", "peer", to, "bytes", total)
	return one
}

// end notes how it went.
func (s *send) end(err error) {
	s.all.mu.Lock()
	delete(s.all.now, s)
	s.all.mu.Unlock()
	if err != nil {
		s.all.logger.Warn("snapshot not sent", "peer", s.peer, "bytes", s.total, "sent", s.sent.Load(), "err", err)
		return
	}
	s.all.logger.Info("snapshot sent", "peer", s.peer, "bytes", s.total)
}

// Read implements io.Reader.
func (s *send) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	before := s.sent.Add(int64(n)) - int64(n)
	if s.owed += int64(n); s.owed >= s.all.budget.pace {
		s.all.budget.pay(s.owed)
		s.owed = 0
	}
	if (before+int64(n))/sendLogBytes > before/sendLogBytes {
		s.all.logger.Info("sending a snapshot", "peer", s.peer, "bytes", s.total, "sent", before+int64(n))
	}
	return n, err
}

func (s *sends) list() []Transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Transfer
	for one := range s.now {
		list = append(list, Transfer{Peer: one.peer, Sent: one.sent.Load(), Total: one.total})
	}
	slices.SortFunc(list, func(a, b Transfer) int { return cmp.Compare(a.Peer, b.Peer) })
	return list
}
