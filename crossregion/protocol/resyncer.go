package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/topology"
)

// Resyncer takes over another region's state of one partition where the deltas are not to be had any more. It is a step
// function like Receiver.
//
// Everything that must outlast a leader is in the partition's own state, Transfer: which view of whose state is taken over,
// and how far. A new leader goes on with that view if the donor still has it, and begins another one if not; what was
// taken over then costs no more than the fingerprints of it.
type Resyncer struct {
	tuning Tuning
	budget *Budget
	// donors are the regions to take over from, in order of preference; none if nothing is missing. tried have failed.
	donors []topology.RegionID
	tried  map[topology.RegionID]bool
	at     Transfer
	// opened is a view that was opened and not begun with; lost is one that is gone.
	opened opening
	lost   uint64
	// ranges follow each other from the cursor on; compared says that same has an entry for each.
	ranges   []StateRange
	same     []bool
	compared bool
	// chunk is what is to be joined next.
	chunk []byte
	// writes are to be taken over next, from writesFrom on, of the view writesOf; writesEnd says that there are no more.
	writes, writesFrom []byte
	writesOf           uint64
	writesEnd          bool
	// closing is a view that is not needed any more.
	closing opening
	asked   ResyncRequest
	// failingAt is since when a donor gives nothing.
	failingAt time.Time
	retry     Backoff
	held      time.Time
	stuck     string
	progress  TransferProgress
}

// opening is a view at a donor, and what it includes.
type opening struct {
	region      topology.RegionID
	view        uint64
	description []byte
}

// Transfer is the state transfer that a partition's state says is under way; the zero value says that none is.
type Transfer struct {
	// ID is the number of the donor's view.
	ID    uint64
	Donor topology.RegionID
	// Cursor is up to where the donor's state is joined, End that this is all of it.
	Cursor []byte
	End    bool
}

// TransferProgress says how far a state transfer is, as far as this node has carried it.
type TransferProgress struct {
	// Donor is 0 if none is under way.
	Donor topology.RegionID
	// Same are the ranges that were not sent, Sent those that were, and Bytes all that was.
	Same, Sent, Bytes uint64
}

type resyncKind int

const (
	ResyncWait    resyncKind = iota // for an event, or until the given time if it is set
	ResyncAsk                       // ask Donor for Request, then call Answered
	ResyncCompare                   // compare Ranges, then call Compared
	ResyncStep                      // have Step done, then call Stepped
)

// ResyncAction is what a Resyncer wants done next.
type ResyncAction struct {
	Kind    resyncKind
	Until   time.Time
	Donor   topology.RegionID
	Request ResyncRequest // but for the nonce
	Ranges  []StateRange
	Step    TransferStep
}

// StepKind says which step of a transfer a partition is to do.
type StepKind int

// The steps, in order; a transfer may be given up at any time.
const (
	StepBegin   StepKind = iota + 1 // Data is the donor's description
	StepChunk                       // Data is a chunk
	StepWrites                      // Data is writes
	StepEnd                         // all is joined
	StepAbandon                     // what was joined stays
)

// TransferStep is a step of a transfer.
type TransferStep struct {
	Kind StepKind
	ID   uint64
	Data []byte
}

// NewResyncer returns the resyncer of a node that begins to lead. budget is shared by all of a node's.
func NewResyncer(t Tuning, budget *Budget) *Resyncer {
	return &Resyncer{
		tuning: t, budget: budget, tried: map[topology.RegionID]bool{}, retry: Backoff{Least: t.RetryLeast, Most: t.RetryMost},
	}
}

// Want tells from whom to take over, in order of preference; nobody if nothing is missing.
func (r *Resyncer) Want(donors []topology.RegionID) {
	if len(donors) == 0 {
		r.stuck = ""
		clear(r.tried)
	}
	r.donors = donors
}

// Is tells which transfer the partition's state says is under way. It is called before Action.
func (r *Resyncer) Is(at Transfer) {
	if at.ID != r.at.ID {
		r.ranges, r.compared, r.chunk = nil, false, nil
		r.progress = TransferProgress{Donor: at.Donor}
	}
	r.at = at
}

// Action returns what to do next.
func (r *Resyncer) Action(now time.Time) ResyncAction {
	if until := later(r.held, r.retry.Until); now.Before(until) {
		return ResyncAction{Kind: ResyncWait, Until: until}
	}
	switch {
	case r.closing.view != 0:
		return r.ask(r.closing.region, ResyncRequest{Want: WantClose, View: r.closing.view})
	case r.at.ID != 0 && r.at.ID != r.lost:
		return r.goOn()
	case r.opened.view != 0:
		return r.step(StepBegin, r.opened.view, r.opened.description)
	case len(r.donors) > 0:
		return r.ask(r.donor(now), ResyncRequest{Want: WantView})
	case r.at.ID != 0:
		return r.step(StepAbandon, r.at.ID, nil)
	}
	return ResyncAction{Kind: ResyncWait}
}

// goOn returns the next step of the transfer that is under way.
func (r *Resyncer) goOn() ResyncAction {
	switch {
	case r.at.End:
		return r.finish()
	case r.chunk != nil:
		return r.step(StepChunk, r.at.ID, r.chunk)
	case len(r.ranges) == 0 || !bytes.Equal(r.ranges[0].From, r.at.Cursor):
		r.ranges, r.compared = nil, false
		return r.ask(r.at.Donor, ResyncRequest{
			Want: WantRanges, View: r.at.ID, From: r.at.Cursor, Items: r.tuning.ResyncItems, Ranges: r.tuning.ResyncRanges,
		})
	case !r.compared:
		return ResyncAction{Kind: ResyncCompare, Ranges: r.ranges}
	}
	want := ResyncRequest{Want: WantHidden, View: r.at.ID, From: r.at.Cursor, To: r.ranges[0].To, MaxBytes: r.tuning.ResyncBytes}
	if !r.same[0] {
		want.Want, want.To = WantChunk, r.ranges[r.differing()-1].To
	}
	return r.ask(r.at.Donor, want)
}

// differing is how many of the next ranges are not the same here.
func (r *Resyncer) differing() int {
	if n := slices.Index(r.same, true); n >= 0 {
		return n
	}
	return len(r.same)
}

// finish takes over the writes that the donor remembers, and ends.
func (r *Resyncer) finish() ResyncAction {
	if r.writesOf != r.at.ID {
		r.writesOf, r.writes, r.writesFrom, r.writesEnd = r.at.ID, nil, nil, false
	}
	switch {
	case len(r.writes) > 0:
		return r.step(StepWrites, r.at.ID, r.writes)
	case !r.writesEnd:
		return r.ask(r.at.Donor, ResyncRequest{Want: WantWrites, View: r.at.ID, From: r.writesFrom, MaxBytes: r.tuning.ResyncBytes})
	}
	return r.step(StepEnd, r.at.ID, nil)
}

func (r *Resyncer) ask(donor topology.RegionID, want ResyncRequest) ResyncAction {
	r.asked = want
	return ResyncAction{Kind: ResyncAsk, Donor: donor, Request: want}
}

func (r *Resyncer) step(kind StepKind, id uint64, data []byte) ResyncAction {
	return ResyncAction{Kind: ResyncStep, Step: TransferStep{kind, id, data}}
}

// donor returns whom to ask for a view: the first that has not failed.
func (r *Resyncer) donor(time.Time) topology.RegionID {
	for _, region := range r.donors {
		if !r.tried[region] {
			return region
		}
	}
	clear(r.tried)
	return r.donors[0]
}

// Answered tells how asking a donor ended.
func (r *Resyncer) Answered(donor topology.RegionID, res ResyncResponse, err error, now time.Time) {
	if r.asked.Want == WantClose {
		r.closing = opening{} // if it was not heard, the view goes by itself
		return
	}
	if err == nil && res.Refused == 0 {
		r.failingAt = time.Time{}
		r.retry.Succeeded()
		n := res.bytes()
		r.progress.Bytes += uint64(n)
		r.held = r.budget.Spend(n, now)
		r.take(donor, res)
		return
	}
	if res.Refused == RefusedView {
		r.drop(now)
		return
	}
	r.retry.Failed(now)
	if r.failingAt.IsZero() {
		r.failingAt = now
	}
	if now.Sub(r.failingAt) >= r.tuning.DonorWait {
		r.giveUp(donor, now)
	}
}

func (r *Resyncer) take(donor topology.RegionID, res ResyncResponse) {
	switch r.asked.Want {
	case WantView:
		r.opened = opening{donor, res.View, res.Donor}
	case WantRanges:
		r.ranges, r.compared = res.Ranges, false
	case WantChunk, WantHidden:
		r.chunk = res.Data
	case WantWrites:
		r.writes, r.writesFrom, r.writesEnd = res.Data, res.Next, res.Next == nil
	}
}

// drop gives up the view that is read, which is gone; another one is opened.
func (r *Resyncer) drop(now time.Time) {
	r.lost, r.opened, r.failingAt = r.at.ID, opening{}, time.Time{}
	r.ranges, r.compared, r.chunk = nil, false, nil
	r.retry.Failed(now)
}

// giveUp has another donor asked, as long as there is one that was not tried.
func (r *Resyncer) giveUp(donor topology.RegionID, now time.Time) {
	r.drop(now)
	r.tried[donor] = true
	if !slices.ContainsFunc(r.donors, func(d topology.RegionID) bool { return !r.tried[d] }) {
		r.retry.hold(now, r.tuning.StuckWait)
	}
}

// Compared tells which of the ranges that were to be compared are the same here.
func (r *Resyncer) Compared(ranges []StateRange, same []bool, err error, now time.Time) {
	if err != nil || len(same) != len(ranges) {
		r.retry.Failed(now)
		return
	}
	if len(r.ranges) == len(ranges) {
		r.same, r.compared = same, true
	}
}

// Stepped tells how a step ended, and which transfer the partition's state says is under way then.
func (r *Resyncer) Stepped(step TransferStep, at Transfer, err error, now time.Time) {
	switch {
	case err == nil:
		r.retry.Succeeded()
		r.stepped(step, at)
	case errors.Is(err, ErrRangeDiffers):
		r.chunk = nil
		if r.compared && len(r.same) > 0 {
			r.same[0] = false
		}
	case errors.Is(err, ErrNoTransfer):
		r.chunk, r.ranges = nil, nil
		r.retry.Failed(now)
	case errors.Is(err, ErrNothingNew):
		r.abort(now)
	case errors.Is(err, ErrTransferRefused):
		r.stuck = err.Error()
		r.abort(now)
	default: // it may have been done or not; the state says what
		r.retry.Failed(now)
	}
	r.Is(at)
}

// abort closes the donor's view, and has another donor asked.
func (r *Resyncer) abort(now time.Time) {
	left := r.opened
	if left.view == 0 {
		left = opening{region: r.at.Donor, view: r.at.ID}
	}
	r.giveUp(left.region, now)
	r.closing = left
}

func (r *Resyncer) stepped(step TransferStep, at Transfer) {
	switch step.Kind {
	case StepBegin:
		r.opened, r.stuck = opening{}, ""
	case StepChunk:
		r.chunk = nil
		r.joined(at.Cursor)
	case StepWrites:
		r.writes = nil
	case StepEnd:
		r.closing = opening{region: r.at.Donor, view: step.ID}
		r.tried[r.at.Donor] = true // if something is still missing, it is another one that has it
	case StepAbandon:
		r.closing = opening{}
	}
}

// joined drops the ranges that the cursor has passed. It may be inside of one.
func (r *Resyncer) joined(cursor []byte) {
	if !r.compared || len(r.ranges) == 0 {
		return
	}
	n := 1
	if !r.same[0] {
		n = r.differing()
	}
	for i := range n {
		if bytes.Equal(r.ranges[i].To, cursor) {
			r.count(i + 1)
			r.ranges, r.same = r.ranges[i+1:], r.same[i+1:]
			return
		}
	}
	// It is in one of them, and which one cannot be told: they are one range from now on.
	r.count(n - 1)
	r.ranges, r.same = r.ranges[n-1:], r.same[n-1:]
	r.ranges[0].From = cursor
}

func (r *Resyncer) count(ranges int) {
	if r.same[0] {
		r.progress.Same += uint64(ranges)
	} else {
		r.progress.Sent += uint64(ranges)
	}
}

// Progress says how far the transfer is that is under way.
func (r *Resyncer) Progress() TransferProgress {
	p := r.progress
	if p.Donor = r.at.Donor; r.at.ID == 0 {
		return TransferProgress{}
	}
	return p
}

// Stuck says why the state that is missing cannot be taken over; empty if it can, or nothing is missing.
func (r *Resyncer) Stuck() string { return r.stuck }

// String says it in words; "" if nothing is under way.
func (p TransferProgress) String() string {
	if p.Donor == 0 {
		return ""
	}
	return fmt.Sprintf("the state of region %d is being taken over: %d ranges were the same, %d were sent, %d bytes", p.Donor, p.Same, p.Sent, p.Bytes)
}
