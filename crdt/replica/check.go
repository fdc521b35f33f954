package replica

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// maxTime bounds the instants of deltas, in the year 6429: there is always a later instant left to
// give to the next event.
var maxTime = hlc.At(1<<47, 0)

// fault returns what about a delta no honest replica makes, or "".
func (d *Delta) fault() string {
	switch {
	case d.Dot.Seq == 0:
		return "sequence number 0"
	case d.Time == 0 || d.Time > maxTime:
		return "time out of range"
	}
	for i := range d.Effects {
		e := &d.Effects[i]
		if i > 0 && compareEffects(&d.Effects[i-1], e) >= 0 {
			return "effects out of order"
		}
		if reason := e.fault(d); reason != "" {
			return reason
		}
	}
	return ""
}

func compareEffects(a, b *Effect) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Key, b.Key), cmp.Compare(a.Type, b.Type))
}

func (e *Effect) fault(d *Delta) string {
	if len(e.Namespace) > MaxNamespaceBytes || len(e.Key) == 0 || len(e.Key) > MaxKeyBytes {
		return "namespace or key out of bounds"
	}
	switch {
	case e.Type == crdt.TypeLWWRegister && e.Register != nil:
		return registerFault(e.Register, d)
	case e.Type == crdt.TypeCounter && e.Counter != nil:
		return counterFault(e.Counter.Rows(), d)
	case e.Type == crdt.TypeAWSet && e.Set != nil:
		return e.Set.fault(d)
	default:
		return fmt.Sprintf("%v without its effect", e.Type)
	}
}

func registerFault(r *crdt.LWWRegister, d *Delta) string {
	switch {
	case r.Dot() != d.Dot || r.Time != d.Time:
		return "register of another event"
	case len(r.Value) > crdt.MaxValueBytes:
		return "value too large"
	case r.Deleted && (len(r.Value) > 0 || r.Expires != 0):
		return "deleted register with a value"
	default:
		return ""
	}
}

// counterFault enforces that an actor writes its own entry only, and that every row stems from the
// delta's event.
func counterFault(rows []crdt.Row, d *Delta) string {
	if len(rows) == 0 {
		return "counter without rows"
	}
	for i, r := range rows {
		entry, base := r.Entry, r.Base
		switch {
		case i > 0 && rows[i-1].Actor >= r.Actor:
			return "rows out of order"
		case entry == (crdt.Entry{}) && base == (crdt.Base{}):
			return "empty row"
		case entry != (crdt.Entry{}) && (r.Actor != d.Dot.Actor || entry.Seq != d.Dot.Seq):
			return "entry of another event"
		case entry.Gen > entry.Seq || base.Gen > base.Seq:
			return "generation after its entry"
		case base != (crdt.Base{}) && (base.Reset != d.Dot || base.Gen == 0):
			return "reset of another event"
		case r.Actor == d.Dot.Actor && base.Seq >= d.Dot.Seq:
			return "reset of an event still to come"
		case entry != (crdt.Entry{}) && (entry.Gen == 0 || base != (crdt.Base{})):
			return "entry with a base"
		}
	}
	return ""
}

func (s *SetEffect) fault(d *Delta) string {
	switch {
	case s.Cleared == nil && len(s.Elements) == 0:
		return "set effect without effect"
	case s.Cleared != nil && s.Cleared.Covers(d.Dot):
		return "clear of an event still to come"
	case len(s.Elements) > MaxOperationElements:
		return "too many elements"
	}
	for i := range s.Elements {
		e := &s.Elements[i]
		switch {
		case len(e.Element) == 0 || len(e.Element) > crdt.MaxElementBytes:
			return "element out of bounds"
		case i > 0 && bytes.Compare(s.Elements[i-1].Element, e.Element) >= 0:
			return "elements out of order"
		case !e.Added && len(e.Removed) == 0:
			return "element without effect"
		}
		for j, dot := range e.Removed {
			switch {
			case dot.Seq == 0 || dot.Actor == d.Dot.Actor && dot.Seq >= d.Dot.Seq:
				return "remove of an event still to come"
			case j > 0 && e.Removed[j-1].Compare(dot) >= 0:
				return "removed dots out of order"
			}
		}
	}
	return ""
}
