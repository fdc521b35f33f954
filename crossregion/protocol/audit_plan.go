package protocol

import (
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/topology"
)

// AuditPlan says with which regions one partition is compared: once with each that was found to differ, and when
// somebody wants it, one at a time. What could not be compared because of an alarm is tried again, ever more seldom, as
// long as there is the alarm. It is a step function.
type AuditPlan struct {
	tuning Tuning
	// last is the number of the last audit that was asked for.
	last    uint64
	regions map[topology.RegionID]*auditsOf
}

// auditsOf is what is to be done and was done about one region.
type auditsOf struct {
	alarm bool
	// wanted is the number of an audit that has yet to begin, 0 if there is none; retry says when, if only the alarm
	// wants it.
	wanted uint64
	urgent bool
	retry  Backoff
	// number is that of the last one that began.
	number uint64
	report AuditReport
}

// NewAuditPlan returns a plan whose audits are numbered from number on: a random one, so that nobody takes another
// leader's audit for this one's.
func NewAuditPlan(t Tuning, number uint64) *AuditPlan {
	return &AuditPlan{tuning: t, last: number, regions: map[topology.RegionID]*auditsOf{}}
}

func (p *AuditPlan) of(region topology.RegionID) *auditsOf {
	known := p.regions[region]
	if known == nil {
		known = &auditsOf{retry: Backoff{Least: p.tuning.AuditAgain, Most: 64 * p.tuning.AuditAgain}}
		p.regions[region] = known
	}
	return known
}

// Alarm tells that a region's state was found to differ, or not to differ any more.
func (p *AuditPlan) Alarm(region topology.RegionID, on bool) {
	known := p.of(region)
	if on == known.alarm {
		return
	}
	if known.alarm = on; !on {
		if !known.urgent {
			known.wanted = 0
		}
		return
	}
	known.retry.Succeeded()
	p.want(known)
}

// Want has an audit done, and returns its number. One that has not begun yet serves.
func (p *AuditPlan) Want(region topology.RegionID) uint64 {
	known := p.of(region)
	p.want(known)
	known.urgent = true
	return known.wanted
}

func (p *AuditPlan) want(known *auditsOf) {
	if known.wanted == 0 {
		p.last++
		known.wanted = p.last
	}
}

// Next returns with which region to compare now, and begins that audit; ok is false if there is none until the time
// returned, or until something is wanted if that is zero.
func (p *AuditPlan) Next(now time.Time) (region topology.RegionID, ok bool, until time.Time) {
	for _, candidate := range slices.Sorted(maps.Keys(p.regions)) {
		known := p.regions[candidate]
		switch {
		case known.wanted == 0:
		case !known.urgent && known.retry.waiting(now):
			if until.IsZero() || known.retry.Until.Before(until) {
				until = known.retry.Until
			}
		case !ok || known.wanted < p.regions[region].wanted:
			region, ok = candidate, true
		}
	}
	if ok {
		known := p.regions[region]
		known.number, known.wanted, known.urgent = known.wanted, 0, false
		known.report = AuditReport{Region: region, State: AuditRunning}
	}
	return region, ok, until
}

// Progress tells how far the audit is that Next began, or how it ended.
func (p *AuditPlan) Progress(report AuditReport, now time.Time) {
	known := p.of(report.Region)
	known.report = report
	if report.State == AuditFailed && known.alarm {
		known.retry.Failed(now)
		p.want(known)
	}
}

// Last returns the last audit with a region that began, or the first one if that has yet to, and its number; 0 if none
// was ever wanted.
func (p *AuditPlan) Last(region topology.RegionID) (number uint64, report AuditReport) {
	switch known := p.regions[region]; {
	case known == nil:
		return 0, AuditReport{}
	case known.number == 0 && known.wanted != 0:
		return known.wanted, AuditReport{Region: region, State: AuditRunning}
	default:
		return known.number, known.report
	}
}
