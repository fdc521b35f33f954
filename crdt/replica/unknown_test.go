package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// newerFields are fields 1 and 3 of a newer program.
const newerFields = crdt.Fields("\x01\x02hi\x03\x00")

// newerRegister is a delta of a newer program that writes a register with fields.
func newerRegister(d crdt.Dot, expires bool) Delta {
	reg := crdt.LWWRegister{Time: noon + 7, Actor: d.Actor, Seq: d.Seq, Value: []byte("value"), Unknown: newerFields}
	if expires {
		reg.Expires = noon + 9
	}
	return Delta{Dot: d, Time: reg.Time, Effects: []Effect{{Key: "k", Type: crdt.TypeLWWRegister, Change: &RegisterChange{reg}}}}
}

func goldenUnknown(testing.TB) ([]string, []Delta) {
	return []string{"register fields", "register fields expires"},
		[]Delta{newerRegister(crdt.Dot{Actor: 65, Seq: 1}, false), newerRegister(crdt.Dot{Actor: 65, Seq: 2}, true)}
}

// TestUnknownFieldsOfARegister: what a newer program says about a write passes through storage and
// deltas, goes with the write, and stays when only the expiry is written anew.
func TestUnknownFieldsOfARegister(t *testing.T) {
	sent := EncodeDelta(newerRegister(crdt.Dot{Actor: 65, Seq: 1}, true))
	delta, err := DecodeDelta(sent)
	if err != nil || !bytes.Equal(EncodeDelta(delta), sent) {
		t.Fatalf("%x comes back as %x, %v", sent, EncodeDelta(delta), err)
	}
	kv := NewMemory()
	a, b := open(t, kv, 1), open(t, NewMemory(), 2)
	stored := func() crdt.LWWRegister {
		t.Helper()
		data, ok, err := kv.Get(objectKey("", "k", crdt.TypeLWWRegister))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		reg, err := crdt.DecodeLWWRegister(data)
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	merge(t, a, delta)
	merge(t, b, delta)
	if got := stored(); !got.Equal(delta.Effects[0].Change.(*RegisterChange).LWWRegister) {
		t.Errorf("stored %+v", got)
	}
	wantEqualDigests(t, a, b)
	_, kept := do(t, a, Op{Kind: OpPersist, Key: "k"})
	if got := stored(); got.Unknown != newerFields || got.Expires != 0 || got.Actor != 1 {
		t.Errorf("after a persist: %+v", got)
	}
	if again, err := DecodeDelta(EncodeDelta(kept[0])); err != nil || again.Effects[0].Change.(*RegisterChange).Unknown != newerFields {
		t.Errorf("a persist is %+v, %v", again, err)
	}
	merge(t, b, kept...)
	wantEqualDigests(t, a, b)
	_, put := do(t, a, Op{Kind: OpPut, Key: "k", Value: []byte("mine")})
	if got := stored(); got.Unknown != "" {
		t.Errorf("a put keeps the fields of another: %+v", got)
	}
	merge(t, b, put...)
	wantEqualDigests(t, a, b)
}

func wantEqualDigests(t *testing.T, a, b *Replica) {
	t.Helper()
	x, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if y, err := b.Digest(); err != nil || x != y {
		t.Errorf("digests %x and %x, %v", x, y, err)
	}
}

// TestUnknownFieldsOfWholeValues: effects that are encoded values bring their fields along, two replicas
// that get them in different orders store the same, and operations of this program leave them alone.
func TestUnknownFieldsOfWholeValues(t *testing.T) {
	for _, c := range []struct {
		of crdt.Type
		// change is the encoding of a change of event 65.n at noon+n, but for the version and fields.
		change func(n byte) string
		op     Op
	}{
		{crdt.TypeCounter, func(n byte) string { return "\x41\x01" + string(rune(n)) + "\x00\x0a" }, Op{Kind: OpCounterAdd, Delta: 3}},
		{crdt.TypeBoundedCounter, func(n byte) string { return "\x41" + string(rune(n)) + string(rune(n)) + "\x00\x00" }, Op{Kind: OpBoundedInc, Delta: 3}},
		{crdt.TypeMaxRegister, func(n byte) string { return "\x00" + eight(n) + "\x41" + string(rune(2*n)) }, Op{Kind: OpMax, Delta: 90}},
		{crdt.TypeMinRegister, func(n byte) string { return "\x00" + eight(n) + "\x41" + string(rune(2*n)) }, Op{Kind: OpMin, Delta: -90}},
		{crdt.TypeHLL, func(n byte) string { return "\x00" + eight(n) + "\x01" + string(rune(n)) + "\x05" }, Op{Kind: OpHLLAdd, Elements: [][]byte{{1}}}},
	} {
		deltas := [3][]Delta{}
		for n, fields := range map[byte]string{1: "\x01\x01a\x02\x01b", 2: "\x01\x01c", 3: ""} {
			head := "\x81" + string(rune(len(fields))) + fields
			if fields == "" {
				head = "\x01"
			}
			body := head + c.change(n)
			delta := "\x01\x41" + string(rune(n)) + eight(n) + "\x01\x00\x01k" + string(rune(c.of)) + string(rune(len(body))) + body
			d, err := DecodeDelta([]byte(delta))
			if err != nil || string(EncodeDelta(d)) != delta {
				t.Fatalf("%v: %x comes back as %x, %v", c.of, delta, EncodeDelta(d), err)
			}
			deltas[n-1] = []Delta{d}
		}
		kv, other := NewMemory(), NewMemory()
		a, b := open(t, kv, 1), open(t, other, 2)
		c.op.Key = "k"
		_, own := do(t, a, c.op)
		for _, d := range deltas {
			merge(t, a, d...)
			merge(t, b, d...)
		}
		merge(t, b, own...)
		do(t, b, c.op)
		for _, kv := range []KV{kv, other} {
			data, ok, err := kv.Get(objectKey("", "k", c.of))
			if want := "\x81\x06\x01\x01c\x02\x01b"; err != nil || !ok || !strings.Contains(string(data), want) {
				t.Errorf("%v: stored %x, without %x, %v", c.of, data, want, err)
			}
		}
	}
}

// eight is noon+n in eight bytes.
func eight(n byte) string { return "\x00\x00\x00\x01\x00\x00\x00" + string([]byte{n}) }

// TestUnknownFieldsInDigests: fields that are joined are not in digests, because a replica that lets go of
// a value lets go of them too, and each does so in its own time.
func TestUnknownFieldsInDigests(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	for i, change := range []string{"\x01", "\x81\x02\x01\x00"} {
		body := change + "\x00" + eight(1) + "\x41\x0a"
		d, err := DecodeDelta([]byte("\x01\x41\x01" + eight(1) + "\x01\x00\x01k\x07" + string(rune(len(body))) + body))
		if err != nil {
			t.Fatal(err)
		}
		merge(t, []*Replica{a, b}[i], d)
	}
	wantEqualDigests(t, a, b)
}

func TestUnknownFieldsRefused(t *testing.T) {
	d := newerRegister(crdt.Dot{Actor: 65, Seq: 1}, false)
	d.Effects[0].Change.(*RegisterChange).Unknown = "\x03\x00\x01\x00"
	var bad *BadDeltaError
	if _, err := open(t, NewMemory(), 1).Merge(65, []Delta{d}); !errors.As(err, &bad) || !strings.Contains(bad.Error(), "fields out of order") {
		t.Errorf("merge: %v", err)
	}
	for text, reason := range map[string]string{
		"0400" + "00":          "flagged but none",
		"0402" + "1000" + "00": "out of bounds",
		"04ae1e" + "00":        "over the limit",
	} {
		data, err := hex.DecodeString("01" + "4101" + "0000000100000001" + "01" + "00016b" + "01" + text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeDelta(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %s", text, err, reason)
		}
	}
}
