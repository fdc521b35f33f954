package protocol

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

func vectorOf(seqs ...uint64) crdt.VersionVector {
	var v crdt.VersionVector
	for i, seq := range seqs {
		v.Set(topology.Actor(topology.RegionID(i+1), 1), seq)
	}
	return v
}

func TestTickRoundTrip(t *testing.T) {
	in := Tick{Node: "n", Sent: time.UnixMicro(1234567), Heads: []Head{
		{Position: Position{Partition: 1, Actor: 65, Seq: 9}, First: 4, Bytes: 50, Appended: 700, Behind: 1500 * time.Millisecond, HLC: 99,
			Vector: vectorOf(9, 4), Digest: Digest{Vector: vectorOf(8, 4), Sum: [16]byte{1, 15: 2}}},
		{Position: Position{Partition: 2, Actor: 65}, First: 1},
	}}
	frame, err := testKeys.EncodeTick(in)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := testKeys.DecodeTick(1, frame); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%+v came back as %+v, %v", in, out, err)
	}
}

func TestTicksThatContradictThemselves(t *testing.T) {
	vector := vectorOf(9).Append(nil)
	for name, c := range map[string]struct {
		head *crossregionv1.Head
		want error
	}{
		"another region's actor": {&crossregionv1.Head{Actor: 66}, ErrOtherActor},
		"begins behind its end":  {&crossregionv1.Head{Actor: 65, Seq: 5, First: 7}, ErrBadCounts},
		"keeps more than it had": {&crossregionv1.Head{Actor: 65, Seq: 5, First: 1, Bytes: 2, Appended: 1}, ErrBadCounts},
		"no vector":              {&crossregionv1.Head{Actor: 65, Vector: []byte{9, 9}}, ErrBadFrame},
		"no digest vector":       {&crossregionv1.Head{Actor: 65, DigestVector: []byte{9, 9}, Digest: make([]byte, 16)}, ErrBadFrame},
		"short digest":           {&crossregionv1.Head{Actor: 65, DigestVector: vector, Digest: make([]byte, 15)}, ErrBadFrame},
	} {
		frame, err := testKeys.Seal(FrameTick, Scope{}, &crossregionv1.Tick{Cluster: "c", Region: 1, Heads: []*crossregionv1.Head{c.head}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := testKeys.DecodeTick(1, frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCapturedTicksAreNoSignOfLife: somebody sends a region's old ticks again while it is cut off.
func TestCapturedTicksAreNoSignOfLife(t *testing.T) {
	var f Freshness
	tickAt := func(node string, at time.Duration) Tick { return Tick{Node: topology.NodeID(node), Sent: after(at)} }
	for i, c := range []struct {
		tick Tick
		want bool
	}{
		{tickAt("a", 1), true}, {tickAt("a", 1), false}, {tickAt("b", 1), true}, {tickAt("a", 3), true},
		{tickAt("a", 2), false}, {tickAt("b", 2), true},
	} {
		if got := f.Fresh(c.tick); got != c.want {
			t.Errorf("tick %d: %v", i, got)
		}
	}
	for i := range 2 * maxTickNodes {
		f.Fresh(tickAt(fmt.Sprint("node", i), 1))
	}
	if len(f.last) != maxTickNodes {
		t.Errorf("%d nodes are remembered", len(f.last))
	}
	r := idleReceiver(10)
	head := &Head{Position: Position{Seq: 10}, First: 11}
	if err := r.Tick(head, true, start); err != nil {
		t.Fatal(err)
	}
	for i := range time.Duration(10) {
		if err := r.Tick(head, false, after(i*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	var flow Flow
	if r.Flow(&flow, after(10*time.Second)); !flow.Unknown || flow.Behind != 10*time.Second {
		t.Errorf("%+v", flow)
	}
}

func TestImpossibleHeadsAreRefused(t *testing.T) {
	r := idleReceiver(10)
	for _, seq := range []uint64{1 << 62, 1<<64 - 1, 11 + maxJump} {
		if err := r.Tick(&Head{Position: Position{Seq: seq}}, true, start); !errors.Is(err, ErrSequenceJump) {
			t.Errorf("head %d: %v", seq, err)
		}
		if err := r.Offer([]Record{{Seq: seq}}, true, start); !errors.Is(err, ErrSequenceJump) {
			t.Errorf("record %d: %v", seq, err)
		}
	}
	var f Flow
	if r.Flow(&f, start); f.Head != 10 || len(r.waiting) != 0 {
		t.Errorf("%+v, %d wait", f, len(r.waiting))
	}
}

// TestSizesTellWhatIsMissing compares with an outbox that is remembered whole.
func TestSizesTellWhatIsMissing(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var s sizes
		totals := []uint64{0} // by head
		applied, first := uint64(0), uint64(1)
		if _, known := s.missing(0); known {
			t.Fatal("known before anything was told")
		}
		for range 300 {
			for range rng.IntN(20) {
				totals = append(totals, totals[len(totals)-1]+uint64(rng.IntN(1000)))
			}
			head := uint64(len(totals) - 1)
			applied += rng.Uint64N(head - applied + 1)
			if rng.IntN(3) == 0 {
				first = applied + 1
			}
			s.add(OutboxState{First: first, Head: head, Bytes: totals[head] - totals[first-1], Appended: totals[head]}, applied)
			missesAbout(t, &s, applied, totals)
		}
	}
}

// missesAbout checks what is told against the totals: exact if nothing is missing, else wrong by less than one tick's bytes.
func missesAbout(t *testing.T, s *sizes, applied uint64, totals []uint64) {
	t.Helper()
	got, known := s.missing(applied)
	last := totals[len(totals)-1]
	diff := int64(got) - int64(last-totals[applied])
	exact := applied == uint64(len(totals)-1)
	if !known || exact && diff != 0 || diff > 20_000 || diff < -20_000 || len(s.points) > maxSizes {
		t.Fatalf("%d of %d events applied, %d points: told %d, which is %d too much", applied, len(totals)-1, len(s.points), got, diff)
	}
}

func TestSizesThatAreNotKnown(t *testing.T) {
	s := sizes{}
	s.add(OutboxState{First: 11, Head: 10, Appended: 500}, 3)
	if _, known := s.missing(3); known {
		t.Error("what was trimmed before anything was told passes for known")
	}
	s.add(OutboxState{First: 11, Head: 20, Bytes: 100, Appended: 600}, 3)
	s.add(OutboxState{First: 1, Head: 30, Bytes: 10, Appended: 10}, 20)
	if got, known := s.missing(30); got != 0 || !known {
		t.Errorf("counted anew: %d %v", got, known)
	}
}

func TestNewLeaderKnowsHowOldWhatWaitsIs(t *testing.T) {
	ages := []Aged{{Seq: 5, At: after(-time.Hour)}, {Seq: 8, At: after(-time.Minute)}, {Seq: 9, At: after(time.Hour)}}
	a := NewAcker(DefaultTuning(), []topology.RegionID{2}, ages, start)
	a.OutboxIs(OutboxState{First: 5, Head: 20, Bytes: 160, Appended: 400}, start)
	for _, c := range []struct {
		applied uint64
		want    time.Duration
	}{{4, time.Hour}, {5, time.Minute}, {8, 0}} {
		if err := a.Report(2, c.applied, 20); err != nil {
			t.Fatal(err)
		}
		if got := a.Behind(start); got != c.want {
			t.Errorf("%d applied: behind by %v", c.applied, got)
		}
	}
	r := NewReceiver(DefaultTuning(), 4, start)
	if err := r.Tick(&Head{Position: Position{Seq: 20}, First: 5, Behind: time.Hour}, true, start); err != nil {
		t.Fatal(err)
	}
	var f Flow
	if r.Flow(&f, start); f.Behind != time.Hour {
		t.Errorf("%+v", f)
	}
}
