package protocol

import "time"

// Shipper moves one partition's outbox into the region's stream, in order. It is a step function: its
// owner reports what happened, asks for the next action, and does it.
//
// The cursor is only in memory. A new leader looks up what the stream holds last and goes on behind
// that; whatever was lost or stored twice on the way is the receivers' to notice. After a failure the
// window is drained and everything from the lowest record without an answer is published again,
// because a stream that refused one frame and took the next is out of order. The same happens, from
// the outbox's beginning, when the stream turns out to be another one or to have lost its end.
type Shipper struct {
	tuning Tuning
	outbox OutboxState
	// opened says that next is known to be right for the stream as it is.
	opened bool
	next   uint64
	flight []shipment
	// lost is the least record of a failed publication; 0 if none failed since the window was empty.
	lost uint64
	// incarnation and streamSeq are the stream that next is about, and our last frame's place in it.
	incarnation string
	streamSeq   uint64
	// shrunk says that the stream was seen to end before streamSeq.
	shrunk    bool
	partialAt time.Time
	retry     Backoff
	rewinds   uint64
}

// shipment is a publication without an answer, or behind one without.
type shipment struct {
	id        uint64
	From, to  uint64
	streamSeq uint64
}

type shipKind int

const (
	ShipWait shipKind = iota // for an event, or until the given time if it is set
	ShipOpen                 // look up the stream and its last frame, then call open or failed
	ShipRead                 // read records from the given one, publish them, then call sent
)

type shipAction struct {
	Kind  shipKind
	From  uint64
	Until time.Time
}

// NewShipper returns the shipper of a node that begins to lead.
func NewShipper(t Tuning) *Shipper {
	return &Shipper{tuning: t, retry: Backoff{Least: t.RetryLeast, Most: t.RetryMost}}
}

// OutboxIs tells what the outbox holds now.
func (s *Shipper) OutboxIs(state OutboxState) { s.outbox = state }

// Open tells which stream there is, and the last record of ours in it, 0 if there is none.
func (s *Shipper) Open(stream StreamState, last uint64) {
	first := s.outbox.First
	switch {
	case s.incarnation == "" && last+1 >= first && last <= s.outbox.Head:
		s.next = last + 1
	case s.incarnation == stream.Incarnation && stream.LastSeq >= s.streamSeq && !s.shrunk:
		// The same stream with all we know to be in it: next is where the failure left it.
	default:
		if s.incarnation != "" {
			s.rewinds++
		}
		s.next, s.streamSeq = first, 0
	}
	s.incarnation, s.shrunk, s.opened = stream.Incarnation, false, true
}

// Observe tells which stream there is, without anything having gone wrong.
func (s *Shipper) Observe(stream StreamState) {
	if s.opened && (stream.Incarnation != s.incarnation || stream.LastSeq < s.streamSeq) {
		s.opened = false
	}
}

// Failed tells that opening the stream or reading the outbox went wrong.
func (s *Shipper) Failed(now time.Time) {
	s.opened = false
	s.retry.Failed(now)
}

// Sent tells that the records were handed to the stream under the given id.
func (s *Shipper) Sent(id uint64, records []Record, now time.Time) {
	last := records[len(records)-1].Seq
	s.flight = append(s.flight, shipment{id: id, From: s.next, to: last})
	s.next = last + 1
	if s.next > s.outbox.Head {
		s.partialAt = now
	}
}

// Answered tells how a publication ended.
func (s *Shipper) Answered(id, streamSeq uint64, err error, now time.Time) {
	for i := range s.flight {
		if s.flight[i].id != id {
			continue
		}
		if err != nil {
			s.fail(s.flight[i].From, now)
		}
		s.flight[i].streamSeq = max(streamSeq, 1)
		break
	}
	for len(s.flight) > 0 && s.flight[0].streamSeq != 0 {
		head := s.flight[0]
		s.flight = s.flight[1:]
		switch {
		case s.lost != 0:
		case head.streamSeq <= s.streamSeq: // the stream ends before what we put there
			s.fail(head.From, now)
			s.shrunk = true
		default:
			s.streamSeq = head.streamSeq
			s.retry.Succeeded()
		}
	}
	if len(s.flight) == 0 && s.lost != 0 {
		s.next, s.lost, s.opened = s.lost, 0, false
		s.rewinds++
	}
}

func (s *Shipper) fail(from uint64, now time.Time) {
	if s.lost == 0 {
		s.retry.Failed(now)
	}
	if s.lost == 0 || from < s.lost {
		s.lost = from
	}
}

// Action returns what to do next.
func (s *Shipper) Action(now time.Time) shipAction {
	switch {
	case s.lost != 0: // until the window is empty
		return shipAction{Kind: ShipWait}
	case s.retry.waiting(now):
		return shipAction{Kind: ShipWait, Until: s.retry.Until}
	case !s.opened && len(s.flight) > 0:
		return shipAction{Kind: ShipWait}
	case !s.opened:
		return shipAction{Kind: ShipOpen}
	}
	s.next = max(s.next, s.outbox.First) // every destination has what was trimmed
	switch {
	case s.next > s.outbox.Head || len(s.flight) >= s.tuning.Window:
		return shipAction{Kind: ShipWait}
	case s.full():
	case len(s.flight) > 0:
		return shipAction{Kind: ShipWait}
	case now.Before(s.partialAt.Add(s.tuning.Linger)):
		return shipAction{Kind: ShipWait, Until: s.partialAt.Add(s.tuning.Linger)}
	}
	return shipAction{Kind: ShipRead, From: s.next}
}

// full guesses from the mean size of a delta whether what waits fills an envelope. What waits so long that it is
// folded does.
func (s *Shipper) full() bool {
	single := s.outbox.Head - s.outbox.First + 1 - s.outbox.FoldedEvents
	waiting := s.outbox.Head - s.next + 1
	return waiting > single || waiting >= MaxEnvelopeRecords || (s.outbox.Bytes-s.outbox.FoldedBytes)/single*waiting >= EnvelopeBytes
}

// TakeRewinds returns how often publishing went back since the last call.
func (s *Shipper) TakeRewinds() uint64 {
	n := s.rewinds
	s.rewinds = 0
	return n
}
