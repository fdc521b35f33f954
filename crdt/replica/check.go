package replica

import (
	"cmp"
	"fmt"
	"strings"

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
	for i, seen := range d.Seen {
		if seen.Seq == 0 || seen.Actor == d.Dot.Actor || i > 0 && seen.Actor <= d.Seen[i-1].Actor {
			return "what its author has seen is out of order"
		}
	}
	if reason := d.writesFault(); reason != "" {
		return reason
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
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Key, b.Key), a.Path.Compare(b.Path), cmp.Compare(a.Type, b.Type))
}

func (e *Effect) fault(d *Delta) string {
	if len(e.Namespace) > MaxNamespaceBytes || len(e.Key) == 0 || len(e.Key) > MaxKeyBytes {
		return "namespace or key out of bounds"
	}
	if k := kindOf(e.Type); k == nil || !k.owns(e.Change) {
		return fmt.Sprintf("%v without its change", e.Type)
	}
	if e.Namespace == HomeNamespace {
		if reason := homeFault(e); reason != "" {
			return reason
		}
	}
	if !e.Path.IsRoot() {
		if reason := leafFault(e); reason != "" {
			return reason
		}
	}
	return e.Change.fault(d)
}
