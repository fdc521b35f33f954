package world

import (
	"time"
)

// never is an instant after all others.
const never = time.Duration(1 << 62)

// link is one direction between two regions. What is sent over it arrives late, damaged, repeatedly or
// not at all.
type link struct {
	w        *World
	from, to *site
	// cutUntil is until when nothing passes; deafUntil until when the stream does not, though all else does.
	cutUntil, deafUntil time.Duration
	// clogged holds what is sent until clogUntil, to let it all go then.
	clogUntil time.Duration
	base      time.Duration
}

func (l *link) open() bool { return l.w.now >= l.cutUntil }

// send carries a frame. What arrives is the receiver's own copy.
func (l *link) send(frame []byte, arrive func(frame []byte)) {
	w, r := l.w, &l.w.plan.Rates
	if !l.open() || w.chance(r.Loss) {
		w.counts.Lost++
		return
	}
	copies := 1
	if w.chance(r.Duplicate) {
		copies++
		w.counts.Duplicated++
	}
	for range copies {
		got := frame
		if len(frame) > 0 && w.chance(r.Flip) {
			got = append([]byte(nil), frame...)
			got[w.rng.IntN(len(got))] ^= 1 << w.rng.IntN(8)
			w.counts.Flipped++
		}
		w.after(l.delay(), func() {
			if l.open() {
				arrive(got)
			}
		})
	}
}

// delay draws how long a frame is on its way.
func (l *link) delay() time.Duration {
	w := l.w
	d := l.base + time.Duration(w.rng.Int64N(int64(l.base/4)+1))
	if w.chance(w.plan.Rates.Reorder) {
		d += time.Duration(w.rng.Int64N(int64(8*l.base) + 1))
		w.counts.Reordered++
	}
	if held := l.clogUntil - w.now; held > 0 {
		d += held
	}
	return d
}

// heal undoes all that was done to the link.
func (l *link) heal() { l.cutUntil, l.deafUntil, l.clogUntil = 0, 0, 0 }

// between returns the link from one region to another.
func (w *World) between(from, to *site) *link { return w.links[from.index][to.index] }

// reach reports whether requests of one region to another are answered.
func (w *World) reach(from, to *site) bool {
	return w.between(from, to).open() && w.between(to, from).open()
}

// cut lets nothing pass from one region to another for a while.
func (w *World) cut(from, to *site, d time.Duration) {
	l := w.between(from, to)
	l.cutUntil = max(l.cutUntil, w.now+d)
	w.after(d, func() { w.reconnected(from, to) })
}

// reconnected has readers look at streams again.
func (w *World) reconnected(a, b *site) {
	a.stream.pump(b)
	b.stream.pump(a)
}
