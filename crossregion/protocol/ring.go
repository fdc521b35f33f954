package protocol

// Ring keeps the last envelopes that were received of an origin, as the origin made and authenticated them, for regions that
// cannot get them from it. It is not safe for concurrent use.
type Ring struct {
	most, bytes int
	frames      []relayed
}

// relayed is an envelope with the numbers of its first and last record.
type relayed struct {
	from, to uint64
	frame    []byte
}

// NewRing returns a ring that keeps at most so many bytes, but one frame at least.
func NewRing(most int) *Ring { return &Ring{most: most} }

// Add takes an envelope, which must not be changed any more, with its records.
func (r *Ring) Add(records []Record, frame []byte) {
	f := relayed{records[0].Begin(), records[len(records)-1].Seq, frame}
	for _, have := range r.frames {
		if have.from <= f.from && have.to >= f.to {
			return
		}
	}
	r.frames = append(r.frames, f)
	for r.bytes += len(frame); r.bytes > r.most && len(r.frames) > 1; r.frames = r.frames[1:] {
		r.bytes -= len(r.frames[0].frame)
		r.frames[0].frame = nil
	}
}

// From returns envelopes that go on from a record without a gap, of so many bytes at most but one at least; none if the
// record is not there.
func (r *Ring) From(seq uint64, maxBytes int) [][]byte {
	var found [][]byte
	for {
		best := -1
		for i, f := range r.frames {
			if f.from <= seq && f.to >= seq && (best < 0 || f.to > r.frames[best].to) {
				best = i
			}
		}
		if best < 0 {
			return found
		}
		frame := r.frames[best].frame
		if maxBytes -= len(frame); maxBytes < 0 && len(found) > 0 {
			return found
		}
		found = append(found, frame)
		seq = r.frames[best].to + 1
	}
}
