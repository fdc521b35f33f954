package world

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// stream is a region's stream as JetStream keeps it, with all that can become of one.
type stream struct {
	site        *site
	incarnation int
	// frames are those from first on.
	first     uint64
	frames    []stored
	downUntil time.Duration
	// cursors say, per region, how far it has read.
	cursors  []cursor
	storedAt time.Duration // frames are stored in the order in which they were published
}

type stored struct {
	partition topology.PartitionID
	frame     []byte
}

// cursor is where a region reads on.
type cursor struct {
	incarnation int
	next        uint64
}

// verifyEvery is how often a reader looks whether the stream is the one it reads, and long enough.
const verifyEvery = 5 * time.Second

var errUnkind = errors.New("the world is unkind")

func newStream(s *site, regions int) *stream {
	st := &stream{site: s, incarnation: 1, first: 1, cursors: make([]cursor, regions)}
	for i := range st.cursors {
		st.cursors[i] = cursor{1, 1}
	}
	return st
}

func (st *stream) last() uint64 { return st.first + uint64(len(st.frames)) - 1 }

func (st *stream) up() bool { return st.site.w.now >= st.downUntil }

func (st *stream) state() protocol.StreamState {
	return protocol.StreamState{Incarnation: fmt.Sprint(st.incarnation), LastSeq: st.last()}
}

// publish stores a frame, and calls done with its place.
func (st *stream) publish(p topology.PartitionID, frame []byte, done func(seq uint64, err error)) {
	w := st.site.w
	lost, silent := w.chance(w.plan.Rates.PublishLost), w.chance(w.plan.Rates.AckLost)
	at := max(st.storedAt, w.now+w.between1to5ms())
	st.storedAt = at
	w.after(at-w.now, func() {
		var seq uint64
		err := error(errUnkind)
		if !lost && st.up() {
			st.frames = append(st.frames, stored{p, frame})
			if seq = st.last(); !silent {
				err = nil
			}
			if w.chance(w.plan.Rates.Duplicate / 4) {
				st.frames = append(st.frames, stored{p, frame})
			}
			for _, o := range w.sites {
				if o != st.site {
					st.pump(o)
				}
			}
		}
		if lost || silent {
			w.counts.PublishFaults++
		}
		w.after(w.between1to5ms(), func() { done(seq, err) })
	})
}

// lastFrame returns the last frame of a partition.
func (st *stream) lastFrame(p topology.PartitionID) []byte {
	for i := len(st.frames) - 1; i >= 0; i-- {
		if st.frames[i].partition == p {
			return st.frames[i].frame
		}
	}
	return nil
}

// pump has a region read what it has not read, as a consumer that knows only its position.
func (st *stream) pump(to *site) {
	w := st.site.w
	l := w.between(st.site, to)
	if !st.up() || !w.reach(to, st.site) || w.now < l.deafUntil || !to.anyNode() {
		return
	}
	c := &st.cursors[to.index]
	for c.next = max(c.next, st.first); c.next <= st.last(); c.next++ {
		f := st.frames[c.next-st.first]
		l.send(f.frame, func(frame []byte) { to.groups[f.partition].onFrame(st.site, frame) })
	}
}

// verify has a region begin anew if the stream is not the one that it reads, or ends before it.
func (st *stream) verify(to *site) {
	if !st.up() || !st.site.w.reach(to, st.site) {
		return
	}
	c := &st.cursors[to.index]
	if c.incarnation != st.incarnation || c.next > st.last()+1 {
		*c = cursor{st.incarnation, st.first}
	}
	st.pump(to)
}

// purge loses all frames, but not the count of them.
func (st *stream) purge() { st.first, st.frames = st.last()+1, nil }

// truncate loses the newest frames, whose places are taken by the next ones.
func (st *stream) truncate(n int) { st.frames = st.frames[:max(0, len(st.frames)-n)] }

// recreate makes another stream of the same name.
func (st *stream) recreate() {
	st.incarnation++
	st.first, st.frames = 1, nil
}
