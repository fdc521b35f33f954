package protocol

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Request asks another region's leader of a partition for something that it would do later by itself. It may be
// lost: whoever waits asks again.
type Request struct {
	Partition topology.PartitionID
	// Actor is that of the region that is asked.
	Actor crdt.Actor
	// EventPast asks for an event at or after an instant, which a read waits for; 0 asks for none.
	EventPast hlc.Time
	// WatermarkOf asks for a watermark as soon as so many of the asking region's events are applied; 0 asks for
	// none.
	WatermarkOf uint64
}

// EncodeRequest returns a frame that asks another region for something.
func (k *Keys) EncodeRequest(to topology.RegionID, r Request) ([]byte, error) {
	return k.Seal(FrameRequest, Scope{To: to}, &crossregionv1.Request{
		Cluster: k.cluster, Region: uint32(k.region()), Partition: uint32(r.Partition), Actor: uint32(r.Actor),
		EventPastHlc: uint64(r.EventPast), WatermarkOf: r.WatermarkOf,
	})
}

// DecodeRequest reads what EncodeRequest returned for this region, and returns also which region asks. It refuses
// what is for another of this region's actors.
func (k *Keys) DecodeRequest(frame []byte) (topology.RegionID, Request, error) {
	var m crossregionv1.Request
	speaker, err := k.Open(FrameRequest, 0, Scope{To: k.region()}, frame, &m)
	if err == nil {
		err = k.check(m.Cluster, m.Region, speaker)
	}
	if err == nil && m.Actor != uint32(k.self) {
		err = fmt.Errorf("request %w: %d", ErrOtherActor, m.Actor)
	}
	if err != nil {
		return 0, Request{}, err
	}
	region, _ := topology.ActorRegion(speaker)
	return region, Request{
		Partition: topology.PartitionID(m.Partition), Actor: k.self,
		EventPast: hlc.Time(m.EventPastHlc), WatermarkOf: m.WatermarkOf,
	}, nil
}

// KindOf returns what a frame says that it is; 0 if it is too short to be one.
func KindOf(frame []byte) FrameKind {
	if len(frame) < frameHeader {
		return 0
	}
	return FrameKind(frame[3])
}
