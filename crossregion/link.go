package crossregion

import (
	"context"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// Link is how a node reaches its region's stream and the other regions'. Nothing it carries is
// trusted to arrive: frames may be lost, repeated, reordered or altered.
type Link interface {
	// Outlet is this region's own stream, from which others pull.
	Outlet() Outlet
	// Inlet is the way to another region; the same one for every call.
	Inlet(region topology.RegionID) Inlet
}

// Outlet is the origin's end of a Link. All methods are safe for concurrent use.
type Outlet interface {
	// Stream says which stream it is: another one once it was lost and made anew.
	Stream(ctx context.Context) (protocol.StreamState, error)
	// LastFrame returns the frame stored last for a partition; nil if there is none.
	LastFrame(ctx context.Context, p topology.PartitionID) ([]byte, error)
	// Publish appends a frame for a partition. Frames of one partition are stored in the order of
	// the calls, unless one fails. It calls done once, from any goroutine, with the frame's place
	// in the stream; an error there leaves open whether the frame was stored. done must not block.
	// The frame must not be changed afterwards.
	Publish(p topology.PartitionID, frame []byte, done func(streamSeq uint64, err error))
	// Broadcast sends a tick to every region that listens.
	Broadcast(frame []byte) error
	// Serve hands what other regions send to h, until ctx is done or the link breaks.
	Serve(ctx context.Context, h Handler) error
}

// Handler takes what other regions send to this one. Its methods do not block for long.
type Handler interface {
	// Fetch answers a request for a part of an outbox; nil if another node has to.
	Fetch(p topology.PartitionID, request []byte) (response []byte)
	// Report takes another region's watermarks.
	Report(frame []byte)
}

// Inlet is the destination's end of a Link to one other region. All methods are safe for concurrent
// use, but Subscribe has one caller at a time.
type Inlet interface {
	// Subscribe hands the region's stream and ticks to s until ctx is done or the link breaks.
	// The first call begins with what is published from now on, later ones where the last ended; a
	// stream that was made anew is read from its beginning.
	Subscribe(ctx context.Context, s Subscriber) error
	// Fetch asks the leader of a partition there for a part of its outbox. A context error means
	// that no one answered.
	Fetch(ctx context.Context, p topology.PartitionID, request []byte) (response []byte, err error)
	// Report sends watermarks to every node there. No error promises nothing.
	Report(frame []byte) error
}

// Subscriber takes what another region sends to all. Its methods do not block, and are called by
// one goroutine at a time each. They may keep the frame.
type Subscriber interface {
	OnFrame(p topology.PartitionID, frame []byte)
	OnTick(frame []byte)
}
