package crossregion

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
)

var testStream = stream{cluster: "c", partition: 3, actor: 65}

// plain neither folds nor compresses.
var plain *packer

func seal(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame[4:], frameSum(frame))
	return frame
}

func envelopeFrame(t *testing.T, change func(*crossregionv1.Envelope)) []byte {
	t.Helper()
	m := &crossregionv1.Envelope{Cluster: "c", Actor: 65, Partition: 3, From: 7, To: 8, Deltas: [][]byte{{1}, {2}}}
	change(m)
	frame, err := encodeFrame(frameEnvelope, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestEnvelopeRoundTrip(t *testing.T) {
	in := []Record{{Seq: 7, Data: []byte("a")}, {Seq: 8, Data: nil}, {Seq: 9, Data: bytes.Repeat([]byte("x"), 1<<20)}}
	frame, err := plain.encodeEnvelope(testStream, in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := plain.decodeEnvelope(testStream, frame)
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
		if _, err := plain.decodeEnvelope(testStream, bad); err == nil {
			t.Errorf("bit %d flipped unnoticed", i)
		}
	}
	for n := range frame {
		if _, err := plain.decodeEnvelope(testStream, frame[:n]); !errors.Is(err, errBadFrame) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestEnvelopesOfOthersAreRefused(t *testing.T) {
	cases := map[string]struct {
		change func(*crossregionv1.Envelope)
		want   error
	}{
		"cluster":   {func(m *crossregionv1.Envelope) { m.Cluster = "d" }, errOtherCluster},
		"partition": {func(m *crossregionv1.Envelope) { m.Partition = 4 }, errOtherPartition},
		"actor":     {func(m *crossregionv1.Envelope) { m.Actor = 66 }, errOtherActor},
		"codec":     {func(m *crossregionv1.Envelope) { m.Codec = 3 }, errBadFrame},
		"zipped":    {func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = 2, m.Deltas[:1] }, errBadFrame},
		"two runs":  {func(m *crossregionv1.Envelope) { m.Codec = 1 }, errBadCounts},
		"no run":    {func(m *crossregionv1.Envelope) { m.Codec, m.Deltas = 1, nil }, errBadCounts},
		"run of 1":  {func(m *crossregionv1.Envelope) { m.Codec, m.To, m.Deltas = 1, 7, m.Deltas[:1] }, errBadCounts},
		"run of 0":  {func(m *crossregionv1.Envelope) { m.Codec, m.From, m.Deltas = 1, 9, m.Deltas[:1] }, errBadCounts},
		"long run":  {func(m *crossregionv1.Envelope) { m.Codec, m.To, m.Deltas = 1, 1<<63, m.Deltas[:1] }, errBadCounts},
		"too few":   {func(m *crossregionv1.Envelope) { m.To = 9 }, errBadCounts},
		"too many":  {func(m *crossregionv1.Envelope) { m.To = 7 }, errBadCounts},
		"none":      {func(m *crossregionv1.Envelope) { m.Deltas = nil }, errBadCounts},
		"zero":      {func(m *crossregionv1.Envelope) { m.From, m.To = 0, 1 }, errBadCounts},
		"reversed":  {func(m *crossregionv1.Envelope) { m.From, m.To = 8, 7 }, errBadCounts},
		"wrapping":  {func(m *crossregionv1.Envelope) { m.From, m.To = 1, 0 }, errBadCounts},
	}
	for name, c := range cases {
		if _, err := plain.decodeEnvelope(testStream, envelopeFrame(t, c.change)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	_, err := plain.encodeEnvelope(testStream, []Record{{Seq: 1, Data: make([]byte, MaxFrameBytes)}})
	if err == nil {
		t.Error("a frame larger than the largest was made")
	}
	largest := []Record{{Seq: 1, Data: make([]byte, MaxFrameBytes-envelopeRoom-64)}}
	if _, err := plain.encodeFetchResponse(testStream, fetchResult{records: largest}); err != nil {
		t.Errorf("what fits the stream does not fit a response: %v", err)
	}
	// Millions of empty deltas are few bytes on the wire, and would be much in memory.
	empties := make([]byte, frameHeader, 1<<20)
	empties[0], empties[1], empties[2], empties[3] = 'A', 'T', frameVersion, byte(frameEnvelope)
	for len(empties) < 1<<20-2 {
		empties = append(empties, 10<<3|2, 0)
	}
	if allocs := testing.AllocsPerRun(1, func() { _, err = plain.decodeEnvelope(testStream, seal(empties)) }); err == nil || allocs > 50 {
		t.Errorf("a flood of fields: %v after %v allocations", err, allocs)
	}
}

func TestKindsAreNotConfused(t *testing.T) {
	frame, err := encodeHeartbeat(sender{"c", 1}, "n", []position{{1, 65, 9}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := decodeWatermarks("c", frame); !errors.Is(err, errBadFrame) {
		t.Errorf("a heartbeat passes for watermarks: %v", err)
	}
	if heads, err := decodeHeartbeat(sender{"c", 1}, frame); err != nil || heads[0] != (position{1, 65, 9}) {
		t.Errorf("%v %v", heads, err)
	}
	if _, err := decodeHeartbeat(sender{"c", 2}, frame); !errors.Is(err, errOtherActor) {
		t.Errorf("another region's heartbeat: %v", err)
	}
	if _, err := decodeHeartbeat(sender{"d", 1}, frame); !errors.Is(err, errOtherCluster) {
		t.Errorf("another cluster's heartbeat: %v", err)
	}
}

func TestWatermarksOfRegionsThatCannotBe(t *testing.T) {
	frame, err := encodeFrame(frameWatermarks, &crossregionv1.WatermarkReport{Cluster: "c", Region: 64 + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := decodeWatermarks("c", frame); !errors.Is(err, errOtherActor) {
		t.Errorf("region 65 passes for region 1: %v", err)
	}
}

func TestFetchMessages(t *testing.T) {
	frame, err := encodeFetchRequest(testStream, fetchRequest{12, 1 << 30, 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeFetchRequest(testStream, frame); got != (fetchRequest{12, 1 << 20, 1}) || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	for name, s := range map[string]stream{"cluster": {"d", 3, 65}, "partition": {"c", 4, 65}, "actor": {"c", 3, 66}} {
		if _, err := decodeFetchRequest(s, frame); err == nil {
			t.Errorf("a request of another %s is accepted", name)
		}
	}
	for _, in := range []fetchResult{{nothing: true}, {trimmedTo: 9}, {records: []Record{{Seq: 4, Data: []byte("x")}}}} {
		frame, err := plain.encodeFetchResponse(testStream, in)
		if err != nil {
			t.Fatal(err)
		}
		out := plain.decodeFetchResponse(testStream, frame)
		if out.err != nil || out.nothing != in.nothing || out.trimmedTo != in.trimmedTo || len(out.records) != len(in.records) {
			t.Errorf("%+v came back as %+v", in, out)
		}
	}
}

func FuzzDecode(f *testing.F) {
	zipping, err := newPacker(nil)
	if err != nil {
		f.Fatal(err)
	}
	frame, _ := plain.encodeEnvelope(testStream, []Record{{Seq: 1, Data: []byte("delta")}})
	f.Add(frame[frameHeader:], byte(frameEnvelope))
	frame, _ = encodeHeartbeat(sender{"c", 1}, "n", []position{{1, 65, 9}})
	f.Add(frame[frameHeader:], byte(frameHeartbeat))
	frame, _ = plain.encodeFetchResponse(testStream, fetchResult{records: []Record{{Seq: 4, Data: []byte("x")}}})
	f.Add(frame[frameHeader:], byte(frameFetchResponse))
	for _, n := range []int{10, 2 * zipFrom} {
		frame, _ = zipping.encodeEnvelope(testStream, []Record{{First: 3, Seq: 9, Data: make([]byte, n)}})
		f.Add(frame[frameHeader:], byte(frameEnvelope))
	}
	f.Fuzz(func(t *testing.T, payload []byte, kind byte) {
		frame := seal(append([]byte{'A', 'T', frameVersion, kind, 0, 0, 0, 0}, payload...))
		if records, err := zipping.decodeEnvelope(testStream, frame); err == nil {
			for i, r := range records {
				if r.Seq != records[0].Seq+uint64(i) || r.first() > r.Seq || r.several() && len(records) > 1 {
					t.Fatalf("records are not contiguous: %d after %d", r.Seq, records[0].Seq)
				}
			}
		}
		_, _ = decodeHeartbeat(sender{"c", 1}, frame)
		_, _, _ = decodeWatermarks("c", frame)
		_, _ = decodeFetchRequest(testStream, frame)
		plain.decodeFetchResponse(testStream, frame)
	})
}

func TestGoldenEnvelope(t *testing.T) {
	frame, err := plain.encodeEnvelope(testStream, []Record{{Seq: 7, Data: []byte("ab")}})
	if err != nil {
		t.Fatal(err)
	}
	// The first frame format: what is in a stream must stay readable.
	golden := []byte("AT\x01\x01\x00\x00\x00\x00\n\x01c\x10A\x18\x03\x20\x01(\x070\x07R\x02ab")
	if !bytes.Equal(frame, seal(golden)) {
		t.Errorf("encoded %q", frame)
	}
	var m crossregionv1.Envelope
	if err := proto.Unmarshal(golden[frameHeader:], &m); err != nil || m.OutboxEpoch != 1 {
		t.Errorf("%v %v", &m, err)
	}
}
