package protocol

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func (r *worldRegion) driveShipper() {
	w := r.w
	r.ship.OutboxIs(r.outbox())
	for !r.opening {
		a := r.ship.Action(w.now)
		switch a.Kind {
		case ShipWait:
			r.w.wake(a.Until)
			return
		case ShipOpen:
			r.opening = true
			r.later(r.open)
		case ShipRead:
			r.publish(a.From)
		}
	}
}

func (r *worldRegion) open() {
	r.opening = false
	if r.w.chance(4) {
		r.ship.Failed(r.w.now)
		return
	}
	var last uint64
	if n := len(r.frames); n > 0 {
		if records, err := r.packer.DecodeEnvelope(r.streamName(), r.frames[n-1]); err == nil {
			last = records[len(records)-1].Seq
		}
	}
	r.ship.OutboxIs(r.outbox())
	r.ship.Open(r.streamState(), last)
}

func (r *worldRegion) publish(from uint64) {
	w := r.w
	records := r.Records[from-1:]
	records = records[:Cut(records, EnvelopeBytes, MaxEnvelopeRecords)]
	records = w.pack(records)
	frame, err := r.packer.EncodeEnvelope(r.streamName(), records)
	if err != nil {
		w.t.Fatal(err)
	}
	r.nextID++
	id := r.nextID
	r.ship.Sent(id, records, w.now)
	if w.trimOnPublish {
		r.First = records[len(records)-1].Seq + 1
	}
	r.storedAt = later(r.storedAt, w.now.Add(w.delay()))
	lost, silent := w.chance(8) || w.loses(losePublications, r, r), w.chance(8)
	w.after(r.storedAt.Sub(w.now), func() {
		var seq uint64
		if !lost {
			r.frames = append(r.frames, frame)
			seq = uint64(len(r.frames))
			r.deliver(frame)
		}
		r.later(func() {
			if lost || silent {
				r.ship.Answered(id, 0, errWorld, w.now)
				return
			}
			r.ship.Answered(id, seq, nil, w.now)
		})
	})
}

func (r *worldRegion) deliver(frame []byte) {
	w := r.w
	for _, dst := range w.others(r) {
		copies := 1
		switch {
		case w.loses(loseFrames, r, dst):
			copies = 0
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
	records, err := r.packer.DecodeEnvelope(origin.streamName(), frame)
	if err != nil || r.still {
		return
	}
	core := r.recv[origin.id]
	if err := core.Offer(records, true, r.w.now); err != nil {
		r.w.fault("an honest envelope is refused: %v", err)
	}
	if r.w.skipGaps && len(core.waiting) > 0 {
		core.applied = max(core.applied, core.waiting[0].Begin()-1)
	}
}

func (r *worldRegion) driveReceiver(origin *worldRegion) {
	core := r.recv[origin.id]
	switch a := core.Action(r.w.now); a.Kind {
	case ReceiveWait:
		r.w.wake(a.Until)
	case ReceiveMerge:
		r.busy[origin.id] = true
		r.later(func() { r.merge(origin, a.Records) })
	case ReceiveFetch:
		r.busy[origin.id] = true
		r.later(func() { r.fetch(origin, a) })
	}
}

func (r *worldRegion) merge(origin *worldRegion, records []Record) {
	w := r.w
	r.busy[origin.id] = false
	var err error
	if at := slices.IndexFunc(records, func(rec Record) bool { return r.poisoned >= rec.Begin() && r.poisoned <= rec.Seq }); at >= 0 && r.poisoned > 0 {
		err = &BadBatchError{errWorld}
	} else if w.chance(10) {
		err = errWorld
	} else {
		for _, rec := range records {
			// A sink that does not look for gaps: the receiver has to.
			for seq := max(rec.Begin(), uint64(len(r.merged[origin.id]))+1); seq <= rec.Seq; seq++ {
				r.merged[origin.id] = append(r.merged[origin.id], seq)
			}
		}
		if w.chance(10) {
			err = errWorld
		}
	}
	applied := uint64(len(r.merged[origin.id]))
	r.recv[origin.id].Merged(records, applied, err, w.now)
	r.reporter[origin.id].Note(0, applied, w.now)
}

func (r *worldRegion) fetch(origin *worldRegion, a ReceiveAction) {
	from := a.From
	r.busy[origin.id] = false
	var res FetchResult
	switch {
	case r.w.chance(4), r.w.loses(loseFetches, origin, r), origin.still:
		res.Err = errWorld
	case from > uint64(len(origin.Records)):
		res.Nothing = true
	case from < origin.First:
		res.TrimmedTo = origin.First
	default:
		records := origin.Records[from-1:]
		res.Records = records[:Cut(records, r.w.tuning.FetchBytes, MaxEnvelopeRecords)]
		if !a.Plain {
			res.Records = r.w.pack(res.Records)
		}
	}
	r.recv[origin.id].Fetched(res, r.w.now)
}

func (r *worldRegion) report(dst *worldRegion, seq uint64) {
	if err := r.ack.Report(dst.id, seq, uint64(len(r.Records))); err != nil {
		r.w.fault("an honest watermark is refused: %v", err)
	}
}

func (r *worldRegion) driveAcker() {
	if r.acking {
		return
	}
	watermarks, until := r.ack.Due(r.w.now)
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
		r.ack.Done(watermarks, err, r.w.now)
	})
}

func (r *worldRegion) acknowledge(watermarks []Watermark) {
	for _, m := range watermarks {
		r.acks[m.Region] = max(r.acks[m.Region], m.Seq)
	}
	least := uint64(len(r.Records))
	for _, dst := range r.w.others(r) {
		least = min(least, r.acks[dst.id])
	}
	r.First = max(r.First, least+1)
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
			rewinds += r.ship.TakeRewinds()
			for _, core := range r.recv {
				total.Duplicates += core.Counts.Duplicates
				total.Gaps += core.Counts.Gaps
				total.Evicted += core.Counts.Evicted
				total.Fetches += core.Counts.Fetches
			}
		}
	}
	t.Logf("rewinds %d, %+v", rewinds, total)
	if rewinds == 0 || total.Duplicates == 0 || total.Gaps == 0 || total.Evicted == 0 || total.Fetches == 0 {
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
	fetches := w.regions[1].recv[1].Counts.Fetches
	w.run(10 * time.Minute)
	if got := len(w.regions[0].frames); got != published || got > 3 {
		t.Errorf("%d envelopes were published for one burst, %d more while idle", published, got-published)
	}
	if got := w.regions[1].recv[1].Counts.Fetches; got != fetches {
		t.Errorf("%d fetches while idle", got-fetches)
	}
}

func TestBadEventStopsOnlyItsFlow(t *testing.T) {
	now := time.Unix(0, 0)
	core := NewReceiver(DefaultTuning(), 0, now)
	records := []Record{{Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}}
	core.Offer(records, true, now)
	applied := uint64(0)
	for range 20 {
		a := core.Action(now)
		if a.Kind != ReceiveMerge {
			break
		}
		var err error
		for _, rec := range a.Records {
			if rec.Seq == 3 {
				err = &BadBatchError{errors.New("poison")}
			}
		}
		if err == nil {
			applied = a.Records[len(a.Records)-1].Seq
		}
		core.Merged(a.Records, applied, err, now)
	}
	if applied != 2 || core.stuck == "" || core.Counts.Refused != 1 {
		t.Fatalf("applied %d, stuck %q, refused %d", applied, core.stuck, core.Counts.Refused)
	}
	if a := core.Action(now); a.Kind != ReceiveWait {
		t.Errorf("a bad event is tried again at once: %+v", a)
	}
	now = now.Add(core.tuning.StuckWait)
	if a := core.Action(now); a.Kind != ReceiveFetch || a.From != 3 {
		t.Errorf("the outbox's copy is not tried: %+v", a)
	}
	core.Fetched(FetchResult{Records: records[2:]}, now)
	core.Merged(core.Action(now).Records, 4, nil, now)
	if core.stuck != "" {
		t.Errorf("still stuck: %s", core.stuck)
	}
}
