package replica

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/atolldb/atoll/crdt"
)

// Digest is a fingerprint of a replica's values. Replicas with equal vectors have equal digests; it
// guards against faults, not against forgers.
type Digest struct {
	// Sum is the sum modulo 2^128 of the items' xxh3-128 hashes, big-endian.
	Sum [16]byte
	// Items is the number of elements of collections, and of values of all other types.
	Items uint64
}

// Digest computes the fingerprint by reading everything.
//
// An item is a register that was not deleted and had not expired at the last instant issued or merged
// (readers judge expiry later, and each replica removes such registers when it can), a counter that is
// not empty, the write that is the value of a maximum or a minimum, an element of a set or another
// collection, or a value of another type. A leaf of an observed-remove map counts as the value that it is. It is hashed with its name and its causal metadata. What a replica
// keeps for its own sake is left out: tombstones, marks, wholly reset rows, writes that are not the value,
// local ids and counts, versions that name the last event applied here, and removals ahead of their adds.
func (r *Replica) Digest() (Digest, error) {
	var sum digestSum
	// The elements of a collection are hashed after the scan that finds it: a scan inside a scan is more
	// than a KV promises.
	type found struct {
		object []byte
		kid    uint64
		kind   kind
	}
	var sets []found
	visit := func(k, v []byte) (bool, error) {
		_, t, rest, err := cutObjectKey(k)
		if err == nil && len(rest) > 0 {
			err = fmt.Errorf("object key of %d bytes: %w", len(k), crdt.ErrCorrupt)
		}
		if err != nil {
			return false, err
		}
		kind := kindOf(t)
		o, err := kind.decode(v)
		if err != nil {
			return false, err
		}
		if kid := kind.digest(&sum, k, o, r.meta.last); kid != 0 {
			sets = append(sets, found{slices.Clone(k), kid, kind})
		}
		if c, ok := o.(collection); ok {
			return true, sum.inside(kinds[t], k, c)
		}
		return true, nil
	}
	err := r.kv.Scan([]byte{tableObject}, []byte{tableObject + 1}, visit)
	if err == nil {
		err = r.kv.Scan([]byte{tableLeaf}, []byte{tableLeaf + 1}, visit)
	}
	for i := 0; i < len(sets) && err == nil; i++ {
		prefix := elementKey(sets[i].kid, nil)
		err = r.kv.Scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
			return true, sum.element(sets[i].kind, sets[i].object, pair{elementOf(k), v})
		})
	}
	if err != nil {
		return Digest{}, fmt.Errorf("digest: %w", err)
	}
	d := Digest{Items: sum.items}
	binary.BigEndian.PutUint64(d.Sum[:8], sum.hi)
	binary.BigEndian.PutUint64(d.Sum[8:], sum.lo)
	return d, nil
}

// digestSum adds up items.
type digestSum struct {
	hi, lo, items uint64
	buffer        []byte
}

// inside adds the elements in a collection's header.
func (s *digestSum) inside(k kind, object []byte, c collection) error {
	for _, p := range c.within() {
		if err := s.element(k, object, p); err != nil {
			return err
		}
	}
	return nil
}

// element adds what replicas share of an element.
func (s *digestSum) element(k kind, object []byte, p pair) error {
	if digester, ok := k.(elementDigester); ok {
		shared, err := digester.digestElement(p.value)
		if err != nil || len(shared) == 0 {
			return err
		}
		p.value = shared
	}
	s.item(object, p.name, p.value)
	return nil
}

// item adds the hash of an item: the object's key, the element's length and bytes, and the rest. An
// element has at least one byte, so registers and counters, which have none, stay apart.
func (s *digestSum) item(object, element, state []byte) {
	s.buffer = append(s.buffer[:0], object...)
	s.buffer = binary.AppendUvarint(s.buffer, uint64(len(element)))
	s.buffer = append(append(s.buffer, element...), state...)
	h := xxh3.Hash128(s.buffer)
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, h.Lo, 0)
	s.hi, _ = bits.Add64(s.hi, h.Hi, carry)
	s.items++
}
