package protocol

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
)

// concatenated is a folder whose records are as long as those they stand for.
func concatenated(records []Record) (Record, error) {
	var all []byte
	for _, r := range records {
		all = append(all, r.Data...)
	}
	return Record{First: records[0].Seq, Seq: records[len(records)-1].Seq, Data: all}, nil
}

func testPacker(t testing.TB, fold Folder) *Packer {
	t.Helper()
	p, err := NewPacker(fold, testKeys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunsTravelInOneRecord(t *testing.T) {
	p := testPacker(t, concatenated)
	noise := make([]byte, 4*zipFrom)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for name, c := range map[string]struct {
		data  []byte
		codec uint32
	}{
		"small": {[]byte("run"), CodecFolded}, "large": {bytes.Repeat([]byte("run"), 20*zipFrom), CodecZipped}, "not to be compressed": {noise, CodecFolded},
	} {
		frame, codec := packTwo(t, p, c.data)
		if codec != c.codec || codec == CodecZipped && len(frame) > len(c.data)/10 {
			t.Errorf("%s: %d bytes became %d, codec %d", name, len(c.data), len(frame), codec)
		}
		back, err := p.DecodeEnvelope(testStream, frame)
		if err != nil || len(back) != 1 || back[0].First != 4 || back[0].Seq != 5 || !bytes.Equal(back[0].Data, c.data) {
			t.Errorf("%s: came back as %d records, %v", name, len(back), err)
		}
	}
}

// packTwo sends data as two records, 4 and 5, that are made one.
func packTwo(t *testing.T, p *Packer, data []byte) (frame []byte, codec uint32) {
	t.Helper()
	half := len(data) / 2
	records := p.Pack([]Record{{Seq: 4, Data: data[:half]}, {Seq: 5, Data: data[half:]}})
	if len(records) != 1 || records[0].Begin() != 4 || records[0].Seq != 5 {
		t.Fatalf("packed as %d records", len(records))
	}
	frame, err := p.EncodeEnvelope(testStream, records)
	if err != nil {
		t.Fatal(err)
	}
	var m crossregionv1.Envelope
	if _, err := testKeys.Open(FrameEnvelope, 0, Scope{}, frame, &m); err != nil || m.From != 4 || m.To != 5 {
		t.Errorf("%d to %d, %v", m.From, m.To, err)
	}
	return frame, m.Codec
}

func TestPackingThatDoesNotHelp(t *testing.T) {
	two := []Record{{Seq: 4, Data: []byte("a")}, {Seq: 5, Data: []byte("b")}}
	larger := func(records []Record) (Record, error) { return Record{First: 4, Seq: 5, Data: make([]byte, 100)}, nil }
	fails := func([]Record) (Record, error) { return Record{}, errors.New("not to be folded") }
	for name, fold := range map[string]Folder{"none": nil, "larger": larger, "failing": fails} {
		if got := testPacker(t, fold).Pack(two); len(got) != 2 || got[0].Several() {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := testPacker(t, concatenated).Pack(two[:1]); len(got) != 1 || got[0].Several() {
		t.Errorf("one: %+v", got)
	}
}

func zippedFrame(t *testing.T, data []byte) []byte {
	t.Helper()
	return envelopeFrame(t, func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = CodecZipped, [][]byte{data} })
}

// TestCompressedFramesAreBounded: a few bytes can say that they are gigabytes.
func TestCompressedFramesAreBounded(t *testing.T) {
	p := testPacker(t, nil)
	bomb := p.encoder.EncodeAll(make([]byte, 2*MaxFrameBytes), nil)
	frame := envelopeFrame(t, func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = CodecZipped, [][]byte{bomb} })
	if len(frame) > 64<<10 {
		t.Fatalf("the bomb has %d bytes", len(frame))
	}
	if _, err := p.DecodeEnvelope(testStream, frame); !errors.Is(err, ErrBadFrame) || ReasonOf(err) != ReasonBomb {
		t.Errorf("%v", err)
	}
	for n := range min(len(bomb), 200) {
		cut := envelopeFrame(t, func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = CodecZipped, [][]byte{bomb[:n]} })
		if _, err := p.DecodeEnvelope(testStream, cut); n > 0 && !errors.Is(err, ErrBadFrame) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestBadRunIsTakenApart: of a run that cannot be merged, all before the bad event is.
func TestBadRunIsTakenApart(t *testing.T) {
	now := time.Unix(0, 0)
	core := NewReceiver(DefaultTuning(), 0, now)
	core.Offer([]Record{{First: 1, Seq: 4}}, true, now)
	poison := &BadBatchError{errors.New("poison")}
	a := core.Action(now)
	if a.Kind != ReceiveMerge || len(a.Records) != 1 {
		t.Fatalf("%+v", a)
	}
	core.Merged(a.Records, 0, poison, now)
	if core.stuck != "" {
		t.Errorf("stuck before it was taken apart: %s", core.stuck)
	}
	if a = core.Action(now); a.Kind != ReceiveFetch || a.From != 1 || !a.Plain {
		t.Fatalf("%+v", a)
	}
	core.Fetched(FetchResult{Records: []Record{{Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}}}, now)
	for applied := uint64(0); ; applied++ {
		a := core.Action(now)
		if a.Kind != ReceiveMerge || len(a.Records) != 1 || a.Records[0].Seq != applied+1 {
			t.Fatalf("after %d: %+v", applied, a)
		}
		if applied == 2 {
			core.Merged(a.Records, applied, poison, now)
			break
		}
		core.Merged(a.Records, applied+1, nil, now)
	}
	if core.applied != 2 || core.stuck == "" || core.Counts.Refused != 1 {
		t.Errorf("applied %d, stuck %q, refused %d", core.applied, core.stuck, core.Counts.Refused)
	}
}

// TestOverlappingRuns: what begins before what is applied is merged if it ends after it.
func TestOverlappingRuns(t *testing.T) {
	now := time.Unix(0, 0)
	core := NewReceiver(DefaultTuning(), 5, now)
	core.Offer([]Record{{First: 2, Seq: 5}}, true, now)
	core.Offer([]Record{{First: 7, Seq: 9}}, true, now)
	core.Offer([]Record{{First: 3, Seq: 8}}, true, now)
	a := core.Action(now)
	if a.Kind != ReceiveMerge || len(a.Records) != 2 || a.Records[0].Seq != 8 || a.Records[1].Seq != 9 {
		t.Fatalf("%+v", a)
	}
	if core.Merged(a.Records, 9, nil, now); len(core.waiting) != 0 || core.applied != 9 {
		t.Errorf("applied %d, %d waiting", core.applied, len(core.waiting))
	}
	if core.Counts.Duplicates != 1 {
		t.Errorf("%d duplicates", core.Counts.Duplicates)
	}
}

// TestOutboxesOfRunsAndDeltas: an envelope has one record that stands for several, or deltas.
func TestOutboxesOfRunsAndDeltas(t *testing.T) {
	mixed := []Record{{First: 1, Seq: 40_000, Data: []byte("run")}, {Seq: 40_001, Data: []byte("a")}, {Seq: 40_002, Data: []byte("b")}, {First: 40_003, Seq: 40_009, Data: []byte("c")}}
	p := testPacker(t, nil)
	for _, step := range []struct{ from, first, last uint64 }{{0, 1, 40_000}, {1, 40_001, 40_002}, {3, 40_003, 40_009}} {
		packed := p.Pack(mixed[step.from:])
		frame, err := p.EncodeEnvelope(testStream, packed)
		if err != nil {
			t.Fatal(err)
		}
		back, err := p.DecodeEnvelope(testStream, frame)
		if err != nil || back[0].Begin() != step.first || back[len(back)-1].Seq != step.last {
			t.Errorf("from %d: %+v, %v", step.from, back, err)
		}
	}
}

// TestBadRunOfTheOutbox: what cannot be merged as one, and is not there one by one, is said to be, and tried again
// for ever.
func TestBadRunOfTheOutbox(t *testing.T) {
	now := time.Unix(0, 0)
	core := NewReceiver(DefaultTuning(), 0, now)
	poison := &BadBatchError{errors.New("poison")}
	for range 3 {
		a := core.Action(now)
		if a.Kind != ReceiveFetch || a.From != 1 || a.Plain {
			t.Fatalf("%+v", a)
		}
		core.Fetched(FetchResult{Records: []Record{{First: 1, Seq: 4}}}, now)
		if a = core.Action(now); a.Kind != ReceiveMerge {
			t.Fatalf("%+v", a)
		}
		core.Merged(a.Records, 0, poison, now)
		if a = core.Action(now); a.Kind != ReceiveFetch || !a.Plain {
			t.Fatalf("%+v", a)
		}
		core.Fetched(FetchResult{TrimmedTo: 5}, now)
		if a = core.Action(now); a.Kind != ReceiveWait || core.stuck == "" {
			t.Fatalf("%+v, stuck %q", a, core.stuck)
		}
		now = a.Until
	}
	core.Fetched(FetchResult{Records: []Record{{First: 1, Seq: 4}}}, now)
	a := core.Action(now)
	core.Merged(a.Records, 4, nil, now)
	if core.stuck != "" || core.applied != 4 {
		t.Errorf("applied %d, stuck %q", core.applied, core.stuck)
	}
}

// TestShippersOfFoldedOutboxesFillTheirWindow: the size of a run says nothing about deltas.
func TestShippersOfFoldedOutboxesFillTheirWindow(t *testing.T) {
	now := time.Unix(0, 0)
	for name, c := range map[string]struct {
		box  OutboxState
		next uint64
		want bool
	}{
		"few deltas behind a run":  {OutboxState{First: 1, Head: 1_000_010, Bytes: 1100, FoldedBytes: 100, FoldedEvents: 1_000_000}, 1_000_001, false},
		"many deltas behind a run": {OutboxState{First: 1, Head: 1_001_000, Bytes: 400<<10 + 100, FoldedBytes: 100, FoldedEvents: 1_000_000}, 1_000_001, true},
		"a run waits":              {OutboxState{First: 1, Head: 1_000_010, Bytes: 1100, FoldedBytes: 100, FoldedEvents: 1_000_000}, 1, true},
		"nothing but runs":         {OutboxState{First: 1, Head: 100, Bytes: 100, FoldedBytes: 100, FoldedEvents: 100}, 1, true},
	} {
		s := NewShipper(DefaultTuning())
		s.OutboxIs(c.box)
		s.Open(StreamState{Incarnation: "a", LastSeq: 1}, c.next-1)
		s.Sent(1, []Record{{Seq: c.next - 1}}, now) // one is in flight: only a full one goes
		s.next = c.next
		if a := s.Action(now); (a.Kind == ShipRead) != c.want {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
