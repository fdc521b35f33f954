package protocol

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// world runs the step functions of regions against each other, for one partition, in one event loop, with outboxes,
// logs and streams that are plain slices. Nothing goes wrong in it but what a test breaks for good, so that what both ends
// tell of that can be looked at. What holds while everything goes wrong at once is for sim/world.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	queue   events
	serial  int
	tuning  Tuning
	wakes   map[time.Time]bool
	regions []*worldRegion
	// broken says what does not arrive, or not work: see the kinds.
	broken func(what loss, from, to *worldRegion) bool
}

// loss is what can be broken.
type loss int

const (
	loseTicks loss = iota
	loseFrames
	loseFetches // asked by to
	loseReports // of to
	losePublications
)

func (w *world) loses(what loss, from, to *worldRegion) bool {
	return w.broken != nil && w.broken(what, from, to)
}

type event struct {
	at     time.Time
	serial int
	run    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// worldRegion is a region, whose leader never changes.
type worldRegion struct {
	w      *world
	id     topology.RegionID
	actor  crdt.Actor
	packer *Packer
	// still says that nothing happens here, and poisoned which record of another region can never be merged.
	still    bool
	poisoned uint64
	records  []Record
	first    uint64
	appended uint64 // the size of all records
	acks     map[topology.RegionID]uint64
	merged   map[topology.RegionID][]uint64
	frames   [][]byte
	storedAt time.Time

	nextID   uint64
	ship     *Shipper
	opening  bool
	ack      *Acker
	acking   bool
	recv     map[topology.RegionID]*Receiver
	busy     map[topology.RegionID]bool
	reporter map[topology.RegionID]*Reporter
}

func newWorld(t *testing.T, seed uint64, regions int) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), tuning: DefaultTuning(),
		wakes: map[time.Time]bool{},
		now:   time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for i := range regions {
		id := topology.RegionID(i + 1)
		w.regions = append(w.regions, &worldRegion{
			w: w, id: id, actor: topology.Actor(id, 1), first: 1, packer: &Packer{keys: keysOf("world", id)},
			ship: NewShipper(w.tuning), acks: map[topology.RegionID]uint64{}, merged: map[topology.RegionID][]uint64{},
			recv: map[topology.RegionID]*Receiver{}, busy: map[topology.RegionID]bool{}, reporter: map[topology.RegionID]*Reporter{},
		})
	}
	for _, r := range w.regions {
		r.lead()
		w.every(w.tuning.TickEvery, r.beat)
		w.every(w.tuning.StreamCheck, func() { r.ship.Observe(r.streamState()) })
	}
	return w
}

func (r *worldRegion) lead() {
	w, ids := r.w, []topology.RegionID{}
	for _, o := range w.others(r) {
		ids = append(ids, o.id)
		r.recv[o.id], r.reporter[o.id] = NewReceiver(w.tuning, 0, w.now), NewReporter(w.tuning, w.now)
		r.reporter[o.id].Note(0, 0, w.now)
	}
	r.ack = NewAcker(w.tuning, ids, nil, w.now)
}

func (w *world) after(d time.Duration, run func()) {
	w.serial++
	heap.Push(&w.queue, event{w.now.Add(d), w.serial, run})
}

func (w *world) every(d time.Duration, run func()) {
	w.after(d, func() { run(); w.every(d, run) })
}

func (w *world) delay() time.Duration { return time.Duration(1+w.rng.IntN(50)) * time.Millisecond }

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.run()
		for _, r := range w.regions {
			r.drive()
		}
	}
	w.now = end
}

func (w *world) others(r *worldRegion) []*worldRegion {
	return slices.DeleteFunc(slices.Clone(w.regions), func(o *worldRegion) bool { return o == r })
}

// settled checks that everything has arrived, once and in order, and nothing is kept.
func (w *world) settled(name string) {
	w.t.Helper()
	for _, origin := range w.regions {
		for _, dst := range w.others(origin) {
			want := make([]uint64, len(origin.records))
			for i := range want {
				want[i] = uint64(i) + 1
			}
			if got := dst.merged[origin.id]; !slices.Equal(got, want) {
				w.t.Errorf("%s: region %d merged %d of %d records of region %d, or not in order (%s)", name, dst.id, len(got), len(want), origin.id, dst.recv[origin.id].stuck)
			}
		}
		if origin.first != uint64(len(origin.records))+1 {
			w.t.Errorf("%s: region %d still keeps records from %d of %d", name, origin.id, origin.first, len(origin.records))
		}
	}
}

// later runs f after a delay, unless nothing happens here then.
func (r *worldRegion) later(f func()) {
	r.w.after(r.w.delay(), func() {
		if !r.still {
			f()
		}
	})
}

// wake makes the world look again at the given time.
func (w *world) wake(at time.Time) {
	if at.IsZero() || w.wakes[at] {
		return
	}
	w.wakes[at] = true
	w.after(at.Sub(w.now), func() { delete(w.wakes, at) })
}

func (r *worldRegion) outbox() OutboxState {
	s := OutboxState{Actor: r.actor, First: r.first, Head: uint64(len(r.records)), Appended: r.appended}
	for _, rec := range r.records[r.first-1:] {
		s.Bytes += uint64(len(rec.Data))
	}
	return s
}

func (r *worldRegion) write(n, size int) {
	for range n {
		r.records = append(r.records, Record{Seq: uint64(len(r.records) + 1), Data: make([]byte, size)})
		r.appended += uint64(size)
	}
}

func (r *worldRegion) streamName() Stream { return Stream{"world", 0, r.actor} }

func (r *worldRegion) streamState() StreamState { return StreamState{LastSeq: uint64(len(r.frames))} }

func (r *worldRegion) beat() {
	if r.still {
		return
	}
	outbox := r.outbox()
	r.ack.OutboxIs(outbox, r.w.now)
	head := Head{Position: Position{Actor: r.actor, Seq: outbox.Head}, First: outbox.First, Bytes: outbox.Bytes, Appended: outbox.Appended, Behind: r.ack.Behind(r.w.now)}
	for _, dst := range r.w.others(r) {
		applied := uint64(len(r.merged[dst.id]))
		if !r.w.loses(loseTicks, r, dst) {
			dst.later(func() { dst.hear(r, head, applied) })
		}
	}
}

// hear takes what another region's tick says: how far its outbox reaches, and how much of ours it has applied.
func (r *worldRegion) hear(from *worldRegion, head Head, applied uint64) {
	if err := r.recv[from.id].Tick(&head, true, r.w.now); err != nil {
		r.w.t.Errorf("an honest tick is refused: %v", err)
	}
	r.ack.Heard(from.id, r.w.now)
	r.report(from, applied)
}

var errWorld = errors.New("the world is unkind")

// drive does whatever the step functions ask for.
func (r *worldRegion) drive() {
	if r.still {
		return
	}
	r.driveShipper()
	r.driveAcker()
	for _, o := range r.w.others(r) {
		if !r.busy[o.id] {
			r.driveReceiver(o)
		}
		send, until := r.reporter[o.id].Due(r.w.now)
		r.w.wake(until)
		for _, seq := range send {
			if !r.w.loses(loseReports, o, r) {
				o.later(func() { o.report(r, seq) })
			}
		}
	}
}

func (r *worldRegion) driveShipper() {
	r.ship.OutboxIs(r.outbox())
	for !r.opening {
		a := r.ship.Action(r.w.now)
		switch a.Kind {
		case ShipWait:
			r.w.wake(a.Until)
			return
		case ShipOpen:
			r.opening = true
			r.later(func() {
				r.opening = false
				r.ship.Open(r.streamState(), 0)
			})
		case ShipRead:
			r.publish(a.From)
		}
	}
}
