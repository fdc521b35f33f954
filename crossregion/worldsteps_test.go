package crossregion

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func (r *worldRegion) driveShipper() {
	w := r.w
	r.ship.outboxIs(r.outbox())
	for !r.opening {
		a := r.ship.action(w.now)
		switch a.kind {
		case shipWait:
			r.w.wake(a.until)
			return
		case shipOpen:
			r.opening = true
			r.later(r.open)
		case shipRead:
			r.publish(a.from)
		}
	}
}

func (r *worldRegion) open() {
	r.opening = false
	if r.w.chance(4) {
		r.ship.failed(r.w.now)
		return
	}
	var last uint64
	if n := len(r.frames); n > 0 {
		if records, err := plain.decodeEnvelope(r.streamName(), r.frames[n-1]); err == nil {
			last = records[len(records)-1].Seq
		}
	}
	r.ship.outboxIs(r.outbox())
	r.ship.open(r.streamState(), last)
}

func (r *worldRegion) publish(from uint64) {
	w := r.w
	records := r.records[from-1:]
	records = records[:cut(records, envelopeBytes, maxEnvelopeRecords)]
	records = w.pack(records)
	frame, err := plain.encodeEnvelope(r.streamName(), records)
	if err != nil {
		w.t.Fatal(err)
	}
	r.nextID++
	id := r.nextID
	r.ship.sent(id, records, w.now)
	if w.trimOnPublish {
		r.first = records[len(records)-1].Seq + 1
	}
	r.storedAt = later(r.storedAt, w.now.Add(w.delay()))
	lost, silent := w.chance(8), w.chance(8)
	w.after(r.storedAt.Sub(w.now), func() {
		var seq uint64
		if !lost {
			r.frames = append(r.frames, frame)
			seq = uint64(len(r.frames))
			r.deliver(frame)
		}
		r.later(func() {
			if lost || silent {
				r.ship.answered(id, 0, errWorld, w.now)
				return
			}
			r.ship.answered(id, seq, nil, w.now)
		})
	})
}

func (r *worldRegion) deliver(frame []byte) {
	w := r.w
	for _, dst := range w.others(r) {
		copies := 1
		switch {
		case w.chance(10):
			copies = 0
		case w.chance(10):
			copies = 2
		}
		for range copies {
			got := slices.Clone(frame)
			if w.chance(30) {
				got[w.rng.IntN(len(got))] ^= 1
			}
			w.after(w.delay(), func() { dst.receive(r, got) })
		}
	}
}

func (r *worldRegion) receive(origin *worldRegion, frame []byte) {
	records, err := plain.decodeEnvelope(origin.streamName(), frame)
	if err != nil {
		return
	}
	core := r.recv[origin.id]
	core.offer(records, true, r.w.now)
	if r.w.skipGaps && len(core.waiting) > 0 {
		core.applied = max(core.applied, core.waiting[0].first()-1)
	}
}

func (r *worldRegion) driveReceiver(origin *worldRegion) {
	core := r.recv[origin.id]
	switch a := core.action(r.w.now); a.kind {
	case receiveWait:
		r.w.wake(a.until)
	case receiveMerge:
		r.busy[origin.id] = true
		r.later(func() { r.merge(origin, a.records) })
	case receiveFetch:
		r.busy[origin.id] = true
		r.later(func() { r.fetch(origin, a) })
	}
}

func (r *worldRegion) merge(origin *worldRegion, records []Record) {
	w := r.w
	r.busy[origin.id] = false
	var err error
	if w.chance(10) {
		err = errWorld
	} else {
		for _, rec := range records {
			// A sink that does not look for gaps: the receiver has to.
			for seq := max(rec.first(), uint64(len(r.merged[origin.id]))+1); seq <= rec.Seq; seq++ {
				r.merged[origin.id] = append(r.merged[origin.id], seq)
			}
		}
		if w.chance(10) {
			err = errWorld
		}
	}
	applied := uint64(len(r.merged[origin.id]))
	r.recv[origin.id].merged(records, applied, err, w.now)
	r.reporter[origin.id].note(0, applied, w.now)
}

func (r *worldRegion) fetch(origin *worldRegion, a receiveAction) {
	from := a.from
	r.busy[origin.id] = false
	var res fetchResult
	switch {
	case r.w.chance(4):
		res.err = errWorld
	case from > uint64(len(origin.records)):
		res.nothing = true
	case from < origin.first:
		res.trimmedTo = origin.first
	default:
		records := origin.records[from-1:]
		res.records = records[:cut(records, r.w.tuning.fetchBytes, maxEnvelopeRecords)]
		if !a.plain {
			res.records = r.w.pack(res.records)
		}
	}
	r.recv[origin.id].fetched(res, r.w.now)
}

func (r *worldRegion) report(dst *worldRegion, seq uint64) {
	if err := r.ack.report(dst.id, seq, uint64(len(r.records)), r.w.now); err != nil {
		r.w.fault("an honest watermark is refused: %v", err)
	}
}

func (r *worldRegion) driveAcker() {
	if r.acking {
		return
	}
	watermarks, until := r.ack.due(r.w.now)
	if len(watermarks) == 0 {
		r.w.wake(until)
		return
	}
	r.acking = true
	r.later(func() {
		r.acking = false
		var err error
		if r.w.chance(8) {
			err = errWorld
		} else {
			r.acknowledge(watermarks)
		}
		r.ack.done(watermarks, err, r.w.now)
	})
}

func (r *worldRegion) acknowledge(watermarks []Watermark) {
	for _, m := range watermarks {
		r.acks[m.Region] = max(r.acks[m.Region], m.Seq)
	}
	least := uint64(len(r.records))
	for _, dst := range r.w.others(r) {
		least = min(least, r.acks[dst.id])
	}
	r.first = max(r.first, least+1)
}

// turmoil writes in all regions while everything goes wrong, then lets the world settle.
func (w *world) turmoil() {
	for range 60 {
		r := w.regions[w.rng.IntN(len(w.regions))]
		switch w.rng.IntN(12) {
		case 0:
			r.incarnation++ // wiped and made anew
			r.frames = nil
		case 1:
			r.frames = r.frames[:w.rng.IntN(len(r.frames)+1)] // lost its end
		case 2, 3:
			r.lead()
		case 4:
			r.write(1+w.rng.IntN(3), 300<<10)
		default:
			r.write(1+w.rng.IntN(300), w.rng.IntN(2000))
		}
		w.run(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	}
	w.calm = true
	w.run(3 * time.Minute)
	w.settled()
}

func TestEveryRegionMergesEverythingOnceInOrder(t *testing.T) {
	var total receiverCounts
	rewinds := uint64(0)
	for seed := range uint64(60) {
		w := newWorld(t, seed, 2+int(seed%2))
		w.folds = seed%4 > 1
		w.turmoil()
		for _, f := range w.faults[:min(len(w.faults), 3)] {
			t.Errorf("seed %d: %s", seed, f)
		}
		for _, r := range w.regions {
			rewinds += r.ship.takeRewinds()
			for _, core := range r.recv {
				total.duplicates += core.counts.duplicates
				total.gaps += core.counts.gaps
				total.evicted += core.counts.evicted
				total.fetches += core.counts.fetches
			}
		}
	}
	t.Logf("rewinds %d, %+v", rewinds, total)
	if rewinds == 0 || total.duplicates == 0 || total.gaps == 0 || total.evicted == 0 || total.fetches == 0 {
		t.Error("a mechanism was never needed: the faults are too mild")
	}
}

func TestSameSeedSameTrace(t *testing.T) {
	a, b := newWorld(t, 5, 3), newWorld(t, 5, 3)
	a.turmoil()
	b.turmoil()
	if a.trace != b.trace || a.serial != b.serial {
		t.Errorf("two runs of one seed differ: %x after %d events, %x after %d", a.trace, a.serial, b.trace, b.serial)
	}
}

func TestChecksCanFail(t *testing.T) {
	mutants := map[string]func(*world){
		"outbox trimmed by publishing": func(w *world) { w.trimOnPublish = true },
		"gaps skipped":                 func(w *world) { w.skipGaps = true },
	}
	for name, mutate := range mutants {
		caught := false
		for seed := uint64(0); seed < 5 && !caught; seed++ {
			w := newWorld(t, seed, 3)
			w.folds = seed%2 == 1
			mutate(w)
			w.turmoil()
			caught = len(w.faults) > 0
		}
		if !caught {
			t.Errorf("mutant %q passes all checks", name)
		}
	}
}

func TestNothingMovesWithoutNeed(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.calm = true
	w.regions[0].write(100, 10)
	w.run(time.Minute)
	w.settled()
	if len(w.faults) > 0 {
		t.Fatal(w.faults)
	}
	published := len(w.regions[0].frames)
	fetches := w.regions[1].recv[1].counts.fetches
	w.run(10 * time.Minute)
	if got := len(w.regions[0].frames); got != published || got > 3 {
		t.Errorf("%d envelopes were published for one burst, %d more while idle", published, got-published)
	}
	if got := w.regions[1].recv[1].counts.fetches; got != fetches {
		t.Errorf("%d fetches while idle", got-fetches)
	}
}

func TestBadEventStopsOnlyItsFlow(t *testing.T) {
	now := time.Unix(0, 0)
	core := newReceiver(defaultTuning(), 0, now)
	records := []Record{{Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}}
	core.offer(records, true, now)
	applied := uint64(0)
	for range 20 {
		a := core.action(now)
		if a.kind != receiveMerge {
			break
		}
		var err error
		for _, rec := range a.records {
			if rec.Seq == 3 {
				err = &BadBatchError{errors.New("poison")}
			}
		}
		if err == nil {
			applied = a.records[len(a.records)-1].Seq
		}
		core.merged(a.records, applied, err, now)
	}
	if applied != 2 || core.stuck == "" || core.counts.refused != 1 {
		t.Fatalf("applied %d, stuck %q, refused %d", applied, core.stuck, core.counts.refused)
	}
	if a := core.action(now); a.kind != receiveWait {
		t.Errorf("a bad event is tried again at once: %+v", a)
	}
	now = now.Add(core.tuning.stuckWait)
	if a := core.action(now); a.kind != receiveFetch || a.from != 3 {
		t.Errorf("the outbox's copy is not tried: %+v", a)
	}
	core.fetched(fetchResult{records: records[2:]}, now)
	core.merged(core.action(now).records, 4, nil, now)
	if core.stuck != "" {
		t.Errorf("still stuck: %s", core.stuck)
	}
}
