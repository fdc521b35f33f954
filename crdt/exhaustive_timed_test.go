package crdt

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/hlc"
)

// brokenTimedScopes are types of an order by time with faults in their joins.
func brokenTimedScopes() []anyScope {
	return []anyScope{
		maxRegisterScope("MaxRegister, only the largest write kept", func(a, b MaxRegister) MaxRegister {
			joined := joinOf(a, b)
			joined.writes = joined.writes[:min(len(joined.writes), 1)]
			return joined
		}),
		minRegisterScope("MinRegister, deletes at a time without an actor", func(a, b MinRegister) MinRegister {
			if b.complement.deletedAt.time == a.complement.deletedAt.time {
				b.complement.deletedAt = a.complement.deletedAt
			}
			return joinOf(a, b)
		}),
		lwwMapScope("LWWMap, deletes forgotten", func(a, b LWWMap) LWWMap {
			joined := joinOf(a, b)
			joined.deleted = LWWRegister{}
			return joined
		}),
		zsetScope("ZSet, larger score wins", func(a, b ZSet) ZSet {
			joined := joinOf(a, b)
			for member := range joined.members.fields {
				x, inA := a.Score(member)
				y, inB := b.Score(member)
				if inA && inB && x > y {
					joined.members.fields[member] = a.Register(member)
				}
			}
			return joined
		}),
		timelineScope("Timeline, trims forgotten", func(a, b Timeline) Timeline {
			joined := joinOf(a, b)
			joined.trimmed = 0
			return joined
		}),
		hllScope("HLL, a delete spares what it meets", func(a, b HLL) HLL {
			b = b.Clone()
			for i := range b.layers {
				b.layers[i].at = max(b.layers[i].at, a.deletedAt+1)
			}
			return joinOf(a, b)
		}),
		hllScope("HLL, layers collapse at once", func(a, b HLL) HLL {
			joined := joinOf(a, b)
			joined.Collapse(1 << 10)
			return joined
		}),
	}
}

// later reports whether e is after o in the order of (time, actor), which is total.
func (e scopeEvent) later(o scopeEvent) bool {
	return e.at > o.at || e.at == o.at && e.dot.Actor > o.dot.Actor
}

// lastOf returns the last of the events of some kinds, by (time, actor).
func lastOf(events []scopeEvent, kinds ...string) (last scopeEvent) {
	for _, e := range events {
		if slices.Contains(kinds, e.op) && e.later(last) {
			last = e
		}
	}
	return last
}

func maxRegisterScope(name string, join func(a, b MaxRegister) MaxRegister) *scope[MaxRegister] {
	return extremumScope(name, maxExtremum, join, 1)
}

func minRegisterScope(name string, join func(a, b MinRegister) MinRegister) *scope[MinRegister] {
	return extremumScope(name, minExtremum, join, -1)
}

// extremumScope writes 2 and, at a later time, 1; with a sign of -1 their opposites.
func extremumScope[T scopeState[T]](name string, x extremum[T], join func(a, b T) T, sign int64) *scope[T] {
	amounts := map[string]int64{"write 2": 2, "write 1": 1}
	return &scope[T]{
		name: name, decode: x.decode,
		ops: []scopeOp{{"write 2", 0}, {"write 1", 2}, {"delete", 0}},
		apply: func(r T, e scopeEvent) (after, message T) {
			r = x.clone(r)
			if e.op == "delete" {
				message = x.remove(&r, e.at, e.dot.Actor)
			} else {
				message, _ = x.write(&r, e.at, e.dot.Actor, sign*amounts[e.op])
			}
			return r, message
		},
		changes: true,
		join:    join,
		value: func(r T) string {
			v, ok := x.value(r)
			if !ok {
				return ""
			}
			return strconv.FormatInt(sign*v, 10)
		},
		spec: func(seen []scopeEvent) string {
			if best := extremumSpec(seen, amounts); best > 0 {
				return strconv.FormatInt(best, 10)
			}
			return ""
		},
	}
}

// extremumSpec returns the largest amount that was written after the last delete. A write that was not
// above what its replica had is none, and does not tell others either what deletes its replica knew.
func extremumSpec(seen []scopeEvent, amounts map[string]int64) int64 {
	deletes, writes := make([]scopeEvent, len(seen)), make([]bool, len(seen))
	// show returns what a replica shows that has these events, and the last delete that it knows.
	show := func(has func(o scopeEvent) bool, n int) (best int64, last scopeEvent) {
		for i, o := range seen[:n] {
			if has(o) && deletes[i].later(last) {
				last = deletes[i]
			}
		}
		for i, o := range seen[:n] {
			if has(o) && writes[i] && o.later(last) {
				best = max(best, amounts[o.op])
			}
		}
		return best, last
	}
	for i, e := range seen {
		best, last := show(e.had, i)
		switch {
		case e.op == "delete":
			deletes[i] = e
		case amounts[e.op] > best:
			writes[i], deletes[i] = true, last
		}
	}
	best, _ := show(func(scopeEvent) bool { return true }, len(seen))
	return best
}

func lwwMapScope(name string, join func(a, b LWWMap) LWWMap) *scope[LWWMap] {
	return &scope[LWWMap]{
		name: name, decode: DecodeLWWMap,
		ops: []scopeOp{{"put x", 0}, {"put y", 2}, {"remove x", 0}, {"delete", 0}},
		apply: func(m LWWMap, e scopeEvent) (after, message LWWMap) {
			m = m.Clone()
			switch e.op {
			case "delete":
				message = m.Delete(e.at, e.dot)
			case "remove x":
				message = m.Remove(e.at, e.dot, "x")
			default:
				message = m.Put(e.at, e.dot, strings.TrimPrefix(e.op, "put "), strconv.AppendInt(nil, int64(e.id), 10))
			}
			return m, message
		},
		changes: true,
		join:    join,
		value: func(m LWWMap) string {
			text := ""
			for _, field := range m.Fields() {
				value, _ := m.Get(field)
				text += field + string(value)
			}
			return text
		},
		spec: func(seen []scopeEvent) string {
			text := ""
			if x := lastOf(seen, "put x", "remove x", "delete"); x.op == "put x" {
				text += "x" + strconv.Itoa(x.id)
			}
			if y := lastOf(seen, "put y", "delete"); y.op == "put y" {
				text += "y" + strconv.Itoa(y.id)
			}
			return text
		},
	}
}

// zsetScope gives x scores that fall from one event to the next, and y one in their middle.
func zsetScope(name string, join func(a, b ZSet) ZSet) *scope[ZSet] {
	score := func(e scopeEvent) float64 { return float64(1 - e.id) }
	return &scope[ZSet]{
		name: name, decode: DecodeZSet,
		ops: []scopeOp{{"add x", 0}, {"add y", 2}, {"remove x", 0}, {"delete", 0}},
		apply: func(z ZSet, e scopeEvent) (after, message ZSet) {
			z = z.Clone()
			switch e.op {
			case "add x":
				message, _ = z.Add(e.at, e.dot, "x", score(e))
			case "add y":
				message, _ = z.Add(e.at, e.dot, "y", -0.5)
			case "remove x":
				message = z.Remove(e.at, e.dot, "x")
			default:
				message = z.Delete(e.at, e.dot)
			}
			return z, message
		},
		changes: true,
		join:    join,
		value: func(z ZSet) string {
			if z.Len() == 0 {
				return ""
			}
			return fmt.Sprint(z.Range(0, z.Len()))
		},
		spec: func(seen []scopeEvent) string {
			var members []ZSetMember
			if y := lastOf(seen, "add y", "delete"); y.op == "add y" {
				members = append(members, ZSetMember{"y", -0.5})
			}
			if x := lastOf(seen, "add x", "remove x", "delete"); x.op == "add x" {
				// It is the last one if its score is the larger, or else the first one.
				i := 0
				if score(x) > -0.5 {
					i = len(members)
				}
				members = slices.Insert(members, i, ZSetMember{"x", score(x)})
			}
			if len(members) == 0 {
				return ""
			}
			return fmt.Sprint(members)
		},
	}
}

// timelineScope trims all that is earlier than the trim, or all that is earlier by 2.
func timelineScope(name string, join func(a, b Timeline) Timeline) *scope[Timeline] {
	mark := func(e scopeEvent) hlc.Time {
		if e.op == "trim old" {
			return max(e.at, 2) - 2
		}
		return e.at
	}
	return &scope[Timeline]{
		name: name, decode: DecodeTimeline,
		ops: []scopeOp{{"add", 0}, {"add", 2}, {"trim old", 0}, {"trim", 0}},
		apply: func(l Timeline, e scopeEvent) (after, message Timeline) {
			l = l.Clone()
			if e.op == "add" {
				message = l.Add(e.at, e.dot, strconv.AppendInt(nil, int64(e.id), 10))
			} else {
				message = l.Trim(mark(e))
			}
			return l, message
		},
		changes: true,
		join:    join,
		value: func(l Timeline) string {
			var ids []byte
			for e := range l.OldestFirst(0, math.MaxUint64) {
				ids = append(ids, e.Value...)
			}
			return string(ids)
		},
		spec: func(seen []scopeEvent) string {
			added := make([]scopeEvent, 0, scopeDepth)
			for _, e := range seen {
				trims := func(o scopeEvent) bool { return o.op != "add" && e.at < mark(o) }
				if e.op == "add" && !slices.ContainsFunc(seen, trims) {
					added = append(added, e)
				}
			}
			slices.SortFunc(added, func(a, b scopeEvent) int {
				if a.later(b) {
					return 1
				}
				return -1
			})
			ids := make([]byte, 0, scopeDepth)
			for _, e := range added {
				ids = strconv.AppendInt(ids, int64(e.id), 10)
			}
			return string(ids)
		},
	}
}

// hllScopeElements share a register, in which the second one has the larger value.
var hllScopeElements = func() [2]string {
	first := map[uint16]string{}
	for n := 0; ; n++ {
		element := strconv.Itoa(n)
		r := hashElement(element)
		other, ok := first[r.index]
		switch {
		case !ok:
			first[r.index] = element
		case hashElement(other).value < r.value:
			return [2]string{other, element}
		}
	}
}()

// hllScope adds a low and a high value of one register.
func hllScope(name string, join func(a, b HLL) HLL) *scope[HLL] {
	return &scope[HLL]{
		name: name, decode: DecodeHLL, symmetric: true,
		ops: []scopeOp{{"add low", 0}, {"add high", 2}, {"delete", 0}},
		apply: func(h HLL, e scopeEvent) (after, message HLL) {
			h = h.Clone()
			switch e.op {
			case "add low":
				message = h.Add(e.at, hllScopeElements[0])
			case "add high":
				message = h.Add(e.at, hllScopeElements[1])
			default:
				message = h.Delete(e.at)
			}
			return h, message
		},
		changes: true,
		join:    join,
		value: func(h HLL) string {
			largest := hllRegister{}
			for _, l := range h.layers {
				for _, r := range l.registers {
					largest = hllRegister{r.index, max(r.value, largest.value)}
				}
			}
			switch largest {
			case hashElement(hllScopeElements[0]):
				return "low"
			case hashElement(hllScopeElements[1]):
				return "high"
			case hllRegister{}:
				return ""
			default:
				return fmt.Sprint(h)
			}
		},
		spec: hllScopeSpec,
	}
}

// hllScopeSpec: the largest of the adds later than the last delete; an add that was no more than what its
// author held is none.
func hllScopeSpec(seen []scopeEvent) string {
	values := map[string]int{"add low": 1, "add high": 2}
	adds := make([]int, len(seen))
	// show returns what a replica shows that has these events, of which there are n.
	show := func(has func(o scopeEvent) bool, n int) (best int) {
		var deleted hlc.Time
		for _, o := range seen[:n] {
			if o.op == "delete" && has(o) {
				deleted = max(deleted, o.at)
			}
		}
		for i, o := range seen[:n] {
			if has(o) && o.at > deleted {
				best = max(best, adds[i])
			}
		}
		return best
	}
	for i, e := range seen {
		if values[e.op] > show(e.had, i) {
			adds[i] = values[e.op]
		}
	}
	return [...]string{"", "low", "high"}[show(func(scopeEvent) bool { return true }, len(seen))]
}
