package crossregion

import (
	"log/slog"
	"sync"
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

const (
	// askEvery is the least time between two requests for the same: many reads wait for one event.
	askEvery = 100 * time.Millisecond
	// askPause is the least time between any two requests to one region about one partition. Who is left out
	// asks again.
	askPause = 20 * time.Millisecond
)

// asking remembers what other regions were asked for last.
type asking struct {
	mu   sync.Mutex
	last map[askedOf]askedFor
}

type askedOf struct {
	partition topology.PartitionID
	region    topology.RegionID
}

type askedFor struct {
	past hlc.Time
	seq  uint64
	at   time.Time
}

// again reports whether to ask, and notes that it is done.
func (a *asking) again(of askedOf, wanted askedFor) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.last[of]
	if wanted.at.Sub(last.at) < askPause {
		return false
	}
	if wanted.past <= last.past && wanted.seq <= last.seq && wanted.at.Sub(last.at) < askEvery {
		return false
	}
	if a.last == nil {
		a.last = map[askedOf]askedFor{}
	}
	a.last[of] = askedFor{max(wanted.past, last.past), max(wanted.seq, last.seq), wanted.at}
	return true
}

// AskEvent asks a region's leader of a partition for an event at or after an instant, if there is none yet. It
// does not wait, and the request may be lost. Safe for concurrent use.
func (r *Replicator) AskEvent(p topology.PartitionID, region topology.RegionID, past hlc.Time) {
	if remote, ok := r.regions[region]; ok && r.asking.again(askedOf{p, region}, askedFor{past: past, at: r.cfg.Clock()}) {
		r.ask(remote, protocol.Request{Partition: p, Actor: remote.Actor, EventPast: past})
	}
}

// AskWatermarks asks every other region to tell as soon as it has applied this region's events of a partition up
// to seq. It does not wait, and the requests may be lost. Safe for concurrent use.
func (r *Replicator) AskWatermarks(p topology.PartitionID, seq uint64) {
	for id, remote := range r.regions {
		if r.asking.again(askedOf{p, id}, askedFor{seq: seq, at: r.cfg.Clock()}) {
			r.ask(remote, protocol.Request{Partition: p, Actor: remote.Actor, WatermarkOf: seq})
		}
	}
}

func (r *Replicator) ask(remote RemoteRegion, request protocol.Request) {
	frame, err := r.keys.EncodeRequest(remote.ID, request)
	if err == nil {
		err = r.cfg.Link.Inlet(remote.ID).Report(frame)
	}
	if err != nil { // whoever waits asks again
		r.log.Debug("another region was not asked", slog.Any("partition", request.Partition), slog.String("region", remote.Name), slog.Any("err", err))
	}
}

// Reached returns how many other regions have said that they have applied this region's events of a partition
// up to seq, and a channel that is closed at the next such word of any. Only who leads the partition hears of it:
// known is false elsewhere. Safe for concurrent use.
func (r *Replicator) Reached(p topology.PartitionID, seq uint64) (regions int, changed <-chan struct{}, known bool) {
	s := r.session(p)
	if s == nil {
		return 0, nil, false
	}
	regions, changed = s.acking.reached(seq)
	return regions, changed, true
}

// requested does what another region asks for, if this node leads the partition.
func (h handler) requested(frame []byte) {
	r := h.r
	from, request, err := r.keys.DecodeRequest(frame)
	if _, known := r.regions[from]; err == nil && !known {
		err = protocol.ErrOtherActor
	}
	if err != nil {
		r.refuse("request refused", r.claimed(frame), allPartitions, err)
		return
	}
	if r.session(request.Partition) == nil {
		return
	}
	if request.WatermarkOf > 0 {
		r.reporters[from].urge(request.Partition, request.WatermarkOf)
	}
	if request.EventPast > 0 && r.cfg.WantEvent != nil {
		if err := r.cfg.WantEvent(request.Partition, request.EventPast); err != nil {
			r.log.Debug("no event for another region", slog.Any("partition", request.Partition), slog.Any("err", err))
		}
	}
}
