// Package spec says what values are, by the history of events and who had seen what when: it has no dots,
// tombstones or joins, and shares no code with what is held against it. It is slow, and for tests and
// simulations only.
package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// Event is what one operation did to one value; a removal of many values is one of each of them.
type Event struct {
	Actor uint32
	Seq   uint64
	Time  uint64
	// Rank, where a region orders the writes of a value, says under which order it was written: it comes before Time.
	Rank uint64
	// Seen is what the event's author had applied.
	Seen map[uint32]uint64
	// Of is the value's type.
	Of crdt.Type
	// Clears takes away everything: what was observed, or what is earlier, as the type has it.
	Clears bool
	// Names are what was added: elements, fields, members; "" where there is but one thing. Values and N are
	// what with.
	Names  []string
	Values []string
	N      int64
	// Resets takes away names, without those being added.
	Resets []string
	// Replaces are additions that take the place of what was observed under the same name.
	Replaces bool
	// Before is up to which instant a timeline was trimmed.
	Before uint64
}

func (e *Event) saw(o *Event) bool { return o.Seq <= e.Seen[o.Actor] }

// After reports whether e wins against o where the last one does.
func (e *Event) After(o *Event) bool { return e.order(o) > 0 }

func (e *Event) order(o *Event) int {
	return cmp.Or(cmp.Compare(e.Rank, o.Rank), cmp.Compare(e.Time, o.Time), cmp.Compare(e.Actor, o.Actor))
}

// History is what a region has applied to one value, in any order.
type History []*Event

// addition is one of the additions that are left.
type addition struct {
	*Event
	name, value string
}

// left returns the additions that no other event took away, by the rule of the value's type.
func (h History) left() []addition {
	var left []addition
	for _, e := range h {
		for i, name := range e.Names {
			gone := func(o *Event) bool { return o != e && o.takes(e, name) }
			if !slices.ContainsFunc(h, gone) {
				left = append(left, addition{e, name, e.Values[i]})
			}
		}
	}
	return left
}

// takes reports whether e takes away what add added under a name.
func (e *Event) takes(add *Event, name string) bool {
	resets, adds := slices.Contains(e.Resets, name), slices.Contains(e.Names, name)
	switch e.Of {
	case crdt.TypeCounter, crdt.TypeAWSet, crdt.TypeMVRegister, crdt.TypeEWFlag, crdt.TypeCounterZSet:
		return e.saw(add) && (e.Clears || resets || e.Replaces && adds)
	case crdt.TypeLWWRegister, crdt.TypeLWWMap, crdt.TypeZSet:
		return e.order(add) > 0 && (e.Clears || resets || adds)
	case crdt.TypeMaxRegister, crdt.TypeMinRegister:
		return e.Clears && e.order(add) > 0
	case crdt.TypeBoundedCounter: // which nothing takes away
		return false
	default: // HyperLogLogs and timelines, of which e may be a trim
		return e.Clears && e.Time >= add.Time || add.Time < e.Before
	}
}

// Text writes the value; "" if it is absent. Values and names of collections come as "name=value", in order
// of the names, those of a set without values, and estimates as their number.
func (h History) Text() string {
	left := h.left()
	if len(left) == 0 {
		return ""
	}
	slices.SortFunc(left, func(a, b addition) int { return cmp.Or(strings.Compare(a.name, b.name), b.order(a.Event)) })
	switch left[0].Of {
	case crdt.TypeCounter, crdt.TypeBoundedCounter:
		var sum int64
		for _, a := range left {
			sum += a.N
		}
		return fmt.Sprint(sum)
	case crdt.TypeMaxRegister, crdt.TypeMinRegister:
		return extremeText(left)
	case crdt.TypeHLL:
		return fmt.Sprint(len(distinctNames(left)))
	case crdt.TypeEWFlag:
		return "enabled"
	case crdt.TypeAWSet:
		return strings.Join(distinctNames(left), " ")
	case crdt.TypeCounterZSet:
		return countedText(left)
	case crdt.TypeTimeline:
		slices.SortFunc(left, func(a, b addition) int { return b.order(a.Event) })
	}
	var parts []string
	for _, a := range left {
		parts = append(parts, a.name+"="+a.value)
	}
	return strings.Join(parts, " ")
}

func extremeText(left []addition) string {
	sign := int64(1)
	if left[0].Of == crdt.TypeMinRegister {
		sign = -1
	}
	best := left[0].N
	for _, a := range left {
		best = sign * max(sign*best, sign*a.N)
	}
	return fmt.Sprint(best)
}

func distinctNames(left []addition) []string {
	var names []string
	for _, a := range left {
		names = append(names, a.name)
	}
	return slices.Compact(names)
}

func countedText(left []addition) string {
	var parts []string
	for _, name := range distinctNames(left) {
		var sum int64
		for _, a := range left {
			if a.name == name {
				sum += a.N
			}
		}
		parts = append(parts, fmt.Sprintf("%s=%d", name, sum))
	}
	return strings.Join(parts, " ")
}
