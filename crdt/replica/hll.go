package replica

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// hllKind keeps a crdt.HLL whole, and in table Y from when on its delete, or a second layer, is of no use
// any more.
type hllKind = wholeKind[crdt.HLL, *crdt.HLL, hllType]

type hllType struct{}

func runHLLAdd(o *operation) (Outcome, []Effect, error) {
	var k hllKind
	s := k.held(o)
	elements := make([]string, len(o.Elements))
	for i, e := range o.Elements {
		elements[i] = string(e)
	}
	change := s.value.Add(o.at, elements...)
	if change.Empty() {
		return k.unchanged(s)
	}
	outcome, effects, err := k.changed(o, s, change)
	outcome.Changed = 1
	return outcome, effects, err
}

func (hllType) of() crdt.Type                             { return crdt.TypeHLL }
func (hllType) decode(data []byte) (crdt.HLL, error)      { return crdt.DecodeHLL(data) }
func (hllType) live(h *crdt.HLL) bool                     { return !h.Empty() }
func (hllType) show(h *crdt.HLL, o *Object)               { o.Size = h.Count() }
func (hllType) remove(o *operation, h *crdt.HLL) crdt.HLL { return h.Delete(o.at) }
func (hllType) collect(h *crdt.HLL, cut hlc.Time)         { h.Collect(cut) }

// essence is the registers: how they came about is each replica's own affair.
func (hllType) essence(h crdt.HLL) []byte { return h.Maximum().Append(nil) }

// spent returns the instant of the delete, or of the second layer, with which the first can be made one.
func (hllType) spent(h *crdt.HLL) hlc.Time {
	at := h.Deleted()
	if layers := h.Instants(); len(layers) > 1 && (at == 0 || layers[1] < at) {
		at = layers[1]
	}
	return at
}

// fault enforces that a change is registers raised by its event, or a delete.
func (hllType) fault(h *crdt.HLL, d *Delta) string {
	layers := h.Instants()
	switch {
	case len(layers) == 0 && h.Deleted() != d.Time:
		return "delete of another event"
	case len(layers) > 0 && h.Deleted() != 0:
		return "delete beside registers"
	case len(layers) > 1 || len(layers) == 1 && layers[0] != d.Time:
		return "registers of another event"
	default:
		return ""
	}
}

func (hllType) explain(h *crdt.HLL, e *Explained) {
	for _, at := range h.Instants() {
		e.Parts = append(e.Parts, ExplainedPart{Value: fmt.Sprintf("registers raised up to %v", at.Wall().UTC()), Time: at})
	}
	if at := h.Deleted(); at != 0 {
		e.Parts = append(e.Parts, ExplainedPart{Value: "deleted", Time: at, Hidden: true})
	}
}
