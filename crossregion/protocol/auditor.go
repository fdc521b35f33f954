package protocol

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// Auditor finds out in which values this region's state of one partition differs from another region's. It is a step
// function like Resyncer, for one audit: it ends with a report.
//
// Both regions pin a view of their state, and only views of one vector are compared: of others it says nothing that
// they differ. It compares fingerprints of ranges from the beginning to the end, and of ranges that differ the items.
// Nothing is changed in either region.
type Auditor struct {
	tuning Tuning
	budget *Budget
	// mine and theirs are the views that are compared, 0 if they are not opened yet.
	mine, theirs uint64
	// cursor is up to where fingerprints were compared, atEnd that this is all there is.
	cursor []byte
	atEnd  bool
	// ranges are to be compared or, if compared, differ.
	ranges   []StateRange
	compared bool
	// window is what the other region has at the beginning of the first range, if have.
	window ItemWindow
	have   bool
	// releasing and closing are views here and there that are not needed any more.
	releasing, closing uint64
	asked              ResyncRequest
	// failingAt is since when a view gives nothing.
	failingAt time.Time
	retry     Backoff
	again     Backoff
	held      time.Time
	report    AuditReport
}

// ItemWindow is what a region holds from one position up to another.
type ItemWindow struct {
	From, To []byte
	Items    []StateItem
}

// AuditState says how far an audit is.
type AuditState int

// The states of an audit; all but the first are final.
const (
	AuditRunning AuditState = iota + 1
	AuditEqual
	AuditDiffers
	AuditFailed // it could not be compared
)

// AuditReport is what an audit has found. Nothing in it is of more than one pair of views.
type AuditReport struct {
	Region topology.RegionID
	State  AuditState
	// Vector is what both states include.
	Vector crdt.VersionVector
	// Ranges were compared, of Items items at the other region; Differing of them are not the same. Bytes came from the
	// other region, of all attempts.
	Ranges, Differing, Items, Bytes uint64
	// Values are those that differ, at most MaxAuditValues; More says that there are more.
	Values []DifferingValue
	More   bool
	// Attempts counts pairs of views that were of no use.
	Attempts int
	// Why says what goes wrong, or went wrong last if the state is AuditFailed.
	Why string
}

// DifferingValue is a value that is not the same in two regions: how many of its items only one of them has, and how many
// both have and are not the same.
type DifferingValue struct {
	Namespace, Key               string
	Type                         crdt.Type
	OnlyHere, OnlyThere, Changed uint64
}

// MaxAuditValues bounds the values that one audit names.
const MaxAuditValues = 64

type auditKind int

const (
	AuditWait    auditKind = iota // until the given time
	AuditAsk                      // ask the other region for Request, then call Answered
	AuditPin                      // pin a view of this region's state, then call Pinned
	AuditCompare                  // compare Ranges with those of View, then call Compared
	AuditName                     // compare Window with View, then call Named
	AuditRelease                  // let this region's View go, then call Released
	AuditDone                     // Report says the result
)

// AuditAction is what an Auditor wants done next.
type AuditAction struct {
	Kind    auditKind
	Until   time.Time
	Request ResyncRequest // but for the nonce
	View    uint64
	Ranges  []StateRange
	Window  ItemWindow
}

// NewAuditor returns what compares a partition with another region's. budget is shared by all of a node's transfers.
func NewAuditor(t Tuning, budget *Budget, region topology.RegionID) *Auditor {
	return &Auditor{
		tuning: t, budget: budget, report: AuditReport{Region: region, State: AuditRunning},
		retry: Backoff{Least: t.RetryLeast, Most: t.RetryMost}, again: Backoff{Least: t.AuditWait, Most: t.StuckWait},
	}
}

// Report returns what was found so far. The caller may keep it.
func (a *Auditor) Report() AuditReport {
	report := a.report
	report.Values = slices.Clone(report.Values)
	return report
}

// Action returns what to do next.
func (a *Auditor) Action(now time.Time) AuditAction {
	switch {
	case a.releasing != 0:
		return AuditAction{Kind: AuditRelease, View: a.releasing}
	case a.closing != 0:
		return a.ask(ResyncRequest{Want: WantClose, View: a.closing})
	case a.report.State != AuditRunning:
		return AuditAction{Kind: AuditDone}
	}
	if until := later(a.held, later(a.retry.Until, a.again.Until)); now.Before(until) {
		return AuditAction{Kind: AuditWait, Until: until}
	}
	switch {
	case a.theirs == 0:
		return a.ask(ResyncRequest{Want: WantAudit})
	case a.mine == 0:
		return AuditAction{Kind: AuditPin}
	case len(a.ranges) == 0:
		return a.ask(ResyncRequest{
			Want: WantRanges, View: a.theirs, From: a.cursor, Items: a.tuning.ResyncItems, Ranges: a.tuning.ResyncRanges,
		})
	case !a.compared:
		return AuditAction{Kind: AuditCompare, View: a.mine, Ranges: a.ranges}
	case !a.have:
		first := &a.ranges[0]
		return a.ask(ResyncRequest{Want: WantItems, View: a.theirs, From: first.From, To: first.To, MaxBytes: a.tuning.ResyncBytes})
	}
	return AuditAction{Kind: AuditName, View: a.mine, Window: a.window}
}

func (a *Auditor) ask(want ResyncRequest) AuditAction {
	a.asked = want
	return AuditAction{Kind: AuditAsk, Request: want}
}

// Answered tells how asking the other region ended.
func (a *Auditor) Answered(res ResyncResponse, err error, now time.Time) {
	switch {
	case a.asked.Want == WantClose:
		a.closing = 0 // if it was not heard, the view goes by itself
	case err != nil:
		a.failing(fmt.Sprintf("the other region does not answer: %v", err), now)
	case res.Refused == RefusedView:
		a.giveUp("the other region's view is gone", now)
	case res.Refused != 0:
		a.failing("the other region gives no view of its state now", now)
	default:
		a.worked()
		n := res.bytes()
		a.report.Bytes += uint64(n)
		a.held = a.budget.Spend(n, now)
		a.take(res)
	}
}

func (a *Auditor) take(res ResyncResponse) {
	switch a.asked.Want {
	case WantAudit:
		a.theirs, a.report.Vector = res.View, res.Vector
	case WantRanges:
		a.ranges, a.compared = res.Ranges, false
	case WantItems:
		a.window, a.have = ItemWindow{a.asked.From, a.asked.To, res.Items}, true
		if res.Next != nil {
			a.window.To = res.Next
		}
	}
}

// Pinned tells which view of this region's state was pinned, and of which vector it is.
func (a *Auditor) Pinned(view uint64, at crdt.VersionVector, err error, now time.Time) {
	if err != nil {
		a.failing(fmt.Sprintf("no view of the state here: %v", err), now)
		return
	}
	a.worked()
	if a.mine = view; !at.Equal(a.report.Vector) {
		a.giveUp(fmt.Sprintf("the regions have not applied the same events: %v here, %v there", at.Entries(), a.report.Vector.Entries()), now)
	}
}

// Compared tells which of the ranges that were to be compared are the same here, and whether the last one ends where
// the state does.
func (a *Auditor) Compared(same []bool, atEnd bool, err error, now time.Time) {
	if err != nil || len(same) != len(a.ranges) {
		a.giveUp(fmt.Sprintf("the ranges cannot be compared here: %v", err), now)
		return
	}
	a.cursor, a.atEnd, a.compared = a.ranges[len(a.ranges)-1].To, atEnd, true
	var differ []StateRange
	for i := range a.ranges {
		a.report.Ranges++
		a.report.Items += a.ranges[i].Items
		if !same[i] {
			a.report.Differing++
			differ = append(differ, a.ranges[i])
		}
	}
	a.goOn(differ)
}

// Named tells which values of the window that was to be compared differ, and up to where that is known.
func (a *Auditor) Named(differ []DifferingValue, next []byte, err error, now time.Time) {
	if err != nil || bytes.Equal(next, a.window.From) {
		a.giveUp(fmt.Sprintf("the items cannot be compared here: %v", err), now)
		return
	}
	for _, d := range differ {
		a.add(d)
	}
	a.window, a.have = ItemWindow{}, false
	if a.ranges[0].From = next; bytes.Equal(next, a.ranges[0].To) {
		a.ranges = a.ranges[1:]
	}
	a.goOn(a.ranges)
}

// add takes a value that differs, of which some items may have been seen before.
func (a *Auditor) add(d DifferingValue) {
	for i := range a.report.Values {
		if v := &a.report.Values[i]; v.Namespace == d.Namespace && v.Key == d.Key && v.Type == d.Type {
			v.OnlyHere += d.OnlyHere
			v.OnlyThere += d.OnlyThere
			v.Changed += d.Changed
			return
		}
	}
	if len(a.report.Values) == MaxAuditValues {
		a.report.More = true
		return
	}
	a.report.Values = append(a.report.Values, d)
}

// goOn looks at ranges that differ next, unless enough values are known, and ends behind the last.
func (a *Auditor) goOn(differ []StateRange) {
	if a.report.More {
		differ = nil
	}
	if a.ranges = differ; len(differ) > 0 || !a.atEnd {
		return
	}
	a.report.State, a.report.Why = AuditEqual, ""
	if a.report.Differing > 0 {
		a.report.State = AuditDiffers
	}
	a.letGo()
}

// Released tells that this region's view is gone.
func (a *Auditor) Released() { a.releasing = 0 }

func (a *Auditor) worked() {
	a.failingAt, a.report.Why = time.Time{}, ""
	a.retry.Succeeded()
}

// failing counts a failure, and gives the views up after some.
func (a *Auditor) failing(why string, now time.Time) {
	a.report.Why = why
	a.retry.Failed(now)
	if a.failingAt.IsZero() {
		a.failingAt = now
	}
	if now.Sub(a.failingAt) >= a.tuning.DonorWait {
		a.giveUp(why, now)
	}
}

// giveUp begins anew with other views, a few times.
func (a *Auditor) giveUp(why string, now time.Time) {
	a.worked()
	a.letGo()
	a.report = AuditReport{Region: a.report.Region, State: AuditRunning, Bytes: a.report.Bytes, Attempts: a.report.Attempts + 1, Why: why}
	a.again.Failed(now)
	if a.report.Attempts >= a.tuning.AuditAttempts {
		a.report.State = AuditFailed
	}
}

// letGo has both views closed, and forgets what was read of them.
func (a *Auditor) letGo() {
	a.releasing, a.closing = a.mine, a.theirs
	a.mine, a.theirs, a.cursor, a.atEnd = 0, 0, nil, false
	a.ranges, a.compared, a.window, a.have = nil, false, ItemWindow{}, false
}
