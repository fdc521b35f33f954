package world

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/invariant"
	"github.com/atolldb/atoll/internal/spec"
	"github.com/atolldb/atoll/region"
)

// write has a client write to a region.
func (w *World) write(h *Happening) {
	s := w.sites[h.Site]
	g := s.groups[h.Partition]
	rng := rand.New(rand.NewPCG(h.Draw, 1))
	ops := make([]operation, 1+max(0, rng.IntN(6)-3))
	draw := w.plan.operation
	if draw == nil {
		draw = (*World).operation
	}
	for i := range ops {
		ops[i] = draw(w, rng)
	}
	opID := ""
	if rng.IntN(4) == 0 {
		opID = fmt.Sprintf("%x", h.Draw)
	}
	w.attempt(g, opID, ops, 4)
	// Some clients do the same at the same time, and some do not wait for the answer before they try again.
	if rng.IntN(4) > 0 {
		return
	}
	for i := range 1 + rng.IntN(3) {
		if opID != "" && rng.IntN(2) == 0 {
			opID = fmt.Sprintf("%x-%d", h.Draw, i)
		}
		w.attempt(g, opID, slices.Clone(ops), 4)
	}
}

// attempt writes, and again with the same id while the outcome is unknown.
func (w *World) attempt(g *group, opID string, ops []operation, tries int) {
	if g.leader == nil || g.site.restored {
		w.counts.Unavailable++
		return
	}
	plain := make([]replica.Op, len(ops))
	for i := range ops {
		plain[i] = ops[i].Op
	}
	command, err := g.leader.steps.Write(opID, plain)
	if errors.Is(err, region.ErrFenced) {
		w.counts.Unavailable++
		return
	}
	if err != nil {
		w.fail("a leader takes writes", "%v: %v", g.site, err)
		return
	}
	g.site.checkTakesWrites()
	if w.tell != nil {
		w.mention("%v: %s%s", g.site, describe(ops), opID)
	}
	g.propose(&request{command: command, ops: ops, opID: opID, done: func(v verdict, r region.StepResult) {
		switch {
		case v == done && r.Err != nil:
			w.counts.Conditions++
		case v != done && opID != "" && tries > 0:
			w.after(w.between1to5ms()*10, func() { w.attempt(g, opID, ops, tries-1) })
		case v == notDone && tries > 0:
			w.after(w.between1to5ms()*10, func() { w.attempt(g, opID, ops, tries-1) })
		}
	}})
}

func describe(ops []operation) string {
	text := ""
	for i := range ops {
		o := &ops[i]
		name := strings.Join(append([]string{o.Key}, o.Path.Names()...), "/")
		text += fmt.Sprintf("%s %s%s; ", verbs[o.Kind], name, o.detail())
	}
	return text
}

func (o *operation) detail() string {
	switch {
	case len(o.Elements) > 0 && len(o.Values) > 0:
		return fmt.Sprintf(" %q %q", o.Elements, o.Values)
	case len(o.Elements) > 0:
		return fmt.Sprintf(" %q %v", o.Elements, o.Score)
	case len(o.Value) > 0:
		return fmt.Sprintf(" %q", o.Value)
	case o.Delta != 0:
		return fmt.Sprintf(" %d", o.Delta)
	default:
		return ""
	}
}

var verbs = map[replica.OpKind]string{
	replica.OpPut: "puts", replica.OpDelete: "deletes", replica.OpExpire: "expires", replica.OpPersist: "persists",
	replica.OpCounterAdd: "adds to", replica.OpCounterSet: "sets", replica.OpCounterReset: "resets",
	replica.OpSetAdd: "adds to", replica.OpSetRemove: "removes from", replica.OpSetClear: "clears",
	replica.OpFlagEnable: "enables", replica.OpFlagDisable: "disables", replica.OpMVPut: "puts",
	replica.OpBoundedInc: "raises", replica.OpBoundedDec: "lowers", replica.OpBoundedTransfer: "gives rights of",
	replica.OpMax: "raises", replica.OpMin: "lowers", replica.OpHLLAdd: "counts in",
	replica.OpTimelineAdd: "appends to", replica.OpTimelineTrim: "trims", replica.OpMapPut: "puts in",
	replica.OpMapRemove: "removes from", replica.OpZSetAdd: "scores in", replica.OpZSetIncr: "scores more in",
	replica.OpZSetRemove: "removes from", replica.OpORMapRemove: "removes from",
}

const coldKeys = 12

// operation draws an operation of a client.
func (w *World) operation(rng *rand.Rand) operation {
	p := w.plan
	t := p.Types[rng.IntN(len(p.Types))]
	key := fmt.Sprintf("%v-", t)
	if rng.IntN(10) >= p.HotKeys {
		key += fmt.Sprint(rng.IntN(coldKeys))
	}
	if t != crdt.TypeBoundedCounter && rng.IntN(8) == 0 {
		key = "any" // which holds all types
	}
	o := operation{Op: replica.Op{Namespace: namespace, Key: key}}
	leaf := t
	if t == crdt.TypeORMap {
		o.Path = paths[rng.IntN(len(paths))]
		leaf = leafTypes[rng.IntN(len(leafTypes))]
		if key == "any" {
			o.Key = "map"
		}
	}
	if p.Expiry && t != crdt.TypeBoundedCounter && rng.IntN(3) == 0 {
		o.Key = expiring + o.Key
	}
	o.id, o.event = valueID{o.Key, o.Path.Encoded(), leaf}, spec.Event{Of: leaf}
	w.drawEffect(rng, &o, t, leaf)
	if rng.IntN(12) == 0 {
		o.Condition.Kind = replica.CondAbsent + replica.ConditionKind(rng.IntN(2))
	}
	return o
}

// drawEffect draws what an operation does.
func (w *World) drawEffect(rng *rand.Rand, o *operation, t, leaf crdt.Type) {
	if drawRemoval(rng, o, t, leaf) {
		return
	}
	if expires(o.Key) && t != crdt.TypeORMap && rng.IntN(4) == 0 {
		o.Kind, o.Type = replica.OpExpire, leaf
		o.Expires = w.soon(rng)
		if rng.IntN(3) == 0 {
			o.Kind = replica.OpPersist
		}
		return
	}
	switch leaf {
	case crdt.TypeAWSet, crdt.TypeLWWMap, crdt.TypeZSet, crdt.TypeCounterZSet, crdt.TypeHLL:
		collectionEffect(rng, o)
	default:
		w.plainEffect(rng, o)
	}
	if expires(o.Key) && o.Path.IsRoot() && rng.IntN(3) == 0 {
		o.Expires = w.soon(rng)
	}
}

// drawRemoval makes some operations deletes: what of is known when they are done.
func drawRemoval(rng *rand.Rand, o *operation, t, leaf crdt.Type) bool {
	if t != crdt.TypeBoundedCounter && rng.IntN(12) == 0 {
		o.Kind, o.Type = replica.OpDelete, leaf
		if o.Path.IsRoot() && rng.IntN(2) == 0 {
			o.Type = 0
		}
		o.id, o.event = valueID{}, spec.Event{}
		return true
	}
	if t == crdt.TypeORMap && rng.IntN(10) == 0 {
		o.Kind = replica.OpORMapRemove
		if rng.IntN(3) == 0 {
			o.Path = crdt.Path{}
		}
		o.id, o.event = valueID{}, spec.Event{}
		return true
	}
	return false
}

func (w *World) soon(rng *rand.Rand) hlc.Time {
	at := w.time().Add(time.Duration(rng.Int64N(int64(8 * time.Second))))
	return hlc.At(at.UnixMilli(), 0)
}

// plainEffect draws an operation of a type without names.
func (w *World) plainEffect(rng *rand.Rand, o *operation) {
	e, n := &o.event, 1+rng.Int64N(9)
	o.Delta, o.Value = n, fmt.Appendf(nil, "v%d", rng.IntN(1000))
	again := rng.IntN(4) == 0
	switch e.Of {
	case crdt.TypeLWWRegister:
		o.Kind = replica.OpPut
	case crdt.TypeCounter:
		o.Kind = replica.OpCounterAdd
		if again {
			o.Kind, e.Replaces = replica.OpCounterSet, true
		}
		o.Delta -= 12 // never 0
	case crdt.TypeMVRegister:
		o.Kind, e.Replaces = replica.OpMVPut, true
	case crdt.TypeEWFlag:
		o.Kind, e.Replaces = replica.OpFlagEnable, true
	case crdt.TypeMaxRegister, crdt.TypeMinRegister:
		o.Kind = replica.OpMax
		if e.Of == crdt.TypeMinRegister {
			o.Kind = replica.OpMin
		}
		o.Delta = rng.Int64N(1000)
	case crdt.TypeBoundedCounter:
		w.boundedEffect(rng, o)
		return
	default:
		o.Kind = replica.OpTimelineAdd
		if again {
			trim := hlc.At(w.time().Add(-time.Duration(rng.Int64N(int64(4*time.Second)))).UnixMilli(), 0)
			o.Kind, o.At, o.Value = replica.OpTimelineTrim, trim, nil
			*e = spec.Event{Of: e.Of, Before: uint64(trim)}
			return
		}
	}
	e.Names, e.Values, e.N = []string{""}, []string{string(o.Value)}, o.Delta
}

func (w *World) boundedEffect(rng *rand.Rand, o *operation) {
	o.Kind = [...]replica.OpKind{replica.OpBoundedInc, replica.OpBoundedInc, replica.OpBoundedDec, replica.OpBoundedTransfer}[rng.IntN(4)]
	n := o.Delta
	switch o.Kind {
	case replica.OpBoundedDec:
		n = -n
	case replica.OpBoundedTransfer:
		n, o.ToActor = 0, w.sites[rng.IntN(len(w.sites))].actor
	}
	o.event.Names, o.event.Values, o.event.N = []string{""}, []string{""}, n
}

// collectionEffect draws an operation of a type with names.
func collectionEffect(rng *rand.Rand, o *operation) {
	e, name := &o.event, string(rune('p'+rng.IntN(4)))
	value := fmt.Sprint("v", rng.IntN(1000))
	o.Elements, o.Type = [][]byte{[]byte(name)}, e.Of
	removes := rng.IntN(3) == 0
	e.N = rng.Int64N(9) - 4
	o.Score = float64(e.N)
	switch e.Of {
	case crdt.TypeAWSet:
		o.Kind, e.Replaces = replica.OpSetAdd, true
		if removes {
			o.Kind = replica.OpSetRemove
		}
	case crdt.TypeLWWMap:
		o.Kind, o.Values = replica.OpMapPut, [][]byte{[]byte(value)}
		if removes {
			o.Kind, o.Values = replica.OpMapRemove, nil
		}
	case crdt.TypeHLL:
		o.Kind, removes = replica.OpHLLAdd, false
	default:
		o.Kind, e.Replaces = replica.OpZSetAdd, true
		if rng.IntN(2) == 0 {
			o.Kind, e.Replaces = replica.OpZSetIncr, false
		}
		if removes {
			o.Kind = replica.OpZSetRemove
		}
	}
	if removes {
		e.Resets = []string{name}
	} else {
		e.Names, e.Values = []string{name}, []string{value}
	}
}

var paths = []crdt.Path{path("a"), path("a", "b"), path("a", "c", "d"), path("b")}

var leafTypes = []crdt.Type{
	crdt.TypeLWWRegister, crdt.TypeCounter, crdt.TypeAWSet, crdt.TypeMVRegister, crdt.TypeEWFlag, crdt.TypeMaxRegister,
	crdt.TypeMinRegister, crdt.TypeLWWMap, crdt.TypeZSet, crdt.TypeCounterZSet, crdt.TypeHLL, crdt.TypeTimeline,
}

func path(names ...string) crdt.Path {
	p, err := crdt.NewPath(names...)
	invariant.Check(err == nil, "path %q: %v", names, err)
	return p
}
