package crdt

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// Dot names one event: the Seq-th command of an actor in one partition, counted from 1. A dot names
// at most one event, for ever; all that depends on dots is lost if one is reused.
type Dot struct {
	Actor Actor
	Seq   uint64
}

// Compare orders dots by actor, then by sequence number. It is not the order of events.
func (d Dot) Compare(o Dot) int {
	return cmp.Or(cmp.Compare(d.Actor, o.Actor), cmp.Compare(d.Seq, o.Seq))
}

// String returns "actor.seq" in hexadecimal, which is unique to the dot.
func (d Dot) String() string {
	b := strconv.AppendUint(make([]byte, 0, 24), uint64(d.Actor), 16)
	return string(strconv.AppendUint(append(b, '.'), d.Seq, 16))
}

func appendDot(b []byte, d Dot) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(d.Actor)), d.Seq)
}

// readDot reads a dot; sequence numbers start at 1.
func readDot(r *codec.Reader) Dot {
	d := Dot{Actor(r.Uvarint(maxActor)), r.Uvarint(maxSeq)}
	if d.Seq == 0 {
		r.Fail("sequence number 0")
	}
	return d
}

const (
	maxActor = uint64(^Actor(0))
	maxSeq   = ^uint64(0)
)

// DotSet is a set of dots in ascending order. It is the whole state of one element of an add-wins
// set: the adds that no remove has observed. A DotSet is not changed once made; nil is empty.
type DotSet []Dot

// Contains reports whether d is in the set.
func (s DotSet) Contains(d Dot) bool {
	_, ok := slices.BinarySearchFunc(s, d, Dot.Compare)
	return ok
}

// NewDotSet returns the set of the given dots, in any order, with or without duplicates.
func NewDotSet(dots ...Dot) DotSet {
	if len(dots) == 0 {
		return nil
	}
	s := slices.Clone(dots)
	slices.SortFunc(s, Dot.Compare)
	return slices.Compact(s)
}

// JoinDots returns the join of two states a and b of one element: the dots in both, and those in
// one that the other's causal context does not cover. coveredA and coveredB report whether a dot is
// in the context of a's and b's side; a dot that is covered but absent was removed there.
//
// With honest contexts, which cover at least the dots present, the join is commutative, associative
// and idempotent.
//
// Ref: Almeida, Shoker, Baquero, "Delta State Replicated Data Types", JPDC 2018, §7.
func JoinDots(a, b DotSet, coveredA, coveredB func(Dot) bool) DotSet {
	var joined DotSet
	for len(a) > 0 || len(b) > 0 {
		order := compareHeads(a, b)
		switch {
		case order == 0:
			joined = append(joined, a[0])
		case order < 0 && !coveredB(a[0]):
			joined = append(joined, a[0])
		case order > 0 && !coveredA(b[0]):
			joined = append(joined, b[0])
		}
		if order <= 0 {
			a = a[1:]
		}
		if order >= 0 {
			b = b[1:]
		}
	}
	return joined
}

// compareHeads compares the first dots of two sets, not both empty; an empty set comes last.
func compareHeads(a, b DotSet) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return a[0].Compare(b[0])
	}
}

// Append appends the set's encoding: the version, then each dot as two varints, to the end.
func (s DotSet) Append(b []byte) []byte {
	b = append(b, codecVersion)
	for _, d := range s {
		b = appendDot(b, d)
	}
	return b
}

// DecodeDotSet reads what Append wrote.
func DecodeDotSet(data []byte) (DotSet, error) {
	r := codec.NewReader("dot set", data, codecVersion)
	var s DotSet
	for r.Len() > 0 {
		d := readDot(r)
		if len(s) > 0 && s[len(s)-1].Compare(d) >= 0 {
			r.Fail("dots out of order")
		}
		s = append(s, d)
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	return s, nil
}
