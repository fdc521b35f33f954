// Package linktest provides a link in memory and the test that every implementation of
// crossregion.Link has to pass.
package linktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// ErrCut is what the operations of a cut link return.
var ErrCut = errors.New("the link is cut")

// Memory connects regions in one process. The zero value is ready; it is safe for concurrent use.
type Memory struct {
	mu struct {
		sync.Mutex
		regions map[topology.RegionID]*memoryRegion
		cut     map[[2]topology.RegionID]bool
		// changed is closed and replaced whenever anything changes.
		changed chan struct{}
	}
}

type memoryRegion struct {
	incarnation int
	frames      []memoryFrame
	ticks       [][]byte
	handlers    []crossregion.Handler
}

type memoryFrame struct {
	partition topology.PartitionID
	frame     []byte
}

// regionLocked returns a region, made on first use.
func (m *Memory) regionLocked(id topology.RegionID) *memoryRegion {
	if m.mu.regions == nil {
		m.mu.regions = map[topology.RegionID]*memoryRegion{}
		m.mu.cut = map[[2]topology.RegionID]bool{}
		m.mu.changed = make(chan struct{})
	}
	if m.mu.regions[id] == nil {
		m.mu.regions[id] = &memoryRegion{incarnation: 1}
	}
	return m.mu.regions[id]
}

func (m *Memory) change(id topology.RegionID, f func(r *memoryRegion)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.regionLocked(id))
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

// Wipe makes a region lose its stream and begin another.
func (m *Memory) Wipe(id topology.RegionID) {
	m.change(id, func(r *memoryRegion) { r.incarnation, r.frames = r.incarnation+1, nil })
}

// Cut cuts what to pulls from from and sends there, or heals it.
func (m *Memory) Cut(from, to topology.RegionID, cut bool) {
	m.change(from, func(*memoryRegion) { m.mu.cut[[2]topology.RegionID{from, to}] = cut })
}

// Link returns a region's link.
func (m *Memory) Link(self topology.RegionID) crossregion.Link {
	return &memoryLink{m: m, self: self, inlets: map[topology.RegionID]*memoryInlet{}}
}

type memoryLink struct {
	m      *Memory
	self   topology.RegionID
	mu     sync.Mutex
	inlets map[topology.RegionID]*memoryInlet
}

func (l *memoryLink) Outlet() crossregion.Outlet { return memoryOutlet{l.m, l.self} }

func (l *memoryLink) Inlet(from topology.RegionID) crossregion.Inlet {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inlets[from] == nil {
		l.inlets[from] = &memoryInlet{m: l.m, from: from, self: l.self}
	}
	return l.inlets[from]
}

type memoryOutlet struct {
	m    *Memory
	self topology.RegionID
}

func (o memoryOutlet) Stream(context.Context) (protocol.StreamState, error) {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	r := o.m.regionLocked(o.self)
	return protocol.StreamState{Incarnation: fmt.Sprint(r.incarnation), LastSeq: uint64(len(r.frames))}, nil
}

func (o memoryOutlet) LastFrame(_ context.Context, p topology.PartitionID) ([]byte, error) {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	for _, f := range slices.Backward(o.m.regionLocked(o.self).frames) {
		if f.partition == p {
			return bytes.Clone(f.frame), nil
		}
	}
	return nil, nil
}

func (o memoryOutlet) Publish(p topology.PartitionID, frame []byte, done func(uint64, error)) {
	var seq uint64
	o.m.change(o.self, func(r *memoryRegion) {
		r.frames = append(r.frames, memoryFrame{p, bytes.Clone(frame)})
		seq = uint64(len(r.frames))
	})
	done(seq, nil)
}

// keptTicks bounds how long a test may run, roughly: later ticks are lost.
const keptTicks = 1 << 16

func (o memoryOutlet) Broadcast(frame []byte) error {
	o.m.change(o.self, func(r *memoryRegion) {
		if len(r.ticks) < keptTicks {
			r.ticks = append(r.ticks, bytes.Clone(frame))
		}
	})
	return nil
}

func (o memoryOutlet) Serve(ctx context.Context, h crossregion.Handler) error {
	o.m.change(o.self, func(r *memoryRegion) { r.handlers = append(r.handlers, h) })
	<-ctx.Done()
	o.m.change(o.self, func(r *memoryRegion) {
		r.handlers = slices.DeleteFunc(r.handlers, func(other crossregion.Handler) bool { return other == h })
	})
	return nil
}

type memoryInlet struct {
	m          *Memory
	from, self topology.RegionID
	mu         struct {
		sync.Mutex
		incarnation, next, tick int
	}
}

// take returns what is new since the last call and a channel that is closed when there is more.
func (i *memoryInlet) take() (frames []memoryFrame, ticks [][]byte, changed <-chan struct{}, err error) {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	r := i.m.regionLocked(i.from)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.m.mu.cut[[2]topology.RegionID{i.from, i.self}] {
		i.mu.tick = len(r.ticks)
		return nil, nil, nil, ErrCut
	}
	switch {
	case i.mu.incarnation == 0:
		i.mu.next, i.mu.tick = len(r.frames), len(r.ticks)
	case i.mu.incarnation != r.incarnation:
		i.mu.next = 0
	}
	i.mu.incarnation = r.incarnation
	frames, ticks = slices.Clone(r.frames[i.mu.next:]), slices.Clone(r.ticks[i.mu.tick:])
	i.mu.next, i.mu.tick = len(r.frames), len(r.ticks)
	return frames, ticks, i.m.mu.changed, nil
}

func (i *memoryInlet) Subscribe(ctx context.Context, s crossregion.Subscriber) error {
	for ctx.Err() == nil {
		frames, ticks, changed, err := i.take()
		if err != nil {
			return err
		}
		for _, f := range frames {
			s.OnFrame(f.partition, bytes.Clone(f.frame))
		}
		for _, h := range ticks {
			s.OnTick(bytes.Clone(h))
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return nil
}

func (i *memoryInlet) handlers() ([]crossregion.Handler, error) {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	if i.m.mu.cut[[2]topology.RegionID{i.from, i.self}] {
		return nil, ErrCut
	}
	return slices.Clone(i.m.regionLocked(i.from).handlers), nil
}

func (i *memoryInlet) Fetch(ctx context.Context, p topology.PartitionID, request []byte) ([]byte, error) {
	handlers, err := i.handlers()
	if err != nil {
		return nil, err
	}
	for _, h := range handlers {
		if response := h.Fetch(p, bytes.Clone(request)); response != nil {
			return response, nil
		}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (i *memoryInlet) Report(frame []byte) error {
	handlers, err := i.handlers()
	for _, h := range handlers {
		h.Report(bytes.Clone(frame))
	}
	return err
}
