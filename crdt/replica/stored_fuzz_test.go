package replica

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// FuzzDecodeStored: what is accepted of the pair of an object is canonical, and all else is an error of its
// own, whatever the type.
func FuzzDecodeStored(f *testing.F) {
	_, deltas := goldenDeltas(f)
	n := newNode(65)
	for _, d := range deltas {
		if v := &n.r.meta.vector; d.Dot.Seq > v.Get(d.Dot.Actor) && d.Dot.Actor != 65 {
			v.Set(d.Dot.Actor, d.Dot.Seq-1) // let it be the next one
		}
		if _, err := n.r.Merge(d.Dot.Actor, []Delta{d}); err != nil {
			continue // what is earlier than the one before
		}
		_ = n.kv.Scan([]byte{tableObject}, []byte{tableLeaf + 1}, func(k, v []byte) (bool, error) {
			if _, t, _, err := cutObjectKey(k); err == nil {
				f.Add(byte(t), bytes.Clone(v))
			}
			return true, nil
		})
	}
	f.Fuzz(func(t *testing.T, of byte, data []byte) {
		k := kindOf(crdt.Type(of))
		if k == nil {
			return
		}
		s, err := k.decode(data)
		if err != nil {
			if !errors.Is(err, crdt.ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if again := s.append(nil); !bytes.Equal(again, data) {
			t.Fatalf("%x is read as %x", data, again)
		}
	})
}

// FuzzDecodeRecords is the same for the other pairs, and for keys.
func FuzzDecodeRecords(f *testing.F) {
	m := newMeta(1)
	m.advance(crdt.Dot{Actor: 2, Seq: 300}, noon)
	m.raiseSeen(2, []crdt.Dot{{Actor: 3, Seq: 7}})
	l := Loser{Namespace: "n", Key: "k", Path: leafPath("a", "b"), Type: crdt.TypeLWWMap, Field: []byte("f"), Value: []byte("v")}
	f.Add(m.append(nil))
	f.Add(l.append(nil))
	f.Add(objectKey("n", "k\x00", crdt.TypeCounter))
	f.Add(objectAt("n", "k", leafPath("a", "\x00b"), crdt.TypeAWSet))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := decodeMeta(data); err == nil {
			again, err := decodeMeta(m.append(nil))
			if err != nil || !bytes.Equal(again.append(nil), m.append(nil)) {
				t.Fatalf("meta %x is read as %+v, %v", data, m, err)
			}
		} else if !errors.Is(err, crdt.ErrCorrupt) {
			t.Fatalf("untyped error %v", err)
		}
		if l, err := decodeLoser(data); err == nil && !bytes.Equal(l.append(nil), data) {
			t.Fatalf("loser %x is read as %+v", data, l)
		}
		if namespace, key, of, err := parseObjectKey(data); err == nil && !bytes.Equal(objectKey(namespace, key, of), data) {
			t.Fatalf("key %x is read as %q, %q, %v", data, namespace, key, of)
		}
		if object, of, rest, err := cutObjectKey(data); err == nil && (!bytes.Equal(append(bytes.Clone(object), rest...), data) || object[len(object)-1] != byte(of)) {
			t.Fatalf("key %x is cut into %x, %v, %x", data, object, of, rest)
		}
	})
}
