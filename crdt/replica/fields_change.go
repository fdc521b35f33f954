package replica

import (
	"bytes"
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// FieldsAction is what one event does to a collection of fields. The codes are in deltas.
type FieldsAction uint8

// What events do: they write fields, remove fields, or delete all that is not after them.
const (
	FieldsPut    FieldsAction = 0
	FieldsRemove FieldsAction = 1
	FieldsDelete FieldsAction = 2
	// FieldsDeleteUntil deletes all that is not after an instant before the event: what has expired.
	FieldsDeleteUntil FieldsAction = 3
)

// FieldsChange is the change of a collection of last-writer-wins fields. Its time and dot are the
// delta's.
type FieldsChange struct {
	Action FieldsAction
	// Fields are in ascending order of their names; there are none for the deletes.
	Fields []FieldChange
	// Until is for FieldsDeleteUntil.
	Until hlc.Time
}

// FieldChange is one field. Value is only for FieldsPut.
type FieldChange struct {
	Name, Value []byte
}

// MapChange is the change of a map.
type MapChange struct{ FieldsChange }

// ZSetChange is the change of a sorted set: its fields are members, and their values scores, the eight
// big-endian bytes of a float64.
type ZSetChange struct{ FieldsChange }

func (*FieldsChange) names(crdt.Actor) uint64 { return 0 }

func (c *FieldsChange) append(b []byte) []byte {
	b = append(b, byte(c.Action))
	switch c.Action {
	case FieldsDelete:
		return b
	case FieldsDeleteUntil:
		return binary.BigEndian.AppendUint64(b, uint64(c.Until))
	}
	b = binary.AppendUvarint(b, uint64(len(c.Fields)))
	for i := range c.Fields {
		b = codec.AppendBytes(b, c.Fields[i].Name)
		if c.Action == FieldsPut {
			b = codec.AppendBytes(b, c.Fields[i].Value)
		}
	}
	return b
}

func readFieldsChange(r *codec.Reader) FieldsChange {
	c := FieldsChange{Action: FieldsAction(r.Byte())}
	switch {
	case c.Action > FieldsDeleteUntil:
		r.Fail("unknown action %d on fields", c.Action)
	case c.Action == FieldsDelete:
		return c
	case c.Action == FieldsDeleteUntil:
		c.Until = hlc.Time(r.Uint64())
		return c
	}
	for range r.Count(1) {
		f := FieldChange{Name: r.Bytes(crdt.MaxElementBytes)}
		if c.Action == FieldsPut {
			f.Value = r.Bytes(crdt.MaxValueBytes)
		}
		c.Fields = append(c.Fields, f)
		if !r.OK() {
			break
		}
	}
	return c
}

// deletes reports whether all is deleted, as of the event or an instant before it.
func (c *FieldsChange) deletes() bool {
	return c.Action == FieldsDelete || c.Action == FieldsDeleteUntil
}

func (c *FieldsChange) fault(d *Delta) string {
	switch {
	case c.Action > FieldsDeleteUntil:
		return "unknown action on fields"
	case (c.Until != 0) != (c.Action == FieldsDeleteUntil) || c.Until > d.Time:
		return "delete up to no instant, or to one after the event"
	case c.deletes() && len(c.Fields) > 0:
		return "delete with fields"
	case !c.deletes() && len(c.Fields) == 0:
		return "fields effect without effect"
	case len(c.Fields) > MaxOperationElements:
		return "too many fields"
	default:
		return c.fieldsFault()
	}
}

func (c *FieldsChange) fieldsFault() string {
	for i := range c.Fields {
		f := &c.Fields[i]
		switch {
		case len(f.Name) == 0 || len(f.Name) > crdt.MaxElementBytes:
			return "field name out of bounds"
		case i > 0 && bytes.Compare(c.Fields[i-1].Name, f.Name) >= 0:
			return "fields out of order"
		case len(f.Value) > crdt.MaxValueBytes:
			return "value too large"
		case c.Action == FieldsRemove && len(f.Value) > 0:
			return "removed field with a value"
		}
	}
	return ""
}

func (k fieldsKind) owns(c Change) bool {
	if k.of == crdt.TypeZSet {
		_, ok := c.(*ZSetChange)
		return ok
	}
	_, ok := c.(*MapChange)
	return ok
}

func (k fieldsKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	return k.change(readFieldsChange(r))
}

// change returns a change of this kind.
func (k fieldsKind) change(c FieldsChange) Change {
	if k.of == crdt.TypeZSet {
		return &ZSetChange{c}
	}
	return &MapChange{c}
}

// fieldsOf returns what a change of fields does.
func fieldsOf(c Change) *FieldsChange {
	if z, ok := c.(*ZSetChange); ok {
		return &z.FieldsChange
	}
	return &c.(*MapChange).FieldsChange
}
