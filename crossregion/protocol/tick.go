package protocol

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Tick is what a node says once per interval about the partitions that it leads.
type Tick struct {
	Node topology.NodeID
	// Sent is by the node's clock, and is compared with nothing but the same node's earlier ones. It has microseconds.
	Sent  time.Time
	Heads []Head
	// Clock is what the node's clock read, and which ticks it has heard; nil if it does not say.
	Clock *crossregionv1.ClockReading
}

// Head is the end of one partition's outbox, and now and then how far the partition's state is.
type Head struct {
	Position
	// First is the first record kept, Bytes the size of those kept, and Appended that of all there ever were.
	First, Bytes, Appended uint64
	// Behind is for how long the slowest destination has lacked something; 0 if none does. It has milliseconds.
	Behind time.Duration
	// HLC is the highest clock in the state.
	HLC hlc.Time
	// Vector is the state's version vector; empty if it is what was said before, or there is none.
	Vector crdt.VersionVector
	// Digest is the last one that was computed; its Vector is empty if there is none or it was said before.
	Digest Digest
}

// Digest is a fingerprint of a partition's state, and the version vector of that state.
type Digest struct {
	Vector crdt.VersionVector
	Sum    [16]byte
}

// TickHeads is how many partitions one frame tells of.
const TickHeads = 1024

// EncodeTick returns a frame with what a node says, at most TickHeads heads.
func (k *Keys) EncodeTick(t Tick) ([]byte, error) {
	m := &crossregionv1.Tick{
		Cluster: k.cluster, Region: uint32(k.region()), Node: string(t.Node), SentUs: uint64(max(t.Sent.UnixMicro(), 0)),
		Clock: t.Clock,
	}
	for i := range t.Heads {
		h := &t.Heads[i]
		_, epoch := topology.ActorRegion(h.Actor)
		head := &crossregionv1.Head{
			Partition: uint32(h.Partition), Actor: uint32(h.Actor), OutboxEpoch: uint64(epoch), Seq: h.Seq,
			First: h.First, Bytes: h.Bytes, Appended: h.Appended, BehindMs: uint64(max(h.Behind, 0).Milliseconds()), Hlc: uint64(h.HLC),
		}
		if h.Vector.Len() > 0 {
			head.Vector = h.Vector.Append(nil)
		}
		if h.Digest.Vector.Len() > 0 {
			head.Digest, head.DigestVector = h.Digest.Sum[:], h.Digest.Vector.Append(nil)
		}
		m.Heads = append(m.Heads, head)
	}
	return k.Seal(FrameTick, Scope{}, m)
}

// DecodeTick reads what EncodeTick returned, and refuses what is not of the region.
func (k *Keys) DecodeTick(from topology.RegionID, frame []byte) (Tick, error) {
	var m crossregionv1.Tick
	speaker, err := k.openFrom(from, FrameTick, Scope{}, frame, &m)
	if err == nil {
		err = k.check(m.Cluster, m.Region, speaker)
	}
	if err != nil {
		return Tick{}, err
	}
	t := Tick{Node: topology.NodeID(m.Node), Sent: time.UnixMicro(int64(m.SentUs)), Heads: make([]Head, len(m.Heads)), Clock: m.Clock}
	for i, h := range m.Heads {
		if t.Heads[i], err = decodeHead(h); err != nil {
			return Tick{}, err
		}
		if t.Heads[i].Actor != speaker {
			return Tick{}, fmt.Errorf("head %w: %d", ErrOtherActor, h.Actor)
		}
	}
	return t, nil
}

// mostBehind bounds a duration on the wire.
const mostBehind = 1 << 40

func decodeHead(m *crossregionv1.Head) (Head, error) {
	h := Head{
		Position: Position{Partition: topology.PartitionID(m.Partition), Actor: crdt.Actor(m.Actor), Seq: m.Seq},
		First:    m.First, Bytes: m.Bytes, Appended: m.Appended, HLC: hlc.Time(m.Hlc),
		Behind: time.Duration(min(m.BehindMs, mostBehind)) * time.Millisecond,
	}
	// First may be one more than Seq: the outbox is empty then.
	if h.First > h.Seq+1 && h.First > 1 || h.Bytes > h.Appended {
		return h, fmt.Errorf("%w: outbox from %d to %d with %d of %d bytes", ErrBadCounts, h.First, h.Seq, h.Bytes, h.Appended)
	}
	var err error
	if len(m.Vector) > 0 {
		if h.Vector, err = crdt.DecodeVersionVector(m.Vector); err != nil {
			return h, fmt.Errorf("%w: vector: %w", ErrBadFrame, err)
		}
	}
	if len(m.DigestVector) > 0 {
		if h.Digest.Vector, err = crdt.DecodeVersionVector(m.DigestVector); err != nil || len(m.Digest) != len(h.Digest.Sum) {
			return h, fmt.Errorf("%w: digest of %d bytes: %w", ErrBadFrame, len(m.Digest), err)
		}
		h.Digest.Sum = [16]byte(m.Digest)
	}
	return h, nil
}

// Freshness tells ticks that are new from ones that were captured or delayed. What those say stays true; that the
// node is there now, they do not prove. The zero value is ready; it is not safe for concurrent use.
type Freshness struct {
	last map[topology.NodeID]time.Time
}

// maxTickNodes is how many nodes of a region are told apart.
const maxTickNodes = 1024

// Fresh reports whether the node has not sent this tick, or a later one, before.
func (f *Freshness) Fresh(t Tick) bool {
	last, known := f.last[t.Node]
	if known && !t.Sent.After(last) || !known && len(f.last) == maxTickNodes {
		return false
	}
	if f.last == nil {
		f.last = map[topology.NodeID]time.Time{}
	}
	f.last[t.Node] = t.Sent
	return true
}
