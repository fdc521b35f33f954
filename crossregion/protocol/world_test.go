package protocol

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// world runs the step functions of several regions against each other, for one partition, in one
// event loop with a seeded source of chance: the same seed gives the same run. Its regions' outboxes,
// Raft and streams are plain slices, and its checks know nothing of how the step functions work.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	queue   events
	serial  int
	tuning  Tuning
	wakes   map[time.Time]bool
	regions []*worldRegion
	// folds says that what is sent is folded, half of it.
	folds bool
	// calm switches all faults off.
	calm bool
	// trimOnPublish and skipGaps make the world or the receivers wrong, to see the checks fail.
	trimOnPublish, skipGaps bool
	// broken says what does not arrive, or not work: see the kinds.
	broken func(what loss, from, to *worldRegion) bool
	faults []string
	trace  uint64
}

// loss is what can be broken for good.
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

// worldRegion is a region: durable state first, then what a change of leader loses.
type worldRegion struct {
	w      *world
	id     topology.RegionID
	Actor  crdt.Actor
	packer *Packer
	// appended is the size of all records; still says that nothing happens here, and poisoned which record of another
	// region can never be merged.
	appended uint64
	still    bool
	poisoned uint64
	Records  []Record
	First    uint64
	acks     map[topology.RegionID]uint64
	merged   map[topology.RegionID][]uint64

	incarnation int
	frames      [][]byte
	storedAt    time.Time

	term     int
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
	w.tuning.BufferBytes = 600 << 10 // so that it fills
	for i := range regions {
		id := topology.RegionID(i + 1)
		w.regions = append(w.regions, &worldRegion{
			w: w, id: id, Actor: topology.Actor(id, 1), First: 1, packer: &Packer{keys: keysOf("world", id)},
			acks: map[topology.RegionID]uint64{}, merged: map[topology.RegionID][]uint64{},
		})
	}
	for _, r := range w.regions {
		r.lead()
		w.every(w.tuning.Heartbeat, r.beat)
		w.every(w.tuning.StreamCheck, func() { r.ship.Observe(r.streamState()) })
	}
	return w
}

func (w *world) after(d time.Duration, run func()) {
	w.serial++
	heap.Push(&w.queue, event{w.now.Add(d), w.serial, run})
}

func (w *world) every(d time.Duration, run func()) {
	w.after(d, func() { run(); w.every(d, run) })
}

// chance is true in one of n cases, never when the world is calm.
func (w *world) chance(n int) bool { return !w.calm && w.rng.IntN(n) == 0 }

// pack makes one record of several, now and then.
func (w *world) pack(records []Record) []Record {
	if n := len(records); w.folds && n > 1 && w.rng.IntN(2) == 0 {
		return []Record{{First: records[0].Seq, Seq: records[n-1].Seq, Data: make([]byte, 10)}}
	}
	return records
}

func (w *world) delay() time.Duration {
	d := time.Duration(1+w.rng.IntN(50)) * time.Millisecond
	if w.chance(20) {
		d *= 40
	}
	return d
}

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.run()
		for _, r := range w.regions {
			r.drive()
		}
		w.check()
	}
	w.now = end
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *world) others(r *worldRegion) []*worldRegion {
	var others []*worldRegion
	for _, o := range w.regions {
		if o != r {
			others = append(others, o)
		}
	}
	return others
}

func (w *world) destinations(r *worldRegion) []topology.RegionID {
	var ids []topology.RegionID
	for _, o := range w.others(r) {
		ids = append(ids, o.id)
	}
	return ids
}

// check holds after every step.
func (w *world) check() {
	for _, origin := range w.regions {
		for _, dst := range w.others(origin) {
			applied := uint64(len(dst.merged[origin.id]))
			if origin.acks[dst.id] > applied {
				w.fault("region %d acknowledges %d of region %d, of which %d are applied", dst.id, origin.acks[dst.id], origin.id, applied)
			}
			if origin.First > applied+1 {
				w.fault("region %d trimmed up to %d but region %d applied %d", origin.id, origin.First, dst.id, applied)
			}
			w.trace = w.trace*31 + applied
		}
	}
}

// settled checks what has to hold in the end.
func (w *world) settled() {
	for _, origin := range w.regions {
		for _, dst := range w.others(origin) {
			for i, seq := range dst.merged[origin.id] {
				if seq != uint64(i+1) {
					w.fault("region %d merged record %d of region %d in place %d", dst.id, seq, origin.id, i+1)
					break
				}
			}
			if n := len(dst.merged[origin.id]); n != len(origin.Records) {
				w.fault("region %d merged %d of %d records of region %d (%s)", dst.id, n, len(origin.Records), origin.id, dst.recv[origin.id].stuck)
			}
		}
		if origin.First != uint64(len(origin.Records))+1 {
			w.fault("region %d still keeps records from %d of %d", origin.id, origin.First, len(origin.Records))
		}
	}
}

// lead begins a new term: all that is not durable is gone.
func (r *worldRegion) lead() {
	t := r.w.tuning
	r.term++
	r.ship, r.ack, r.opening, r.acking = NewShipper(t), NewAcker(t, r.w.destinations(r), nil, r.w.now), false, false
	r.recv, r.busy = map[topology.RegionID]*Receiver{}, map[topology.RegionID]bool{}
	r.reporter = map[topology.RegionID]*Reporter{}
	for _, o := range r.w.others(r) {
		applied := uint64(len(r.merged[o.id]))
		r.recv[o.id] = NewReceiver(t, applied, r.w.now)
		r.reporter[o.id] = NewReporter(t, r.w.now)
		r.reporter[o.id].Note(0, applied, r.w.now)
	}
}

// later runs f after a delay, unless the term has ended then.
func (r *worldRegion) later(f func()) {
	term := r.term
	r.w.after(r.w.delay(), func() {
		if r.term == term && !r.still {
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
	s := OutboxState{Actor: r.Actor, First: r.First, Head: uint64(len(r.Records))}
	s.Appended = r.appended
	for _, rec := range r.Records[r.First-1:] {
		s.Bytes += uint64(len(rec.Data))
	}
	return s
}

func (r *worldRegion) write(n, size int) {
	for range n {
		r.Records = append(r.Records, Record{Seq: uint64(len(r.Records) + 1), Data: make([]byte, size)})
		r.appended += uint64(size)
	}
}

func (r *worldRegion) streamName() Stream { return Stream{"world", 0, r.Actor} }

func (r *worldRegion) streamState() StreamState {
	return StreamState{Incarnation: fmt.Sprint(r.incarnation), LastSeq: uint64(len(r.frames))}
}

func (r *worldRegion) beat() {
	if r.still {
		return
	}
	outbox := r.outbox()
	r.ack.OutboxIs(outbox, r.w.now)
	head := Head{Position: Position{Actor: r.Actor, Seq: outbox.Head}, First: outbox.First, Bytes: outbox.Bytes, Appended: outbox.Appended, Behind: r.ack.Behind(r.w.now)}
	for _, dst := range r.w.others(r) {
		applied := uint64(len(r.merged[dst.id]))
		if !r.w.chance(5) && !r.w.loses(loseTicks, r, dst) {
			dst.later(func() { dst.hear(r, head, applied) })
		}
	}
}

// hear takes what another region's tick says: how far its outbox reaches, and how much of ours it has applied.
func (r *worldRegion) hear(from *worldRegion, head Head, applied uint64) {
	if err := r.recv[from.id].Tick(&head, true, r.w.now); err != nil {
		r.w.fault("an honest tick is refused: %v", err)
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
			if !r.w.chance(4) && !r.w.loses(loseReports, o, r) {
				o.later(func() { o.report(r, seq) })
			}
		}
	}
}
