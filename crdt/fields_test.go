package crdt

import (
	"errors"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// hasFields is a value that keeps fields of a newer program.
type hasFields interface{ extra() *Fields }

func (r *LWWRegister) extra() *Fields    { return &r.Unknown }
func (c *Counter) extra() *Fields        { return &c.unknown }
func (s *AWSet) extra() *Fields          { return &s.unknown }
func (r *MVRegister) extra() *Fields     { return &r.unknown }
func (f *EWFlag) extra() *Fields         { return &f.unknown }
func (r *MaxRegister) extra() *Fields    { return &r.unknown }
func (r *MinRegister) extra() *Fields    { return &r.complement.unknown }
func (c *BoundedCounter) extra() *Fields { return &c.unknown }
func (m *LWWMap) extra() *Fields         { return &m.unknown }
func (z *ZSet) extra() *Fields           { return &z.members.unknown }
func (t *Timeline) extra() *Fields       { return &t.unknown }
func (s *CounterZSet) extra() *Fields    { return &s.unknown }
func (m *ORMap) extra() *Fields          { return &m.unknown }
func (h *HLL) extra() *Fields            { return &h.unknown }

// addFields joins fields to those that a value has.
func addFields[S any](value *S, more Fields) {
	extra := any(value).(hasFields).extra()
	*extra = extra.Join(more)
}

// fieldsFrom makes fields of what is at index i for number i+1; "-" is no field.
func fieldsFrom(parts ...string) Fields {
	var b []byte
	for i, part := range parts {
		if part != "-" {
			b = codec.AppendBytes(append(b, byte(i+1)), part)
		}
	}
	return Fields(b)
}

func TestFieldsJoin(t *testing.T) {
	for _, c := range []struct{ a, b, want Fields }{
		{"", "", ""},
		{"", "\x01\x01x", "\x01\x01x"},
		{"\x01\x00", "", "\x01\x00"},
		{"\x02\x01x", "\x01\x01y", "\x01\x01y\x02\x01x"},
		{"\x01\x01y", "\x01\x02xz", "\x01\x01y"}, // y is after xz
		{"\x01\x01x", "\x01\x02xz", "\x01\x02xz"},
		{"\x01\x01x\x0f\x00", "\x01\x01y\x03\x01a", "\x01\x01y\x03\x01a\x0f\x00"},
	} {
		if got := c.a.Join(c.b); got != c.want {
			t.Errorf("%q ⊔ %q = %q, want %q", c.a, c.b, got, c.want)
		}
	}
	full := make([]string, MaxFieldNumber)
	for i := range full {
		full[i] = strings.Repeat("x", MaxFieldBytes)
	}
	if all := fieldsFrom(full...); !all.Valid() || len(all) != MaxFieldsBytes || !all.Join(fieldsFrom(full[1:]...)).Valid() {
		t.Error("the largest fields are refused, or cannot be joined")
	}
}

func TestFieldsLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func() (map[int]string, Fields) {
			m, parts := map[int]string{}, make([]string, MaxFieldNumber)
			for i := range parts {
				parts[i] = "-"
				if between(0, 3).Draw(t, "there") == 0 {
					parts[i] = strings.Repeat(rapid.StringMatching("[a-c]{0,2}").Draw(t, "bytes"), between(1, 100).Draw(t, "times"))
					m[i] = parts[i]
				}
			}
			return m, fieldsFrom(parts...)
		}
		ma, a := draw()
		mb, b := draw()
		_, c := draw()
		for _, f := range []Fields{a, b, a.Join(b)} {
			if !f.Valid() {
				t.Fatalf("%q is not valid", f)
			}
		}
		want := make([]string, MaxFieldNumber)
		for i := range want {
			x, inA := ma[i]
			y, inB := mb[i]
			if want[i] = max(x, y); !inA && !inB {
				want[i] = "-"
			}
		}
		if got := a.Join(b); got != fieldsFrom(want...) {
			t.Fatalf("%q ⊔ %q = %q, want %q", a, b, got, fieldsFrom(want...))
		}
		checkLaws(t, []Fields{a, b, c, ""}, Fields.Join, func(a, b Fields) bool { return a == b })
	})
}

// fieldsGolden are a value of each type with fields of a newer program, in the order of the file.
func fieldsGolden(names *[]string, values map[string]encoder) {
	at := hlc.At(1_700_000_000_000, 5)
	few, more := fieldsFrom("hi", "-", ""), fieldsFrom("-", "-", "-", "-", strings.Repeat("z", 200))
	var m LWWMap
	m.Put(at, Dot{1, 1}, "name", []byte("value"))
	m.Join(LWWMap{fields: map[string]LWWRegister{"other": {Time: at, Actor: 2, Seq: 1, Value: []byte("x"), Unknown: more}}, unknown: few})
	z := ZSet{LWWMap{unknown: few}}
	_, _ = z.Add(at, Dot{1, 1}, "a", 1.5)
	for _, v := range []struct {
		name  string
		value encoder
	}{
		{"register fields", LWWRegister{Time: at, Actor: 1, Seq: 1, Value: []byte("value"), Unknown: few}},
		{"register fields deleted", LWWRegister{Time: at, Actor: 1, Seq: 2, Deleted: true, Unknown: more}},
		{"register fields expires", LWWRegister{Time: at, Actor: 1, Seq: 3, Expires: at + 1, Value: []byte{0}, Unknown: few.Join(more)}},
		{"register home", LWWRegister{Home: 1<<32 + 3, Time: at, Actor: 2, Seq: 9, Value: []byte("at home")}},
		{"register home deleted", LWWRegister{Home: 1, Time: at, Actor: 2, Seq: 9, Deleted: true}},
		{"counter fields", Counter{rows: []Row{{Actor: 1, Entry: Entry{1, 1, 5}}}, unknown: few}},
		{"set fields", AWSet{elements: map[string]DotSet{"a": {{1, 1}}}, context: VersionVector{[]Dot{{1, 1}}}, unknown: few}},
		{"counterzset fields", CounterZSet{counters: map[string]Counter{"a": NewCounter([]Row{{Actor: 1, Entry: Entry{1, 1, 5}}})}, unknown: few}},
		{"ormap fields", ORMap{context: VersionVector{[]Dot{{1, 1}}}, unknown: few}},
		{"mvregister fields", MVRegister{siblings: []Sibling{{Dot{1, 1}, at, []byte("a")}}, context: VersionVector{[]Dot{{1, 1}}}, unknown: few}},
		{"ewflag fields", EWFlag{dots: DotSet{{1, 1}}, context: VersionVector{[]Dot{{1, 1}}}, unknown: few}},
		{"hll fields", HLL{deletedAt: at, unknown: few}},
		{"map fields", m},
		{"zset fields", z},
		{"timeline fields", Timeline{entries: []TimelineEntry{{at, 1, 1, []byte("a")}}, unknown: few}},
		{"max fields", MaxRegister{writes: []maxWrite{{moment{at, 1}, 7}}, unknown: few}},
		{"min fields", MinRegister{MaxRegister{writes: []maxWrite{{moment{at, 1}, 7}}, unknown: few}}},
		{"bounded fields", BoundedCounter{rows: []BoundedRow{{Actor: 1, Seq: 1, Inc: 5}}, unknown: few}},
	} {
		*names = append(*names, v.name)
		values[v.name] = v.value
	}
}

func TestFieldsRefused(t *testing.T) {
	for _, c := range []struct{ fields, reason string }{
		{"", "flagged but none"},
		{"\x00\x00", "out of order or out of bounds"},
		{"\x10\x00", "out of order or out of bounds"},
		{"\x01", "out of order or out of bounds"},
		{"\x01\x01", "out of order or out of bounds"},
		{"\x01\x80", "out of order or out of bounds"},
		{"\x01\x80\x00", "out of order or out of bounds"},
		{"\x01\x80\x81\x00" + strings.Repeat("x", 128), "out of order or out of bounds"},
		{"\x01\x81\x02" + strings.Repeat("x", 257), "out of order or out of bounds"},
		{"\x02\x00\x01\x00", "out of order or out of bounds"},
		{"\x01\x00\x01\x00", "out of order or out of bounds"},
		{strings.Repeat("x", MaxFieldsBytes+1), "over the limit"},
	} {
		data := append(codec.AppendBytes([]byte{0x81}, c.fields), 1, 1, 1, 1, 1)
		if _, err := DecodeCounter(data); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%.20q: %v, want %s", c.fields, err, c.reason)
		}
	}
	for kind, decode := range decoders {
		_, err := decode([]byte("\x83\x02\x01\x00"))
		if version, ok := errors.AsType[*UnknownVersionError](err); !ok || version.Version&0x7f != 3 {
			t.Errorf("%s of version 3 with fields: %v", kind, err)
		}
	}
	// Causal contexts have no fields.
	for _, kind := range []string{"vector", "dots"} {
		if _, err := decoders[kind]([]byte("\x81\x02\x01\x00")); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with fields: %v", kind, err)
		}
	}
}

// TestFieldsStay: what this program does to a value with fields of a newer one keeps them.
func TestFieldsStay(t *testing.T) {
	few := fieldsFrom("hi")
	c := Counter{unknown: few}
	delta, err := c.Add(Dot{1, 1}, 5)
	if err != nil || c.unknown != few || delta.unknown != "" {
		t.Errorf("%+v, change %+v, %v", c, delta, err)
	}
	if c.Reset(Dot{2, 1}); c.unknown != few {
		t.Errorf("%+v", c)
	}
	h := HLL{unknown: few}
	if h.Add(1, "x"); h.unknown != few || h.Maximum().unknown != "" {
		t.Errorf("%+v", h)
	}
	r := MaxRegister{unknown: few}
	if _, ok := r.Raise(1, 1, 5); !ok || r.unknown != few || r.Known().unknown != "" {
		t.Errorf("%+v", r)
	}
}
