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
	// open has what views are to be opened for: that takes a Raft entry if a region had been evicted from the outbox, and
	// a write to the disk, so that who asks is told to come again.
	open chan opening
	mu   struct {
		sync.Mutex
		donations, audits protocol.Donations
	}
}

// opening is for whom a view is to be opened: to take the state over, or to compare it.
type opening struct {
	by    topology.RegionID
	audit bool
}

func newDonating(r *Replicator, p topology.PartitionID) *donating {
	return &donating{r: r, partition: p, open: make(chan opening, 1)}
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
	if asked.Want == protocol.WantView || asked.Want == protocol.WantAudit {
		want := opening{asked.By, asked.Want == protocol.WantAudit}
		view, described, ok := d.opened(want)
		if ok {
			return protocol.ResyncResponse{View: view, Donor: described}
		}
		select {
		case d.open <- want:
		default: // another region's turn
		}
		return protocol.ResyncResponse{Refused: protocol.RefusedNow}
	}
	d.mu.Lock()
	d.mu.donations.Read(asked.By, asked.View)
	d.mu.audits.Read(asked.By, asked.View)
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

// donationsLocked returns the views that were opened for one of both purposes.
func (d *donating) donationsLocked(o opening) *protocol.Donations {
	if o.audit {
		return &d.mu.audits
	}
	return &d.mu.donations
}

// opened returns the view that was opened, and what it includes; ok is false if there is none that was not read yet.
func (d *donating) opened(o opening) (view uint64, described []byte, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.donationsLocked(o).Of(o.by, d.r.cfg.Clock())
}

// run opens views.
func (d *donating) run(ctx context.Context) {
	for {
		var o opening
		select {
		case <-ctx.Done():
			return
		case o = <-d.open:
		}
		if _, _, have := d.opened(o); have || d.r.cfg.Transfers == nil || o.audit && d.r.cfg.Audits == nil {
			continue
		}
		attrs := []any{slog.Any("partition", d.partition), slog.Any("region", o.by)}
		view, described, err := d.openView(ctx, o)
		if err != nil {
			d.r.log.Debug("no view of the state opened", append(attrs, slog.Any("err", err))...)
			continue
		}
		if o.audit {
			d.r.log.Info("another region compares the state with its own", attrs...)
		} else {
			d.r.log.Info("another region takes over the state", attrs...)
		}
		d.mu.Lock()
		d.donationsLocked(o).Opened(o.by, view, described, d.r.cfg.Clock())
		d.mu.Unlock()
	}
}

func (d *donating) openView(ctx context.Context, o opening) (view uint64, described []byte, err error) {
	if o.audit {
		view, at, err := d.r.cfg.Audits.PinView(d.partition, o.by)
		return view, at.Append(nil), err
	}
	ctx, cancel := context.WithTimeout(ctx, d.r.tuning.MergeTimeout)
	defer cancel()
	return d.r.cfg.Transfers.OpenView(ctx, d.partition, o.by)
}
