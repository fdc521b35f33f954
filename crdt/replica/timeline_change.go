package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

const (
	timelineAdds  = 0
	timelineTrims = 1
	timelineVoids = 2
)

// TimelineChange is the change of a timeline: a trim if Before is not 0, an entry of the author's taken back if
// VoidSeq is not 0, else a new entry, whose time and dot are the delta's.
type TimelineChange struct {
	Before hlc.Time
	// VoidTime and VoidSeq name the event that added what is taken back.
	VoidTime hlc.Time
	VoidSeq  uint64
	Value    []byte
}

func (c *TimelineChange) append(b []byte) []byte {
	if c.VoidSeq != 0 {
		b = binary.BigEndian.AppendUint64(append(b, timelineVoids), uint64(c.VoidTime))
		return binary.AppendUvarint(b, c.VoidSeq)
	}
	if c.Before != 0 {
		return binary.BigEndian.AppendUint64(append(b, timelineTrims), uint64(c.Before))
	}
	return codec.AppendBytes(append(b, timelineAdds), c.Value)
}

func (timelineKind) owns(c Change) bool { _, ok := c.(*TimelineChange); return ok }

func (timelineKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	switch what := r.Byte(); what {
	case timelineAdds:
		return &TimelineChange{Value: r.Bytes(crdt.MaxValueBytes)}
	case timelineTrims:
		c := &TimelineChange{Before: hlc.Time(r.Uint64())}
		if c.Before == 0 {
			r.Fail("trim to instant 0")
		}
		return c
	case timelineVoids:
		c := &TimelineChange{VoidTime: hlc.Time(r.Uint64()), VoidSeq: r.Uvarint(^uint64(0))}
		if c.VoidSeq == 0 {
			r.Fail("void of event 0")
		}
		return c
	default:
		r.Fail("unknown change %#x of a timeline", what)
		return &TimelineChange{}
	}
}

// names returns 0: a trim is about instants, and names no events.
func (*TimelineChange) names(crdt.Actor) uint64 { return 0 }

// fault bounds trims: one far in the future would make all that is added until then vanish.
func (c *TimelineChange) fault(d *Delta) string {
	switch {
	case (c.Before != 0 || c.VoidSeq != 0) && len(c.Value) > 0:
		return "trim with an entry"
	case c.VoidSeq != 0 && (c.Before != 0 || c.VoidSeq >= d.Dot.Seq || c.VoidTime >= d.Time):
		return "void of an event still to come"
	case len(c.Value) > crdt.MaxValueBytes:
		return "value too large"
	case c.Before > d.Time.Next():
		return "trim of what is still to come"
	default:
		return ""
	}
}
