package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
)

// After the handshake, frames go both ways: requests from who dialed, answers from who listens. A
// frame carries the messages of many groups. Big-endian:
//
//	frame:   payload length u32 | CRC-32C of length and payload u32 | payload: messages
//	message: group u32 | kind u8 | flags u8 | id u64 | body length u32 | body
//
// The body of an answer that is an error is a code u8 and a text.
const (
	frameHeader   = 4 + 4
	messageHeader = 4 + 1 + 1 + 8 + 4

	flagAnswer = 1 << 0
	flagError  = 1 << 1

	controlFrameBytes = 1 << 20
	// bulkMessageBytes is more than Raft sends at once, which is bounded where it is sent.
	bulkMessageBytes = 40 << 20
	bulkFrameBytes   = 1 << 20  // of more than one message
	firstRead        = 64 << 10 // is allocated before anything of a frame has arrived; then, as much again
	copiedBody       = 16 << 10 // larger bodies are written from where they are
)

var errFrame = errors.New("malformed frame")

// message is one request or answer.
type message struct {
	group uint32
	kind  uint8
	flags uint8
	id    uint64
	body  []byte
}

// size is what the message takes of a frame.
func (m *message) size() int { return messageHeader + len(m.body) }

// maxFrame returns the largest payload of a lane's frames.
func maxFrame(lane Lane) int {
	if lane == Bulk {
		return bulkMessageBytes + messageHeader
	}
	return controlFrameBytes
}

// readFrame reads one frame and returns its payload, which is the caller's. Not more is allocated than
// twice what has arrived, and a little.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(header[:4]))
	if length > limit {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", errFrame, length, limit)
	}
	payload, err := readGrowing(r, length)
	if err != nil {
		return nil, err
	}
	if crc32.Update(crc32.Checksum(header[:4], castagnoli), castagnoli, payload) != binary.BigEndian.Uint32(header[4:]) {
		return nil, fmt.Errorf("%w: checksum", errFrame)
	}
	return payload, nil
}

func readGrowing(r io.Reader, length int) ([]byte, error) {
	b := make([]byte, min(length, firstRead))
	read := 0
	for {
		n, err := io.ReadFull(r, b[read:])
		read += n
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case read == length:
			return b, nil
		}
		grown := make([]byte, min(length, 2*len(b)))
		copy(grown, b)
		b = grown
	}
}

// nextMessage takes the first message off a payload.
func nextMessage(payload []byte) (m message, rest []byte, err error) {
	if len(payload) < messageHeader {
		return m, nil, fmt.Errorf("%w: %d bytes left", errFrame, len(payload))
	}
	m = message{
		group: binary.BigEndian.Uint32(payload), kind: payload[4], flags: payload[5],
		id: binary.BigEndian.Uint64(payload[6:]),
	}
	length := int(binary.BigEndian.Uint32(payload[14:]))
	rest = payload[messageHeader:]
	if m.flags&^(flagAnswer|flagError) != 0 || m.flags == flagError || length > len(rest) {
		return m, nil, fmt.Errorf("%w: message of %d bytes, flags %#x", errFrame, length, m.flags)
	}
	m.body = rest[:length:length]
	return m, rest[length:], nil
}

// writePayload sends a frame that carries no messages.
func writePayload(w io.Writer, payload []byte) error {
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, frameHeader+len(payload)), uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(frame, castagnoli), castagnoli, payload)
	frame = binary.BigEndian.AppendUint32(frame, sum)
	_, err := w.Write(append(frame, payload...))
	return err
}

// framer writes frames. It reuses its memory.
type framer struct {
	head  []byte
	parts net.Buffers
}

// write sends one frame of the first of the messages, and returns how many it took.
func (f *framer) write(w io.Writer, messages []message, limit int) (int, error) {
	count, payload, copied := 0, 0, frameHeader
	for i := range messages {
		size := messages[i].size()
		if count > 0 && payload+size > limit {
			break
		}
		count++
		payload += size
		copied += messageHeader
		if len(messages[i].body) <= copiedBody {
			copied += len(messages[i].body)
		}
	}
	if cap(f.head) < copied {
		f.head = make([]byte, 0, copied+copied/2)
	}
	head := binary.BigEndian.AppendUint32(f.head[:0], uint32(payload))
	sum := crc32.Checksum(head, castagnoli)
	head = append(head, 0, 0, 0, 0)
	f.parts = f.parts[:0]
	from, summed := 0, frameHeader
	for i := range messages[:count] {
		m := &messages[i]
		head = binary.BigEndian.AppendUint32(head, m.group)
		head = append(head, m.kind, m.flags)
		head = binary.BigEndian.AppendUint64(head, m.id)
		head = binary.BigEndian.AppendUint32(head, uint32(len(m.body)))
		if len(m.body) <= copiedBody {
			head = append(head, m.body...)
			continue
		}
		sum = crc32.Update(crc32.Update(sum, castagnoli, head[summed:]), castagnoli, m.body)
		f.parts = append(f.parts, head[from:], m.body)
		from, summed = len(head), len(head)
	}
	sum = crc32.Update(sum, castagnoli, head[summed:])
	binary.BigEndian.PutUint32(head[4:], sum)
	f.head = head
	return count, f.flush(w, head[from:])
}

func (f *framer) flush(w io.Writer, last []byte) error {
	if len(f.parts) == 0 {
		_, err := w.Write(last)
		return err
	}
	if len(last) > 0 {
		f.parts = append(f.parts, last)
	}
	parts := f.parts // WriteTo consumes what it is called on
	_, err := parts.WriteTo(w)
	clear(f.parts)
	return err
}
