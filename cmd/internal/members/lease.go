package members

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// kindLease asks the region's voter whether a majority has a region open and active: region u8 | epoch u32. The answer is
	// one byte, 1 for yes.
	kindLease = 62
	// leaseEvery is how often a node asks as long as it holds a lease: one question may take its full time without an answer, and
	// the next one too, before the lease runs out.
	leaseEvery = 2500 * time.Millisecond
	// leaseAgain is how soon it asks again if it does not.
	leaseAgain = 500 * time.Millisecond
	leaseTime  = 4 * time.Second
	// leaseQuestions bounds how many other nodes a voter answers at once.
	leaseQuestions = 64
)

// MayLease reports whether a region was open and active at an instant after the call began, as a majority of the voters
// knows: none of them may have taken a decision that this voter has not applied.
// Errors: region.ErrNoQuorum, region.ErrShuttingDown, ctx's.
func (h *Host) MayLease(ctx context.Context, id topology.RegionID, e topology.Epoch) (bool, error) {
	if err := h.group.ConfirmMajority(ctx); err != nil {
		return false, err
	}
	heard, _ := h.view.Current() // may be ahead of what was applied, where regions were declared dead by hand
	return h.machine.state().MayLease(id, e) && heard.MayLease(id, e), nil
}

// MayLease is Host.MayLease of this region, by way of its voter.
func (s *Share) MayLease(ctx context.Context) (bool, error) {
	self := s.cfg.Region
	if s.cfg.Host != nil {
		return s.cfg.Host.MayLease(ctx, self.ID, self.Epoch)
	}
	question := binary.BigEndian.AppendUint32([]byte{byte(self.ID)}, uint32(self.Epoch))
	answer, err := s.cfg.Layer.Call(ctx, self.Nodes[0].ID, transport.Control, kindLease, question)
	if err != nil {
		return false, err
	}
	if len(answer) != 1 {
		return false, errAnswer
	}
	return answer[0] == 1, nil
}

// serveLease answers the region's other nodes.
func (h *Host) serveLease(ctx context.Context, loops *errgroup.Group) transport.Handler {
	places := make(chan struct{}, leaseQuestions)
	return func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		if len(body) != 5 {
			reply(nil, errAnswer)
			return
		}
		answerLater(ctx, loops, places, leaseTime, reply, func(ctx context.Context) ([]byte, error) {
			open, err := h.MayLease(ctx, topology.RegionID(body[0]), topology.Epoch(binary.BigEndian.Uint32(body[1:])))
			answer := []byte{0}
			if open {
				answer[0] = 1
			}
			return answer, err
		})
	}
}

// LeaseConfig is what a keeper of a lease needs; every field is required.
type LeaseConfig struct {
	Region topology.RegionID
	Epoch  topology.Epoch
	View   membership.View
	// MayLease asks whether the region was open and active at an instant after the call began.
	MayLease func(context.Context) (bool, error)
	// Wanted reports whether this node may have to act for a home: nothing is asked otherwise.
	Wanted func() bool
	// Clock is a monotonic clock, since any origin, which counts the time that the machine sleeps if there is one that does.
	Clock  func() time.Duration
	Logger *slog.Logger
}

// Leases keeps a node's lease, by which its region may act as a home, and knows when those of others are over. It is safe for
// concurrent use.
type Leases struct {
	cfg LeaseConfig
	mu  struct {
		sync.Mutex
		lease membership.Lease
		out   membership.RunOut
		held  bool // as last logged
	}
}

// NewLeases returns a keeper without a lease; Run gets it one.
func NewLeases(cfg LeaseConfig) *Leases {
	l := &Leases{cfg: cfg}
	l.mu.lease = membership.NewLease(cfg.Clock())
	return l
}

// Run does so until ctx ends.
func (l *Leases) Run(ctx context.Context) error {
	loops, ctx := errgroup.WithContext(ctx)
	loops.Go(func() error { l.follow(ctx); return nil })
	loops.Go(func() error { l.renew(ctx); return nil })
	return loops.Wait()
}

// follow notes when the node first knows of regions that are given up.
func (l *Leases) follow(ctx context.Context) {
	for {
		_, changed := l.cfg.View.Current()
		l.mu.Lock()
		l.seeLocked()
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (l *Leases) seeLocked() *membership.State {
	known, _ := l.cfg.View.Current()
	l.mu.out.See(known, l.cfg.Clock())
	return known
}

// renew asks again and again.
func (l *Leases) renew(ctx context.Context) {
	for {
		pause := time.NewTimer(l.ask(ctx))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// ask asks once, and returns when to ask again.
func (l *Leases) ask(ctx context.Context) time.Duration {
	if !l.cfg.Wanted() {
		return leaseEvery
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	asked := l.cfg.Clock() // before the question leaves: no two nodes' clocks are compared
	open, err := l.cfg.MayLease(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	// What this node knows counts, too: it has to know what its region was before it came back, to wait for that.
	known := l.seeLocked()
	now := l.cfg.Clock()
	if err == nil {
		l.mu.lease.Answered(asked, now, open && known.MayLease(l.cfg.Region, l.cfg.Epoch))
	}
	d, held := l.mu.lease.At(now)
	switch {
	case held && !l.mu.held:
		l.cfg.Logger.Info("the region may act as a home")
	case !held && l.mu.held:
		l.cfg.Logger.Warn("the region may not act as a home any more: it has no answer from a majority of the membership", "for", d, "err", err)
	}
	l.mu.held = held
	if held && err == nil {
		return leaseEvery
	}
	return leaseAgain
}

// Held returns nil if this region may act as a home now, or else a *region.NoLeaseError.
func (l *Leases) Held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Clock()
	if d, held := l.mu.lease.At(now); !held {
		return &region.NoLeaseError{Why: fmt.Sprintf("the region cannot reach a majority of the membership, and has not for %v; "+
			"it decides nothing where it is the home until it can: others may have taken that over", d.Round(time.Second))}
	}
	// Its own actor is open. Whoever runs under an earlier one may not know that it was given up.
	if left, _ := l.mu.out.Left(l.cfg.Region, now); left > 0 {
		return &region.NoLeaseError{Why: fmt.Sprintf("the region has come back, and what was it before may act as a home for %v still", left.Round(time.Second))}
	}
	return nil
}

// Left returns for how long still a region that is given up may act as a home; 0 means that it does not, for certain.
func (l *Leases) Left(id topology.RegionID) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seeLocked()
	left, known := l.mu.out.Left(id, l.cfg.Clock())
	if !known {
		return membership.LeaseOver
	}
	return left
}

// State returns whether the lease is held: for how long still, or else for how long it has not been. wanted says whether the
// node asks for one at all.
func (l *Leases) State() (d time.Duration, held, wanted bool) {
	wanted = l.cfg.Wanted()
	l.mu.Lock()
	defer l.mu.Unlock()
	d, held = l.mu.lease.At(l.cfg.Clock())
	return d, held, wanted
}
