package world

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// began is the instant at which every world begins.
var began = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	cluster     = "world"
	mostRegions = 5
	firstEpoch  = 1
)

// World is one run of a plan.
type World struct {
	plan   *Plan
	rng    *rand.Rand
	now    time.Duration
	queue  eventQueue
	serial uint64
	tuning protocol.Tuning
	sites  []*site
	links  [][]*link // from, to
	ledger *ledger
	// authors are the regions under each of their epochs; council is nil where regions neither come nor go.
	authors []author
	council *council
	mouths  *mouths
	// calm switches all chance of faults off.
	calm bool
	// dirty are the groups to look at after this step.
	dirty []*group
	lives uint64 // how many processes there were
	// peak is the most that an outbox kept, coreTook how long the core took to converge.
	peak     struct{ entries, bytes uint64 }
	coreTook time.Duration
	trace    uint64
	counts   Counts
	failure  *Failure
	tell     Listener
	// lies has watermarks say what was issued, to see that checks can fail.
	lies bool
}

// Listener hears what happens in a run, in words, and when; routine is what happens all the time.
type Listener func(at time.Duration, text string, routine bool)

// Failure is an invariant that did not hold.
type Failure struct {
	Invariant string
	Detail    string
	At        time.Duration
}

// Error says what did not hold.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s, after %v: %s", f.Invariant, f.At.Round(time.Millisecond), f.Detail)
}

// mouth is what a region speaks to others with.
type mouth struct {
	keys   *protocol.Keys
	packer *protocol.Packer
}

// mouths are those that were made, by the actors of a region and of its peers: they take long to make.
type mouths struct{ made map[string]mouth }

// mostMouths bounds how many are kept.
const mostMouths = 400

func newMouths() *mouths { return &mouths{made: map[string]mouth{}} }

// of returns that of an actor with these peers.
func (m *mouths) of(w *World, self crdt.Actor, peers []peer) mouth {
	actors := []crdt.Actor{self}
	for _, p := range peers {
		actors = append(actors, p.actor())
	}
	name := fmt.Sprint(actors)
	if made, ok := m.made[name]; ok {
		return made
	}
	if len(m.made) >= mostMouths {
		clear(m.made)
	}
	keys := protocol.NewKeys(cluster, self, actors[1:], derive)
	packer, err := protocol.NewPacker(partitions.Fold, keys)
	if err != nil {
		w.fail("frames can be made", "%v", err)
	}
	m.made[name] = mouth{keys, packer}
	return m.made[name]
}

// derive makes keys that only have to differ.
func derive(purpose string) [32]byte { return sha256.Sum256([]byte(purpose)) }

func newWorld(p *Plan, mouths *mouths, tell Listener) *World {
	w := &World{
		plan: p, rng: rand.New(rand.NewPCG(p.Seed, 0x3a11)), tuning: protocol.DefaultTuning(), tell: tell,
		ledger: newLedger(p), mouths: mouths,
	}
	if p.small {
		w.tuning.BufferBytes, w.tuning.MergeBytes, w.tuning.MergeRecords, w.tuning.FetchBytes = 1<<10, 400, 6, 600
	}
	if p.Relay {
		w.tuning.RelayAfter, w.tuning.OriginWait = 500*time.Millisecond, 10*time.Second
	}
	if p.Relay && p.small { // of what is passed on not all is kept
		w.tuning.RelayBytes = 2 << 10
	}
	if p.transfers() { // a transfer takes many steps, so that much can go wrong in between
		w.tuning.ResyncItems, w.tuning.ResyncRanges, w.tuning.ResyncBytes = 2, 3, 200
	}
	for i := range p.Regions {
		w.sites = append(w.sites, newSite(w, i))
	}
	for i := range p.Regions * p.lives() {
		s, epoch := w.sites[i%p.Regions], topology.Epoch(firstEpoch+i/p.Regions)
		w.authors = append(w.authors, author{s, epoch, topology.Actor(s.id, epoch)})
	}
	w.links = make([][]*link, p.Regions)
	for i, from := range w.sites {
		for _, to := range w.sites {
			base := time.Duration(5+w.rng.IntN(60)) * time.Millisecond
			w.links[i] = append(w.links[i], &link{w: w, from: from, to: to, base: base})
		}
	}
	if p.Membership {
		w.council = newCouncil(w)
	}
	for _, s := range w.sites {
		s.follow()
		s.start()
	}
	return w
}

// after has run called when some time has passed.
func (w *World) after(d time.Duration, run func()) {
	w.serial++
	w.queue.push(event{w.now + max(d, 0), w.serial, run})
}

// every has run called again and again.
func (w *World) every(d time.Duration, run func()) {
	w.after(d, func() {
		run()
		w.every(d, run)
	})
}

// time is now as step functions are told it. It never goes back.
func (w *World) time() time.Time { return began.Add(w.now) }

func (w *World) chance(p float64) bool { return p > 0 && !w.calm && w.rng.Float64() < p }

func (w *World) between1to5ms() time.Duration {
	return time.Millisecond + time.Duration(w.rng.Int64N(int64(4*time.Millisecond)))
}

// run lets events happen up to an instant, or until something is wrong.
func (w *World) run(until time.Duration) {
	for w.failure == nil {
		at, ok := w.queue.next()
		if !ok || at > until {
			break
		}
		e := w.queue.pop()
		w.now = e.at
		e.run()
		w.settleDirty()
		w.counts.Steps++
		w.mix(uint64(e.at), e.serial)
	}
	if w.failure == nil {
		w.now = until
	}
}

// settleDirty lets the step functions of whatever was touched do what they want done.
func (w *World) settleDirty() {
	for len(w.dirty) > 0 && w.failure == nil {
		g := w.dirty[len(w.dirty)-1]
		w.dirty = w.dirty[:len(w.dirty)-1]
		g.touched = false
		g.drive()
	}
	w.dirty = w.dirty[:0]
}

// mix adds to the hash of all that happened.
func (w *World) mix(values ...uint64) {
	for _, v := range values {
		w.trace = (w.trace ^ v) * 0x9e3779b97f4a7c15
		w.trace ^= w.trace >> 29
	}
}

// fail notes the first invariant that does not hold.
func (w *World) fail(invariant, format string, args ...any) {
	if w.failure == nil {
		w.failure = &Failure{invariant, fmt.Sprintf(format, args...), w.now}
		w.say("NOT SO: %s: %s", invariant, w.failure.Detail)
	}
}

// say tells what happens, in words, if someone listens.
func (w *World) say(format string, args ...any) {
	if w.tell != nil {
		w.tell(w.now, fmt.Sprintf(format, args...), false)
	}
}

// mention tells what is worth telling only to those who want to know everything.
func (w *World) mention(format string, args ...any) {
	if w.tell != nil {
		w.tell(w.now, fmt.Sprintf(format, args...), true)
	}
}

func (w *World) others(s *site) []*site {
	others := make([]*site, 0, len(w.sites)-1)
	for _, o := range w.sites {
		if o != s {
			others = append(others, o)
		}
	}
	return others
}
