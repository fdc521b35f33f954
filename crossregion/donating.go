package crossregion

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// donating gives parts of one partition's state to other regions.
type donating struct {
	r         *Replicator
	partition topology.PartitionID
	// open has the regions that views are to be opened for: that takes a Raft entry if one had been evicted from the
	// outbox, so that who asks is told to come again.
	open chan topology.RegionID
	mu   struct {
		sync.Mutex
		donations protocol.Donations
	}
}

func newDonating(r *Replicator, p topology.PartitionID) *donating {
	return &donating{r: r, partition: p, open: make(chan topology.RegionID, 1)}
}

// answer answers a request for a part of the state.
func (d *donating) answer(request []byte) []byte {
	r := d.r
	asked, err := r.keys.DecodeResyncRequest(d.partition, request)
	if err == nil && r.givenUp(asked.By) {
		err = protocol.ErrGivenUp
	}
	if err != nil {
		r.refuse("request for a state refused", r.claimed(request), d.partition, err)
		return nil
	}
	if r.cfg.Transfers == nil {
		return nil
	}
	response, err := r.keys.EncodeResyncResponse(asked, d.part(asked))
	if err != nil {
		r.log.Error("part of a state cannot be sent to another region", slog.Any("partition", d.partition), slog.Any("err", err))
		return nil
	}
	r.counts.donated.Add(1)
	return response
}

func (d *donating) part(asked protocol.AskedResync) protocol.ResyncResponse {
	if asked.Want == protocol.WantView {
		d.mu.Lock()
		view, donor, ok := d.mu.donations.Of(asked.By, d.r.cfg.Clock())
		d.mu.Unlock()
		if ok {
			return protocol.ResyncResponse{View: view, Donor: donor}
		}
		select {
		case d.open <- asked.By:
		default: // another region's turn
		}
		return protocol.ResyncResponse{Refused: protocol.RefusedNow}
	}
	d.mu.Lock()
	d.mu.donations.Read(asked.By, asked.View)
	d.mu.Unlock()
	res, err := d.r.cfg.Transfers.ReadView(d.partition, asked.ResyncRequest)
	switch {
	case errors.Is(err, protocol.ErrNoView):
		return protocol.ResyncResponse{Refused: protocol.RefusedView}
	case err != nil:
		d.r.log.Warn("part of a state not read", slog.Any("partition", d.partition), slog.Any("err", err))
		return protocol.ResyncResponse{Refused: protocol.RefusedNow}
	}
	return res
}

// run opens views.
func (d *donating) run(ctx context.Context) {
	for {
		var by topology.RegionID
		select {
		case <-ctx.Done():
			return
		case by = <-d.open:
		}
		d.mu.Lock()
		_, _, have := d.mu.donations.Of(by, d.r.cfg.Clock())
		d.mu.Unlock()
		if have || d.r.cfg.Transfers == nil {
			continue
		}
		callCtx, cancel := context.WithTimeout(ctx, d.r.tuning.MergeTimeout)
		view, donor, err := d.r.cfg.Transfers.OpenView(callCtx, d.partition, by)
		cancel()
		if err != nil {
			d.r.log.Debug("no view of the state opened", slog.Any("partition", d.partition), slog.Any("region", by), slog.Any("err", err))
			continue
		}
		d.r.log.Info("another region takes over the state", slog.Any("partition", d.partition), slog.Any("region", by))
		d.mu.Lock()
		d.mu.donations.Opened(by, view, donor, d.r.cfg.Clock())
		d.mu.Unlock()
	}
}
