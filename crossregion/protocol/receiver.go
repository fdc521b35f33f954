package protocol

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/topology"
)

// Receiver takes one origin's deltas of one partition into this region, each once and in order. It
// is a step function like shipper.
//
// Records come from the stream, in any order and more than once. What continues the applied ones is
// merged, several envelopes in one call; the rest waits in a bounded buffer. Records are fetched from
// the origin's outbox when a gap does not close, when the origin is known to have more but nothing
// comes, and when this node begins to lead, because what the stream held before is not known then.
// Fetching goes on until the stream's records follow without a gap, or there is nothing more.
type Receiver struct {
	tuning  Tuning
	applied uint64
	// waiting is sorted by first record; waitingBytes is its size.
	waiting      []chunk
	waitingBytes int
	// head is the last record the origin is known to have.
	head    uint64
	lag     marks
	sizes   sizes
	heardAt time.Time
	// outbox is what the origin last said it keeps; startedAt is when this receiver began.
	outbox    kept
	startedAt time.Time
	// regressedAt is since when the origin says it has less than is applied; zero if it does not.
	regressedAt time.Time
	// trimmedAt is since when the origin's outbox begins behind what is missing; zero if it does not.
	trimmedAt time.Time
	// movedAt is when a record was last taken in; gapAt when the present gap was first seen.
	movedAt, gapAt time.Time
	// repair says that records are being fetched.
	repair       bool
	merge, fetch Backoff
	relay        relay
	// Up to carefulTo, records are merged one by one, to find the one that cannot be.
	carefulTo uint64
	// Up to plainTo, records are fetched one by one, because one that stands for several cannot be merged.
	plainTo uint64
	// stuck says why only help from outside can make this flow go on; needsState that a state transfer is such help.
	stuck      string
	needsState bool
	// quarantine says that the next record is from too far in the future.
	quarantine quarantine
	Counts     receiverCounts
}

type receiverCounts struct {
	Duplicates, Gaps, Evicted, Fetches, Refused, Trimmed, Quarantined uint64
}

// chunk is a run of contiguous records.
type chunk struct {
	Records []Record
	bytes   int
	// live says that the stream brought it.
	live bool
}

func (c *chunk) Begin() uint64 { return c.Records[0].Begin() }
func (c *chunk) last() uint64  { return c.Records[len(c.Records)-1].Seq }

type receiveKind int

const (
	ReceiveWait  receiveKind = iota // for an event, or until the given time if it is set
	ReceiveMerge                    // merge the records, then call merged
	ReceiveFetch                    // fetch from the given record on, then call fetched
)

// ReceiveAction is what a Receiver wants done next.
type ReceiveAction struct {
	Kind    receiveKind
	Records []Record
	From    uint64
	Plain   bool // fetch records that are one delta each
	// Via is the region to fetch from; 0 is the origin.
	Via   topology.RegionID
	Until time.Time
}

// NewReceiver returns the receiver of a node that begins to lead at now, with applied applied.
func NewReceiver(t Tuning, applied uint64, now time.Time) *Receiver {
	return &Receiver{
		tuning: t, applied: applied, head: applied, movedAt: now, startedAt: now, repair: true,
		merge: Backoff{Least: t.RetryLeast, Most: t.RetryMost},
		fetch: Backoff{Least: t.RetryLeast, Most: t.RetryMost},
	}
}

// maxJump is how far ahead of what is applied an origin can be: in a year at a million events a second, it is less.
const maxJump = 1 << 45

// checkJump refuses numbers that no origin has reached: believed, one would be waited for for ever.
func (r *Receiver) checkJump(seq uint64) error {
	if seq > r.applied && seq-r.applied > maxJump {
		return fmt.Errorf("%w: %d follows %d", ErrSequenceJump, seq, r.applied)
	}
	return nil
}

// Offer takes records of an intact envelope. It refuses those with ErrSequenceJump.
func (r *Receiver) Offer(records []Record, live bool, now time.Time) error {
	last := records[len(records)-1].Seq
	if last <= r.applied {
		r.Counts.Duplicates++
		return nil
	}
	if err := r.checkJump(last); err != nil {
		return err
	}
	r.insert(records, live, now)
	return nil
}

// insert puts records into the buffer unless they are in it.
func (r *Receiver) insert(records []Record, live bool, now time.Time) {
	r.headIs(records[len(records)-1].Seq, now)
	for records[0].Seq <= r.applied {
		records = records[1:]
	}
	c := chunk{Records: records, live: live}
	at, _ := slices.BinarySearchFunc(r.waiting, c.Begin(), func(w chunk, first uint64) int {
		if w.Begin() < first {
			return -1
		}
		return 1
	})
	if covered(r.waiting, at, &c) {
		r.Counts.Duplicates++
		return
	}
	for _, rec := range records {
		c.bytes += len(rec.Data) + recordOverhead
	}
	r.waiting = slices.Insert(r.waiting, at, c)
	r.waitingBytes += c.bytes
	r.evict()
	if r.contiguous() {
		r.movedAt, r.gapAt = now, time.Time{}
	} else if r.gapAt.IsZero() {
		r.gapAt = now
		r.Counts.Gaps++
	}
}

// covered says whether a neighbour of position at holds all of c.
func covered(waiting []chunk, at int, c *chunk) bool {
	return at > 0 && waiting[at-1].last() >= c.last() ||
		at < len(waiting) && waiting[at].Begin() == c.Begin() && waiting[at].last() >= c.last()
}

// evict drops the highest chunks of a full buffer: the lowest is what can be merged first.
func (r *Receiver) evict() {
	for r.waitingBytes > r.tuning.BufferBytes && len(r.waiting) > 1 {
		last := len(r.waiting) - 1
		r.waitingBytes -= r.waiting[last].bytes
		r.waiting[last] = chunk{}
		r.waiting = r.waiting[:last]
		r.Counts.Evicted++
	}
}

func (r *Receiver) contiguous() bool {
	return len(r.waiting) > 0 && r.waiting[0].Begin() <= r.applied+1
}

func (r *Receiver) headIs(head uint64, now time.Time) {
	r.head = max(r.head, head)
	if r.head > r.applied {
		r.lag.add(r.head, now)
	}
}

// Tick tells how far the origin's outbox reaches. Unless it is fresh, it may have been captured or delayed, and is no
// sign that the origin is there. Tick refuses impossible numbers with ErrSequenceJump.
func (r *Receiver) Tick(h *Head, fresh bool, now time.Time) error {
	if err := r.checkJump(h.Seq); err != nil {
		return err
	}
	if r.heardAt.IsZero() && h.Seq > r.head && h.First == r.applied+1 {
		r.lag.add(h.Seq, now.Add(-h.Behind)) // what is missing here is what the slowest destination misses
	}
	r.headIs(h.Seq, now)
	r.sizes.add(OutboxState{First: h.First, Head: h.Seq, Bytes: h.Bytes, Appended: h.Appended}, r.applied)
	if !fresh {
		return nil
	}
	r.heardAt, r.outbox = now, h.kept()
	r.regressed(h.Seq, now)
	return nil
}

// regressed looks whether the origin says it has less than is applied.
func (r *Receiver) regressed(head uint64, now time.Time) {
	switch {
	case head >= r.applied: // not r.head: a leader deposed at the origin may lag for a while
		if !r.regressedAt.IsZero() {
			r.regressedAt, r.stuck = time.Time{}, ""
		}
	case r.regressedAt.IsZero():
		r.regressedAt = now
	case now.Sub(r.regressedAt) >= 3*r.tuning.StuckWait:
		r.stuck = fmt.Sprintf("the origin's outbox ends at %d but %d are applied: it lost events and needs a new epoch", head, r.applied)
	}
}

// Action returns what to do next.
func (r *Receiver) Action(now time.Time) ReceiveAction {
	if r.contiguous() {
		if r.merge.waiting(now) {
			return ReceiveAction{Kind: ReceiveWait, Until: r.merge.Until}
		}
		if records, until := r.believe(r.take(), now); len(records) > 0 {
			return ReceiveAction{Kind: ReceiveMerge, Records: records}
		} else if r.contiguous() {
			return ReceiveAction{Kind: ReceiveWait, Until: until}
		}
	}
	at := r.fetchAt(now)
	if !at.IsZero() {
		at = later(at, r.fetch.Until)
	}
	if !at.IsZero() && !now.Before(at) {
		r.repair = true
		r.Counts.Fetches++
		return ReceiveAction{
			Kind: ReceiveFetch, From: r.applied + 1, Plain: r.applied < r.plainTo, Via: r.relay.next(r.applied, now, r.tuning.RelayAfter),
		}
	}
	return ReceiveAction{Kind: ReceiveWait, Until: at}
}

// fetchAt returns when to fetch if nothing happens before; zero for not at all.
func (r *Receiver) fetchAt(now time.Time) time.Time {
	switch {
	case r.repair:
		return now
	case !r.gapAt.IsZero():
		return r.gapAt.Add(r.tuning.GapWait)
	case r.head > r.applied:
		return r.movedAt.Add(r.tuning.StallWait)
	}
	return time.Time{}
}

// take returns the records that continue the applied ones, within the bounds of one merge. They stay
// in the buffer until they are known to be applied.
func (r *Receiver) take() []Record {
	most := r.tuning.MergeRecords
	if r.applied < r.carefulTo {
		most = 1
	}
	var run []Record
	next := r.applied + 1
	for i := range r.waiting {
		c := &r.waiting[i]
		if c.Begin() > next {
			break
		}
		if c.last() < next {
			continue
		}
		for _, rec := range c.Records {
			if rec.Seq >= next {
				run = append(run, rec)
			}
		}
		next = c.last() + 1
		if Cut(run, r.tuning.MergeBytes, most) < len(run) {
			break
		}
	}
	return run[:Cut(run, r.tuning.MergeBytes, most)]
}

// Merged tells how merging records ended. applied is what is applied now, also after an error.
func (r *Receiver) Merged(records []Record, applied uint64, err error, now time.Time) {
	advanced := applied > r.applied
	r.applied = max(r.applied, applied)
	r.head = max(r.head, r.applied)
	r.lag.reached(r.applied)
	live := r.prune()
	var bad *BadBatchError
	var ahead *ClockAheadError
	switch {
	case errors.As(err, &bad):
		r.refuse(records, bad, now)
	case errors.As(err, &ahead):
		r.enter(&records[0], ahead.Ahead)
		r.merge.hold(now, r.tuning.ClockLook)
	case err != nil || !advanced:
		r.merge.Failed(now)
	default:
		r.merge.Succeeded()
		r.movedAt, r.trimmedAt = now, time.Time{}
		r.stuck, r.needsState, r.quarantine = "", false, quarantine{}
		if live {
			r.repair = false // the stream goes on where the fetched records end
		}
	}
	r.gapAt = time.Time{}
	if len(r.waiting) > 0 && !r.contiguous() {
		r.gapAt = now
	}
}

func (r *Receiver) refuse(records []Record, bad *BadBatchError, now time.Time) {
	if len(records) > 1 {
		r.carefulTo = records[len(records)-1].Seq
		return
	}
	r.waiting, r.waitingBytes, r.repair = nil, 0, true
	if rec := &records[0]; rec.Several() {
		if rec.Seq <= r.plainTo && !r.relay.failingAt.IsZero() {
			r.needsState, r.stuck = true, fmt.Sprintf("events %d to %d cannot be merged together, and nobody has them one by one: %v", rec.Begin(), rec.Seq, bad.Err)
			r.fetch.hold(now, r.tuning.StuckWait)
		}
		r.carefulTo, r.plainTo, r.quarantine.splits = rec.Seq, rec.Seq, false
		return
	}
	// The stream's copy may be at fault: the outbox's is tried next, but not often.
	r.Counts.Refused++
	r.stuck = fmt.Sprintf("event %d cannot be merged: %v", records[0].Seq, bad.Err)
	r.fetch.hold(now, r.tuning.StuckWait)
}

// prune drops what is applied from the buffer, and says whether the last of it came by the stream.
func (r *Receiver) prune() (live bool) {
	n := 0
	for n < len(r.waiting) && r.waiting[n].Begin() <= r.applied {
		c := &r.waiting[n]
		live = live || c.live && c.last() >= r.applied
		if c.last() > r.applied {
			break // its front is applied; take skips that
		}
		r.waitingBytes -= c.bytes
		n++
	}
	r.waiting = slices.Delete(r.waiting, 0, n)
	return live
}

// FetchResult is what came of a fetch: records, or one of the others, or an error.
type FetchResult struct {
	Records []Record
	// Nothing says that the origin has nothing after what was asked for.
	Nothing bool
	// TrimmedTo is the outbox's first record if that comes after what was asked for.
	TrimmedTo uint64
	Err       error
	// More are runs of records from further envelopes; Envelopes are all of them as they came.
	More      [][]Record
	Envelopes [][]byte
}

// Fetched tells how a fetch ended.
func (r *Receiver) Fetched(res FetchResult, now time.Time) {
	n := len(res.Records)
	if r.relay.asked != 0 && n == 0 {
		r.fetch.Failed(now) // only the origin can say that there is nothing
		return
	}
	r.relay.answered(res, r.applied, now)
	switch {
	case res.Err != nil:
		r.fetch.Failed(now)
	case res.TrimmedTo > r.applied+1:
		r.trimmed(res.TrimmedTo, now)
	case res.Nothing:
		r.repair, r.movedAt, r.trimmedAt = false, now, time.Time{}
		r.fetch.Succeeded()
		if !r.gapAt.IsZero() { // its new leader does not know yet what the old one published
			r.gapAt = now
		}
	case n == 0 || res.Records[0].Begin() > r.applied+1 || res.Records[n-1].Seq <= r.applied:
		r.fetch.Failed(now)
	default:
		r.fetch.Succeeded()
		for _, records := range append([][]Record{res.Records}, res.More...) {
			if r.Offer(records, false, now) != nil {
				r.fetch.Failed(now)
			}
		}
	}
}

// trimmed takes that the origin's outbox begins behind what is missing. That is so for a moment when
// a new leader has not caught up with what it applied under the last one; see appliedIs.
func (r *Receiver) trimmed(first uint64, now time.Time) {
	if r.applied < r.plainTo && r.quarantine.splits {
		r.unsplit(now)
		return
	}
	if r.applied < r.plainTo {
		// The outbox has them only as one, which is tried again, but not often.
		r.Counts.Refused++
		r.stuck = fmt.Sprintf("events %d to %d cannot be merged, and the origin has them only folded: this partition needs a state transfer",
			r.applied+1, first-1)
		r.plainTo, r.needsState = 0, true
		r.fetch.hold(now, r.tuning.StuckWait)
		return
	}
	if r.trimmedAt.IsZero() {
		r.trimmedAt = now
	}
	if now.Sub(r.trimmedAt) < r.tuning.StuckWait || !r.relay.exhausted(r.applied) {
		r.fetch.Failed(now)
		return
	}
	r.Counts.Trimmed++
	r.needsState = true
	r.stuck = fmt.Sprintf("the origin's outbox begins at %d but only %d are applied: this partition needs a state transfer", first, r.applied)
	r.fetch.hold(now, r.tuning.StuckWait)
}

// AppliedIs tells what is applied here whether or not this receiver merged it: a node that begins to
// lead still has to apply what was committed before.
func (r *Receiver) AppliedIs(applied uint64, now time.Time) {
	if applied <= r.applied {
		return
	}
	r.applied = applied
	r.head = max(r.head, applied)
	r.lag.reached(applied)
	r.prune()
	r.movedAt, r.gapAt, r.trimmedAt = now, time.Time{}, time.Time{}
	r.stuck, r.needsState, r.quarantine = "", false, quarantine{}
	if len(r.waiting) > 0 && !r.contiguous() {
		r.gapAt = now
	}
}

// Applied returns the last of the origin's events that is known to be applied here.
func (r *Receiver) Applied() uint64 { return r.applied }

// Stuck says why only help from outside, or time, can make this flow go on; empty if it can go on.
func (r *Receiver) Stuck() string { return cmp.Or(r.stuck, r.quarantine.text) }

// Flow fills in what the receiver knows.
func (r *Receiver) Flow(f *Flow, now time.Time) {
	f.Applied, f.Head, f.Stuck, f.Ahead = r.applied, r.head, r.Stuck(), r.quarantine.ahead(now)
	f.First, f.OutboxBytes = r.outbox.first, r.outbox.bytes
	f.LagBytes, f.BytesKnown = r.sizes.missing(r.applied)
	f.heard(r.tuning, r.lag.behind(now), r.heardAt, r.startedAt, now)
}
