package replica

import (
	"math"
	"strconv"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// maxKind and minKind keep a crdt.MaxRegister and a crdt.MinRegister whole, and in table Y from when on
// their delete, or a write that is not the value, is of no use any more.
type (
	maxKind = wholeKind[crdt.MaxRegister, *crdt.MaxRegister, maxType]
	minKind = wholeKind[crdt.MinRegister, *crdt.MinRegister, minType]
)

type (
	maxType struct {
		extremeType[crdt.MaxRegister, *crdt.MaxRegister]
	}
	minType struct {
		extremeType[crdt.MinRegister, *crdt.MinRegister]
	}
)

func (maxType) of() crdt.Type                                { return crdt.TypeMaxRegister }
func (minType) of() crdt.Type                                { return crdt.TypeMinRegister }
func (maxType) decode(data []byte) (crdt.MaxRegister, error) { return crdt.DecodeMaxRegister(data) }
func (minType) decode(data []byte) (crdt.MinRegister, error) { return crdt.DecodeMinRegister(data) }
func (maxType) essence(r crdt.MaxRegister) []byte            { return collected(r.Known().Clone()) }
func (minType) essence(r crdt.MinRegister) []byte            { return collected(r.Known().Clone()) }

// extremeType is what maxima and minima have in common.
type extremeType[V any, P extremum[V]] struct{}

type extremum[V any] interface {
	joinable[V]
	Value() (int64, bool)
	Writes() []crdt.ExtremeWrite
	DeletedAt() (hlc.Time, crdt.Actor)
	Delete(at hlc.Time, actor crdt.Actor) V
	Collect(cut hlc.Time)
}

func runMax(o *operation) (Outcome, []Effect, error) {
	var k maxKind
	s := k.held(o)
	if change, ok := s.value.Raise(o.at, o.dot.Actor, o.Delta); ok {
		return k.changed(o, s, change)
	}
	return k.unchanged(s)
}

func runMin(o *operation) (Outcome, []Effect, error) {
	var k minKind
	s := k.held(o)
	if change, ok := s.value.Lower(o.at, o.dot.Actor, o.Delta); ok {
		return k.changed(o, s, change)
	}
	return k.unchanged(s)
}

func (extremeType[V, P]) live(v *V) bool              { _, ok := P(v).Value(); return ok }
func (extremeType[V, P]) show(v *V, o *Object)        { o.Counter, _ = P(v).Value() }
func (extremeType[V, P]) remove(o *operation, v *V) V { return P(v).Delete(o.at, o.dot.Actor) }
func (extremeType[V, P]) collect(v *V, cut hlc.Time)  { P(v).Collect(cut) }

// spent returns the instant of the delete, or of the first write that is not the value.
func (extremeType[V, P]) spent(v *V) hlc.Time {
	at, _ := P(v).DeletedAt()
	if writes := P(v).Writes(); len(writes) > 1 && (at == 0 || writes[1].Time < at) {
		at = writes[1].Time
	}
	return at
}

// collected encodes a register without what its replica may have collected: the value's write is left.
func collected[V any, P extremum[V]](v V) []byte {
	P(&v).Collect(math.MaxUint64)
	return P(&v).Append(nil)
}

// fault enforces that a change is one write after the delete that its author knows of, or a delete.
func (extremeType[V, P]) fault(v *V, d *Delta) string {
	writes := P(v).Writes()
	deleted, by := P(v).DeletedAt()
	switch {
	case deleted == 0 && by != 0:
		return "delete at no time"
	case len(writes) == 0 && (deleted != d.Time || by != d.Dot.Actor):
		return "delete of another event"
	case len(writes) == 0:
		return ""
	case len(writes) > 1 || writes[0].Time != d.Time || writes[0].Actor != d.Dot.Actor:
		return "write of another event"
	case deleted >= d.Time:
		return "write that its author knew to be deleted"
	default:
		return ""
	}
}

// explain has a part per write that is kept, and one for the delete. Events are known by actor and time.
func (extremeType[V, P]) explain(v *V, e *Explained) {
	for i, w := range P(v).Writes() {
		e.Parts = append(e.Parts, ExplainedPart{
			Value: strconv.FormatInt(w.Value, 10), Dots: crdt.DotSet{{Actor: w.Actor}}, Time: w.Time, Hidden: i > 0,
		})
	}
	if at, by := P(v).DeletedAt(); at != 0 {
		e.Parts = append(e.Parts, ExplainedPart{Value: "deleted", Dots: crdt.DotSet{{Actor: by}}, Time: at, Hidden: true})
	}
}
