package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// The first byte of a delta's encoding. What one version can say is never said in a later one.
const (
	deltaVersion  = 1
	deltaVersion2 = 2 // with Seen and Unknown
	deltaVersion3 = 3 // with Writes, too
)

// EncodeDelta returns a delta's encoding, which the package comment draws.
func EncodeDelta(d Delta) []byte {
	b := make([]byte, 0, 64)
	version := byte(deltaVersion)
	switch {
	case len(d.Writes) > 0:
		version = deltaVersion3
	case len(d.Seen) > 0 || len(d.Unknown) > 0:
		version = deltaVersion2
	}
	b = appendDot(append(b, version), d.Dot)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Time))
	if version >= deltaVersion2 {
		b = binary.AppendUvarint(b, uint64(len(d.Seen)))
		for _, seen := range d.Seen {
			b = appendDot(b, seen)
		}
	}
	if version >= deltaVersion3 {
		b = appendWrites(b, &d)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Effects)))
	for i := range d.Effects {
		e := &d.Effects[i]
		b = codec.AppendBytes(b, e.Namespace)
		b = codec.AppendBytes(b, e.Key)
		b = appendPlace(b, e.Path, e.Type)
		b = e.Change.append(b)
	}
	return append(b, d.Unknown...)
}

// appendPlace appends where below its key an object is, and its type.
func appendPlace(b []byte, p crdt.Path, t crdt.Type) []byte {
	if !p.IsRoot() {
		b = codec.AppendBytes(append(b, byte(crdt.TypeORMap)), p.Encoded())
	}
	return append(b, byte(t))
}

func readPlaceAndType(r *codec.Reader) (p crdt.Path, t crdt.Type) {
	if t = crdt.Type(r.Byte()); t != crdt.TypeORMap {
		return p, t
	}
	p, err := crdt.ParsePath(r.Bytes(maxPathBytes))
	if err != nil || p.IsRoot() {
		r.Fail("%v", crdt.ErrBadPath)
	}
	if t = crdt.Type(r.Byte()); !isLeafType(t) {
		r.Fail("leaf of %v", t)
	}
	return p, t
}

func appendDot(b []byte, d crdt.Dot) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(d.Actor)), d.Seq)
}

// DecodeDelta reads what EncodeDelta returned, and checks it as Merge does. The delta shares data's
// memory.
func DecodeDelta(data []byte) (Delta, error) {
	r, version := codec.NewReaderOf("delta", data, deltaVersion3)
	d := Delta{Dot: readDot(r), Time: hlc.Time(r.Uint64())}
	if version >= deltaVersion2 {
		for range r.Count(2) {
			d.Seen = append(d.Seen, readDot(r))
		}
	}
	if version >= deltaVersion3 {
		if d.Writes = readWrites(r, &d); len(d.Writes) == 0 {
			r.Fail("version 3 says nothing that version 2 cannot")
		}
	}
	for range r.Count(4) { // an effect has at least its two lengths, its type and one byte
		d.Effects = append(d.Effects, readEffect(r, &d))
		if !r.OK() {
			break
		}
	}
	if version >= deltaVersion2 {
		d.Unknown = r.Fields()
		if version == deltaVersion2 && len(d.Seen) == 0 && len(d.Unknown) == 0 {
			r.Fail("version 2 says nothing that version 1 cannot")
		}
	}
	if r.OK() {
		if reason := d.fault(); reason != "" {
			r.Fail("%s", reason)
		}
	}
	if err := r.Done(); err != nil {
		return Delta{}, err
	}
	return d, nil
}

func readDot(r *codec.Reader) crdt.Dot {
	return crdt.Dot{Actor: crdt.Actor(r.Uvarint(uint64(^crdt.Actor(0)))), Seq: r.Uvarint(^uint64(0))}
}

func readEffect(r *codec.Reader, d *Delta) Effect {
	e := Effect{Namespace: string(r.Bytes(MaxNamespaceBytes)), Key: string(r.Bytes(MaxKeyBytes))}
	e.Path, e.Type = readPlaceAndType(r)
	if k := kindOf(e.Type); k != nil {
		e.Change = k.decodeChange(r, d)
	} else {
		r.Fail("unknown %v", e.Type)
	}
	return e
}
