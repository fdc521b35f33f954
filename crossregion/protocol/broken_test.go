package protocol

import (
	"testing"
	"time"
)

// The ways in which the flow from region 1 to region 2 can be broken, and what each end then tells of it. The table
// in DESIGN.md has the same rows.
var brokenLinks = map[string]struct {
	lose func(what loss, from, to *worldRegion) bool
	// still are regions in which nothing happens: no leader, or its process is paused.
	still int
	// poisoned says that a record cannot be merged.
	poisoned bool
	// source and destination say what each end sees.
	source, destination seen
}{
	"destination cannot reach the origin": {
		lose:   func(_ loss, from, to *worldRegion) bool { return from.id == 1 && to.id == 2 },
		source: growing, destination: growing,
	},
	"origin cannot reach the destination": {
		lose:   func(_ loss, from, to *worldRegion) bool { return from.id == 2 && to.id == 1 },
		source: growing, destination: fine,
	},
	"cut both ways, or half-open": {
		lose:   func(loss, *worldRegion, *worldRegion) bool { return true },
		source: growing, destination: growing,
	},
	"JetStream gone": {
		lose:   func(what loss, _, _ *worldRegion) bool { return what == losePublications },
		source: late, destination: late,
	},
	"NATS of the origin gone": {
		lose:   func(what loss, from, to *worldRegion) bool { return from.id == 1 },
		source: growing, destination: growing,
	},
	"only ticks lost": {
		lose:   func(what loss, _, _ *worldRegion) bool { return what == loseTicks },
		source: growing, destination: growing,
	},
	"only the stream lost": {
		lose:   func(what loss, _, _ *worldRegion) bool { return what == loseFrames },
		source: late, destination: late,
	},
	"only fetches and reports lost": {
		lose:   func(what loss, _, _ *worldRegion) bool { return what == loseFetches || what == loseReports },
		source: fine, destination: fine,
	},
	"destination without leader, or paused": {still: 2, source: growing, destination: nobody},
	"origin without leader, or paused":      {still: 1, source: nobody, destination: growing},
	"poison batch":                          {poisoned: true, source: growing, destination: growing},
}

type seen int

const (
	// growing: a lag that is never 0 from two ticks on and only grows, or that is unknown.
	growing seen = iota
	// late: what was lost is fetched, some seconds later: a lag that stays small, and is seen.
	late
	// fine: nothing is missing, so none is told.
	fine
	// nobody is there to tell.
	nobody
)

// watched is what one end told over time.
type watched struct {
	t        *testing.T
	name     string
	expected seen
	most     time.Duration
	last     time.Duration
}

// look checks what an end tells at one instant, since when the link is broken.
func (w *watched) look(f Flow, since time.Duration, tick time.Duration) {
	w.most = max(w.most, f.Behind)
	switch w.expected {
	case growing:
		if since < 2*tick {
			return
		}
		if f.Behind <= 0 || f.Behind < w.last {
			w.t.Errorf("%s: %v after the break the lag is %v, after %v", w.name, since, f.Behind, w.last)
		}
		if f.Behind < since-2*tick && !f.Unknown {
			w.t.Errorf("%s: %v after the break a lag of %v passes for known", w.name, since, f.Behind)
		}
		w.last = f.Behind
	case late, fine:
		if f.Unknown || f.Behind > 5*time.Second {
			w.t.Errorf("%s: %v after the break: %+v", w.name, since, f)
		}
	}
}

func (w *watched) end() {
	if w.expected == late && w.most < 500*time.Millisecond {
		w.t.Errorf("%s: the most was %v", w.name, w.most)
	}
	if w.expected == fine && w.most > 1500*time.Millisecond {
		w.t.Errorf("%s: the most was %v", w.name, w.most)
	}
}

// TestBrokenLinksAreNeverTakenForZeroLag goes through every row: region 1 writes all the time.
func TestBrokenLinksAreNeverTakenForZeroLag(t *testing.T) {
	for name, c := range brokenLinks {
		w := newWorld(t, 3, 2)
		src, dst := w.regions[0], w.regions[1]
		w.keepWriting(5*time.Second, func(time.Duration) {})
		out, in := flows(w)
		if out.Unknown || in.Unknown || out.Behind > time.Second || in.Behind > time.Second {
			t.Errorf("%s: before the break %+v %+v", name, out, in)
		}
		w.broken = c.lose
		if c.still > 0 {
			w.regions[c.still-1].still = true
		}
		if c.poisoned {
			dst.poisoned = uint64(len(src.records)) + 1
		}
		atSource := watched{t: t, name: name + ", source", expected: c.source}
		atDestination := watched{t: t, name: name + ", destination", expected: c.destination}
		w.keepWriting(20*time.Second, func(since time.Duration) {
			out, in := flows(w)
			atSource.look(out, since, w.tuning.TickEvery)
			atDestination.look(in, since, w.tuning.TickEvery)
		})
		atSource.end()
		atDestination.end()
		w.broken, src.still, dst.still, dst.poisoned = nil, false, false, 0
		w.run(30 * time.Second)
		mended(t, name, w)
	}
}

// keepWriting lets time pass in which region 1 writes, and looks at everything ten times a second.
func (w *world) keepWriting(d time.Duration, look func(since time.Duration)) {
	for since := time.Duration(0); since < d; since += 100 * time.Millisecond {
		if src := w.regions[0]; !src.still {
			src.write(1, 100)
		}
		look(since)
		w.run(100 * time.Millisecond)
	}
}

// mended checks that nothing is missing, and that both ends say so.
func mended(t *testing.T, name string, w *world) {
	t.Helper()
	out, in := flows(w)
	for _, f := range []Flow{out, in} {
		if f.Unknown || f.Behind != 0 || f.Lag() != 0 || f.LagBytes != 0 || !f.BytesKnown || f.Stuck != "" {
			t.Errorf("%s: after it was mended: %+v", name, f)
		}
	}
	w.settled(name)
}

// flows returns what both ends tell of the flow from region 1 to region 2.
func flows(w *world) (atSource, atDestination Flow) {
	src, dst := w.regions[0], w.regions[1]
	atSource, atDestination = Flow{Source: 1, Destination: 2}, Flow{Source: 1, Destination: 2}
	src.ack.OutboxIs(src.outbox(), w.now)
	src.ack.Flow(&atSource, w.now)
	dst.recv[1].Flow(&atDestination, w.now)
	return atSource, atDestination
}
