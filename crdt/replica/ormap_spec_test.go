package replica

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// This file is the specification of leaves of every type, by the history of events and who had seen what
// when: it has no dots, tombstones or joins.

// leafEvent is what one operation did to one leaf; a removal of many leaves is one of each of them.
type leafEvent struct {
	actor uint32
	seq   uint64
	time  uint64
	seen  map[uint32]uint64
	leaf  string
	of    crdt.Type
	// clears takes away everything: what was observed, or what is earlier, as the type has it.
	clears bool
	// names are what was added: elements, fields, members; "" where there is but one thing. values and n are
	// what with.
	names  []string
	values []string
	n      int64
	// resets takes away names, without those being added.
	resets []string
	// replaces are additions that take the place of what was observed under the same name.
	replaces bool
	before   uint64 // of a trim
}

func (e *leafEvent) saw(o *leafEvent) bool { return o.seq <= e.seen[o.actor] }

func (e *leafEvent) order(o *leafEvent) int {
	return cmp.Or(cmp.Compare(e.time, o.time), cmp.Compare(e.actor, o.actor))
}

// leafAddition is one of the additions that are left.
type leafAddition struct {
	*leafEvent
	name, value string
}

// leafHistory is what a region has applied to one leaf.
type leafHistory []*leafEvent

// left returns the additions that no other event took away, by the rule of the leaf's type.
func (h leafHistory) left() []leafAddition {
	var left []leafAddition
	for _, e := range h {
		for i, name := range e.names {
			gone := func(o *leafEvent) bool { return o != e && o.takes(e, name) }
			if !slices.ContainsFunc(h, gone) {
				left = append(left, leafAddition{e, name, e.values[i]})
			}
		}
	}
	return left
}

// takes reports whether e takes away what add added under a name.
func (e *leafEvent) takes(add *leafEvent, name string) bool {
	resets, adds := slices.Contains(e.resets, name), slices.Contains(e.names, name)
	switch e.of {
	case crdt.TypeCounter, crdt.TypeAWSet, crdt.TypeMVRegister, crdt.TypeEWFlag, crdt.TypeCounterZSet:
		return e.saw(add) && (e.clears || resets || e.replaces && adds)
	case crdt.TypeLWWRegister, crdt.TypeLWWMap, crdt.TypeZSet:
		return e.order(add) > 0 && (e.clears || resets || adds)
	case crdt.TypeMaxRegister, crdt.TypeMinRegister:
		return e.clears && e.order(add) > 0
	default: // HyperLogLogs and timelines, of which e may be a trim
		return e.clears && e.time >= add.time || add.time < e.before
	}
}

// text writes a leaf's value; "" if it is absent.
func (h leafHistory) text() string {
	left := h.left()
	if len(left) == 0 {
		return ""
	}
	slices.SortFunc(left, func(a, b leafAddition) int { return cmp.Or(strings.Compare(a.name, b.name), b.order(a.leafEvent)) })
	switch left[0].of {
	case crdt.TypeCounter:
		var sum int64
		for _, a := range left {
			sum += a.n
		}
		return fmt.Sprint(sum)
	case crdt.TypeMaxRegister, crdt.TypeMinRegister:
		sign := int64(1)
		if left[0].of == crdt.TypeMinRegister {
			sign = -1
		}
		best := left[0].n
		for _, a := range left {
			best = sign * max(sign*best, sign*a.n)
		}
		return fmt.Sprint(best)
	case crdt.TypeHLL:
		names := distinctNames(left)
		return fmt.Sprint(len(names))
	case crdt.TypeEWFlag:
		return "enabled"
	case crdt.TypeAWSet:
		return strings.Join(distinctNames(left), " ")
	case crdt.TypeCounterZSet:
		return countedText(left)
	case crdt.TypeTimeline:
		slices.SortFunc(left, func(a, b leafAddition) int { return b.order(a.leafEvent) })
	}
	var parts []string
	for _, a := range left {
		parts = append(parts, a.name+"="+a.value)
	}
	return strings.Join(parts, " ")
}

func distinctNames(left []leafAddition) []string {
	var names []string
	for _, a := range left {
		names = append(names, a.name)
	}
	return slices.Compact(names)
}

func countedText(left []leafAddition) string {
	var parts []string
	for _, name := range distinctNames(left) {
		var sum int64
		for _, a := range left {
			if a.name == name {
				sum += a.n
			}
		}
		parts = append(parts, fmt.Sprintf("%s=%d", name, sum))
	}
	return strings.Join(parts, " ")
}

// leavesOf returns the values of all leaves that a region which has applied that much sees.
func leavesOf(events []*leafEvent, applied map[uint32]uint64) map[string]string {
	byLeaf := map[string]leafHistory{}
	for _, e := range events {
		if e.seq <= applied[e.actor] {
			byLeaf[e.leaf] = append(byLeaf[e.leaf], e)
		}
	}
	values := map[string]string{}
	for leaf, h := range byLeaf {
		if text := h.text(); text != "" {
			values[leaf] = text
		}
	}
	return values
}
