package crdt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"

	"github.com/atolldb/atoll/hlc"
)

// LWWRegister is a last-writer-wins register: the write with the largest (Home, Time, Actor) is the state. Home is 0
// but where one region at a time decides the order of writes.
//
// Tie rule: at equal times the larger actor wins. No two writes share both, because an actor's times
// in a partition rise strictly, so the order is total and no tie is left to arrival order. A delete
// is a write like any other and wins by the same rule.
//
// Laws: Join is commutative, associative and idempotent; the zero register, which is before every
// write, is neutral. Size: one write, whatever the history; a deleted register stays as a tombstone.
type LWWRegister struct {
	// Home is the ownership epoch under which a home region made the write; 0 without one. Of one epoch there is one
	// writer, so that (Home, Time) is (epoch, place in the writer's order).
	Home uint64
	// Time and Actor order the write among those of its epoch.
	Time  hlc.Time
	Actor Actor
	// Seq is the write's sequence number: (Actor, Seq) is its dot.
	Seq uint64
	// Deleted means that the write was a delete; then Value is empty and Expires is 0.
	Deleted bool
	// Expires is the instant from which on the value counts as absent; 0 means never.
	Expires hlc.Time
	Value   []byte
	// Unknown is what else a newer program said about the write.
	Unknown Fields
}

// Compare orders two writes by (Home, Time, Actor): the larger one wins.
func (r LWWRegister) Compare(o LWWRegister) int {
	return cmp.Or(cmp.Compare(r.Home, o.Home), cmp.Compare(r.Time, o.Time), cmp.Compare(r.Actor, o.Actor))
}

// Join returns the winner of the two. It shares the winner's memory.
func (r LWWRegister) Join(o LWWRegister) LWWRegister {
	if o.Compare(r) > 0 {
		return o
	}
	return r
}

// Live reports whether the register has a value at an instant: it was written, not deleted, and has
// not expired.
func (r LWWRegister) Live(now hlc.Time) bool {
	return r.Seq != 0 && !r.Deleted && (r.Expires == 0 || r.Expires > now)
}

// Dot returns the name of the event that wrote the register.
func (r LWWRegister) Dot() Dot { return Dot{r.Actor, r.Seq} }

// Version returns an opaque name of the write: its (Time, Actor) as 24 hexadecimal digits.
func (r LWWRegister) Version() string {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:8], uint64(r.Time))
	binary.BigEndian.PutUint32(b[8:], uint32(r.Actor))
	return hex.EncodeToString(b[:])
}

// Equal reports whether the two are the same write with the same content.
func (r LWWRegister) Equal(o LWWRegister) bool {
	return r.Home == o.Home && r.Time == o.Time && r.Actor == o.Actor && r.Seq == o.Seq && r.Deleted == o.Deleted &&
		r.Expires == o.Expires && r.Unknown == o.Unknown && bytes.Equal(r.Value, o.Value)
}

const (
	registerDeleted = 1 << iota
	registerExpires
	registerHome
	registerFlags = registerDeleted | registerExpires | registerHome
)

// Append appends the register's encoding:
//
//	version 1, maybe with Fields | flags 1 | time 8 | actor varint | seq varint | expires 8, if flag 2
//	home varint, if flag 4 | value, to the end
//
// Flag 1 means deleted.
func (r LWWRegister) Append(b []byte) []byte {
	var flags byte
	if r.Deleted {
		flags |= registerDeleted
	}
	if r.Expires != 0 {
		flags |= registerExpires
	}
	if r.Home != 0 {
		flags |= registerHome
	}
	b = append(appendVersion(b, r.Unknown), flags)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	b = appendDot(b, r.Dot())
	if r.Expires != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Expires))
	}
	if r.Home != 0 {
		b = binary.AppendUvarint(b, r.Home)
	}
	return append(b, r.Value...)
}

// DecodeLWWRegister reads what Append wrote. The value shares data's memory.
func DecodeLWWRegister(data []byte) (LWWRegister, error) {
	r, unknown := newReader("register", data)
	flags := r.Byte()
	if flags&^registerFlags != 0 {
		r.Fail("unknown flags %#x", flags)
	}
	reg := LWWRegister{Time: hlc.Time(r.Uint64()), Deleted: flags&registerDeleted != 0, Unknown: unknown}
	dot := readDot(r)
	reg.Actor, reg.Seq = dot.Actor, dot.Seq
	if flags&registerExpires != 0 {
		reg.Expires = hlc.Time(r.Uint64())
		if reg.Expires == 0 {
			r.Fail("expiry flagged but 0")
		}
	}
	if flags&registerHome != 0 {
		if reg.Home = r.Uvarint(^uint64(0)); reg.Home == 0 {
			r.Fail("home flagged but 0")
		}
	}
	reg.Value = r.Rest()
	switch {
	case len(reg.Value) > MaxValueBytes:
		r.Fail("value of %d bytes", len(reg.Value))
	case reg.Deleted && (len(reg.Value) > 0 || reg.Expires != 0):
		r.Fail("deleted register with a value")
	}
	if err := r.Done(); err != nil {
		return LWWRegister{}, err
	}
	return reg, nil
}
