package crdt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/atolldb/atoll/hlc"
)

var rewrite = flag.Bool("rewrite", false, "write the golden vectors anew")

type encoder interface{ Append([]byte) []byte }

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func roundTrip[T encoder](t failer, v T, decode func([]byte) (T, error), equal func(a, b T) bool) {
	t.Helper()
	data := v.Append(nil)
	got, err := decode(data)
	if err != nil || !equal(got, v) {
		t.Fatalf("%+v comes back as %+v, %v", v, got, err)
	}
}

// goldenValues are values whose encodings must never change.
func goldenValues() (names []string, values map[string]encoder) {
	var v VersionVector
	v.Set(1, 1)
	v.Set(65, 300)
	v.Set(1<<32-1, 1<<64-1)
	var c Counter
	_, _ = c.Add(Dot{1, 7}, 40)
	_, _ = c.Add(Dot{2, 300}, -5)
	c.Reset(Dot{2, 301})
	_, _ = c.Add(Dot{1, 9}, 1<<40)
	_, _ = c.Add(Dot{65, 2}, -1<<63)
	partial := NewCounter([]Row{{1, Entry{2, 9, 15}, Base{2, 5, -15, Dot{2, 4}}}, {3, Entry{}, Base{1, 1, 1, Dot{2, 4}}}})
	var s AWSet
	s.Add(Dot{1, 1}, "apple")
	s.Add(Dot{2, 1}, "pear")
	s.Add(Dot{1, 2}, "apple")
	s.Remove("pear")
	s.Join(AWSet{elements: map[string]DotSet{"apple": {{2, 2}}}, context: VersionVector{[]Dot{{2, 2}}}})
	at := hlc.At(1_700_000_000_000, 5)
	zset, orMap := goldenCounterZSet(), goldenORMap(at)
	var h, layered HLL
	h.Add(at, "apple", "pear", "")
	layered.Delete(at)
	layered.Add(at+1, "apple", "pear")
	layered.Join(HLL{layers: []hllLayer{{at + 7, hllRegisters{{0, 1}, {1 << 13, 51}, {1<<14 - 1, 2}}}}})
	values = map[string]encoder{
		"vector empty":             VersionVector{},
		"vector":                   v,
		"dots empty":               DotSet{},
		"dots":                     NewDotSet(Dot{65, 1}, Dot{1, 300}, Dot{1, 2}),
		"register":                 LWWRegister{Time: at, Actor: 1, Seq: 1, Value: []byte("value")},
		"register empty value":     LWWRegister{Time: at, Actor: 1, Seq: 1},
		"register deleted":         LWWRegister{Time: at, Actor: 65, Seq: 300, Deleted: true},
		"register expires":         LWWRegister{Time: at, Actor: 1, Seq: 2, Expires: at + 1<<16, Value: []byte{0, 255}},
		"counter empty":            Counter{},
		"counter":                  c,
		"counter partly reset":     partial,
		"set empty":                AWSet{},
		"set with concurrent adds": s,
		"counterzset empty":        CounterZSet{},
		"counterzset":              zset,
		"ormap empty":              ORMap{},
		"ormap":                    orMap,
		"mvregister empty":         MVRegister{},
		"mvregister deleted":       goldenMVRegister(false),
		"mvregister siblings":      goldenMVRegister(true),
		"ewflag empty":             EWFlag{},
		"ewflag disabled":          goldenEWFlag(false),
		"ewflag enabled twice":     goldenEWFlag(true),
		"hll empty":                HLL{},
		"hll":                      h,
		"hll deleted":              HLL{deletedAt: at},
		"hll layers":               layered,
	}
	names = []string{
		"vector empty", "vector", "dots empty", "dots", "register", "register empty value", "register deleted", "register expires",
		"counter empty", "counter", "counter partly reset", "set empty", "set with concurrent adds",
		"counterzset empty", "counterzset", "ormap empty", "ormap",
		"mvregister empty", "mvregister deleted", "mvregister siblings", "ewflag empty", "ewflag disabled", "ewflag enabled twice",
		"hll empty", "hll", "hll deleted", "hll layers",
	}
	names = append(names, timedGolden(values)...)
	addMaxRegisterGolden(&names, values)
	addBoundedCounterGolden(&names, values)
	fieldsGolden(&names, values)
	voidsGolden(&names, values)
	return names, values
}

// decoders are by the first word of a golden value's name.
var decoders = map[string]func([]byte) (encoder, error){
	"vector":      decoder(DecodeVersionVector),
	"dots":        decoder(DecodeDotSet),
	"register":    decoder(DecodeLWWRegister),
	"counter":     decoder(DecodeCounter),
	"set":         decoder(DecodeAWSet),
	"map":         decoder(DecodeLWWMap),
	"zset":        decoder(DecodeZSet),
	"timeline":    decoder(DecodeTimeline),
	"max":         decoder(DecodeMaxRegister),
	"min":         decoder(DecodeMinRegister),
	"bounded":     decoder(DecodeBoundedCounter),
	"mvregister":  decoder(DecodeMVRegister),
	"ewflag":      decoder(DecodeEWFlag),
	"hll":         decoder(DecodeHLL),
	"ormap":       decoder(DecodeORMap),
	"counterzset": decoder(DecodeCounterZSet),
}

func decoder[T encoder](decode func([]byte) (T, error)) func([]byte) (encoder, error) {
	return func(data []byte) (encoder, error) { return decode(data) }
}

func decodeAny(name string, data []byte) (encoder, error) {
	kind, _, _ := strings.Cut(name, " ")
	return decoders[kind](data)
}

func TestGoldenVectors(t *testing.T) {
	const path = "testdata/golden_v1.txt"
	names, values := goldenValues()
	if *rewrite {
		var b strings.Builder
		for _, name := range names {
			fmt.Fprintf(&b, "%s: %x\n", name, values[name].Append(nil))
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	if len(lines) != len(names) {
		t.Fatalf("%d vectors for %d values", len(lines), len(names))
	}
	for i, line := range lines {
		name, text, _ := strings.Cut(line, ": ")
		want, err := hex.DecodeString(text)
		if err != nil || name != names[i] {
			t.Fatalf("%q instead of %q, %v", name, names[i], err)
		}
		if got := values[name].Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		back, err := decodeAny(name, want)
		if err != nil || !bytes.Equal(back.Append(nil), want) {
			t.Errorf("%s: decodes to %+v, %v", name, back, err)
		}
	}
}

// TestDecodersRefuse feeds what no encoder writes.
func TestDecodersRefuse(t *testing.T) {
	for _, c := range []struct{ name, hex, reason string }{
		{"vector", "", "ends early"},
		{"vector", "02", "unknown version"},
		{"vector", "010100", "sequence number 0"},
		{"vector", "0102010101", "out of order"},
		{"vector", "0101010102", "out of order"},
		{"vector", "0101", "bad varint"},
		{"vector", "01018000", "longer than needed"},
		{"vector", "01ffffffff1f01", "over the limit"},
		{"dots", "0101020102", "out of order"},
		{"register", "01080000000000000001" + "0101", "unknown flags"},
		{"register", "0101" + "0000000000000001" + "010141", "deleted register"},
		{"register", "0102" + "0000000000000001" + "0101" + "0000000000000000", "flagged but 0"},
		{"register", "0100" + "00000000", "ends early"},
		{"counter", "010100", "row parts"},
		{"counter", "01010401", "row parts"},
		{"counter", "010101000000", "generation 0"},
		{"counter", "01010101ffffffffffffffffff0100", "over the limit"},
		{"counter", "0102010100020101010002", "out of order"},
		{"counter", "0101030500020100020201", "older generation"},
		{"set", "01ff", "bad varint"},
		{"set", "0105", "cannot be in"},
		{"set", "010101010161", "bad varint"},
		{"set", "01010101" + "0161" + "00", "without dots"},
		{"set", "01010101" + "0161" + "010102", "outside of the context"},
		{"set", "01010101" + "0162010101" + "0161010101", "out of order"},
		{"set", "0102" + "01010102", "twice in the context"},
		{"set", "01010101" + "8108", "over the limit"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeAny(c.name, data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s %s: %v, want %s", c.name, c.hex, err, c.reason)
		}
		var version *UnknownVersionError
		if errors.As(err, &version) != (c.reason == "unknown version") {
			t.Errorf("%s %s: %T", c.name, c.hex, err)
		}
	}
	if _, err := DecodeLWWRegister((LWWRegister{Time: 1, Seq: 1, Value: make([]byte, MaxValueBytes+1)}).Append(nil)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("oversize value: %v", err)
	}
}

// fuzzDecode checks that a decoder does not panic, and that what it accepts has that one encoding.
func fuzzDecode[T encoder](f *testing.F, kind string, decode func([]byte) (T, error)) {
	names, values := goldenValues()
	for _, name := range names {
		if strings.HasPrefix(name, kind) {
			f.Add(values[name].Append(nil))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := decode(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if again := v.Append(nil); !bytes.Equal(again, data) {
			t.Fatalf("%x is also %x", data, again)
		}
	})
}

func FuzzDecodeVersionVector(f *testing.F)  { fuzzDecode(f, "vector", DecodeVersionVector) }
func FuzzDecodeDotSet(f *testing.F)         { fuzzDecode(f, "dots", DecodeDotSet) }
func FuzzDecodeLWWRegister(f *testing.F)    { fuzzDecode(f, "register", DecodeLWWRegister) }
func FuzzDecodeCounter(f *testing.F)        { fuzzDecode(f, "counter", DecodeCounter) }
func FuzzDecodeAWSet(f *testing.F)          { fuzzDecode(f, "set", DecodeAWSet) }
func FuzzDecodeLWWMap(f *testing.F)         { fuzzDecode(f, "map", DecodeLWWMap) }
func FuzzDecodeZSet(f *testing.F)           { fuzzDecode(f, "zset", DecodeZSet) }
func FuzzDecodeTimeline(f *testing.F)       { fuzzDecode(f, "timeline", DecodeTimeline) }
func FuzzDecodeMaxRegister(f *testing.F)    { fuzzDecode(f, "max", DecodeMaxRegister) }
func FuzzDecodeMinRegister(f *testing.F)    { fuzzDecode(f, "min", DecodeMinRegister) }
func FuzzDecodeBoundedCounter(f *testing.F) { fuzzDecode(f, "bounded", DecodeBoundedCounter) }
func FuzzDecodeCounterZSet(f *testing.F)    { fuzzDecode(f, "counterzset", DecodeCounterZSet) }
func FuzzDecodeORMap(f *testing.F)          { fuzzDecode(f, "ormap", DecodeORMap) }
func FuzzDecodeMVRegister(f *testing.F)     { fuzzDecode(f, "mvregister", DecodeMVRegister) }
func FuzzDecodeEWFlag(f *testing.F)         { fuzzDecode(f, "ewflag", DecodeEWFlag) }
func FuzzDecodeHLL(f *testing.F)            { fuzzDecode(f, "hll", DecodeHLL) }
