package client

import (
	"context"
	"math/bits"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

const defaultNamespace = "default"

// directory is what is known of the region's nodes and partitions. Only its leaders change.
type directory struct {
	epoch  uint64
	nodes  map[string]*node
	places []*place // by partition
}

// node is a node of the region.
type node struct {
	name string
	*endpoint
}

// place is where a partition is. A nil place is unknown.
type place struct {
	directory *directory
	leader    atomic.Pointer[node]
	term      uint64 // in which the leader was told of
	replicas  []*node
}

// ledBy notes that a node answered what a leader answers.
func (p *place) ledBy(name []byte) {
	if p == nil || len(name) == 0 {
		return
	}
	if l := p.leader.Load(); l != nil && l.name == string(name) {
		return
	}
	if n := p.directory.nodes[string(name)]; n != nil {
		p.leader.Store(n)
	}
}

// partitionOf returns the number of a key's partition: the top bits of the xxh3-64 hash of namespace,
// a zero byte, and key. partitions is a power of two.
func partitionOf(namespace, key string, partitions int) int {
	if namespace == "" {
		namespace = defaultNamespace
	}
	var space [256]byte
	b := append(space[:0], namespace...)
	b = append(b, 0)
	b = append(b, key...)
	return int(xxh3.Hash(b) >> (64 - bits.TrailingZeros(uint(partitions))))
}

// place returns where a key is; nil if that is unknown.
func (s *shared) place(namespace, key string) *place {
	d := s.directory.Load()
	if d == nil {
		return nil
	}
	return d.places[partitionOf(namespace, key, len(d.places))]
}

// readsPerTurn is how many reads that any replica may serve go to the same node before the next has its
// turn: what is sent together to one node costs less than the same spread over all.
const readsPerTurn = 256

// choose returns the endpoint for a request: the leader of the key's partition, or for a read that any
// replica may serve the one whose turn it is. Where that is unknown or cannot be used it is another
// replica, or any node: all of them know where to send a request on.
func (s *shared) choose(ctx context.Context, p *place, anywhere bool, avoid *endpoint) *endpoint {
	if p == nil {
		return s.anyNode(avoid)
	}
	first := 0
	if anywhere {
		first = int(s.turn.Add(1) / readsPerTurn)
	} else if l := p.leader.Load(); l != nil && l.endpoint != avoid && s.usable(ctx, l.endpoint) {
		return l.endpoint
	}
	for i := range p.replicas {
		e := p.replicas[(first+i)%len(p.replicas)].endpoint
		if e != avoid && s.usable(ctx, e) {
			return e
		}
	}
	return s.anyNode(avoid)
}

// anyNode returns the address that was given and answered last. If that is to be avoided, or failed
// just now, it returns one that was learned.
func (s *shared) anyNode(avoid *endpoint) *endpoint {
	e := s.seeds[s.preferred.Load()]
	if e != avoid && !e.resting.Load() {
		return e
	}
	if d := s.directory.Load(); d != nil {
		for _, n := range d.nodes {
			if n.endpoint != avoid && n.answered.Load() && !n.resting.Load() {
				return n.endpoint
			}
		}
	}
	return e
}

// alternatives reports whether there is more than one node to try.
func (s *shared) alternatives() bool {
	if len(s.seeds) > 1 {
		return true
	}
	d := s.directory.Load()
	return d != nil && len(d.nodes) > 1
}

// learnFrom draws conclusions from a failed try, and returns the endpoint that the next one is to
// avoid, if any.
func (s *shared) learnFrom(ctx context.Context, e *endpoint, t tryer, fault *Error) (avoid *endpoint) {
	switch fault.Reason {
	case ReasonNotOwner, ReasonStaleEpoch:
		if r, ok := t.(*request); ok && !r.anywhere {
			s.place(r.namespace, r.key).ledBy([]byte(fault.Metadata["node"]))
		}
		s.wantTopology()
	case ReasonUnreachable:
		if ctx.Err() == nil {
			e.failed()
			s.wantTopology()
		}
	}
	if !goElsewhere(fault) {
		return nil
	}
	if index := s.preferred.Load(); s.seeds[index] == e {
		s.preferred.CompareAndSwap(index, (index+1)%uint32(len(s.seeds)))
	}
	return e
}
