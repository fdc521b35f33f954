package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// boundedKind keeps a crdt.BoundedCounter whole. It exists once something was added, and for ever then.
type boundedKind = wholeKind[crdt.BoundedCounter, *crdt.BoundedCounter, boundedType]

type boundedType struct{}

func (boundedType) of() crdt.Type { return crdt.TypeBoundedCounter }
func (boundedType) decode(data []byte) (crdt.BoundedCounter, error) {
	return crdt.DecodeBoundedCounter(data)
}
func (boundedType) live(c *crdt.BoundedCounter) bool       { return c.Len() > 0 }
func (boundedType) spent(*crdt.BoundedCounter) hlc.Time    { return 0 }
func (boundedType) collect(*crdt.BoundedCounter, hlc.Time) {}
func (boundedType) essence(c crdt.BoundedCounter) []byte   { return c.Known().Append(nil) }
func (boundedType) show(c *crdt.BoundedCounter, o *Object) {
	o.Counter, o.Bounded = max(0, c.Value()), *c
}

// remove is not called: operation.delete leaves bounded counters alone.
func (boundedType) remove(*operation, *crdt.BoundedCounter) crdt.BoundedCounter {
	return crdt.BoundedCounter{}
}

func checkTransfer(o *Op) error {
	if o.ToActor == 0 {
		return errors.New("nobody to give to")
	}
	return nil
}

// runBounded adds, takes or gives, with the rights of the replica's actor.
func runBounded(o *operation) (Outcome, []Effect, error) {
	var k boundedKind
	s := k.held(o)
	var change crdt.BoundedCounter
	var err error
	switch o.Kind {
	case OpBoundedInc:
		change, err = s.value.Inc(o.dot, o.Delta)
	case OpBoundedDec:
		change, err = s.value.Dec(o.dot, o.Delta)
	default:
		change, err = s.value.Transfer(o.dot, o.Delta, o.ToActor)
	}
	switch {
	case err != nil:
		return Outcome{}, nil, refuse(err)
	case change.Len() == 0: // given to itself
		return k.unchanged(s)
	default:
		return k.changed(o, s, change)
	}
}

// fault enforces that an actor writes its own row only.
func (boundedType) fault(c *crdt.BoundedCounter, d *Delta) string {
	rows := c.Rows()
	if len(rows) != 1 || rows[0].Actor != d.Dot.Actor || rows[0].Seq != d.Dot.Seq {
		return "bounded counter with rows of other events"
	}
	return ""
}

// explain has a part per actor that added, took, gave or was given something.
func (boundedType) explain(c *crdt.BoundedCounter, e *Explained) {
	rows := map[crdt.Actor]crdt.BoundedRow{}
	given, received := map[crdt.Actor]int64{}, map[crdt.Actor]int64{}
	for _, row := range c.Rows() {
		rows[row.Actor] = row
		for _, t := range row.Transfers {
			given[row.Actor] += t.Amount
			received[t.To] += t.Amount
		}
	}
	for _, a := range c.Actors() {
		e.Parts = append(e.Parts, ExplainedPart{
			Value: fmt.Sprintf("may take %d: added %d, took %d, gave %d, was given %d", c.Rights(a), rows[a].Inc, rows[a].Use, given[a], received[a]),
			Dots:  crdt.DotSet{{Actor: a, Seq: rows[a].Seq}}, // 0 if it was only given some
		})
	}
}
