package crossregion

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

var (
	// ErrNotLed means that this node does not lead the partition.
	ErrNotLed = errors.New("this node does not lead the partition")
	// ErrUnknownRegion means that there is no such other region.
	ErrUnknownRegion = errors.New("no other region is called that")
	// ErrNoAudits means that this node cannot compare states.
	ErrNoAudits = errors.New("this node compares no states")
)

// comparing drives the audits of one partition.
type comparing struct {
	r         *Replicator
	partition topology.PartitionID
	// changed gets one when something is to be done.
	changed chan struct{}
	mu      struct {
		sync.Mutex
		plan *protocol.AuditPlan
	}
}

func newComparing(r *Replicator, p topology.PartitionID) *comparing {
	c := &comparing{r: r, partition: p, changed: make(chan struct{}, 1)}
	c.mu.plan = protocol.NewAuditPlan(r.tuning, uint64(rand.Uint32())<<32)
	return c
}

func (c *comparing) enabled() bool { return c.r.cfg.Audits != nil && c.r.cfg.Transfers != nil }

// alarm tells that a region's state was found to differ, or not to differ any more.
func (c *comparing) alarm(region topology.RegionID, on bool) {
	c.mu.Lock()
	c.mu.plan.Alarm(region, on)
	c.mu.Unlock()
	c.wake()
}

// want has the state compared with another region's.
func (c *comparing) want(region topology.RegionID) (number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.wake()
	return c.mu.plan.Want(region)
}

func (c *comparing) last(region topology.RegionID) (number uint64, report protocol.AuditReport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.plan.Last(region)
}

func (c *comparing) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *comparing) run(ctx context.Context) {
	if !c.enabled() {
		return
	}
	for ctx.Err() == nil {
		now := c.r.cfg.Clock()
		c.mu.Lock()
		region, ok, until := c.mu.plan.Next(now)
		c.mu.Unlock()
		if ok {
			c.audit(ctx, region)
			continue
		}
		timeout, stop := timer(until, now)
		select {
		case <-ctx.Done():
		case <-c.changed:
		case <-timeout:
		}
		stop()
	}
}

// audit compares the state with one region's.
func (c *comparing) audit(ctx context.Context, region topology.RegionID) {
	core := protocol.NewAuditor(c.r.tuning, c.r.budget, region)
	attrs := []any{slog.Any("partition", c.partition), slog.String("region", c.r.regions[region].Name)}
	c.r.log.Info("the state is being compared with another region's", attrs...)
	var mine uint64 // to let go if this ends early
	defer func() { c.release(mine) }()
	for ctx.Err() == nil {
		now := c.r.cfg.Clock()
		switch a := core.Action(now); a.Kind {
		case protocol.AuditAsk:
			c.ask(ctx, core, region, a.Request)
		case protocol.AuditPin:
			view, at, err := c.r.cfg.Audits.PinView(c.partition, c.r.cfg.Self)
			mine = view
			core.Pinned(view, at, err, c.r.cfg.Clock())
		case protocol.AuditCompare:
			same, atEnd, err := c.r.cfg.Audits.CompareRanges(c.partition, a.View, a.Ranges)
			core.Compared(same, atEnd, err, c.r.cfg.Clock())
		case protocol.AuditName:
			differ, next, err := c.r.cfg.Audits.CompareItems(c.partition, a.View, a.Window)
			core.Named(differ, next, err, c.r.cfg.Clock())
		case protocol.AuditRelease:
			c.release(a.View)
			mine = 0
			core.Released()
		case protocol.AuditWait:
			timeout, stop := timer(a.Until, now)
			select {
			case <-ctx.Done():
			case <-timeout:
			}
			stop()
		case protocol.AuditDone:
			c.ended(core.Report(), attrs)
			return
		}
		if report := core.Report(); report.State == protocol.AuditRunning {
			c.progress(report, c.r.cfg.Clock())
		}
	}
}

func (c *comparing) progress(report protocol.AuditReport, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.plan.Progress(report, now)
}

func (c *comparing) release(view uint64) {
	if view == 0 {
		return
	}
	_, err := c.r.cfg.Transfers.ReadView(c.partition, protocol.ResyncRequest{Want: protocol.WantClose, View: view})
	if err != nil {
		c.r.log.Warn("a view of the state is not closed", slog.Any("partition", c.partition), slog.Any("err", err))
	}
}

func (c *comparing) ask(ctx context.Context, core *protocol.Auditor, region topology.RegionID, request protocol.ResyncRequest) {
	res, err := c.r.askState(ctx, c.partition, region, request)
	core.Answered(res, err, c.r.cfg.Clock())
}

// ended logs the result: which values differ is not for logs.
func (c *comparing) ended(report protocol.AuditReport, attrs []any) {
	c.r.counts.audits.Add(1)
	c.r.counts.auditBytes.Add(report.Bytes)
	c.progress(report, c.r.cfg.Clock())
	attrs = append(attrs, slog.Uint64("ranges", report.Ranges), slog.Uint64("items", report.Items), slog.Uint64("bytes", report.Bytes))
	switch report.State {
	case protocol.AuditEqual:
		c.r.log.Info("the state is that of the other region", attrs...)
	case protocol.AuditDiffers:
		c.r.counts.auditDiffers.Add(1)
		c.r.log.Error("the state differs from the other region's: atoll region audit names the keys, docs/regions.md says what to do",
			append(attrs, slog.Uint64("differing_ranges", report.Differing), slog.Int("differing_values", len(report.Values)), slog.Bool("more", report.More))...)
	default:
		c.r.counts.auditFailed.Add(1)
		c.r.log.Warn("the state could not be compared with the other region's", append(attrs, slog.String("err", report.Why))...)
	}
}

// flow tells what differs in a flow that comes here from a region whose state differs.
func (c *comparing) flow(f *protocol.Flow) {
	if f.Diverged != "" {
		_, f.Audit = c.last(f.Source)
	}
}

// Audit has a partition's state, which this node leads, compared with another region's, at once, and returns the number
// of that audit, for Audited: higher ones are later, as long as this node leads. Safe for concurrent use.
// Errors: ErrNotLed, ErrUnknownRegion, ErrNoAudits.
func (r *Replicator) Audit(p topology.PartitionID, region topology.RegionID) (number uint64, err error) {
	c, err := r.comparing(p, region)
	if err != nil {
		return 0, err
	}
	return c.want(region), nil
}

// Audited returns the last comparison of a partition's state with another region's that this node has begun, and its
// number; 0 if there was none since it leads. Safe for concurrent use. Errors: those of Audit.
func (r *Replicator) Audited(p topology.PartitionID, region topology.RegionID) (number uint64, report protocol.AuditReport, err error) {
	c, err := r.comparing(p, region)
	if err != nil {
		return 0, report, err
	}
	number, report = c.last(region)
	return number, report, nil
}

func (r *Replicator) comparing(p topology.PartitionID, region topology.RegionID) (*comparing, error) {
	if _, known := r.regions[region]; !known {
		return nil, ErrUnknownRegion
	}
	s := r.session(p)
	switch {
	case s == nil:
		return nil, ErrNotLed
	case !s.compare.enabled():
		return nil, ErrNoAudits
	}
	return s.compare, nil
}
