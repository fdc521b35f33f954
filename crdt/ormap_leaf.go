package crdt

import (
	"bytes"
	"slices"
	"strings"

	"github.com/atolldb/atoll/hlc"
)

// LeafType is the type of a leaf of an ORMap. The codes are part of the encoding.
type LeafType uint8

// The types of leaves.
const (
	// LeafSet is an add-wins set, as AWSet.
	LeafSet LeafType = 1
	// LeafCounter is an observed-reset counter, as Counter.
	LeafCounter LeafType = 2
	// LeafRegister is a register that keeps concurrent values.
	LeafRegister LeafType = 3
	// LeafFlag is a flag that is enabled if some enable was not observed by a disable.
	LeafFlag LeafType = 4
)

// LeafOp is an operation on a leaf of an ORMap: AddElement, RemoveElement, AddAmount, PutValue,
// EnableFlag or ClearLeaf. Bounds of elements and values are the caller's to keep.
type LeafOp interface {
	leafType() LeafType
	// apply changes the leaf as event d, or returns why not and changes nothing.
	apply(l *leaf, d Dot) error
}

// AddElement adds an element of 1 to MaxElementBytes to a set.
type AddElement struct{ Element string }

// RemoveElement removes an element from a set, if it is there.
type RemoveElement struct{ Element string }

// AddAmount adds to a counter.
type AddAmount struct{ Amount int64 }

// PutValue puts a value of at most MaxValueBytes, which the map keeps, into a register, in place of
// those it observed.
type PutValue struct {
	// At is the instant of the event, for readers who want the latest of concurrent values.
	At    hlc.Time
	Value []byte
}

// EnableFlag enables a flag.
type EnableFlag struct{}

// ClearLeaf takes away what it observed in a leaf of a type: it empties a set, resets a counter,
// deletes a register's values, disables a flag.
type ClearLeaf struct{ Type LeafType }

func (AddElement) leafType() LeafType    { return LeafSet }
func (RemoveElement) leafType() LeafType { return LeafSet }
func (AddAmount) leafType() LeafType     { return LeafCounter }
func (PutValue) leafType() LeafType      { return LeafRegister }
func (EnableFlag) leafType() LeafType    { return LeafFlag }
func (o ClearLeaf) leafType() LeafType   { return o.Type }

func (o AddElement) apply(l *leaf, d Dot) error {
	i, ok := l.search(o.Element)
	if !ok {
		l.elements = slices.Insert(l.elements, i, leafElement{name: o.Element})
	}
	l.elements[i].dots = DotSet{d}
	return nil
}

func (o RemoveElement) apply(l *leaf, _ Dot) error {
	if i, ok := l.search(o.Element); ok {
		l.elements = slices.Delete(l.elements, i, i+1)
	}
	return nil
}

func (o AddAmount) apply(l *leaf, d Dot) error {
	_, err := l.counter.Add(d, o.Amount)
	return err
}

func (o PutValue) apply(l *leaf, d Dot) error {
	l.values = []LeafValue{{d, o.At, o.Value}}
	return nil
}

func (EnableFlag) apply(l *leaf, d Dot) error { return AddElement{flagElement}.apply(l, d) }

func (ClearLeaf) apply(l *leaf, d Dot) error {
	l.clear(d)
	return nil
}

// LeafValue is one of the concurrent values of a register in an ORMap.
type LeafValue struct {
	// Dot names the event that put the value, at instant Time. The value of the largest
	// (Time, Dot.Actor) is the latest.
	Dot   Dot
	Time  hlc.Time
	Value []byte
}

func (v LeafValue) equal(o LeafValue) bool {
	return v.Dot == o.Dot && v.Time == o.Time && bytes.Equal(v.Value, o.Value)
}

// leaf is the state of a leaf of any type; only the part of its type is there. A flag is a set of at
// most one element, flagElement.
type leaf struct {
	elements []leafElement // ascending; each with dots
	counter  Counter       // each row with an entry
	values   []LeafValue   // in ascending order of dots
}

const flagElement = ""

type leafElement struct {
	name string
	dots DotSet
}

func (e leafElement) equal(o leafElement) bool {
	return e.name == o.name && slices.Equal(e.dots, o.dots)
}

func (l *leaf) search(element string) (int, bool) {
	return slices.BinarySearchFunc(l.elements, element, func(e leafElement, name string) int {
		return strings.Compare(e.name, name)
	})
}

// clear takes away, as event d, all that there is.
func (l *leaf) clear(d Dot) {
	l.elements, l.values = nil, nil
	l.counter.Reset(d)
	l.forget(d.Actor)
}

// forget drops an actor's row of the counter if it is wholly reset; the actor knows that, so its next
// addition starts anew. It is part of an event of that actor.
func (l *leaf) forget(owner Actor) { l.counter.Compact(owner, VersionVector{}) }

// empty reports whether the leaf has no value.
func (l leaf) empty() bool {
	return len(l.elements) == 0 && l.counter.Empty() && len(l.values) == 0
}

// gone reports whether there is nothing to keep, not even a reset.
func (l leaf) gone() bool {
	return len(l.elements) == 0 && l.counter.Len() == 0 && len(l.values) == 0
}

func (l leaf) equal(o leaf) bool {
	return slices.EqualFunc(l.elements, o.elements, leafElement.equal) && l.counter.Equal(o.counter) &&
		slices.EqualFunc(l.values, o.values, LeafValue.equal)
}

func (l leaf) clone() leaf {
	return leaf{slices.Clone(l.elements), l.counter.Clone(), slices.Clone(l.values)}
}

// joinLeaves returns the join of two states of a leaf; coveredA and coveredB are their contexts, as
// for JoinDots. It shares no memory with them that is ever changed.
func joinLeaves(a, b leaf, coveredA, coveredB func(Dot) bool) leaf {
	return leaf{
		elements: joinElements(a.elements, b.elements, coveredA, coveredB),
		counter:  joinCounters(a.counter, b.counter, coveredA, coveredB),
		values:   joinValues(a.values, b.values, coveredA, coveredB),
	}
}

func joinElements(a, b []leafElement, coveredA, coveredB func(Dot) bool) []leafElement {
	var joined []leafElement
	for len(a) > 0 || len(b) > 0 {
		fromA := len(b) == 0 || len(a) > 0 && a[0].name <= b[0].name
		fromB := len(a) == 0 || len(b) > 0 && b[0].name <= a[0].name
		var inA, inB leafElement
		if fromA {
			inA, a = a[0], a[1:]
		}
		if fromB {
			inB, b = b[0], b[1:]
		}
		if dots := JoinDots(inA.dots, inB.dots, coveredA, coveredB); len(dots) > 0 {
			joined = append(joined, leafElement{max(inA.name, inB.name), dots}) // the other name is ""
		}
	}
	return joined
}

// joinCounters joins two counters. A row that is on one side only, and whose entry the other side's
// context covers, was wholly reset there and forgotten by its owner.
func joinCounters(a, b Counter, coveredA, coveredB func(Dot) bool) Counter {
	known := func(c, other Counter, covered func(Dot) bool) Counter {
		return NewCounter(slices.DeleteFunc(c.Rows(), func(r Row) bool {
			_, both := other.search(r.Actor)
			return !both && covered(Dot{r.Actor, r.Entry.Seq})
		}))
	}
	joined := known(a, b, coveredB)
	joined.Join(known(b, a, coveredA))
	return joined
}

func joinValues(a, b []LeafValue, coveredA, coveredB func(Dot) bool) []LeafValue {
	dots := func(values []LeafValue) DotSet {
		var s DotSet
		for _, v := range values {
			s = append(s, v.Dot)
		}
		return s
	}
	inA, inB := dots(a), dots(b)
	var joined []LeafValue
	for _, d := range JoinDots(inA, inB, coveredA, coveredB) {
		if i := slices.Index(inA, d); i >= 0 {
			joined = append(joined, a[i])
		} else {
			joined = append(joined, b[slices.Index(inB, d)])
		}
	}
	return joined
}
