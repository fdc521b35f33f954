package replica

import "github.com/atolldb/atoll/internal/spec"

// leafEvent is what one operation did to one leaf.
type leafEvent struct {
	spec.Event
	leaf string
}

// leavesOf returns the values of all leaves that a region which has applied that much sees.
func leavesOf(events []*leafEvent, applied map[uint32]uint64) map[string]string {
	byLeaf := map[string]spec.History{}
	for _, e := range events {
		if e.Seq <= applied[e.Actor] {
			byLeaf[e.leaf] = append(byLeaf[e.leaf], &e.Event)
		}
	}
	values := map[string]string{}
	for leaf, h := range byLeaf {
		if text := h.Text(); text != "" {
			values[leaf] = text
		}
	}
	return values
}
