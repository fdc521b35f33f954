package crdt

import (
	"slices"
	"strconv"
	"strings"
)

// scopes are the types that the exhaustive check covers. The value of the empty state is "".
func scopes() []anyScope {
	return []anyScope{
		registerScope("LWWRegister", LWWRegister.Join),
		counterScope("Counter", mergeCounters),
		counterChangesScope("Counter changes", mergeCounters),
		setScope("AWSet", joinAWSets),
		mvRegisterScope("MVRegister", joinMVRegisters),
		ewFlagScope("EWFlag", joinEWFlags),
		withStates("MaxRegister", maxRegisterScope("", joinOf[MaxRegister])),
		maxRegisterScope("MaxRegister changes", joinOf[MaxRegister]),
		withStates("MinRegister", minRegisterScope("", joinOf[MinRegister])),
		minRegisterScope("MinRegister changes", joinOf[MinRegister]),
		withStates("BoundedCounter", boundedScope("", joinOf[BoundedCounter])),
		boundedScope("BoundedCounter changes", joinOf[BoundedCounter]),
		withStates("LWWMap", lwwMapScope("", joinOf[LWWMap])),
		lwwMapScope("LWWMap changes", joinOf[LWWMap]),
		withStates("ZSet", zsetScope("", joinOf[ZSet])),
		zsetScope("ZSet changes", joinOf[ZSet]),
		withStates("Timeline", timelineScope("", joinOf[Timeline])),
		timelineScope("Timeline changes", joinOf[Timeline]),
		withStates("CounterZSet", counterZSetScope("", joinOf[CounterZSet])),
		counterZSetScope("CounterZSet changes", joinOf[CounterZSet]),
		ormapScope("ORMap", joinOf[ORMap]),
		ormapCounterScope("ORMap counters", joinOf[ORMap]),
		withStates("HLL", hllScope("", joinOf[HLL])),
		hllScope("HLL changes", joinOf[HLL]),
	}
}

// joinOf joins two states and leaves them as they are.
func joinOf[S any, P interface {
	*S
	Clone() S
	Join(S)
}](a, b S) S {
	a = P(&a).Clone()
	P(&a).Join(b)
	return a
}

// withStates returns the scope with messages that are whole states.
func withStates[S scopeState[S]](name string, s *scope[S]) *scope[S] {
	apply := s.apply
	s.name, s.changes = name, false
	s.apply = func(state S, e scopeEvent) (after, message S) {
		after, _ = apply(state, e)
		return after, after
	}
	return s
}

// brokenScopes are types with faults in their joins.
func brokenScopes() []anyScope {
	return slices.Concat(brokenDotScopes(), brokenTimedScopes(), brokenCountedScopes())
}

func brokenDotScopes() []anyScope {
	return []anyScope{
		registerScope("LWWRegister, tie by arrival", func(a, b LWWRegister) LWWRegister {
			if b.Time >= a.Time {
				return b
			}
			return a
		}),
		counterScope("Counter without bases", func(a, b Counter) Counter {
			a = a.Clone()
			for _, r := range b.rows {
				a.Join(NewCounter([]Row{{Actor: r.Actor, Entry: r.Entry}}))
			}
			return a
		}),
		counterChangesScope("Counter, sums added", func(a, b Counter) Counter {
			a = a.Clone()
			for _, r := range b.rows {
				if i, ok := a.search(r.Actor); ok && r.Entry.Gen == a.rows[i].Entry.Gen {
					r.Entry.Sum += a.rows[i].Entry.Sum
				}
				a.Join(NewCounter([]Row{r}))
			}
			return a
		}),
		setScope("AWSet, removes forgotten", func(a, b AWSet) AWSet {
			a, b = a.Clone(), b.Clone()
			a.context, b.context = VersionVector{}, VersionVector{}
			a.Join(b)
			return a
		}),
		mvRegisterScope("MVRegister, later time wins", func(a, b MVRegister) MVRegister {
			joined := joinMVRegisters(a, b)
			if last, ok := joined.Latest(); ok {
				joined.siblings = []Sibling{last}
			}
			return joined
		}),
		ewFlagScope("EWFlag, enabled if it is on either side", func(a, b EWFlag) EWFlag {
			joined := joinEWFlags(a, b)
			joined.dots = NewDotSet(slices.Concat(a.dots, b.dots)...)
			return joined
		}),
	}
}

// survives reports whether no operation of the kinds in by had seen e.
func survives(e scopeEvent, seen []scopeEvent, by ...string) bool {
	for _, o := range seen {
		if o.had(e) && slices.Contains(by, o.op) {
			return false
		}
	}
	return true
}

func registerScope(name string, join func(a, b LWWRegister) LWWRegister) *scope[LWWRegister] {
	return &scope[LWWRegister]{
		name: name, decode: DecodeLWWRegister,
		ops: []scopeOp{{"put", 0}, {"put", 2}, {"delete", 0}},
		apply: func(r LWWRegister, e scopeEvent) (after, message LWWRegister) {
			w := LWWRegister{Time: e.at, Actor: e.dot.Actor, Seq: e.dot.Seq, Deleted: e.op == "delete"}
			if !w.Deleted {
				w.Value = strconv.AppendInt(nil, int64(e.id), 10)
			}
			return join(r, w), w
		},
		join:  join,
		value: func(r LWWRegister) string { return string(r.Value) },
		spec: func(seen []scopeEvent) string {
			var last scopeEvent
			for _, e := range seen {
				if e.at > last.at || e.at == last.at && e.dot.Actor > last.dot.Actor {
					last = e
				}
			}
			if last.op != "put" {
				return ""
			}
			return strconv.Itoa(last.id)
		},
	}
}

func mergeCounters(a, b Counter) Counter {
	a = a.Clone()
	a.Join(b)
	return a
}

// counterScope adds powers of two, so that the value tells which additions are in it.
func counterScope(name string, join func(a, b Counter) Counter) *scope[Counter] {
	return withStates(name, counterChangesScope(name, join))
}

func counterChangesScope(name string, join func(a, b Counter) Counter) *scope[Counter] {
	return &scope[Counter]{
		name: name, decode: DecodeCounter, symmetric: true,
		ops: []scopeOp{{"add", 0}, {"set", 0}, {"reset", 0}},
		apply: func(c Counter, e scopeEvent) (after, message Counter) {
			c = c.Clone()
			switch e.op {
			case "add":
				message, _ = c.Add(e.dot, 1<<e.id)
			case "set":
				message = c.Set(e.dot, 1<<e.id)
			default:
				message = c.Reset(e.dot)
			}
			return c, message
		},
		changes: true,
		join:    join,
		value: func(c Counter) string {
			if c.Empty() {
				return ""
			}
			return strconv.FormatInt(c.Value(), 10)
		},
		spec: func(seen []scopeEvent) string {
			sum := 0
			for _, e := range seen {
				reset := func(o scopeEvent) bool { return o.op != "add" && o.had(e) }
				if e.op != "reset" && !slices.ContainsFunc(seen, reset) {
					sum += 1 << e.id
				}
			}
			if sum == 0 {
				return ""
			}
			return strconv.Itoa(sum)
		},
	}
}

func joinAWSets(a, b AWSet) AWSet {
	joined := AWSet{a.elements, a.context.Clone(), a.unknown} // Join makes its own map of elements
	joined.Join(b)
	return joined
}

// joinAWSetsBefore82 is the join of riak_dt before change 82: of an element that is on both sides, all
// dots stay.
func joinAWSetsBefore82(a, b AWSet) AWSet {
	joined := joinAWSets(a, b)
	for element := range a.elements {
		if b.Contains(element) {
			joined.elements[element] = NewDotSet(slices.Concat(a.Dots(element), b.Dots(element))...)
		}
	}
	return joined
}

func setScope(name string, join func(a, b AWSet) AWSet) *scope[AWSet] {
	return &scope[AWSet]{
		name: name, decode: DecodeAWSet, symmetric: true,
		ops: []scopeOp{{"add x", 0}, {"add y", 0}, {"clear", 0}, {"remove x", 0}},
		apply: func(s AWSet, e scopeEvent) (after, message AWSet) {
			s = s.Clone()
			switch e.op {
			case "clear":
				s.Clear()
			case "remove x":
				s.Remove("x")
			default:
				s.Add(e.dot, strings.TrimPrefix(e.op, "add "))
			}
			return s, s
		},
		join:  join,
		value: func(s AWSet) string { return strings.Join(s.Elements(), "") },
		spec: func(seen []scopeEvent) string {
			x, y := "", ""
			for _, e := range seen {
				switch {
				case e.op == "add x" && survives(e, seen, "remove x", "clear"):
					x = "x"
				case e.op == "add y" && survives(e, seen, "clear"):
					y = "y"
				}
			}
			return x + y
		},
	}
}

// mvRegisterScope shows the siblings, which have their events' ids as values, and the latest one.
func mvRegisterScope(name string, join func(a, b MVRegister) MVRegister) *scope[MVRegister] {
	return &scope[MVRegister]{
		name: name, decode: DecodeMVRegister,
		ops: []scopeOp{{"put", 0}, {"put", 2}, {"delete", 0}},
		apply: func(r MVRegister, e scopeEvent) (after, message MVRegister) {
			r = r.Clone()
			if e.op == "put" {
				r.Put(e.dot, e.at, strconv.AppendInt(nil, int64(e.id), 10))
			} else {
				r.Delete()
			}
			return r, r
		},
		join: join,
		value: func(r MVRegister) string {
			ids := make([]byte, 0, 8)
			for _, s := range r.siblings {
				ids = append(ids, s.Value...)
			}
			slices.Sort(ids)
			latest, _ := r.Latest()
			return string(append(ids, latest.Value...))
		},
		spec: func(seen []scopeEvent) string {
			ids := make([]byte, 0, 8)
			var latest scopeEvent
			for _, e := range seen {
				if e.op == "delete" || !survives(e, seen, "put", "delete") {
					continue
				}
				ids = strconv.AppendInt(ids, int64(e.id), 10)
				if e.at > latest.at || e.at == latest.at && e.dot.Actor > latest.dot.Actor {
					latest = e
				}
			}
			if len(ids) == 0 {
				return ""
			}
			return string(strconv.AppendInt(ids, int64(latest.id), 10))
		},
	}
}

func ewFlagScope(name string, join func(a, b EWFlag) EWFlag) *scope[EWFlag] {
	return &scope[EWFlag]{
		name: name, decode: DecodeEWFlag, symmetric: true,
		ops: []scopeOp{{"enable", 0}, {"disable", 0}},
		apply: func(f EWFlag, e scopeEvent) (after, message EWFlag) {
			f = f.Clone()
			if e.op == "enable" {
				f.Enable(e.dot)
			} else {
				f.Disable()
			}
			return f, f
		},
		join: join,
		value: func(f EWFlag) string {
			if f.Enabled() {
				return "on"
			}
			return ""
		},
		spec: func(seen []scopeEvent) string {
			for _, e := range seen {
				if e.op == "enable" && survives(e, seen, "disable") {
					return "on"
				}
			}
			return ""
		},
	}
}
