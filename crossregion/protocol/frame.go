package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A frame is what travels between regions, alike in the stream and in requests:
//
//	offset 0  'A' 'T'
//	       2  version, 1
//	       3  kind
//	       4  CRC-32C of bytes 2, 3 and 8 onward, big endian
//	       8  a message of atoll.crossregion.v1, by kind
const (
	frameVersion = 1
	frameHeader  = 8
	// envelopeRoom is what an envelope leaves for the response that may surround it.
	envelopeRoom = 64
)

// MaxFrameBytes is the size of the largest frame. It holds the largest delta, that of a batch of
// 4 MiB, with all its metadata; links must carry it.
const MaxFrameBytes = 8<<20 - 4<<10

// FrameKind says what a frame is.
type FrameKind byte

// The kinds of frames.
const (
	FrameEnvelope FrameKind = iota + 1
	FrameHeartbeat
	FrameFetchRequest
	FrameFetchResponse
	FrameWatermarks
)

// maxFields is how many top-level fields a message may have. The decoder allocates a multiple of
// what an empty field takes on the wire, so the number is checked first.
const maxFields = MaxEnvelopeRecords + 64

// ErrBadFrame means that a frame is damaged, or of a kind or version that is not known here.
var ErrBadFrame = errors.New("not an intact frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frameSum(frame []byte) uint32 {
	return crc32.Update(crc32.Checksum(frame[2:4], castagnoli), castagnoli, frame[frameHeader:])
}

// EncodeFrame cannot fail on the messages of this package: all their strings are valid UTF-8.
func EncodeFrame(kind FrameKind, m proto.Message) ([]byte, error) {
	frame := make([]byte, frameHeader, frameHeader+proto.Size(m))
	frame[0], frame[1], frame[2], frame[3] = 'A', 'T', frameVersion, byte(kind)
	frame, err := proto.MarshalOptions{}.MarshalAppend(frame, m)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	most := MaxFrameBytes
	if kind == FrameEnvelope {
		most -= envelopeRoom
	}
	if len(frame) > most {
		return nil, fmt.Errorf("encode frame: %d bytes are more than %d", len(frame), most)
	}
	binary.BigEndian.PutUint32(frame[4:], frameSum(frame))
	return frame, nil
}

// DecodeFrame checks a frame and decodes it into m. The result shares no memory with the frame.
func DecodeFrame(kind FrameKind, frame []byte, m proto.Message) error {
	switch {
	case len(frame) < frameHeader || len(frame) > MaxFrameBytes:
		return fmt.Errorf("%w: %d bytes", ErrBadFrame, len(frame))
	case frame[0] != 'A' || frame[1] != 'T':
		return fmt.Errorf("%w: wrong magic", ErrBadFrame)
	case frame[2] != frameVersion:
		return fmt.Errorf("%w: version %d, this node knows %d", ErrBadFrame, frame[2], frameVersion)
	case frame[3] != byte(kind):
		return fmt.Errorf("%w: kind %d where %d belongs", ErrBadFrame, frame[3], kind)
	case binary.BigEndian.Uint32(frame[4:]) != frameSum(frame):
		return fmt.Errorf("%w: wrong checksum", ErrBadFrame)
	}
	if err := boundFields(frame[frameHeader:]); err != nil {
		return err
	}
	if err := proto.Unmarshal(frame[frameHeader:], m); err != nil {
		return fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return nil
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
