package raftgroup

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/raftlog"
)

// takeSnapshots cuts the log when it has grown by enough since the last time. What Raft calls taking a
// snapshot only moves the state machine's position here; see witness.
func (g *Group) takeSnapshots(ctx context.Context) {
	ticker := time.NewTicker(snapshotLook)
	defer ticker.Stop()
	var cut raftlog.Stats
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := g.log.Stats()
		if now.Appended-cut.Appended < snapshotBytes && now.Last-min(now.Last, cut.Last) < snapshotEntries {
			continue
		}
		if err := g.cutLog(ctx, now); err != nil {
			g.logger.Debug("log not cut", "err", err)
			continue
		}
		cut = now
	}
}

// cutLog lets Raft delete entries that are in the state machine's file, but for the latest ones: a
// follower that was away for a moment catches up from them.
func (g *Group) cutLog(ctx context.Context, s raftlog.Stats) error {
	reload := g.raft().ReloadableConfig()
	reload.TrailingLogs = trailing(s)
	if err := g.raft().ReloadConfig(reload); err != nil {
		return err
	}
	return g.await(ctx, func(r *raft.Raft) error { return r.Snapshot().Error() })
}

// trailing is how many entries are kept: trailingEntries, or fewer large ones.
func trailing(s raftlog.Stats) uint64 {
	if s.Bytes == 0 {
		return trailingEntries
	}
	fit := uint64(float64(s.Last-s.First+1) * snapshotBytes / float64(s.Bytes))
	return min(max(fit, trailingEntriesMin), trailingEntries)
}
