package protocol

import (
	"time"

	"github.com/atolldb/atoll/topology"
)

// Flow says how far one region has applied another's events of one partition.
type Flow struct {
	Source, Destination topology.RegionID
	Partition           topology.PartitionID
	// Applied is the last event the destination is known to have durably applied, Head the last the
	// source is known to have issued.
	Applied, Head uint64
	// First and OutboxBytes are where the source's outbox begins and how much it keeps, as last heard.
	First, OutboxBytes uint64
	// LagBytes is the size of the deltas between Applied and Head, if BytesKnown: as they are in the outbox, and in
	// between two ticks in proportion to their number.
	LagBytes   uint64
	BytesKnown bool
	// Heard is when the leader at the other side last gave a sign: a tick, or a watermark if it is the destination.
	// Zero means never.
	Heard time.Time
	// Unknown means that Head and Applied may be far from the truth: nothing was heard for long.
	Unknown bool
	// Behind is for how long the destination has been without an event that Head counts, or for how long nothing
	// was heard, if that is more than two ticks and longer; 0 if it has all of them. It counts from when the later of
	// the two ends was first told, so no difference between the clocks of two regions can distort it.
	Behind time.Duration
	// Diverged says that both ends have applied the same events and have different states; empty if that was not seen.
	Diverged string
	// Audit is what is known of how they differ, if Diverged; its State is 0 if that was not looked into yet.
	Audit AuditReport
	// Stuck says why the flow cannot go on without help; empty if it can.
	Stuck string
	// Ahead is how far the first of the source's events that the destination has not applied is ahead of the
	// destination's clock, if that is why it has not: the flow goes on by itself when the clock has caught up.
	Ahead time.Duration
	// Transfer says how far a state transfer is that the destination's partition takes part in, if one is under way.
	Transfer TransferProgress
}

// Lag returns how many events of Head the destination has not applied.
func (f Flow) Lag() uint64 {
	if f.Head <= f.Applied {
		return 0
	}
	return f.Head - f.Applied
}

// heard fills in for how long the destination has been behind, given for how long it is known to have been, and when the
// other end was last heard, if it ever was since started. Who is not heard may have issued events, or may have
// applied none, ever since: silence counts as lag before it makes everything unknown.
func (f *Flow) heard(t Tuning, behind time.Duration, heard, started, now time.Time) {
	f.Heard, f.Behind = heard, behind
	silent := now.Sub(later(heard, started))
	if silent > silentAfter(t) {
		f.Behind = max(behind, silent)
	}
	f.Unknown = heard.IsZero() || silent > unknownAfter*t.TickEvery
}

// kept is what an outbox keeps.
type kept struct{ first, bytes uint64 }

func (h *Head) kept() kept { return kept{h.First, h.Bytes} }

// marks remember when a head was first heard of, to tell how long its destination has been behind.
// The zero value is ready. It holds a bounded number: when full, the youngest takes in the next, so
// that what it tells can only be too much.
type marks struct {
	heads []mark
}

type mark struct {
	head uint64
	at   time.Time
}

const maxMarks = 64

func (m *marks) add(head uint64, now time.Time) {
	if n := len(m.heads); n > 0 {
		youngest := &m.heads[n-1]
		if head <= youngest.head {
			return
		}
		if n == maxMarks {
			youngest.head = head
			return
		}
	}
	m.heads = append(m.heads, mark{head, now})
}

func (m *marks) reached(applied uint64) {
	n := 0
	for n < len(m.heads) && m.heads[n].head <= applied {
		n++
	}
	m.heads = append(m.heads[:0], m.heads[n:]...)
}

func (m *marks) behind(now time.Time) time.Duration {
	if len(m.heads) == 0 {
		return 0
	}
	return now.Sub(m.heads[0].at)
}
