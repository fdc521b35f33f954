package crdt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// TimelineEntry is one entry of a Timeline: the event (Actor, Seq) that added it, when, and what.
type TimelineEntry struct {
	Time  hlc.Time
	Actor Actor
	Seq   uint64
	Value []byte
}

// Compare orders entries by (Time, Actor, Seq), which names an entry.
func (e TimelineEntry) Compare(o TimelineEntry) int {
	return cmp.Or(cmp.Compare(e.Time, o.Time), cmp.Compare(e.Actor, o.Actor), cmp.Compare(e.Seq, o.Seq))
}

// Timeline is a log of entries in order of (time, actor, sequence number), to which events only add,
// one entry each. It has no remove of one entry.
//
// Deletes: Trim sets a mark, the largest ever given; entries before it are gone for good, those not
// yet arrived too. So a trim wins over every add of an earlier time, concurrent or not, and loses to
// every other. Trim(at.Next()) deletes all up to the instant at. A bound on the number of entries is
// kept by trims alone: each replica dropping the oldest by itself would not converge.
//
// Concurrent events do not conflict, and there is no tie to break: adds are all kept, and of two trims
// the later mark holds.
//
// Garbage collection: the mark can go once no event before it can arrive; see Collect.
//
// Laws: Join is commutative, associative and idempotent; the zero Timeline is neutral. Size: per
// entry its value and about 15 bytes, until a trim; 8 bytes for the mark.
//
// A copy by assignment shares memory with the original: Clone before changing either. Values are
// shared in any case, and never changed.
//
// Ref: Bourgon, "Roshi: a CRDT system for timestamped events", SoundCloud, 2014, for the use; Roshi
// caps each replica by itself.
type Timeline struct {
	// entries ascend, and none is before trimmed.
	entries []TimelineEntry
	trimmed hlc.Time
	unknown Fields
}

// Add adds an entry as event d at an instant, and returns the change as a timeline to join elsewhere.
// It has no effect if the instant is before the mark of the last trim. The timeline keeps value, which
// the caller must not change any more.
func (t *Timeline) Add(at hlc.Time, d Dot, value []byte) Timeline {
	delta := Timeline{entries: []TimelineEntry{{Time: at, Actor: d.Actor, Seq: d.Seq, Value: value}}}
	t.Join(delta)
	return delta
}

// Trim drops every entry before an instant, for good, and returns the change as a timeline to join
// elsewhere. It has no effect if there was a trim to a later instant. An instant in the future makes
// adds until then vanish.
func (t *Timeline) Trim(before hlc.Time) Timeline {
	delta := Timeline{trimmed: before}
	t.Join(delta)
	return delta
}

// Join merges o, which may be a whole timeline or a change.
func (t *Timeline) Join(o Timeline) {
	n := len(t.entries)
	t.entries = append(t.entries, o.entries...)
	// Mostly what comes is later than all that is there, and needs no sorting.
	if n > 0 && n < len(t.entries) && t.entries[n-1].Compare(t.entries[n]) >= 0 {
		slices.SortFunc(t.entries, TimelineEntry.Compare)
		t.entries = slices.CompactFunc(t.entries, func(a, b TimelineEntry) bool { return a.Compare(b) == 0 })
	}
	t.trimmed = max(t.trimmed, o.trimmed)
	t.entries = slices.Delete(t.entries, 0, t.index(t.trimmed))
	t.unknown = t.unknown.Join(o.unknown)
}

// Collect drops the mark of the last trim if it is not later than cut. What the timeline shows, and
// what it will show, stays the same, given that every event up to cut is in it. Join with the state of
// a replica that has not seen the trim would bring entries back: whoever keeps states has to know by
// their dots which events of another state are old.
func (t *Timeline) Collect(cut hlc.Time) {
	if t.trimmed <= cut {
		t.trimmed = 0
	}
}

// OldestFirst returns the entries from an instant on and before another, in ascending order. The
// caller must not change their values, nor the timeline meanwhile.
func (t Timeline) OldestFirst(from, before hlc.Time) iter.Seq[TimelineEntry] {
	return slices.Values(t.span(from, before))
}

// NewestFirst returns the entries from an instant on and before another, in descending order. The
// caller must not change their values, nor the timeline meanwhile.
func (t Timeline) NewestFirst(from, before hlc.Time) iter.Seq[TimelineEntry] {
	return func(yield func(TimelineEntry) bool) {
		for _, e := range slices.Backward(t.span(from, before)) {
			if !yield(e) {
				return
			}
		}
	}
}

// Len returns the number of entries.
func (t Timeline) Len() int { return len(t.entries) }

// Trimmed returns the mark of the last trim: there is no entry before it. It is 0 if there was no
// trim, or if Collect dropped it.
func (t Timeline) Trimmed() hlc.Time { return t.trimmed }

// Equal reports whether two timelines have the same entries and mark.
func (t Timeline) Equal(o Timeline) bool {
	return t.trimmed == o.trimmed && t.unknown == o.unknown && slices.EqualFunc(t.entries, o.entries, func(a, b TimelineEntry) bool {
		return a.Compare(b) == 0 && bytes.Equal(a.Value, b.Value)
	})
}

// Clone returns a copy that shares no memory that is ever changed.
func (t Timeline) Clone() Timeline { return Timeline{slices.Clone(t.entries), t.trimmed, t.unknown} }

func (t Timeline) span(from, before hlc.Time) []TimelineEntry {
	i := t.index(from)
	return t.entries[i:max(i, t.index(before))]
}

// index returns how many entries are before an instant.
func (t Timeline) index(at hlc.Time) int {
	i, _ := slices.BinarySearchFunc(t.entries, at, func(e TimelineEntry, at hlc.Time) int { return cmp.Compare(e.Time, at) })
	return i
}

// Append appends the timeline's encoding:
//
//	version 1 | mark of the last trim 8
//	then, to the end: time 8 | actor varint | seq varint | value (length varint, bytes)
//
// Entries ascend by (time, actor, seq), and none is before the mark.
func (t Timeline) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendVersion(b, t.unknown), uint64(t.trimmed))
	for _, e := range t.entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
		b = codec.AppendBytes(appendDot(b, Dot{e.Actor, e.Seq}), e.Value)
	}
	return b
}

// DecodeTimeline reads what Append wrote. The values share data's memory.
func DecodeTimeline(data []byte) (Timeline, error) {
	r, unknown := newReader("timeline", data)
	t := Timeline{trimmed: hlc.Time(r.Uint64()), unknown: unknown}
	for r.Len() > 0 {
		e := TimelineEntry{Time: hlc.Time(r.Uint64())}
		dot := readDot(r)
		e.Actor, e.Seq, e.Value = dot.Actor, dot.Seq, r.Bytes(MaxValueBytes)
		if n := len(t.entries); n > 0 && t.entries[n-1].Compare(e) >= 0 {
			r.Fail("entries out of order")
		}
		if e.Time < t.trimmed {
			r.Fail("entry before the mark")
		}
		t.entries = append(t.entries, e)
	}
	if err := r.Done(); err != nil {
		return Timeline{}, err
	}
	return t, nil
}
