package members

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// kindShare tells another node of the region of the membership, and asks for its partitions:
	//
	//	the question:  membership epoch u64 | the state, if the node is not known to have it
	//	the answer:    the node's membership epoch u64 | (partition u32, membership epoch taken u64,
	//	               n u16, n × (actor u32, sequence number u64))*
	kindShare = 60
	// shareEvery is how often the region's voter does so when nothing changes.
	shareEvery = time.Second
	takeTime   = 5 * time.Second
)

// Partitions are those of a node. Safe for concurrent use.
type Partitions interface {
	// Take has those that the node leads take in the membership, and returns what they have then.
	Take(ctx context.Context, s *membership.State) []membership.Led
}

// ShareConfig is what a share needs; all fields are required but Host.
type ShareConfig struct {
	Cluster *topology.Cluster
	Region  *topology.Region
	Self    topology.NodeID
	// Host is the region's voter, on the one node that has it.
	Host *Host
	// Layer connects the region's nodes.
	Layer      *transport.Layer
	Partitions Partitions
	Dir        string
	Logger     *slog.Logger
	// OnLoss is told that the region has lost some of what it wrote: it must write no more. It does not block.
	OnLoss func(Loss)
}

// Share spreads the membership over a region's nodes, has their partitions take it in, and on the node with
// the voter does what the region owes the others. It is safe for concurrent use.
type Share struct {
	cfg  ShareConfig
	view membership.Published
	// knows is what other nodes are known to have; the voter's loop's alone.
	knows map[topology.NodeID]uint64
	// lost is the loss to tell the other regions of.
	lost atomic.Pointer[Loss]
	// has is what the partitions had, as last gathered in full; the voter's.
	has atomic.Pointer[membership.Standing]
	// goal is what a region that joins has to have; the voter's loop's alone.
	goal *membership.Standing
}

// OpenShare reads what the node knew last.
// Errors: ErrDamaged, *membership.StartError if the region must not start under its epoch.
func OpenShare(cfg ShareConfig) (*Share, error) {
	s := &Share{cfg: cfg, knows: map[topology.NodeID]uint64{}}
	if cfg.Host != nil {
		return s, nil // the host has seen to it
	}
	if err := recall(cfg.Dir, &s.view); err != nil {
		return nil, err
	}
	known, _ := s.view.Current()
	if err := known.CheckStart(cfg.Region.ID, cfg.Region.Epoch); err != nil {
		return nil, err
	}
	return s, nil
}

// Current implements membership.View.
func (s *Share) Current() (*membership.State, <-chan struct{}) {
	if s.cfg.Host != nil {
		return s.cfg.Host.Current()
	}
	return s.view.Current()
}

// Run does so until ctx ends.
func (s *Share) Run(ctx context.Context) error {
	loops, ctx := errgroup.WithContext(ctx)
	if s.cfg.Host == nil {
		s.cfg.Layer.Handle(kindShare, kindShare, s.serve(ctx, loops))
	} else {
		s.cfg.Host.layer.Handle(kindStanding, kindStanding, s.serveStanding)
		s.cfg.Layer.Handle(kindLease, kindLease, s.cfg.Host.serveLease(ctx, loops))
		loops.Go(func() error { s.spread(ctx); return nil })
	}
	s.cfg.Layer.Handle(kindLoss, kindLoss, s.serveLoss)
	<-ctx.Done()
	s.cfg.Layer.Handle(kindShare, kindLease, nil)
	if s.cfg.Host != nil {
		s.cfg.Host.layer.Handle(kindStanding, kindStanding, nil)
	}
	return loops.Wait()
}

// spread is the voter's loop.
func (s *Share) spread(ctx context.Context) {
	ticker := time.NewTicker(shareEvery)
	defer ticker.Stop()
	for {
		known, changed := s.Current()
		if known.Founded() {
			s.tellLoss(ctx, known)
			led := s.gather(ctx, known)
			s.owe(ctx, known, led)
			s.join(ctx, known, led)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-ticker.C:
		}
	}
}

// gather has all nodes of the region take in the membership, and returns what their partitions have.
func (s *Share) gather(ctx context.Context, known *membership.State) map[topology.PartitionID]membership.Led {
	led := map[topology.PartitionID]membership.Led{}
	note := func(some []membership.Led) {
		for _, l := range some {
			if have, ok := led[l.Partition]; !ok || have.Taken <= l.Taken {
				led[l.Partition] = l
			}
		}
	}
	for i := range s.cfg.Region.Nodes {
		node := s.cfg.Region.Nodes[i].ID
		if node == s.cfg.Self {
			note(s.take(ctx, known))
			continue
		}
		some, err := s.ask(ctx, node, known)
		if err != nil {
			s.cfg.Logger.Debug("the membership was not shared", "peer", node, "err", err)
			continue
		}
		note(some)
	}
	return led
}

func (s *Share) take(ctx context.Context, known *membership.State) []membership.Led {
	ctx, cancel := context.WithTimeout(ctx, takeTime)
	defer cancel()
	return s.cfg.Partitions.Take(ctx, known)
}

// ask shares with one other node.
func (s *Share) ask(ctx context.Context, node topology.NodeID, known *membership.State) ([]membership.Led, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*takeTime)
	defer cancel()
	question := binary.BigEndian.AppendUint64(nil, known.Epoch)
	if s.knows[node] != known.Epoch {
		question = append(question, known.Encode()...)
	}
	answer, err := s.cfg.Layer.Call(ctx, node, transport.Bulk, kindShare, question)
	if err != nil {
		return nil, err
	}
	epoch, led, err := decodeLed(answer, s.cfg.Cluster.Partitions)
	if err == nil {
		s.knows[node] = epoch
	}
	return led, err
}

// owe gives the others what this region owes them.
func (s *Share) owe(ctx context.Context, known *membership.State, led map[topology.PartitionID]membership.Led) {
	if len(led) < int(s.cfg.Cluster.Partitions) {
		return // what a partition without a leader has is not known now
	}
	has := &membership.Standing{Of: s.cfg.Region.ID, Led: led}
	s.has.Store(has)
	for _, c := range known.Duties(s.cfg.Region.ID, s.cfg.Region.Epoch, has.Local()) {
		err := s.cfg.Host.Propose(ctx, c)
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("the regions did not take a command", "command", c.Kind.String(), "err", err)
		}
	}
}

// serve answers the region's voter.
func (s *Share) serve(ctx context.Context, loops *errgroup.Group) transport.Handler {
	turn := make(chan struct{}, 1)
	return func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		select {
		case turn <- struct{}{}:
		default:
			reply(nil, transport.ErrOverloaded)
			return
		}
		loops.Go(func() error {
			defer func() { <-turn }()
			reply(s.answer(ctx, body))
			return nil
		})
	}
}

func (s *Share) answer(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) < 8 {
		return nil, errAnswer
	}
	if data := body[8:]; len(data) > 0 {
		if err := s.hear(data); err != nil {
			return nil, err
		}
	}
	known, _ := s.view.Current()
	var led []membership.Led
	if known.Founded() {
		led = s.take(ctx, known)
	}
	return encodeLed(known.Epoch, led), nil
}

// hear takes over a state that the voter tells of.
func (s *Share) hear(data []byte) error {
	told, err := membership.DecodeState(data)
	if err != nil {
		return err
	}
	if known, _ := s.view.Current(); told.Epoch <= known.Epoch {
		return nil
	}
	if told.Cluster != s.cfg.Cluster.Name {
		return fmt.Errorf("%w: of cluster %s", errAnswer, told.Cluster)
	}
	if err := writeFile(filepath.Join(s.cfg.Dir, heardName), data); err != nil {
		return err
	}
	s.view.Publish(told)
	return nil
}

func encodeLed(epoch uint64, led []membership.Led) []byte {
	b := binary.BigEndian.AppendUint64(nil, epoch)
	for _, l := range led {
		b = binary.BigEndian.AppendUint32(b, uint32(l.Partition))
		b = binary.BigEndian.AppendUint64(b, l.Taken)
		b = binary.BigEndian.AppendUint16(b, uint16(len(l.Applied)))
		for _, d := range l.Applied {
			b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, uint32(d.Actor)), d.Seq)
		}
	}
	return b
}

func decodeLed(b []byte, partitions uint32) (epoch uint64, led []membership.Led, err error) {
	const header, each = 4 + 8 + 2, 4 + 8
	if len(b) < 8 {
		return 0, nil, errAnswer
	}
	epoch, b = binary.BigEndian.Uint64(b), b[8:]
	for len(b) > 0 {
		if len(b) < header || len(b)-header < each*int(binary.BigEndian.Uint16(b[12:])) || binary.BigEndian.Uint32(b) >= partitions {
			return 0, nil, errAnswer
		}
		l := membership.Led{Partition: topology.PartitionID(binary.BigEndian.Uint32(b)), Taken: binary.BigEndian.Uint64(b[4:])}
		n := int(binary.BigEndian.Uint16(b[12:]))
		b = b[header:]
		for range n {
			l.Applied = append(l.Applied, crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(b)), Seq: binary.BigEndian.Uint64(b[4:])})
			b = b[each:]
		}
		led = append(led, l)
	}
	return epoch, led, nil
}

// Of are the partitions that a node holds.
func Of(data *region.Node, partitions uint32) Partitions { return held{data, partitions} }

type held struct {
	data       *region.Node
	partitions uint32
}

// Take implements Partitions.
func (h held) Take(ctx context.Context, s *membership.State) []membership.Led {
	var led []membership.Led
	for id := range topology.PartitionID(h.partitions) {
		p, err := h.data.Partition(id)
		if err != nil {
			continue
		}
		if leading, _ := p.Leadership(); !leading {
			continue
		}
		err = p.TakeMembership(ctx, partitions.Facts(s, id))
		if errors.Is(err, region.ErrNotLeader) {
			continue
		}
		// What it has is true of the membership that it has, whatever became of this one.
		if l, known := partitions.Led(id, p.View()); known {
			led = append(led, l)
		}
	}
	return led
}
