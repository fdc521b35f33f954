package protocol

import "slices"

// sizes remember how many bytes an outbox had ever held when it reached some sequence numbers, to tell how many
// bytes a destination lacks. The zero value is ready; a bounded number is kept.
type sizes struct {
	points []size // by head, of which the first may be reached
}

type size struct{ head, appended uint64 }

const maxSizes = 64

// add takes what an outbox holds, and how far its destination is.
func (s *sizes) add(o OutboxState, applied uint64) {
	if o.First == 0 {
		return // not told
	}
	if n := len(s.points); n > 0 && (o.Head < s.points[n-1].head || o.Appended < s.points[n-1].appended) {
		if o.Head < s.points[n-1].head {
			return // of a leader that is behind
		}
		s.points = nil // counted anew
	}
	if len(s.points) == 0 {
		s.points = append(s.points, size{o.First - 1, o.Appended - min(o.Bytes, o.Appended)})
	}
	switch n := len(s.points); {
	case s.points[n-1].head == o.Head:
	case n == maxSizes:
		s.points[n-1] = size{o.Head, o.Appended}
	default:
		s.points = append(s.points, size{o.Head, o.Appended})
	}
	s.reached(applied)
}

// reached forgets what is not needed to tell how much is missing behind applied.
func (s *sizes) reached(applied uint64) {
	n := 0
	for n+1 < len(s.points) && s.points[n+1].head <= applied {
		n++
	}
	s.points = slices.Delete(s.points, 0, n)
}

// missing returns how many bytes come after applied: exact where the outbox was seen to end or to begin, between two
// such places in proportion to the events. It is not known before anything was added, and at least what it is if the
// outbox begins behind applied.
func (s *sizes) missing(applied uint64) (bytes uint64, known bool) {
	n := len(s.points)
	if n == 0 || n == 1 && applied < s.points[0].head {
		return 0, false
	}
	last := s.points[n-1]
	for i := n - 1; i > 0; i-- {
		low, high := s.points[i-1], s.points[i]
		switch {
		case applied >= high.head:
			return last.appended - high.appended, true
		case applied >= low.head:
			part := float64(high.head-applied) / float64(high.head-low.head)
			return last.appended - high.appended + uint64(part*float64(high.appended-low.appended)), true
		}
	}
	return last.appended - s.points[0].appended, true
}
