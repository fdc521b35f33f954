package protocol

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// A frame is what travels between regions, alike in the stream and in requests:
//
//	offset 0  'A' 'T'
//	       2  version, 2
//	       3  kind
//	       4  CRC-32C of bytes 2, 3 and 8 onward, big endian
//	       8  actor that speaks, u32 big endian: a region in one epoch
//	      12  CRC-32C of the deployment's name, big endian
//	      16  16 bytes of HMAC-SHA256 over bytes 2, 3, 8 to 15, the scope, and 32 onward
//	      32  a message of atoll.crossregion.v1, by kind
//
// The scope is not sent: the region that the frame is meant for, u32, and the nonce of the request that it
// answers, u64, both big endian and 0 if there is none. Checksum, actor and name tell damage and mistakes from
// forgery; only the MAC proves anything. Version 1 had none of what is behind the checksum, and is refused.
const (
	frameVersion  = 2
	offsetActor   = 8
	offsetCluster = 12
	offsetMAC     = 16
	frameHeader   = offsetMAC + macBytes
	// envelopeRoom is what an envelope leaves for the response that may surround it.
	envelopeRoom = 128
)

// MaxFrameBytes is the size of the largest frame. It holds the largest delta, that of a batch of
// 4 MiB, with all its metadata; links must carry it.
const MaxFrameBytes = 8<<20 - 4<<10

// FrameKind says what a frame is.
type FrameKind byte

// The kinds of frames.
const (
	FrameEnvelope FrameKind = iota + 1
	FrameTick
	FrameFetchRequest
	FrameFetchResponse
	FrameWatermarks
	// FrameRequest asks for something that would come later by itself.
	FrameRequest FrameKind = 16
)

// The kinds of frames of a state transfer.
const (
	FrameResyncRequest FrameKind = iota + 20
	FrameResyncResponse
)

// maxFields is how many top-level fields a message may have. The decoder allocates a multiple of
// what an empty field takes on the wire, so the number is checked first.
const maxFields = MaxEnvelopeRecords + 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frameSum(frame []byte) uint32 {
	return crc32.Update(crc32.Checksum(frame[2:4], castagnoli), castagnoli, frame[offsetActor:])
}

// Seal returns the frame with which this region says m. It cannot fail on the messages of this package unless they
// are too large: all their strings are valid UTF-8.
func (k *Keys) Seal(kind FrameKind, scope Scope, m proto.Message) ([]byte, error) {
	frame := make([]byte, frameHeader, frameHeader+proto.Size(m))
	frame[0], frame[1], frame[2], frame[3] = 'A', 'T', frameVersion, byte(kind)
	binary.BigEndian.PutUint32(frame[offsetActor:], uint32(k.self))
	binary.BigEndian.PutUint32(frame[offsetCluster:], k.tag)
	frame, err := proto.MarshalOptions{}.MarshalAppend(frame, m)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	most := MaxFrameBytes
	if kind == FrameEnvelope {
		most -= envelopeRoom
	}
	if len(frame) > most {
		return nil, fmt.Errorf("encode frame: %w: %d bytes are more than %d", ErrTooLarge, len(frame), most)
	}
	mac := k.mac(k.self, scope, frame)
	copy(frame[offsetMAC:], mac[:])
	binary.BigEndian.PutUint32(frame[4:], frameSum(frame))
	return frame, nil
}

// Open checks a frame, decodes it into m and returns who speaks: wanted, or any region that is known if that is 0.
// The result shares no memory with the frame. Nothing is decoded, and nothing allocated, before the frame is known
// to be what the speaker made for this scope.
//
// Errors: all those of errors.go but ErrOtherPartition, ErrBadCounts and ErrSequenceJump.
func (k *Keys) Open(kind FrameKind, wanted crdt.Actor, scope Scope, frame []byte, m proto.Message) (crdt.Actor, error) {
	if err := checkHeader(kind, frame); err != nil {
		return 0, err
	}
	actor := crdt.Actor(binary.BigEndian.Uint32(frame[offsetActor:]))
	if tag := binary.BigEndian.Uint32(frame[offsetCluster:]); tag != k.tag {
		return 0, fmt.Errorf("frame %w", ErrOtherCluster)
	}
	if err := k.admit(actor, wanted); err != nil {
		return 0, err
	}
	if mac := k.mac(actor, scope, frame); !hmac.Equal(mac[:], frame[offsetMAC:frameHeader]) {
		return 0, ErrForged
	}
	if err := boundFields(frame[frameHeader:]); err != nil {
		return 0, err
	}
	if err := proto.Unmarshal(frame[frameHeader:], m); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return actor, nil
}

// openFrom is Open for a frame of one region.
func (k *Keys) openFrom(from topology.RegionID, kind FrameKind, scope Scope, frame []byte, m proto.Message) (crdt.Actor, error) {
	actor := k.Actor(from)
	if actor == 0 {
		return 0, fmt.Errorf("frame %w: region %d is not known", ErrOtherActor, from)
	}
	return k.Open(kind, actor, scope, frame, m)
}

func checkHeader(kind FrameKind, frame []byte) error {
	switch {
	case len(frame) > MaxFrameBytes:
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(frame))
	case len(frame) < 4 || frame[0] != 'A' || frame[1] != 'T':
		return fmt.Errorf("%w: no frame of %d bytes", ErrBadFrame, len(frame))
	case frame[2] != frameVersion:
		return fmt.Errorf("%w: %d, this node knows %d", ErrVersion, frame[2], frameVersion)
	case len(frame) < frameHeader:
		return fmt.Errorf("%w: %d bytes", ErrBadFrame, len(frame))
	case frame[3] != byte(kind):
		return fmt.Errorf("%w: kind %d where %d belongs", ErrBadFrame, frame[3], kind)
	case binary.BigEndian.Uint32(frame[4:]) != frameSum(frame):
		return fmt.Errorf("%w: wrong checksum", ErrBadFrame)
	}
	return nil
}

// ClaimedActor returns who a frame says it is of, without proof; 0 if it says nothing.
func ClaimedActor(frame []byte) crdt.Actor {
	if len(frame) < frameHeader || frame[2] != frameVersion {
		return 0
	}
	return crdt.Actor(binary.BigEndian.Uint32(frame[offsetActor:]))
}

func boundFields(b []byte) error {
	for n := 0; len(b) > 0; n++ {
		_, _, size := protowire.ConsumeField(b)
		if size < 0 {
			return fmt.Errorf("%w: %w", ErrBadFrame, protowire.ParseError(size))
		}
		if n == maxFields {
			return fmt.Errorf("%w: more than %d fields", ErrBadFrame, maxFields)
		}
		b = b[size:]
	}
	return nil
}
