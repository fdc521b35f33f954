package crossregion

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// resyncing reports whether a partition's state is not that of one vector.
func (r *Replicator) resyncing(p topology.PartitionID) bool {
	if r.cfg.Transfers == nil {
		return false
	}
	_, resyncing := r.cfg.Transfers.Transfer(p)
	return resyncing
}

// transferring drives the resyncer of one partition.
type transferring struct {
	r         *Replicator
	s         *session
	partition topology.PartitionID
	mu        struct {
		sync.Mutex
		core *protocol.Resyncer
	}
	// stuck is what was last logged.
	stuck string
}

func newTransferring(s *session) *transferring {
	t := &transferring{r: s.r, s: s, partition: s.partition}
	t.mu.core = protocol.NewResyncer(s.r.tuning, s.r.budget)
	return t
}

// donors returns from whom to take over a state: those that have what is missing of any origin. What no outbox has,
// every region that takes part has in its state.
func (t *transferring) donors() []topology.RegionID {
	var all []topology.RegionID
	lacks := t.r.cfg.Transfers.Lacks(t.partition)
	for _, region := range t.r.cfg.Regions {
		if lacks && !t.r.givenUp(region.ID) && !slices.Contains(all, region.ID) {
			all = append(all, region.ID)
		}
		for _, donor := range t.s.receivers[region.ID].donors() {
			if !slices.Contains(all, donor) {
				all = append(all, donor)
			}
		}
	}
	return all
}

func (t *transferring) run(ctx context.Context) {
	if t.r.cfg.Transfers == nil {
		return
	}
	for ctx.Err() == nil {
		donors, now := t.donors(), t.r.cfg.Clock()
		at, _ := t.r.cfg.Transfers.Transfer(t.partition)
		t.mu.Lock()
		t.mu.core.Want(donors)
		t.mu.core.Is(at)
		a, stuck := t.mu.core.Action(now), t.mu.core.Stuck()
		t.mu.Unlock()
		t.logStuck(stuck)
		switch a.Kind {
		case protocol.ResyncAsk:
			t.ask(ctx, a)
		case protocol.ResyncCompare:
			same, err := t.r.cfg.Transfers.Same(t.partition, a.Ranges)
			t.mu.Lock()
			t.mu.core.Compared(a.Ranges, same, err, t.r.cfg.Clock())
			t.mu.Unlock()
		case protocol.ResyncStep:
			t.step(ctx, a.Step)
		case protocol.ResyncWait:
			until := now.Add(t.r.tuning.TickEvery) // receivers find out by and by that they need it
			if !a.Until.IsZero() && a.Until.Before(until) {
				until = a.Until
			}
			timeout, stop := timer(until, now)
			select {
			case <-ctx.Done():
			case <-timeout:
			}
			stop()
		}
	}
}

func (t *transferring) ask(ctx context.Context, a protocol.ResyncAction) {
	res, err := t.r.askState(ctx, t.partition, a.Donor, a.Request)
	t.r.counts.transferBytes.Add(uint64(len(res.Data)))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.core.Answered(a.Donor, res, err, t.r.cfg.Clock())
}

// askState asks another region for a part of its state.
func (r *Replicator) askState(
	ctx context.Context, p topology.PartitionID, donor topology.RegionID, want protocol.ResyncRequest,
) (res protocol.ResyncResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.tuning.FetchTimeout)
	defer cancel()
	want.Nonce = rand.Uint64()
	request, err := r.keys.EncodeResyncRequest(p, donor, want)
	if err == nil {
		var response []byte
		if response, err = r.cfg.Link.Inlet(donor).Fetch(ctx, p, request); err == nil {
			if res, err = r.keys.DecodeResyncResponse(donor, want, response); err != nil {
				r.refuse("part of a state refused", donor, p, err)
			}
		}
	}
	if err != nil {
		r.log.Debug("no part of a state given", slog.Any("partition", p), slog.Any("region", donor), slog.Any("err", err))
	}
	return res, err
}

func (t *transferring) step(ctx context.Context, step protocol.TransferStep) {
	ctx, cancel := context.WithTimeout(ctx, t.r.tuning.MergeTimeout)
	defer cancel()
	at, err := t.r.cfg.Transfers.Step(ctx, t.partition, step)
	attrs := []any{slog.Any("partition", t.partition), slog.Any("region", at.Donor)}
	switch {
	case err != nil:
		t.r.log.Debug("step of a state transfer not done", append(attrs, slog.Any("err", err))...)
		at, _ = t.r.cfg.Transfers.Transfer(t.partition)
	case step.Kind == protocol.StepBegin:
		t.r.log.Info("another region's state is being taken over", attrs...)
	}
	t.mu.Lock()
	progress := t.mu.core.Progress()
	t.mu.core.Stepped(step, at, err, t.r.cfg.Clock())
	t.mu.Unlock()
	if err != nil || step.Kind != protocol.StepEnd {
		return
	}
	t.r.counts.transfers.Add(1)
	t.r.log.Info("another region's state was taken over", slog.Any("partition", t.partition), slog.Any("region", progress.Donor),
		slog.Uint64("same", progress.Same), slog.Uint64("sent", progress.Sent), slog.Uint64("bytes", progress.Bytes))
	for _, rcv := range t.s.receivers {
		rcv.tookOver()
	}
}

func (t *transferring) logStuck(is string) {
	if is != t.stuck && is != "" {
		t.r.log.Error("another region's state cannot be taken over", slog.Any("partition", t.partition), slog.String("err", is))
	}
	t.stuck = is
}

// flow tells of a transfer in a flow that comes here.
func (t *transferring) flow(f *protocol.Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.Transfer = t.mu.core.Progress()
	for _, more := range []string{f.Transfer.String(), t.mu.core.Stuck()} {
		if f.Stuck != "" && more != "" {
			f.Stuck += "; " + more
		}
	}
}
