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
	// Heard is when the other side last said how far it is: its heartbeat if it is the source, its
	// watermark if it is the destination. Zero means never.
	Heard time.Time
	// Unknown means that Head and Applied may be far from the truth: nothing was heard for long.
	Unknown bool
	// Behind is for how long the destination has been without an event that Head counts; 0 if it has
	// all of them. It counts from when the later of the two ends was first told, so no difference
	// between the clocks of two regions can distort it.
	Behind time.Duration
	// Stuck says why the flow cannot go on without help; empty if it can.
	Stuck string
}

// Lag returns how many events of Head the destination has not applied.
func (f Flow) Lag() uint64 {
	if f.Head <= f.Applied {
		return 0
	}
	return f.Head - f.Applied
}

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
