package membership

import (
	"math/rand/v2"
	"testing"
	"time"
)

// The world of leases: two nodes of a home ask whether their region is open, and acknowledge writes; it is given up at some
// instant, and a node of another region takes over as soon as it may. Messages take any time, overtake each other and get lost, clocks
// run too fast or too slow, and who takes over may start anew. No write is acknowledged from the takeover on.

const (
	leaseWorlds = 400
	leaseStep   = 20 * time.Millisecond
	leaseSteps  = 3000
)

// leaseRules are what a mutant changes.
type leaseRules struct {
	// counts is the instant that a lease counts from.
	counts func(asked, arrived time.Duration) time.Duration
	// stale is how old the state may be that answers.
	stale time.Duration
	// judged says that a write is judged again when it is acknowledged.
	judged bool
	// left is how long who takes over still waits.
	left func(left time.Duration) time.Duration
	// rates are how far from 1 clocks run.
	rates float64
}

func soundLeases() leaseRules {
	return leaseRules{
		counts: func(asked, _ time.Duration) time.Duration { return asked }, judged: true,
		left: func(left time.Duration) time.Duration { return left }, rates: float64(clockRatePercent) / 100,
	}
}

// drifting is a monotonic clock.
type drifting struct {
	rate   float64
	origin time.Duration
}

func (c drifting) at(t time.Duration) time.Duration {
	return c.origin + time.Duration(float64(t)*c.rate)
}

// asking is a question under way. It is read at an instant, and its answer arrives at another one, of the true time.
type asking struct {
	asked         time.Duration // by the asking node's clock
	read, arrives time.Duration
	open          bool
}

type leaseNode struct {
	clock  drifting
	lease  Lease
	asked  []asking
	writes []time.Duration // when what is proposed is applied, and may be acknowledged
}

type leaseWorld struct {
	rng    *rand.Rand
	rules  leaseRules
	nodes  [2]leaseNode
	fence  time.Duration // when the majority decided
	cut    time.Duration // no answer arrives from then on
	taker  drifting
	known  RunOut
	hears  time.Duration // when it hears of the fence
	took   time.Duration // 0 until then
	late   int           // acknowledged after the takeover
	fenced int           // acknowledged between the fence and that
}

// delay is short mostly, and long now and then.
func (w *leaseWorld) delay() time.Duration {
	if w.rng.IntN(4) > 0 {
		return time.Duration(w.rng.Int64N(int64(3 * leaseStep)))
	}
	return time.Duration(w.rng.Int64N(int64(12 * time.Second)))
}

func (w *leaseWorld) clock() drifting {
	rate := 2*w.rng.Float64() - 1
	if w.rng.IntN(2) == 0 { // one of the ends
		rate = float64(w.rng.IntN(2)*2 - 1)
	}
	return drifting{rate: 1 + rate*w.rules.rates, origin: time.Duration(w.rng.Int64N(int64(time.Hour)))}
}

func newLeaseWorld(seed uint64, rules leaseRules) *leaseWorld {
	w := &leaseWorld{rng: rand.New(rand.NewPCG(seed, 21)), rules: rules}
	for i := range w.nodes {
		w.nodes[i].clock = w.clock()
		w.nodes[i].lease = NewLease(w.nodes[i].clock.at(0))
	}
	w.taker = w.clock()
	w.fence = 5*time.Second + time.Duration(w.rng.Int64N(int64(15*time.Second)))
	w.hears, w.cut = w.fence+w.delay(), w.fence+w.delay()-leaseStep
	return w
}

func (w *leaseWorld) run() {
	for i := range leaseSteps {
		now := time.Duration(i) * leaseStep
		w.takeOver(now)
		for n := range w.nodes {
			w.step(&w.nodes[n], now)
		}
	}
}

// step has one node of the home ask, hear, and write.
func (w *leaseWorld) step(n *leaseNode, now time.Duration) {
	local := n.clock.at(now)
	if w.rng.IntN(5) == 0 {
		a := asking{asked: local, read: now + w.delay()}
		a.arrives = a.read + w.delay()
		a.open = a.read-w.rules.stale < w.fence
		if w.rng.IntN(5) > 0 && a.arrives < w.cut {
			n.asked = append(n.asked, a)
		}
	}
	waiting := n.asked[:0]
	for _, a := range n.asked {
		if a.arrives > now {
			waiting = append(waiting, a)
			continue
		}
		n.lease.Answered(w.rules.counts(a.asked, local), local, a.open)
	}
	n.asked = waiting
	_, held := n.lease.At(local)
	proposed := n.writes[:0]
	for _, applied := range n.writes {
		switch {
		case applied > now:
			proposed = append(proposed, applied)
		case (held || !w.rules.judged) && w.took > 0:
			w.late++
		case held && now >= w.fence:
			w.fenced++
		}
	}
	n.writes = proposed
	if held {
		n.writes = append(n.writes, now+w.delay())
	}
}

// takeOver has the other region do so once it may.
func (w *leaseWorld) takeOver(now time.Duration) {
	local := w.taker.at(now)
	if now >= w.hears {
		w.known.See(&State{Regions: []Region{{ID: 1, Actors: []Actor{{State: ActorFenced}}}}}, local)
	}
	if w.rng.IntN(1000) == 0 { // it starts anew
		w.known, w.taker, w.hears = RunOut{}, w.clock(), max(now, w.fence)+w.delay()
	}
	if left, known := w.known.Left(1, local); known && w.rules.left(left) <= 0 && w.took == 0 {
		w.took = now
	}
}

// runLeases returns how often something was acknowledged after the fence, and after the takeover.
func runLeases(rules leaseRules) (fenced, late, taken int) {
	for seed := range uint64(leaseWorlds) {
		w := newLeaseWorld(seed, rules)
		w.run()
		fenced, late = fenced+w.fenced, late+w.late
		if w.took > 0 {
			taken++
		}
	}
	return fenced, late, taken
}

func TestNothingIsAcknowledgedOnceSomebodyTookOver(t *testing.T) {
	fenced, late, taken := runLeases(soundLeases())
	if late > 0 {
		t.Errorf("%d writes were acknowledged after a takeover", late)
	}
	if fenced < leaseWorlds || taken < leaseWorlds*9/10 {
		t.Errorf("the worlds are too quiet: %d writes under leases after fences, %d takeovers", fenced, taken)
	}
}

func TestErrorsInLeasesAreNoticed(t *testing.T) {
	for name, change := range map[string]func(*leaseRules){
		"a lease counts from its answer":         func(r *leaseRules) { r.counts = func(_, arrived time.Duration) time.Duration { return arrived } },
		"who answers is behind":                  func(r *leaseRules) { r.stale = 3 * time.Second },
		"writes are judged only when they begin": func(r *leaseRules) { r.judged = false },
		"who takes over waits for the time of a lease": func(r *leaseRules) {
			r.left = func(left time.Duration) time.Duration { return left - (LeaseOver - LeaseTime) }
		},
		"who takes over does not wait": func(r *leaseRules) { r.left = func(time.Duration) time.Duration { return 0 } },
		"clocks are worse than that":   func(r *leaseRules) { r.rates *= 2 },
	} {
		rules := soundLeases()
		change(&rules)
		if _, late, _ := runLeases(rules); late == 0 {
			t.Errorf("%s: nobody notices", name)
		}
	}
}
