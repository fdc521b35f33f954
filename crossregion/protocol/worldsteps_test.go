package protocol

import "slices"

func (r *worldRegion) publish(from uint64) {
	w := r.w
	records := r.records[from-1:]
	records = records[:Cut(records, EnvelopeBytes, MaxEnvelopeRecords)]
	frame, err := r.packer.EncodeEnvelope(r.streamName(), records)
	if err != nil {
		w.t.Fatal(err)
	}
	r.nextID++
	id := r.nextID
	r.ship.Sent(id, records, w.now)
	r.storedAt = later(r.storedAt, w.now.Add(w.delay()))
	lost := w.loses(losePublications, r, r)
	w.after(r.storedAt.Sub(w.now), func() {
		if lost {
			r.later(func() { r.ship.Answered(id, 0, errWorld, w.now) })
			return
		}
		r.frames = append(r.frames, frame)
		seq := uint64(len(r.frames))
		r.later(func() { r.ship.Answered(id, seq, nil, w.now) })
		for _, dst := range w.others(r) {
			if !w.loses(loseFrames, r, dst) {
				w.after(w.delay(), func() { dst.receive(r, frame) })
			}
		}
	})
}

func (r *worldRegion) receive(origin *worldRegion, frame []byte) {
	records, err := r.packer.DecodeEnvelope(origin.streamName(), frame)
	if err == nil && !r.still {
		err = r.recv[origin.id].Offer(records, true, r.w.now)
	}
	if err != nil {
		r.w.t.Errorf("an honest envelope is refused: %v", err)
	}
}

func (r *worldRegion) driveReceiver(origin *worldRegion) {
	switch a := r.recv[origin.id].Action(r.w.now); a.Kind {
	case ReceiveWait:
		r.w.wake(a.Until)
	case ReceiveMerge:
		r.busy[origin.id] = true
		r.later(func() { r.merge(origin, a.Records) })
	case ReceiveFetch:
		r.busy[origin.id] = true
		r.later(func() { r.fetch(origin, a.From) })
	}
}

func (r *worldRegion) merge(origin *worldRegion, records []Record) {
	r.busy[origin.id] = false
	var err error
	if slices.ContainsFunc(records, func(rec Record) bool { return rec.Seq == r.poisoned }) {
		err = &BadBatchError{errWorld}
	} else {
		for _, rec := range records {
			if rec.Seq > uint64(len(r.merged[origin.id])) { // gaps are for the receiver to find
				r.merged[origin.id] = append(r.merged[origin.id], rec.Seq)
			}
		}
	}
	applied := uint64(len(r.merged[origin.id]))
	r.recv[origin.id].Merged(records, applied, err, r.w.now)
	r.reporter[origin.id].Note(0, applied, r.w.now)
}

func (r *worldRegion) fetch(origin *worldRegion, from uint64) {
	r.busy[origin.id] = false
	var res FetchResult
	switch {
	case r.w.loses(loseFetches, origin, r), origin.still:
		res.Err = errWorld
	case from > uint64(len(origin.records)):
		res.Nothing = true
	case from < origin.first:
		res.TrimmedTo = origin.first
	default:
		records := origin.records[from-1:]
		res.Records = records[:Cut(records, r.w.tuning.FetchBytes, MaxEnvelopeRecords)]
	}
	r.recv[origin.id].Fetched(res, r.w.now)
}

func (r *worldRegion) report(dst *worldRegion, seq uint64) {
	if err := r.ack.Report(dst.id, seq, uint64(len(r.records))); err != nil {
		r.w.t.Errorf("an honest watermark is refused: %v", err)
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
		least := uint64(len(r.records))
		for _, m := range watermarks {
			r.acks[m.Region] = max(r.acks[m.Region], m.Seq)
		}
		for _, dst := range r.w.others(r) {
			least = min(least, r.acks[dst.id])
		}
		r.first = max(r.first, least+1)
		r.ack.Done(watermarks, nil, r.w.now)
	})
}
