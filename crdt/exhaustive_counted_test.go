package crdt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// brokenCountedScopes are types with sums, and maps, with faults in their joins.
func brokenCountedScopes() []anyScope {
	never := func(Dot) bool { return false }
	return []anyScope{
		withStates("BoundedCounter, the row that arrives wins", boundedScope("", func(a, b BoundedCounter) BoundedCounter {
			a = a.Clone()
			a.rows = slices.DeleteFunc(a.rows, func(r BoundedRow) bool {
				_, ok := b.search(r.Actor)
				return ok
			})
			return joinOf(a, b)
		})),
		counterZSetScope("CounterZSet, members without a score dropped", func(a, b CounterZSet) CounterZSet {
			joined := joinOf(a, b)
			for member, c := range joined.counters {
				if c.Empty() {
					delete(joined.counters, member)
				}
			}
			return joined
		}),
		ormapScope("ORMap, removes forgotten", func(a, b ORMap) ORMap {
			joined := joinOf(a, b)
			joined.leaves = nil
			for _, key := range slices.Concat(leafKeys(a), leafKeys(b)) {
				joined.put(key, joinLeaves(a.leaves[key], b.leaves[key], never, never))
			}
			return joined
		}),
		ormapCounterScope("ORMap, forgotten rows of counters come back", func(a, b ORMap) ORMap {
			joined := joinOf(a, b)
			for _, key := range slices.Concat(leafKeys(a), leafKeys(b)) {
				joined.put(key, leaf{counter: joinCounters(a.leaves[key].counter, b.leaves[key].counter, never, never)})
			}
			return joined
		}),
	}
}

func leafKeys(m ORMap) (keys []LeafKey) {
	for key := range m.leaves {
		keys = append(keys, key)
	}
	return keys
}

// boundedScope adds 2, gives 1 to the next replica, and takes 1.
func boundedScope(name string, join func(a, b BoundedCounter) BoundedCounter) *scope[BoundedCounter] {
	next := func(d Dot) Actor { return d.Actor%scopeReplicas + 1 }
	return &scope[BoundedCounter]{
		name: name, decode: DecodeBoundedCounter,
		ops: []scopeOp{{"add", 0}, {"give", 0}, {"take", 0}},
		apply: func(c BoundedCounter, e scopeEvent) (after, message BoundedCounter) {
			c = c.Clone()
			switch e.op {
			case "add":
				message, _ = c.Inc(e.dot, 2)
			case "give":
				message, _ = c.Transfer(e.dot, 1, next(e.dot))
			default:
				message, _ = c.Dec(e.dot, 1)
			}
			return c, message
		},
		changes: true,
		keeps:   true,
		join:    join,
		value: func(c BoundedCounter) string {
			return boundedText(c.Value(), [scopeReplicas]int64{c.Rights(1), c.Rights(2), c.Rights(3)})
		},
		spec: func(seen []scopeEvent) string {
			refused := make([]bool, len(seen))
			// show says what each has after some events.
			show := func(has func(o scopeEvent) bool, n int) (value int64, rights [scopeReplicas]int64) {
				for i, o := range seen[:n] {
					switch {
					case refused[i] || !has(o):
					case o.op == "add":
						value, rights[o.dot.Actor-1] = value+2, rights[o.dot.Actor-1]+2
					case o.op == "give":
						rights[o.dot.Actor-1]--
						rights[next(o.dot)-1]++
					default:
						value, rights[o.dot.Actor-1] = value-1, rights[o.dot.Actor-1]-1
					}
				}
				return value, rights
			}
			for i, e := range seen {
				_, rights := show(e.had, i)
				refused[i] = e.op != "add" && rights[e.dot.Actor-1] < 1
			}
			return boundedText(show(func(scopeEvent) bool { return true }, len(seen)))
		},
	}
}

func boundedText(value int64, rights [scopeReplicas]int64) string {
	if value == 0 && rights == [scopeReplicas]int64{} {
		return ""
	}
	return fmt.Sprint(value, rights)
}

// counterZSetScope adds powers of two, so that a score tells which additions are in it.
func counterZSetScope(name string, join func(a, b CounterZSet) CounterZSet) *scope[CounterZSet] {
	return &scope[CounterZSet]{
		name: name, decode: DecodeCounterZSet, symmetric: true,
		ops: []scopeOp{{"incr x", 0}, {"incr y", 0}, {"add x", 0}, {"remove x", 0}, {"clear", 0}},
		apply: func(s CounterZSet, e scopeEvent) (after, message CounterZSet) {
			s = s.Clone()
			switch e.op {
			case "add x":
				message = s.Add(e.dot, "x", 1<<e.id)
			case "remove x":
				message = s.Remove(e.dot, "x")
			case "clear":
				message = s.Clear(e.dot)
			default:
				message, _ = s.Incr(e.dot, strings.TrimPrefix(e.op, "incr "), 1<<e.id)
			}
			return s, message
		},
		changes: true,
		join:    join,
		value: func(s CounterZSet) string {
			text := ""
			for _, m := range s.Range(0, s.Len()) {
				text += m.Member + strconv.FormatInt(m.Score, 10)
			}
			return text
		},
		spec: counterZSetScopeSpec,
	}
}

func counterZSetScopeSpec(seen []scopeEvent) string {
	x, y := 0, 0
	for _, e := range seen {
		switch {
		case (e.op == "incr x" || e.op == "add x") && survives(e, seen, "add x", "remove x", "clear"):
			x += 1 << e.id
		case e.op == "incr y" && survives(e, seen, "clear"):
			y += 1 << e.id
		}
	}
	inX, inY := "x"+strconv.Itoa(x), "y"+strconv.Itoa(y)
	switch {
	case x == 0 && y == 0:
		return ""
	case y == 0:
		return inX
	case x == 0:
		return inY
	case x < y:
		return inX + inY
	default:
		return inY + inX
	}
}

// ormapScope has leaves of all types: a set at a, a counter and a register at a.b, a flag at c.
func ormapScope(name string, join func(a, b ORMap) ORMap) *scope[ORMap] {
	a, ab, c := mustPath("a"), mustPath("a", "b"), mustPath("c")
	return &scope[ORMap]{
		name: name, decode: DecodeORMap, symmetric: true,
		ops: []scopeOp{{"element", 0}, {"amount", 0}, {"value", 0}, {"flag", 0}, {"remove a", 0}, {"remove all", 0}},
		apply: func(m ORMap, e scopeEvent) (after, message ORMap) {
			m = m.Clone()
			switch e.op {
			case "element":
				_ = m.Update(e.dot, a, AddElement{"x"})
			case "amount":
				_ = m.Update(e.dot, ab, AddAmount{1 << e.id})
			case "value":
				_ = m.Update(e.dot, ab, PutValue{e.at, strconv.AppendInt(nil, int64(e.id), 10)})
			case "flag":
				_ = m.Update(e.dot, c, EnableFlag{})
			case "remove a":
				m.Remove(e.dot, a)
			default:
				m.Remove(e.dot, Path{})
			}
			return m, m
		},
		join: join,
		value: func(m ORMap) string {
			text := strings.Join(m.Elements(a), "")
			if n, ok := m.Count(ab); ok {
				text += "+" + strconv.FormatInt(n, 10)
			}
			ids := make([]string, 0, scopeReplicas)
			for _, v := range m.Values(ab) {
				ids = append(ids, "="+string(v.Value))
			}
			slices.Sort(ids)
			text += strings.Join(ids, "")
			if m.Enabled(c) {
				text += "!"
			}
			return text
		},
		spec: ormapScopeSpec,
	}
}

func ormapScopeSpec(seen []scopeEvent) string {
	x, ids, flag, sum := "", "", "", 0
	for _, e := range seen {
		switch {
		case !survives(e, seen, "remove all"):
		case e.op == "flag":
			flag = "!"
		case !survives(e, seen, "remove a"):
		case e.op == "element":
			x = "x"
		case e.op == "amount":
			sum += 1 << e.id
		case e.op == "value" && survives(e, seen, "value"):
			ids += "=" + strconv.Itoa(e.id)
		}
	}
	if sum > 0 {
		x += "+" + strconv.Itoa(sum)
	}
	return x + ids + flag
}

// ormapCounterScope has one counter, and forgets rows that were reset.
func ormapCounterScope(name string, join func(a, b ORMap) ORMap) *scope[ORMap] {
	s := ormapScope(name, join)
	apply := s.apply
	s.ops = []scopeOp{{"amount", 0}, {"compact", 0}, {"remove all", 0}}
	s.apply = func(m ORMap, e scopeEvent) (after, message ORMap) {
		if e.op != "compact" {
			return apply(m, e)
		}
		m = m.Clone()
		m.Compact(e.dot)
		return m, m
	}
	return s
}
