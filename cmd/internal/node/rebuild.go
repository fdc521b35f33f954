package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atolldb/atoll/region/raftgroup"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/topology"
)

const (
	// rebuildPatience is how long a node that starts tries to have a damaged state file made anew.
	rebuildPatience = 2 * time.Minute
	// damagedSuffix is added to the name of a damaged file, which is kept for whoever wants to look.
	damagedSuffix = ".damaged"
)

// openStore opens a partition's state file. A damaged one is set aside and fetched from another
// replica: the log, with this node's votes and what it helped to acknowledge, is whole, and leads on
// from any state that is not older than its beginning.
func (n *Node) openStore(
	ctx context.Context, p topology.PartitionID, replicas []topology.NodeID, log *raftlog.Group,
) (*store.Store, error) {
	path := n.dir.partitionFile(p)
	s, err := store.Open(path, n.storeOptions())
	var damage *store.CorruptError
	peers := slices.DeleteFunc(slices.Clone(replicas), func(id topology.NodeID) bool { return id == n.cfg.Node })
	if !errors.As(err, &damage) || len(peers) == 0 {
		return s, err
	}
	n.cfg.Logger.Error("a state file is damaged, fetching the state from another replica",
		"partition", p, "file", path, "err", err)
	if err := n.rebuild(ctx, p, peers, log); err != nil {
		return nil, errors.Join(damage, err)
	}
	return store.Open(path, n.storeOptions())
}

func (n *Node) rebuild(ctx context.Context, p topology.PartitionID, peers []topology.NodeID, log *raftlog.Group) error {
	ctx, cancel := context.WithTimeout(ctx, rebuildPatience)
	defer cancel()
	least := uint64(0)
	if first := log.FirstIndex(); first > 0 {
		least = first - 1
	}
	fetched, err := raftgroup.FetchState(ctx, n.mux.Group(uint32(p)), peers, n.dir.file("tmp"), least)
	if err != nil {
		return err
	}
	path := n.dir.partitionFile(p)
	// A second name, so that there is a file at every instant: an absent one would count as new.
	if err := os.Remove(path + damagedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set the damaged file aside: %w", err)
	}
	if err := os.Link(path, path+damagedSuffix); err != nil {
		return fmt.Errorf("set the damaged file aside: %w", err)
	}
	if err := os.Rename(fetched.Path, path); err != nil {
		return fmt.Errorf("take over the fetched state: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("take over the fetched state: %w", err)
	}
	n.cfg.Logger.Info("the state was fetched", "partition", p, "index", fetched.Index, "term", fetched.Term)
	return raftgroup.AdoptTerm(log, fetched.Term)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
