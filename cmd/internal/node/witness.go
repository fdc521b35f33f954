package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/cmd/internal/members"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/topology"
)

// WitnessConfig is what a witness needs; every field is required. Cluster names it.
type WitnessConfig struct {
	Cluster *topology.Cluster
	DataDir string
	Logger  *slog.Logger
}

// Witness is a process without data that votes on which regions there are: with it one of two regions is a majority.
type Witness struct {
	cfg    WitnessConfig
	dir    *dataDir
	log    *raftlog.Log
	voter  *members.Host // nil once it runs, and then closes itself
	failed chan error
}

// OpenWitness locks the data directory, and opens the vote and its port.
// Errors: ErrDataDirLocked, ErrForeignDataDir, *raftlog.CorruptError, and those of the listener.
func OpenWitness(cfg WitnessConfig) (*Witness, error) {
	name := topology.NodeID(cfg.Cluster.Witness.Name)
	cfg.Logger = cfg.Logger.With("witness", name)
	w := &Witness{cfg: cfg, failed: make(chan error, 1)}
	fail := func(err error) {
		select {
		case w.failed <- err:
		default:
		}
	}
	var err error
	w.dir, err = openDataDir(cfg.DataDir, identity{Cluster: cfg.Cluster.Name, Node: name, Partitions: cfg.Cluster.Partitions})
	if err != nil {
		return nil, err
	}
	voters, addresses := 1, map[topology.RegionID]string{}
	for _, r := range cfg.Cluster.Regions {
		addresses[r.ID] = r.Membership
		voters++
	}
	log, incarnation, err := w.dir.openLog(voters, raftlog.Options{Logger: cfg.Logger, OnFailure: fail})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), w.Close())
	}
	w.log = log
	w.voter, err = members.Open(members.Config{
		Cluster: cfg.Cluster, Self: &topology.Region{}, Addresses: addresses, Log: log, Incarnation: incarnation,
		Dir: w.dir.path, Temp: w.dir.file("tmp"), Logger: cfg.Logger, OnFailure: fail,
	})
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Run votes until ctx ends, then returns nil, or until the log fails. It may be called once; Close comes after it.
func (w *Witness) Run(ctx context.Context) error {
	w.cfg.Logger.Info("votes on which regions there are", "address", w.voter.Addr().String())
	g, ctx := errgroup.WithContext(ctx)
	voter := w.voter
	w.voter = nil
	g.Go(func() error { return voter.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.failed:
			return err
		}
	})
	return g.Wait()
}

// Close releases everything of a witness that does not run, or has ended.
func (w *Witness) Close() error {
	var errs []error
	if w.voter != nil {
		errs = append(errs, w.voter.Close())
	}
	if w.log != nil {
		errs = append(errs, w.log.Close())
	}
	return errors.Join(append(errs, w.dir.Close())...)
}
