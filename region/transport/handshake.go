package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/atolldb/atoll/topology"
)

// The hello, big-endian:
//
//	magic "ATLR" | version u8 | body length u16 | body | CRC-32C of all before u32
//	body: cluster, from, to (each length u8 and bytes) | lane u8 | group u32 | kind u8
//
// Group and kind are those of a stream, else 0. The answer is one byte: 0, or a refusal. A stream goes
// on with a frame that holds its header, and then carries what it likes.
const (
	helloMagic   = "ATLR"
	helloVersion = 2
	helloHeader  = len(helloMagic) + 1 + 2
	helloTail    = 1 + 4 + 1
	maxHelloBody = 3*(1+255) + helloTail

	// streamLane is in the hello of a stream.
	streamLane Lane = 3
)

// hello is how a connection introduces itself.
type hello struct {
	cluster  string
	from, to topology.NodeID
	lane     Lane
	group    uint32
	kind     uint8
}

// refusal is why a connection was closed. Its code is on the wire.
type refusal byte

const (
	accepted refusal = iota
	refusedCluster
	refusedStranger
	refusedTarget
	refusedGroup
	refusedVersion
	refusedName
	refusedTooMany
)

// Error says what is wrong and where to look.
func (r refusal) Error() string {
	switch r {
	case accepted:
		return "accepted"
	case refusedCluster:
		return "refused: the nodes' clusters have different names"
	case refusedStranger:
		return "refused: the dialing node is not in the other's configuration of this region"
	case refusedTarget:
		return "refused: another node listens on the address that the configuration gives"
	case refusedGroup:
		return "refused: the other node holds no such partition"
	case refusedVersion:
		return "refused: the nodes speak different versions of the protocol"
	case refusedName:
		return "refused: the certificate is not that of the node that it claims to be"
	case refusedTooMany:
		return "refused: too many connections of one node"
	default:
		return fmt.Sprintf("refused: code %d", byte(r))
	}
}

var (
	errHello   = errors.New("malformed hello")
	errVersion = errors.New("another version of the protocol")
	errSilent  = errors.New("nothing was said")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // a constant

func (h *hello) encode() ([]byte, error) {
	var body []byte
	for _, s := range []string{h.cluster, string(h.from), string(h.to)} {
		if len(s) > 255 {
			return nil, fmt.Errorf("%w: a name of %d bytes", errHello, len(s))
		}
		body = append(body, byte(len(s)))
		body = append(body, s...)
	}
	body = append(body, byte(h.lane))
	body = binary.BigEndian.AppendUint32(body, h.group)
	body = append(body, h.kind)
	frame := append([]byte(helloMagic), helloVersion)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, body...)
	return binary.BigEndian.AppendUint32(frame, crc32.Checksum(frame, castagnoli)), nil
}

// readHello reads a hello. It allocates nothing before it has seen that the lengths are sane.
func readHello(r io.Reader) (*hello, error) {
	var header [helloHeader]byte
	if n, err := io.ReadFull(r, header[:]); n == 0 && errors.Is(err, io.EOF) {
		return nil, errSilent // who looks whether a process is there
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", errHello, err)
	}
	if !bytes.HasPrefix(header[:], []byte(helloMagic)) {
		return nil, fmt.Errorf("%w: not this protocol", errHello)
	}
	if version := header[len(helloMagic)]; version != helloVersion {
		return nil, fmt.Errorf("%w: %d", errVersion, version)
	}
	length := int(binary.BigEndian.Uint16(header[len(helloMagic)+1:]))
	if length > maxHelloBody {
		return nil, fmt.Errorf("%w: body of %d bytes", errHello, length)
	}
	rest := make([]byte, length+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, fmt.Errorf("%w: %w", errHello, err)
	}
	sum := crc32.Update(crc32.Checksum(header[:], castagnoli), castagnoli, rest[:length])
	if sum != binary.BigEndian.Uint32(rest[length:]) {
		return nil, fmt.Errorf("%w: checksum", errHello)
	}
	return decodeHello(rest[:length])
}

func decodeHello(body []byte) (*hello, error) {
	var names [3]string
	for i := range names {
		if len(body) == 0 || len(body) < 1+int(body[0]) {
			return nil, fmt.Errorf("%w: short body", errHello)
		}
		names[i], body = string(body[1:1+body[0]]), body[1+body[0]:]
	}
	if len(body) != helloTail {
		return nil, fmt.Errorf("%w: %d bytes after the names", errHello, len(body))
	}
	lane := Lane(body[0])
	if lane != Control && lane != Bulk && lane != streamLane {
		return nil, fmt.Errorf("%w: lane %d", errHello, lane)
	}
	return &hello{
		cluster: names[0], from: topology.NodeID(names[1]), to: topology.NodeID(names[2]),
		lane: lane, group: binary.BigEndian.Uint32(body[1:]), kind: body[5],
	}, nil
}
