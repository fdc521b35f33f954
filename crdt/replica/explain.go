package replica

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// explainElements is how many elements or parts Explain lists.
const explainElements = 100

// Explained is one typed object under a key: what its value is made of.
type Explained struct {
	Type crdt.Type
	// Version names the last event that shaped the object, also if it is absent by now.
	Version string
	// Register is the winner, which may be a tombstone or expired.
	Register *crdt.LWWRegister
	// Counter has all rows, wholly reset ones too.
	Counter *crdt.Counter
	// Size is a set's number of elements, Elements the first hundred of them.
	Size     uint64
	Elements []ExplainedElement
	// Parts are what any other value is made of, the first hundred of Size.
	Parts []ExplainedPart
	// Deadline says when the value expires; nil if nothing is known of that. A register has it in itself.
	Deadline *ExplainedDeadline
}

// ExplainedDeadline is a deadline, and the event that wrote it. Expires is 0 if the value stays, or if the
// deadline was ended: the trace goes behind the cut.
type ExplainedDeadline struct {
	Expires hlc.Time
	Dot     crdt.Dot
	Time    hlc.Time
}

// ExplainedPart is one part of a value: a sibling, a field, a member, an entry, or a region's share.
type ExplainedPart struct {
	Name []byte
	// Value says for people what the part contributes.
	Value string
	// Dots are the events that keep it there, and Time when it was written, 0 where that is not kept.
	Dots crdt.DotSet
	Time hlc.Time
	// Hidden means that readers do not see it: a tombstone, or dominated by another part.
	Hidden bool
}

// ExplainedElement is an element of a set with the adds that keep it there.
type ExplainedElement struct {
	Element []byte
	Dots    crdt.DotSet
}

// Explain returns every typed object stored under a key in the order that Lookup prefers them, also
// those that are absent to readers but leave a trace: tombstones, expired values and reset counters.
func (r *Replica) Explain(namespace, key string) ([]Explained, error) {
	h, err := readHoldings(r.kv, r.prefix(namespace, key), true)
	if err != nil {
		return nil, fmt.Errorf("explain a key: %w", err)
	}
	var objects []Explained
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		s, d := h.get(t), h.deadline(t)
		if s == nil && d == nil {
			continue
		}
		e := Explained{Type: t}
		if s != nil {
			e.Version = s.version()
			if err := kinds[t].explain(r.kv, s, &e); err != nil {
				return nil, fmt.Errorf("explain a %v: %w", t, err)
			}
		}
		if d != nil {
			e.Deadline = &ExplainedDeadline{Expires: d.expires, Dot: d.dot, Time: d.at}
		}
		if t == crdt.TypeORMap {
			if err := r.explainLeaves(namespace, key, &e); err != nil {
				return nil, fmt.Errorf("explain leaves: %w", err)
			}
		}
		objects = append(objects, e)
	}
	return objects, nil
}
