package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Guarantee is what a session promises.
type Guarantee string

// The guarantees of a session, by Terry et al. (1994), over registers of which the later write wins.
const (
	ReadYourWrites    Guarantee = "read your writes"
	MonotonicReads    Guarantee = "monotonic reads"
	MonotonicWrites   Guarantee = "monotonic writes"
	WritesFollowReads Guarantee = "writes follow reads"
	// fact is an order that is no session's: absent is before all, and what all regions end with is behind all.
	fact Guarantee = ""
)

// SessionOp is one call of a session, in the order in which it made them.
type SessionOp struct {
	Session     int
	Region, Key string
	// Value is what was written, another one each time, or read; empty is absent.
	Value string
	Write bool
	// Unknown means that the write may or may not have taken effect, or may yet.
	Unknown bool
}

// BrokenSession is a set of calls that no order of the writes of a key explains.
type BrokenSession struct {
	Key string
	// Guarantees are those that cannot all have been kept.
	Guarantees []Guarantee
	// Cycle has the steps: each value is before the next by what the step says.
	Cycle []string
}

// Error says what was broken.
func (b *BrokenSession) Error() string {
	return fmt.Sprintf("%s: not all of %v hold: %s", b.Key, b.Guarantees, strings.Join(b.Cycle, "; "))
}

// sessionStep is why one value of a key is before another.
type sessionStep struct {
	guarantee Guarantee
	why       string
}

// order is which values of one key are before which, and why.
type order map[string]map[string]sessionStep

func (o order) add(before, after string, s sessionStep) {
	if before == after {
		return
	}
	if o[before] == nil {
		o[before] = map[string]sessionStep{}
	}
	if _, known := o[before][after]; !known {
		o[before][after] = s
	}
	if o[after] == nil {
		o[after] = map[string]sessionStep{}
	}
}

// Sessions judges the calls of all sessions: whether for each key there is one order of its values in which no
// session ever goes back. final is what all regions hold in the end. It returns one finding per key at most.
func Sessions(ops []SessionOp, final map[string]string) []*BrokenSession {
	orders := map[string]order{}
	type place struct {
		session int
		key     string
	}
	last := map[place]SessionOp{}
	for i, op := range ops {
		o := orders[op.Key]
		if o == nil {
			o = order{"": {}}
			orders[op.Key] = o
		}
		at := place{op.Session, op.Key}
		before, known := last[at]
		if known {
			o.add(before.Value, op.Value, sessionStep{guaranteeOf(before, op), fmt.Sprintf("call %d: %s, then %s", i, describeCall(before), describeCall(op))})
		}
		if !op.Unknown {
			last[at] = op
		}
	}
	for key, o := range orders {
		written := map[string]bool{}
		for _, op := range ops {
			if op.Key == key && (!op.Unknown || len(o[op.Value]) > 0) {
				written[op.Value] = true
			}
		}
		for v := range written {
			o.add("", v, sessionStep{fact, "absent is before " + v})
			o.add(v, final[key], sessionStep{fact, fmt.Sprintf("%q is what is left", final[key])})
		}
	}
	var broken []*BrokenSession
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		if b := orders[key].broken(key); b != nil {
			broken = append(broken, b)
		}
	}
	return broken
}

func guaranteeOf(before, op SessionOp) Guarantee {
	switch {
	case before.Write && op.Write:
		return MonotonicWrites
	case before.Write:
		return ReadYourWrites
	case op.Write:
		return WritesFollowReads
	default:
		return MonotonicReads
	}
}

func describeCall(op SessionOp) string {
	did := "read"
	if op.Write {
		did = "wrote"
	}
	return fmt.Sprintf("session %d %s %q in %s", op.Session, did, op.Value, op.Region)
}

// broken returns the shortest cycle, nil if there is none.
func (o order) broken(key string) *BrokenSession {
	var shortest []string
	for _, v := range slices.Sorted(maps.Keys(o)) {
		if cycle := o.cycle(v); cycle != nil && (shortest == nil || len(cycle) < len(shortest)) {
			shortest = cycle
		}
	}
	if shortest == nil {
		return nil
	}
	b := &BrokenSession{Key: key}
	for i, v := range shortest {
		s := o[v][shortest[(i+1)%len(shortest)]]
		if s.guarantee != fact && !slices.Contains(b.Guarantees, s.guarantee) {
			b.Guarantees = append(b.Guarantees, s.guarantee)
		}
		b.Cycle = append(b.Cycle, s.why)
	}
	return b
}

// cycle returns the shortest way from a value back to it; nil if there is none.
func (o order) cycle(from string) []string {
	cameFrom := map[string]string{}
	queue := []string{from}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, next := range slices.Sorted(maps.Keys(o[v])) {
			if next == from {
				way := []string{v}
				for v != from {
					v = cameFrom[v]
					way = append(way, v)
				}
				slices.Reverse(way)
				return way
			}
			if _, seen := cameFrom[next]; !seen {
				cameFrom[next] = v
				queue = append(queue, next)
			}
		}
	}
	return nil
}
