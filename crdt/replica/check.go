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
		hasEntry, hasBase := r.Entry != (crdt.Entry{}), r.Base != (crdt.Base{})
		reason := ""
		switch {
		case i > 0 && rows[i-1].Actor >= r.Actor:
			reason = "rows out of order"
		case hasEntry == hasBase:
			reason = "row without one of entry and base"
		case hasEntry:
			reason = entryFault(r, d)
		default:
			reason = baseFault(r, d)
		}
		if reason != "" {
			return reason
		}
	}
	return ""
}

func entryFault(r crdt.Row, d *Delta) string {
	switch {
	case r.Actor != d.Dot.Actor || r.Entry.Seq != d.Dot.Seq:
		return "entry of another event"
	case r.Entry.Gen == 0 || r.Entry.Gen > r.Entry.Seq:
		return "entry's generation out of range"
	default:
		return ""
	}
}

func baseFault(r crdt.Row, d *Delta) string {
	switch {
	case r.Base.Reset != d.Dot:
		return "reset of another event"
	case r.Base.Gen == 0 || r.Base.Gen > r.Base.Seq:
		return "reset generation out of range"
	case r.Actor == d.Dot.Actor && r.Base.Seq >= d.Dot.Seq:
		return "reset of an event still to come"
	default:
		return ""
	}
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
		if i > 0 && bytes.Compare(s.Elements[i-1].Element, s.Elements[i].Element) >= 0 {
			return "elements out of order"
		}
		if reason := s.Elements[i].fault(d); reason != "" {
			return reason
		}
	}
	return ""
}

func (e *ElementEffect) fault(d *Delta) string {
	switch {
	case len(e.Element) == 0 || len(e.Element) > crdt.MaxElementBytes:
		return "element out of bounds"
	case !e.Added && len(e.Removed) == 0:
		return "element without effect"
	}
	for i, dot := range e.Removed {
		switch {
		case dot.Seq == 0 || dot.Actor == d.Dot.Actor && dot.Seq >= d.Dot.Seq:
			return "remove of an event still to come"
		case i > 0 && e.Removed[i-1].Compare(dot) >= 0:
			return "removed dots out of order"
		}
	}
	return ""
}
