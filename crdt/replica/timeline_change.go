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
)

// TimelineChange is the change of a timeline: a trim if Before is not 0, else a new entry, whose time
// and dot are the delta's.
type TimelineChange struct {
	Before hlc.Time
	Value  []byte
}

func (c *TimelineChange) append(b []byte) []byte {
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
	case c.Before != 0 && len(c.Value) > 0:
		return "trim with an entry"
	case len(c.Value) > crdt.MaxValueBytes:
		return "value too large"
	case c.Before > d.Time.Next():
		return "trim of what is still to come"
	default:
		return ""
	}
}
