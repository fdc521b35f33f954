package replica

import (
	"bytes"
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// FieldsAction is what one event does to a collection of fields. The codes are in deltas.
type FieldsAction uint8

// What events do: they write fields, remove fields, or delete all that is not after them.
const (
	FieldsPut    FieldsAction = 0
	FieldsRemove FieldsAction = 1
	FieldsDelete FieldsAction = 2
)

// FieldsChange is the change of a collection of last-writer-wins fields. Its time and dot are the
// delta's.
type FieldsChange struct {
	Action FieldsAction
	// Fields are in ascending order of their names; there are none for FieldsDelete.
	Fields []FieldChange
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
	if c.Action == FieldsDelete {
		return b
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
	if c.Action > FieldsDelete {
		r.Fail("unknown action %d on fields", c.Action)
	}
	if c.Action == FieldsDelete {
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

func (c *FieldsChange) fault(*Delta) string {
	switch {
	case c.Action > FieldsDelete:
		return "unknown action on fields"
	case c.Action == FieldsDelete && len(c.Fields) > 0:
		return "delete with fields"
	case c.Action != FieldsDelete && len(c.Fields) == 0:
		return "fields effect without effect"
	case len(c.Fields) > MaxOperationElements:
		return "too many fields"
	}
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
