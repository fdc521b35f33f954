package replica

import "slices"

// This file is the executable specification that the oracle test holds the replica to. It looks at
// the history of events and at who had seen what when, never at dots, states or joins, and shares no
// code with the implementation.

// specEvent is one operation that had an effect, as its author meant it.
type specEvent struct {
	actor uint32
	seq   uint64
	time  uint64
	// seen is what the author had applied before, its own events included.
	seen map[uint32]uint64
	key  string

	writes  bool // the register: put, or delete
	deleted bool
	value   string
	expires uint64

	resets bool // the counter
	adds   bool
	amount int64

	clears  bool // the set
	added   []string
	removed []string
}

// observed reports whether e's author had applied o before.
func (e *specEvent) observed(o *specEvent) bool { return o.seq <= e.seen[o.actor] }

// history is every event of every region, in the order in which they happened in the test.
type history []*specEvent

// at returns the events that a region has applied.
func (h history) at(applied map[uint32]uint64) history {
	var visible history
	for _, e := range h {
		if e.seq <= applied[e.actor] {
			visible = append(visible, e)
		}
	}
	return visible
}

// register returns the write with the largest (time, actor).
func (h history) register(key string) *specEvent {
	var winner *specEvent
	for _, e := range h {
		if e.key != key || !e.writes {
			continue
		}
		if winner == nil || e.time > winner.time || e.time == winner.time && e.actor > winner.actor {
			winner = e
		}
	}
	return winner
}

// counter returns the sum of the additions that no reset has observed, and whether there is one.
func (h history) counter(key string) (sum int64, present bool) {
	for _, add := range h {
		if add.key != key || !add.adds {
			continue
		}
		if !slices.ContainsFunc(h, func(e *specEvent) bool { return e.key == key && e.resets && e.observed(add) }) {
			sum, present = sum+add.amount, true
		}
	}
	return sum, present
}

// set returns the elements of which some add was not observed by a later add, remove or clear.
func (h history) set(key string) []string {
	var elements []string
	for _, add := range h {
		if add.key != key {
			continue
		}
		for _, element := range add.added {
			supersedes := func(e *specEvent) bool {
				return e.key == key && e.observed(add) &&
					(e.clears || slices.Contains(e.added, element) || slices.Contains(e.removed, element))
			}
			if !slices.ContainsFunc(h, supersedes) {
				elements = append(elements, element)
			}
		}
	}
	slices.Sort(elements)
	return slices.Compact(elements)
}
