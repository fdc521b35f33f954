package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// goldenHeaders are headers of both versions, by name; each ends in the type.
func goldenHeaders() (names []string, headers []stored, types []crdt.Type) {
	last := crdt.Dot{Actor: 65, Seq: 300}
	stamp := removedAt(noon, crdt.Dot{Actor: 1, Seq: 2})
	score := crdt.LWWRegister{Time: noon, Actor: 1, Seq: 7, Value: scoreValue(1.5)}
	gone := removedAt(noon+1, crdt.Dot{Actor: 1, Seq: 8})
	var counter crdt.Counter
	if _, err := counter.Add(crdt.Dot{Actor: 1, Seq: 7}, -5); err != nil {
		panic(err)
	}
	id := TimelineID(crdt.TimelineEntry{Time: noon, Actor: 65, Seq: 300})
	outside := elements{kid: 9}
	inside := func(values ...[]byte) elements {
		var e elements
		for i, v := range values {
			e.inside = append(e.inside, pair{fmt.Appendf(nil, "e%d", i), v})
		}
		return e
	}
	add := func(name string, t crdt.Type, s stored) {
		names, headers, types = append(names, fmt.Sprintf("%s-%d", name, t)), append(headers, s), append(types, t)
	}
	add("outside", crdt.TypeAWSet, &setHeader{last: last, count: 1000, elements: outside})
	add("inside", crdt.TypeAWSet, &setHeader{last: last, count: 2,
		elements: inside(crdt.DotSet{last}.Append(nil), crdt.DotSet{{Actor: 1, Seq: 7}, last}.Append(nil))})
	for _, t := range []crdt.Type{crdt.TypeLWWMap, crdt.TypeZSet} {
		add("outside", t, &fieldsHeader{last: last, count: 1000, tombstones: 3, elements: outside})
		add("stamped", t, &fieldsHeader{last: last, stamp: stamp})
		add("inside", t, &fieldsHeader{last: last, count: 1, tombstones: 1, elements: inside(score.Append(nil), gone.Append(nil))})
		add("inside-stamped", t, &fieldsHeader{last: last, count: 1, stamp: stamp, elements: inside(score.Append(nil))})
	}
	add("outside", crdt.TypeCounterZSet, &counterZSetHeader{last: last, present: 1000, traces: 1, elements: outside})
	add("inside", crdt.TypeCounterZSet, &counterZSetHeader{last: last, present: 1, elements: inside(counter.Append(nil))})
	add("outside", crdt.TypeTimeline, &timelineHeader{last: last, count: 1000, mark: noon, elements: outside})
	add("inside", crdt.TypeTimeline, &timelineHeader{last: last, count: 1, mark: noon,
		elements: elements{inside: []pair{{id, append([]byte{storeVersion}, "entry"...)}}}})
	return names, headers, types
}

// TestGoldenHeaders: what is stored stays readable, whatever wrote it.
func TestGoldenHeaders(t *testing.T) {
	const path = "testdata/headers.txt"
	names, headers, types := goldenHeaders()
	var lines []string
	for i, h := range headers {
		lines = append(lines, names[i]+" "+hex.EncodeToString(h.append(nil)))
	}
	text := strings.Join(lines, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != text {
		t.Fatalf("headers are encoded as\n%s, %v", text, err)
	}
	for i, h := range headers {
		again, err := kinds[types[i]].decode(h.append(nil))
		if err != nil || !bytes.Equal(again.append(nil), h.append(nil)) || fmt.Sprint(again) != fmt.Sprint(h) {
			t.Errorf("%s: %+v, %v, want %+v", names[i], again, err, h)
		}
	}
}

func TestDecodeHeaderRefuses(t *testing.T) {
	const last = "0141" // dot 1.65
	for _, c := range []struct {
		name   string
		t      crdt.Type
		hex    string
		reason string
	}{
		{"newer version", crdt.TypeAWSet, "03" + last, "unknown version"},
		{"no elements", crdt.TypeAWSet, "02" + last, "no elements"},
		{"empty name", crdt.TypeAWSet, "02" + last + "00" + "00", "out of order"},
		{"same name", crdt.TypeAWSet, "02" + last + "0161" + "00" + "0161" + "00", "out of order"},
		{"falling names", crdt.TypeAWSet, "02" + last + "0162" + "00" + "0161" + "00", "out of order"},
		{"long name", crdt.TypeAWSet, "02" + last + "8108", "over the limit"},
		{"short value", crdt.TypeAWSet, "02" + last + "0161" + "02" + "ff", "2 bytes wanted"},
		{"flags", crdt.TypeLWWMap, "02" + last + "0100" + "02" + "0161" + "00", "unknown flags"},
		{"stamp of no event", crdt.TypeLWWMap, "02" + last + "0100" + "01" + "0000000100000000" + "0100" + "0161" + "00", "no event"},
		{"field too many", crdt.TypeLWWMap, "02" + last + "0200" + "00" + "0161" + "00", "2 fields and 0 tombstones"},
		{"tombstone too few", crdt.TypeZSet, "02" + last + "0100" + "00" + "0161" + "00" + "0162" + "00", "1 fields and 0 tombstones"},
		{"trace too many", crdt.TypeCounterZSet, "02" + last + "0101" + "0161" + "00", "1 members and 1 traces"},
		{"no entries", crdt.TypeTimeline, "02" + last + "0000000100000000", "no elements"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kinds[c.t].decode(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %s", c.name, err, c.reason)
		}
	}
}

// FuzzDecodeHeader: what is accepted is canonical, and shares no memory with the input.
func FuzzDecodeHeader(f *testing.F) {
	_, headers, types := goldenHeaders()
	for i, h := range headers {
		f.Add(byte(types[i]), h.append(nil))
	}
	f.Fuzz(func(t *testing.T, of byte, data []byte) {
		k := kindOf(crdt.Type(of))
		if k == nil {
			return
		}
		given := slices.Clone(data)
		s, err := k.decode(data)
		if _, ok := s.(collection); err != nil || !ok {
			return
		}
		for i := range data {
			data[i] ^= 0xFF
		}
		if again := s.append(nil); !bytes.Equal(again, given) {
			t.Fatalf("%x is read as %x", given, again)
		}
	})
}
