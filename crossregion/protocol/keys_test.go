package protocol

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

func sealedEnvelope(t *testing.T, k *Keys, s Stream) []byte {
	t.Helper()
	frame, err := (&Packer{keys: k}).EncodeEnvelope(s, []Record{{Seq: 1, Data: []byte("delta")}})
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestCapturedFramesCannotBeUsedElsewhere: what one region made for one place, somebody brings to another.
func TestCapturedFramesCannotBeUsedElsewhere(t *testing.T) {
	frame := sealedEnvelope(t, testKeys, testStream)
	there := func(cluster string, actors ...crdt.Actor) *Packer {
		return &Packer{keys: NewKeys(cluster, topology.Actor(3, 1), actors, derive)}
	}
	us := topology.Actor(2, 1)
	cases := map[string]struct {
		at   *Packer
		as   Stream
		want Reason
	}{
		"another partition":  {there("c", 65), Stream{"c", 4, 65}, ReasonOtherPartition},
		"another cluster":    {there("d", 65), Stream{"d", 3, 65}, ReasonOtherCluster},
		"another region":     {there("c", 65, us), Stream{"c", 3, us}, ReasonOtherActor},
		"a later epoch":      {there("c", 65+64), Stream{"c", 3, 65 + 64}, ReasonOldEpoch},
		"an unknown region":  {there("c", us), Stream{"c", 3, us}, ReasonOtherActor},
		"an epoch to come":   {there("c", 65-64), Stream{"c", 3, 65 - 64}, ReasonOtherActor},
		"where it was meant": {there("c", 65), testStream, ReasonOther},
	}
	for name, c := range cases {
		_, err := c.at.DecodeEnvelope(c.as, frame)
		if got := ReasonOf(err); got != c.want || (err == nil) != (c.want == ReasonOther) {
			t.Errorf("%s: refused as %s: %v", name, got, err)
		}
	}
	// Claims that were changed to fit, checksum and all, are not what the MAC is about.
	for name, change := range map[string]func(*Packer, []byte){
		"cluster": func(p *Packer, f []byte) { copy(f[offsetCluster:], tagOf(p.keys)) },
		"epoch":   func(_ *Packer, f []byte) { f[offsetActor+3] += 64 },
		"kind":    func(_ *Packer, f []byte) { f[3] = byte(FrameWatermarks) },
	} {
		at := map[string]*Packer{"cluster": there("d", 65), "epoch": there("c", 65+64), "kind": there("c", 65)}[name]
		changed := slices.Clone(frame)
		change(at, changed)
		var err error
		if name == "kind" {
			_, _, err = at.keys.DecodeWatermarks(checksum(changed))
		} else {
			_, err = at.DecodeEnvelope(Stream{at.keys.cluster, 3, at.keys.Actor(1)}, checksum(changed))
		}
		if ReasonOf(err) != ReasonForged {
			t.Errorf("a changed %s: %v", name, err)
		}
	}
}

func tagOf(k *Keys) []byte {
	return []byte{byte(k.tag >> 24), byte(k.tag >> 16), byte(k.tag >> 8), byte(k.tag)}
}

// TestRequestsAndAnswersAreForOneRegionAndOnce: what was meant for one region is not taken by another, and an
// earlier answer not for the present one.
func TestRequestsAndAnswersAreForOneRegionAndOnce(t *testing.T) {
	eu, us, ap := keysOf("c", 1), keysOf("c", 2), keysOf("c", 3)
	request, _ := us.EncodeFetchRequest(testStream, 1, FetchRequest{From: 1, Nonce: 7})
	if _, err := ap.DecodeFetchRequest(3, request); !errors.Is(err, ErrForged) {
		t.Errorf("a request to another region: %v", err)
	}
	marks, _ := us.EncodeWatermarks(1, []Position{{Partition: 3, Actor: 65, Seq: 9}})
	if _, _, err := ap.DecodeWatermarks(marks); !errors.Is(err, ErrForged) {
		t.Errorf("watermarks for another region: %v", err)
	}
	if region, _, err := eu.DecodeWatermarks(marks); region != 2 || err != nil {
		t.Errorf("watermarks of region %d: %v", region, err)
	}
	asked, err := eu.DecodeFetchRequest(3, request)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := (&Packer{keys: eu}).EncodeFetchResponse(testStream, asked, FetchResult{TrimmedTo: 100})
	if res := (&Packer{keys: us}).DecodeFetchResponse(testStream, 1, 7, answer); res.Err != nil || res.TrimmedTo != 100 {
		t.Errorf("%+v", res)
	}
	for name, res := range map[string]FetchResult{
		"to a later request":        (&Packer{keys: us}).DecodeFetchResponse(testStream, 1, 8, answer),
		"for another region":        (&Packer{keys: ap}).DecodeFetchResponse(testStream, 1, 7, answer),
		"of one that was not asked": (&Packer{keys: us}).DecodeFetchResponse(testStream, 3, 7, answer),
	} {
		if res.Err == nil {
			t.Errorf("an answer %s is taken", name)
		}
	}
}

// TestOwnKeyDoesNotSpeakForOthers: who knows what a region's key is, and not the secret that it was derived from, makes
// frames of that region in that epoch and deployment only.
func TestOwnKeyDoesNotSpeakForOthers(t *testing.T) {
	us := keysOf("c", 2)
	known := us.key(topology.Actor(2, 1))
	for _, s := range []Stream{{"c", 3, topology.Actor(1, 1)}, {"c", 3, topology.Actor(2, 2)}, {"d", 3, topology.Actor(2, 1)}} {
		thief := NewKeys(s.Cluster, s.Actor, nil, func(string) [32]byte { return known })
		victim := NewKeys(s.Cluster, topology.Actor(3, 1), []crdt.Actor{s.Actor}, derive)
		if _, err := (&Packer{keys: victim}).DecodeEnvelope(s, sealedEnvelope(t, thief, s)); !errors.Is(err, ErrForged) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	s := Stream{"c", 3, topology.Actor(2, 1)}
	thief := NewKeys("c", s.Actor, nil, func(string) [32]byte { return known })
	if _, err := (&Packer{keys: testKeys}).DecodeEnvelope(s, sealedEnvelope(t, thief, s)); err != nil {
		t.Errorf("its own frames are refused: %v", err)
	}
}

// TestKeysHaveTheirPurpose: no two regions, epochs, deployments or frame versions share a key, and it is asked for
// once.
func TestKeysHaveTheirPurpose(t *testing.T) {
	purposes := map[string]int{}
	for _, cluster := range []string{"c", "d"} {
		for _, actor := range []crdt.Actor{65, 65 + 64, 66} {
			k := NewKeys(cluster, actor, nil, func(p string) [32]byte { purposes[p]++; return sha256.Sum256([]byte(p)) })
			k.key(actor)
			k.key(actor)
		}
	}
	if len(purposes) != 6 {
		t.Errorf("%d keys: %v", len(purposes), purposes)
	}
	for p, n := range purposes {
		if n != 1 || !strings.Contains(p, "v2") {
			t.Errorf("key for %q was derived %d times", p, n)
		}
	}
}

// TestEveryForgedBitIsSeen: somebody changes a frame in transit and makes its checksum right.
func TestEveryForgedBitIsSeen(t *testing.T) {
	frame := sealedEnvelope(t, testKeys, testStream)
	for i := 2 * 8; i < len(frame)*8; i++ {
		if i/8 >= 4 && i/8 < offsetActor {
			continue // the checksum itself
		}
		bad := bytes.Clone(frame)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := Plain.DecodeEnvelope(testStream, checksum(bad)); err == nil {
			t.Errorf("bit %d flipped unnoticed", i)
		}
	}
	if _, err := Plain.DecodeEnvelope(testStream, make([]byte, MaxFrameBytes+1)); ReasonOf(err) != ReasonOversized {
		t.Errorf("an oversized frame: %v", err)
	}
}

// TestForgedBombsAreNotDecompressed: what is not authenticated costs a MAC, and nothing else.
func TestForgedBombsAreNotDecompressed(t *testing.T) {
	p := testPacker(t, nil)
	bomb := p.encoder.EncodeAll(make([]byte, MaxFrameBytes), nil)
	frame := zippedFrame(t, bomb)
	frame[offsetMAC] ^= 1
	checksum(frame)
	var err error
	if allocs := testing.AllocsPerRun(1, func() { _, err = p.DecodeEnvelope(testStream, frame) }); !errors.Is(err, ErrForged) || allocs > 30 {
		t.Errorf("%v after %v allocations", err, allocs)
	}
}
