package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// TimelineIDBytes is the length of an entry's id, which is its place in table E: time 8 | actor 4 |
// seq 8. Ids sort like the entries.
const TimelineIDBytes = 20

// TimelineID returns an entry's id.
func TimelineID(e crdt.TimelineEntry) []byte { return appendEntry(make([]byte, 0, TimelineIDBytes), e) }

func appendEntry(b []byte, e crdt.TimelineEntry) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	b = binary.BigEndian.AppendUint32(b, uint32(e.Actor))
	return binary.BigEndian.AppendUint64(b, e.Seq)
}

// timeKey returns what is before the keys in table E of all entries from an instant on.
func timeKey(kid uint64, at hlc.Time) []byte {
	return binary.BigEndian.AppendUint64(elementKey(kid, nil), uint64(at))
}

// decodeEntry reads a pair of table E. The value shares v's memory.
func decodeEntry(k, v []byte) (crdt.TimelineEntry, error) {
	id := elementOf(k)
	if len(id) != TimelineIDBytes || len(v) == 0 || v[0] != storeVersion {
		return crdt.TimelineEntry{}, fmt.Errorf("timeline entry of %d and %d bytes: %w", len(id), len(v), crdt.ErrCorrupt)
	}
	return crdt.TimelineEntry{
		Time:  hlc.Time(binary.BigEndian.Uint64(id)),
		Actor: crdt.Actor(binary.BigEndian.Uint32(id[8:])),
		Seq:   binary.BigEndian.Uint64(id[12:]),
		Value: v[1:],
	}, nil
}

// TimelineRange asks for a page of a timeline's entries.
type TimelineRange struct {
	// From is inclusive, Before exclusive; 0 means no bound.
	From, Before hlc.Time
	OldestFirst  bool
	// After is the id of the last entry of the page before; empty for the first page.
	After []byte
	// Limit bounds the number of entries, MaxBytes their values together; unless Limit is 0 there is at
	// least one entry if there is any.
	Limit, MaxBytes int
}

// Timeline returns a page of a timeline's entries, newest first unless the range says otherwise, and
// whether there are more. The entries are the caller's. An absent timeline has none.
func (r *Replica) Timeline(namespace, key string, want TimelineRange) (entries []crdt.TimelineEntry, more bool, err error) {
	data, ok, err := r.kv.Get(r.object(namespace, key, crdt.TypeTimeline))
	if err != nil || !ok {
		return nil, false, err
	}
	h, err := decodeTimelineHeader(data)
	if err != nil || h.count == 0 {
		return nil, false, err
	}
	entries, more, err = h.read(r.kv, want)
	if err != nil {
		return nil, false, fmt.Errorf("read timeline: %w", err)
	}
	return entries, more, nil
}

func (h *timelineHeader) read(storage reader, want TimelineRange) ([]crdt.TimelineEntry, bool, error) {
	kv, err := h.in(storage, nil)
	if err != nil {
		return nil, false, err
	}
	kid, before := h.kid, want.Before
	if before == 0 {
		before = ^hlc.Time(0) // no event is that late
	}
	p := &timelinePage{limit: want.Limit, maxBytes: want.MaxBytes}
	start, end := timeKey(kid, want.From), timeKey(kid, before)
	if !want.OldestFirst {
		b := backScan{kv: kv, kid: kid, from: want.From, before: before, end: end}
		b.startAt(want.After)
		err := b.fill(p)
		return p.entries, p.more, err
	}
	if after := append(append(elementKey(kid, nil), want.After...), 0); len(want.After) > 0 && bytes.Compare(after, start) > 0 {
		start = after
	}
	err = kv.Scan(start, end, p.take)
	return p.entries, p.more, err
}

// timelinePage collects entries until it is full.
type timelinePage struct {
	limit, maxBytes int
	entries         []crdt.TimelineEntry
	more            bool
	size            int
}

func (p *timelinePage) take(k, v []byte) (bool, error) {
	e, err := decodeEntry(k, v)
	if err != nil {
		return false, err
	}
	if p.size += len(e.Value); len(p.entries) >= p.limit || p.size > p.maxBytes && len(p.entries) > 0 {
		p.more = true
		return false, nil
	}
	e.Value = slices.Clone(e.Value)
	p.entries = append(p.entries, e)
	return true, nil
}

// explain lists the newest entries, and the mark.
func (timelineKind) explain(kv KV, s stored, e *Explained) error {
	h := s.(*timelineHeader)
	e.Size = h.count
	if h.mark != 0 {
		e.Size++
		e.Parts = append(e.Parts, ExplainedPart{
			Value:  fmt.Sprintf("trimmed before %v: earlier entries are dropped if they still arrive", h.mark),
			Time:   h.mark,
			Hidden: true,
		})
	}
	if h.count == 0 {
		return nil
	}
	want := TimelineRange{Limit: explainElements - len(e.Parts), MaxBytes: explainTimelineBytes}
	entries, _, err := h.read(kv, want)
	for _, entry := range entries {
		shown := fmt.Sprintf("%q", entry.Value[:min(len(entry.Value), explainEntryBytes)])
		if len(entry.Value) > explainEntryBytes {
			shown += fmt.Sprintf(" and so on, %d bytes", len(entry.Value))
		}
		e.Parts = append(e.Parts, ExplainedPart{
			Value: shown, Dots: crdt.DotSet{{Actor: entry.Actor, Seq: entry.Seq}}, Time: entry.Time,
		})
	}
	return err
}

const (
	explainEntryBytes    = 60
	explainTimelineBytes = 4 << 20
)
