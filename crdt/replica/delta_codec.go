package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// deltaVersion is the first byte of a delta's encoding.
const deltaVersion = 1

const (
	registerDeleted = 1 << iota
	registerExpires
)

const setCleared = 1

// EncodeDelta returns a delta's encoding, which the package comment draws.
func EncodeDelta(d Delta) []byte {
	b := make([]byte, 0, 64)
	b = append(b, deltaVersion)
	b = appendDot(b, d.Dot)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Time))
	b = binary.AppendUvarint(b, uint64(len(d.Effects)))
	for i := range d.Effects {
		e := &d.Effects[i]
		b = codec.AppendBytes(b, e.Namespace)
		b = codec.AppendBytes(b, e.Key)
		b = append(b, byte(e.Type))
		switch e.Type {
		case crdt.TypeLWWRegister:
			b = appendRegisterEffect(b, e.Register)
		case crdt.TypeCounter:
			b = codec.AppendBytes(b, e.Counter.Append(nil))
		case crdt.TypeAWSet:
			b = appendSetEffect(b, e.Set)
		}
	}
	return b
}

func appendDot(b []byte, d crdt.Dot) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(d.Actor)), d.Seq)
}

// appendRegisterEffect leaves out the write's time and dot, which are the delta's.
func appendRegisterEffect(b []byte, r *crdt.LWWRegister) []byte {
	var flags byte
	if r.Deleted {
		flags |= registerDeleted
	}
	if r.Expires != 0 {
		flags |= registerExpires
	}
	b = append(b, flags)
	if r.Expires != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Expires))
	}
	return codec.AppendBytes(b, r.Value)
}

func appendSetEffect(b []byte, s *SetEffect) []byte {
	if s.Cleared != nil {
		b = codec.AppendBytes(append(b, setCleared), s.Cleared.Append(nil))
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Elements)))
	for i := range s.Elements {
		e := &s.Elements[i]
		b = codec.AppendBytes(b, e.Element)
		n := uint64(len(e.Removed)) << 1
		if e.Added {
			n |= 1
		}
		b = binary.AppendUvarint(b, n)
		for _, d := range e.Removed {
			b = appendDot(b, d)
		}
	}
	return b
}

// DecodeDelta reads what EncodeDelta returned, and checks it as Merge does. The delta shares data's
// memory.
func DecodeDelta(data []byte) (Delta, error) {
	r := codec.NewReader("delta", data, deltaVersion)
	d := Delta{Dot: readDot(r), Time: hlc.Time(r.Uint64())}
	for range r.Count(4) { // an effect has at least its two lengths, its type and one byte
		d.Effects = append(d.Effects, readEffect(r, &d))
		if !r.OK() {
			break
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
	e := Effect{
		Namespace: string(r.Bytes(MaxNamespaceBytes)),
		Key:       string(r.Bytes(MaxKeyBytes)),
		Type:      crdt.Type(r.Byte()),
	}
	switch e.Type {
	case crdt.TypeLWWRegister:
		e.Register = readRegisterEffect(r, d)
	case crdt.TypeCounter:
		c, err := crdt.DecodeCounter(r.Bytes(r.Len()))
		if err != nil {
			r.FailWith(err)
		}
		e.Counter = &c
	case crdt.TypeAWSet:
		e.Set = readSetEffect(r)
	default:
		r.Fail("unknown %v", e.Type)
	}
	return e
}

func readRegisterEffect(r *codec.Reader, d *Delta) *crdt.LWWRegister {
	reg := &crdt.LWWRegister{Time: d.Time, Actor: d.Dot.Actor, Seq: d.Dot.Seq}
	flags := r.Byte()
	if flags&^(registerDeleted|registerExpires) != 0 {
		r.Fail("unknown register flags %#x", flags)
	}
	reg.Deleted = flags&registerDeleted != 0
	if flags&registerExpires != 0 {
		reg.Expires = hlc.Time(r.Uint64())
		if reg.Expires == 0 {
			r.Fail("expiry flagged but 0")
		}
	}
	reg.Value = r.Bytes(crdt.MaxValueBytes)
	return reg
}

func readSetEffect(r *codec.Reader) *SetEffect {
	s := &SetEffect{}
	switch flags := r.Byte(); flags {
	case 0:
	case setCleared:
		v, err := crdt.DecodeVersionVector(r.Bytes(r.Len()))
		if err != nil {
			r.FailWith(err)
		}
		s.Cleared = &v
	default:
		r.Fail("unknown set flags %#x", flags)
	}
	for range r.Count(3) { // an element has its length, at least one byte, and its dots
		s.Elements = append(s.Elements, readElementEffect(r))
		if !r.OK() {
			break
		}
	}
	return s
}

func readElementEffect(r *codec.Reader) ElementEffect {
	e := ElementEffect{Element: r.Bytes(crdt.MaxElementBytes)}
	n := r.Uvarint(^uint64(0))
	e.Added = n&1 != 0
	if n >>= 1; n > uint64(r.Len()/2) {
		r.Fail("%d dots cannot be in %d bytes", n, r.Len())
		return e
	}
	for range n {
		e.Removed = append(e.Removed, readDot(r))
	}
	return e
}
