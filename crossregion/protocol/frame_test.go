package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

var testStream = Stream{Cluster: "c", Partition: 3, Actor: 65}

// testKeys are region 1's, which knows of regions 2 and 3.
var testKeys = keysOf("c", 1)

// keysOf returns a region's keys in a deployment of three regions in their first epoch.
func keysOf(cluster string, self topology.RegionID) *Keys {
	return NewKeys(cluster, topology.Actor(self, 1), []crdt.Actor{topology.Actor(1, 1), topology.Actor(2, 1), topology.Actor(3, 1)}, derive)
}

func derive(purpose string) [32]byte { return sha256.Sum256([]byte("secret " + purpose)) }

// Plain neither folds nor compresses.
var Plain = &Packer{keys: testKeys}

// seal makes a frame's MAC and checksum right.
func seal(frame []byte) []byte { return sealTo(frame, Scope{}) }

func sealTo(frame []byte, scope Scope) []byte {
	binary.BigEndian.PutUint32(frame[offsetActor:], uint32(testKeys.self))
	binary.BigEndian.PutUint32(frame[offsetCluster:], testKeys.tag)
	mac := testKeys.mac(testKeys.self, scope, frame)
	copy(frame[offsetMAC:], mac[:])
	return checksum(frame)
}

func checksum(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame[4:], frameSum(frame))
	return frame
}

func envelopeFrame(t *testing.T, change func(*crossregionv1.Envelope)) []byte {
	t.Helper()
	m := &crossregionv1.Envelope{Cluster: "c", Actor: 65, Partition: 3, From: 7, To: 8, Deltas: [][]byte{{1}, {2}}}
	change(m)
	frame, err := testKeys.Seal(FrameEnvelope, Scope{}, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestEnvelopeRoundTrip(t *testing.T) {
	in := []Record{{Seq: 7, Data: []byte("a")}, {Seq: 8, Data: nil}, {Seq: 9, Data: bytes.Repeat([]byte("x"), 1<<20)}}
	frame, err := Plain.EncodeEnvelope(testStream, in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Plain.DecodeEnvelope(testStream, frame)
	if err != nil || len(out) != len(in) {
		t.Fatalf("%d records, %v", len(out), err)
	}
	for i := range in {
		if out[i].Seq != in[i].Seq || !bytes.Equal(out[i].Data, in[i].Data) {
			t.Errorf("record %d came back as %d", in[i].Seq, out[i].Seq)
		}
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	frame := envelopeFrame(t, func(*crossregionv1.Envelope) {})
	for i := range len(frame) * 8 {
		bad := bytes.Clone(frame)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := Plain.DecodeEnvelope(testStream, bad); err == nil {
			t.Errorf("bit %d flipped unnoticed", i)
		}
	}
	for n := range frame {
		if _, err := Plain.DecodeEnvelope(testStream, frame[:n]); !errors.Is(err, ErrBadFrame) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestEnvelopesOfOthersAreRefused(t *testing.T) {
	cases := map[string]struct {
		change func(*crossregionv1.Envelope)
		want   error
	}{
		"cluster":   {func(m *crossregionv1.Envelope) { m.Cluster = "d" }, ErrOtherCluster},
		"partition": {func(m *crossregionv1.Envelope) { m.Partition = 4 }, ErrOtherPartition},
		"actor":     {func(m *crossregionv1.Envelope) { m.Actor = 66 }, ErrOtherActor},
		"epoch":     {func(m *crossregionv1.Envelope) { m.Actor = 65 - 64 }, ErrOtherActor},
		"codec":     {func(m *crossregionv1.Envelope) { m.Codec = 3 }, ErrBadFrame},
		"zipped":    {func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = 2, m.Deltas[:1] }, ErrBadFrame},
		"two runs":  {func(m *crossregionv1.Envelope) { m.Codec = 1 }, ErrBadCounts},
		"no run":    {func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = 1, nil }, ErrBadCounts},
		"run of 1":  {func(m *crossregionv1.Envelope) { m.Codec, m.To, m.Deltas = 1, 7, m.Deltas[:1] }, ErrBadCounts},
		"run of 0":  {func(m *crossregionv1.Envelope) { m.Codec, m.From, m.Deltas = 1, 9, m.Deltas[:1] }, ErrBadCounts},
		"long run":  {func(m *crossregionv1.Envelope) { m.Codec, m.To, m.Deltas = 1, 1<<63, m.Deltas[:1] }, ErrBadCounts},
		"long": {func(m *crossregionv1.Envelope) {
			m.To, m.Deltas = 7+MaxEnvelopeRecords, make([][]byte, MaxEnvelopeRecords+1)
		}, ErrBadCounts},
		"too few":  {func(m *crossregionv1.Envelope) { m.To = 9 }, ErrBadCounts},
		"too many": {func(m *crossregionv1.Envelope) { m.To = 7 }, ErrBadCounts},
		"none":     {func(m *crossregionv1.Envelope) { m.Deltas = nil }, ErrBadCounts},
		"zero":     {func(m *crossregionv1.Envelope) { m.From, m.To = 0, 1 }, ErrBadCounts},
		"reversed": {func(m *crossregionv1.Envelope) { m.From, m.To = 8, 7 }, ErrBadCounts},
		"wrapping": {func(m *crossregionv1.Envelope) { m.From, m.To = 1, 0 }, ErrBadCounts},
	}
	for name, c := range cases {
		if _, err := Plain.DecodeEnvelope(testStream, envelopeFrame(t, c.change)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	_, err := Plain.EncodeEnvelope(testStream, []Record{{Seq: 1, Data: make([]byte, MaxFrameBytes)}})
	if err == nil {
		t.Error("a frame larger than the largest was made")
	}
	largest := []Record{{Seq: 1, Data: make([]byte, MaxFrameBytes-envelopeRoom-64)}}
	if _, err := Plain.EncodeFetchResponse(testStream, Asked{By: 1}, FetchResult{Records: largest}); err != nil {
		t.Errorf("what fits the stream does not fit a response: %v", err)
	}
	// Millions of empty deltas are few bytes on the wire, and would be much in memory.
	empties := make([]byte, frameHeader, 1<<20)
	empties[0], empties[1], empties[2], empties[3] = 'A', 'T', frameVersion, byte(FrameEnvelope)
	for len(empties) < 1<<20-2 {
		empties = append(empties, 10<<3|2, 0)
	}
	if allocs := testing.AllocsPerRun(1, func() { _, err = Plain.DecodeEnvelope(testStream, seal(empties)) }); err == nil || allocs > 50 {
		t.Errorf("a flood of fields: %v after %v allocations", err, allocs)
	}
}

func TestKindsAreNotConfused(t *testing.T) {
	frame, err := testKeys.EncodeTick(Tick{Node: "n", Heads: []Head{{Position: Position{Partition: 1, Actor: 65, Seq: 9}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := testKeys.DecodeWatermarks(frame); !errors.Is(err, ErrBadFrame) {
		t.Errorf("a tick passes for watermarks: %v", err)
	}
	if heads, err := testKeys.DecodeTick(1, frame); err != nil || heads.Heads[0].Position != (Position{Partition: 1, Actor: 65, Seq: 9}) {
		t.Errorf("%v %v", heads, err)
	}
	if _, err := testKeys.DecodeTick(2, frame); !errors.Is(err, ErrOtherActor) {
		t.Errorf("another region's tick: %v", err)
	}
	if _, err := keysOf("d", 1).DecodeTick(1, frame); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("another cluster's tick: %v", err)
	}
}

func TestWatermarksOfRegionsThatCannotBe(t *testing.T) {
	frame, err := testKeys.Seal(FrameWatermarks, Scope{To: 1}, &crossregionv1.WatermarkReport{Cluster: "c", Region: 64 + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := testKeys.DecodeWatermarks(frame); !errors.Is(err, ErrOtherActor) {
		t.Errorf("region 65 passes for region 1: %v", err)
	}
}

func TestFetchMessages(t *testing.T) {
	frame, err := keysOf("c", 2).EncodeFetchRequest(testStream, 1, FetchRequest{12, 1 << 30, 1, 77})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := testKeys.DecodeFetchRequest(3, frame); got != (Asked{FetchRequest{12, 1 << 20, 1, 77}, 2, 65}) || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	for name, s := range map[string]Stream{"cluster": {"d", 3, 65}, "partition": {"c", 4, 65}, "epoch": {"c", 3, 65 + 64}, "region": {"c", 3, 69}, "no actor": {"c", 3, 0}} {
		frame, err := keysOf("c", 2).EncodeFetchRequest(s, 1, FetchRequest{From: 12})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := testKeys.DecodeFetchRequest(3, frame); err == nil {
			t.Errorf("a request of another %s is accepted", name)
		}
	}
	for _, in := range []FetchResult{{Nothing: true}, {TrimmedTo: 9}, {Records: []Record{{Seq: 4, Data: []byte("x")}}}} {
		frame, err := Plain.EncodeFetchResponse(testStream, Asked{By: 1}, in)
		if err != nil {
			t.Fatal(err)
		}
		out := Plain.DecodeFetchResponse(testStream, 1, 0, frame)
		if out.Err != nil || out.Nothing != in.Nothing || out.TrimmedTo != in.TrimmedTo || len(out.Records) != len(in.Records) {
			t.Errorf("%+v came back as %+v", in, out)
		}
	}
}

func FuzzDecode(f *testing.F) {
	zipping, err := NewPacker(nil, testKeys)
	if err != nil {
		f.Fatal(err)
	}
	frame, _ := Plain.EncodeEnvelope(testStream, []Record{{Seq: 1, Data: []byte("delta")}})
	f.Add(frame[frameHeader:], byte(FrameEnvelope))
	frame, _ = testKeys.EncodeTick(Tick{Node: "n", Heads: []Head{{Position: Position{Partition: 1, Actor: 65, Seq: 9}}}})
	f.Add(frame[frameHeader:], byte(FrameTick))
	frame, _ = Plain.EncodeFetchResponse(testStream, Asked{By: 1}, FetchResult{Records: []Record{{Seq: 4, Data: []byte("x")}}})
	f.Add(frame[frameHeader:], byte(FrameFetchResponse))
	for _, n := range []int{10, 2 * zipFrom} {
		frame, _ = zipping.EncodeEnvelope(testStream, []Record{{First: 3, Seq: 9, Data: make([]byte, n)}})
		f.Add(frame[frameHeader:], byte(FrameEnvelope))
	}
	f.Fuzz(func(t *testing.T, payload []byte, kind byte) {
		frame := make([]byte, frameHeader, frameHeader+len(payload))
		frame[0], frame[1], frame[2], frame[3] = 'A', 'T', frameVersion, kind
		frame = seal(append(frame, payload...))
		if records, err := zipping.DecodeEnvelope(testStream, frame); err == nil {
			for i, r := range records {
				if r.Seq != records[0].Seq+uint64(i) || r.Begin() > r.Seq || r.Several() && len(records) > 1 {
					t.Fatalf("records are not contiguous: %d after %d", r.Seq, records[0].Seq)
				}
			}
		}
		_, _ = testKeys.DecodeTick(1, frame)
		to := sealTo(slices.Clone(frame), Scope{To: 1})
		_, _, _ = testKeys.DecodeWatermarks(to)
		_, _ = testKeys.DecodeFetchRequest(3, to)
		zipping.DecodeFetchResponse(testStream, 1, 0, to)
	})
}

func TestGoldenEnvelope(t *testing.T) {
	frame, err := Plain.EncodeEnvelope(testStream, []Record{{Seq: 7, Data: []byte("ab")}})
	if err != nil {
		t.Fatal(err)
	}
	// What is in a stream must stay readable.
	message := "\n\x01c\x10A\x18\x03\x20\x01(\x070\x07R\x02ab"
	golden := "AT\x02\x01\xac\xf3\xcfI\x00\x00\x00A \xeb3ǻ\x00\xa4\xc9\xd6\xc5a\x848\x98ڮ\x9b\x19\xea\x15" + message
	if string(frame) != golden {
		t.Errorf("encoded %q", frame)
	}
	var m crossregionv1.Envelope
	if err := proto.Unmarshal([]byte(message), &m); err != nil || m.OutboxEpoch != 1 {
		t.Errorf("%v %v", &m, err)
	}
	// Version 1 had no MAC: whoever could write to a stream could make it.
	first := []byte("AT\x01\x01\x00\x00\x00\x00" + message)
	binary.BigEndian.PutUint32(first[4:], crc32.Update(crc32.Checksum(first[2:4], castagnoli), castagnoli, first[8:]))
	if _, err := Plain.DecodeEnvelope(testStream, first); !errors.Is(err, ErrVersion) {
		t.Errorf("a frame of version 1: %v", err)
	}
}
