package protocol

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/hlc"
)

// quarantine is a flow's state while its next record is from too far in the future to be merged. Nothing behind it is
// merged either, because events are merged in order. It ends by itself when the clock has caught up.
type quarantine struct {
	// text says so, and is the same from the beginning to the end; empty if there is none.
	text string
	// at is the record's instant.
	at hlc.Time
	// splits says that what a record stands for is fetched one by one because of the clock. Up to wholeTo, the origin has
	// it only folded.
	splits  bool
	wholeTo uint64
}

// ahead returns how far the record is in the future; 0 if there is no quarantine.
func (q *quarantine) ahead(now time.Time) time.Duration {
	if q.text == "" {
		return 0
	}
	return max(aheadOf(q.at, now), 0)
}

// aheadOf returns how far an instant is ahead of the wall clock's reading in now.
func aheadOf(t hlc.Time, now time.Time) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(t.Millis()-now.UnixMilli(), most)) * time.Millisecond
}

// aheadFromWire reads what a destination says of how far events are ahead.
func aheadFromWire(ms uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}

// believe returns those at the beginning of contiguous records that are not from too far in the future. If there are
// none, it returns when to look again, unless it has dropped them to have them fetched one by one.
func (r *Receiver) believe(records []Record, now time.Time) ([]Record, time.Time) {
	for i := range records {
		rec := &records[i]
		ahead := aheadOf(rec.Time, now)
		if ahead <= r.tuning.ClockAhead {
			continue
		}
		if i > 0 {
			return records[:i], time.Time{}
		}
		if rec.Several() && max(r.plainTo, r.quarantine.wholeTo) < rec.Seq {
			// What it stands for need not all be from the future.
			r.waiting, r.waitingBytes, r.repair, r.plainTo = nil, 0, true, rec.Seq
			r.quarantine.splits = true
			return nil, time.Time{}
		}
		r.enter(rec, ahead)
		return nil, now.Add(min(ahead-r.tuning.ClockAhead, r.tuning.ClockLook))
	}
	return records, time.Time{}
}

// unsplit gives up fetching one by one what the origin has only folded: it waits for the clock as it is.
func (r *Receiver) unsplit(now time.Time) {
	r.quarantine.splits, r.quarantine.wholeTo, r.plainTo = false, r.plainTo, 0
	r.fetch.Failed(now)
}

// enter puts the flow into quarantine, if it is not already.
func (r *Receiver) enter(rec *Record, ahead time.Duration) {
	r.quarantine.at = rec.Time
	if r.quarantine.text != "" {
		return
	}
	r.Counts.Quarantined++
	r.quarantine.text = fmt.Sprintf("quarantined: event %d is %v ahead of this region's clock, and at most %v are believed; "+
		"the origin's clock is wrong, or this region's is; in the origin, atoll repair clock-poison lists what waits",
		rec.Seq, ahead.Round(time.Millisecond), r.tuning.ClockAhead)
}

// Quarantine returns the instant of the record for which the flow waits because it is in the future; 0 if it does not,
// or is stuck for another reason.
func (r *Receiver) Quarantine() hlc.Time {
	if r.quarantine.text == "" || r.stuck != "" {
		return 0
	}
	return r.quarantine.at
}
