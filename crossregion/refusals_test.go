package crossregion_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// attacker can write to a region's stream and to its subjects, as who has broken into its NATS, and has the keys of
// some regions.
type attacker struct {
	t    *testing.T
	d    *deployment
	keys *protocol.Keys
}

func (a attacker) packer() *protocol.Packer {
	p, err := protocol.NewPacker(nil, a.keys)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func (a attacker) publish(p topology.PartitionID, frame []byte) {
	a.d.memory.Link(1).Outlet().Publish(p, frame, func(uint64, error) {})
}

// envelope returns records as of region 1 in the epoch and partition.
func (a attacker) envelope(cluster string, epoch topology.Epoch, p topology.PartitionID, first uint64) []byte {
	stream := protocol.Stream{Cluster: cluster, Partition: p, Actor: topology.Actor(1, epoch)}
	frame, err := a.packer().EncodeEnvelope(stream, []protocol.Record{{Seq: first, Data: []byte("poison")}})
	if err != nil {
		a.t.Fatal(err)
	}
	return frame
}

// TestForgedAndForeignFramesAreRefusedAndAttributed: all that somebody with access to a region's NATS may put there is
// refused, counted by whom it claims to be of and why, and what is honest goes on.
func TestForgedAndForeignFramesAreRefusedAndAttributed(t *testing.T) {
	d := deploy(t, 2)
	secret := func(cluster string, epoch topology.Epoch) attacker {
		return attacker{t, d, protocol.NewKeys(cluster, topology.Actor(1, epoch), nil, derive)}
	}
	guess := attacker{t, d, protocol.NewKeys("test", topology.Actor(1, 1), nil, func(p string) [32]byte { return sha256.Sum256([]byte("guess" + p)) })}
	honest := secret("test", 1)
	d.write(40)
	d.converge()
	damaged := honest.envelope("test", 1, 0, 6)
	damaged[len(damaged)-1] ^= 1
	stolen := honest.envelope("test", 1, 1, 6)
	frames := map[protocol.Reason][]byte{
		protocol.ReasonForged:         guess.envelope("test", 1, 0, 6),
		protocol.ReasonOtherCluster:   secret("prod", 1).envelope("prod", 1, 0, 6),
		protocol.ReasonOldEpoch:       secret("test", 0).envelope("test", 0, 0, 6),
		protocol.ReasonOtherActor:     secret("test", 2).envelope("test", 2, 0, 6),
		protocol.ReasonOtherPartition: stolen,
		protocol.ReasonDamaged:        damaged,
		protocol.ReasonOversized:      make([]byte, protocol.MaxFrameBytes+1),
		protocol.ReasonVersion:        []byte("AT\x01\x01\x00\x00\x00\x00\n\x04test"),
		protocol.ReasonSequenceJump:   honest.envelope("test", 1, 0, 1<<60),
	}
	for _, frame := range frames {
		honest.publish(0, frame)
	}
	d.write(400)
	d.converge()
	stats := d.replicators[2].Stats() // the node that leads in region 2
	refused := map[protocol.Reason]crossregion.Refusal{}
	for _, r := range stats.Refusals {
		refused[r.Reason] = r
	}
	for reason := range frames {
		if got := refused[reason]; got != (crossregion.Refusal{Source: 1, Reason: reason, Count: 1}) {
			t.Errorf("%s: %+v", reason, got)
		}
	}
	if len(stats.Refusals) != len(frames) || stats.Refused != uint64(len(frames)) {
		t.Errorf("refused %d: %+v", stats.Refused, stats.Refusals)
	}
}

// TestForgedRequestsAreRefused: a request or watermark that is not of whom it claims to be is not answered, and one
// that is of nobody we know is counted under nobody.
func TestForgedRequestsAreRefused(t *testing.T) {
	d := deploy(t, 2)
	d.write(40)
	d.converge()
	wrong := func(p string) [32]byte { return sha256.Sum256([]byte("guess" + p)) }
	inlet := d.memory.Link(2).Inlet(1)
	stream := protocol.Stream{Cluster: "test", Partition: 0, Actor: topology.Actor(1, 1)}
	for i, keys := range []*protocol.Keys{
		protocol.NewKeys("test", topology.Actor(2, 1), []crdt.Actor{stream.Actor}, wrong),
		protocol.NewKeys("test", topology.Actor(9, 1), []crdt.Actor{stream.Actor}, derive),
	} {
		marks, err := keys.EncodeWatermarks(1, []protocol.Position{{Partition: 0, Actor: stream.Actor, Seq: 1 << 40}})
		if err != nil {
			t.Fatal(err)
		}
		if err := inlet.Report(marks); err != nil {
			t.Fatal(err)
		}
		request, err := keys.EncodeFetchRequest(stream, 1, protocol.FetchRequest{From: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if answer, err := inlet.Fetch(ctx, 0, request); err == nil {
			t.Errorf("request %d is answered by %d bytes", i, len(answer))
		}
		cancel()
	}
	got := fmt.Sprint(d.replicators[0].Stats().Refusals)
	want := fmt.Sprint([]crossregion.Refusal{
		{Source: 0, Partition: 0, Reason: protocol.ReasonOtherActor, Count: 1},
		{Source: 0, Partition: topology.MaxPartitions, AllPartitions: true, Reason: protocol.ReasonOtherActor, Count: 1},
		{Source: 2, Partition: 0, Reason: protocol.ReasonForged, Count: 1},
		{Source: 2, Partition: topology.MaxPartitions, AllPartitions: true, Reason: protocol.ReasonForged, Count: 1},
	})
	if got != want {
		t.Errorf("%s", got)
	}
	d.write(40)
	d.converge()
}
