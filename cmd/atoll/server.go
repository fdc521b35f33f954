package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/cmd/internal/config"
	"github.com/atolldb/atoll/cmd/internal/node"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// collectAt lets the heap grow to four times what is live before it is collected. Little of a server is
// live, and it allocates with every request. Past heapLimit memory is worth more than the time.
const (
	collectAt = 300
	heapLimit = 2 << 30
)

func newServer(a *app) *cobra.Command {
	var path string
	var over config.Overrides
	var check bool
	var dead deadRegions
	c := &cobra.Command{
		Use:   "server --config FILE",
		Short: "Run one node of a deployment",
		Long: `Run one node until SIGINT or SIGTERM; a second signal ends it at once.

The configuration file describes the deployment, the same in every node's file, and names this node.
Flags go before environment variables (ATOLL_NODE, ATOLL_DATA_DIR, ATOLL_NATS_URL, ATOLL_LOG_LEVEL),
these before the file. Logs go to stderr, one JSON object a line. ATOLL_PPROF=127.0.0.1:6060 serves Go's
profiles at that address, which must be a loopback one.

With the witness's name as the node it has no data, but a vote on which regions there are.

--declare-dead is for a deployment of which no majority of the regions is left, as when one of two is
destroyed: this node, the first of its region, goes on as the only one that decides which regions there
are, and gives the named ones up. If one of them lives, and decides as well, there are two deployments that
can never be joined again. It is done once, however often the node starts with it.`,
		Example: `  atoll server --config examples/three-regions/eu-1.yaml
  atoll server --config atoll.yaml --node eu-2 --data-dir /var/lib/atoll
  atoll server --config atoll.yaml --check
  atoll server --config atoll.yaml --node witness --data-dir /var/lib/atoll
  atoll server --config atoll.yaml --declare-dead us --i-know-the-other-regions-are-dead`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path, over, a.getenv)
			if err != nil {
				return err
			}
			if check {
				return a.printConfig(path, cfg)
			}
			declared, err := dead.resolve(cfg.Cluster)
			if err != nil {
				return err
			}
			if cfg.IsWitness() {
				return a.serveWitness(cmd.Context(), cfg, declared)
			}
			return a.serve(cmd.Context(), cfg, declared)
		},
	}
	f := c.Flags()
	f.StringVarP(&path, "config", "c", "", "configuration file (YAML)")
	f.StringVar(&over.Node, "node", "", "name of this node, one of those in the file")
	f.StringVar(&over.DataDir, "data-dir", "", "directory for this node's data")
	f.StringVar(&over.NATSURL, "nats-url", "", "use this external NATS server instead of an embedded one")
	f.StringVar(&over.LogLevel, "log-level", "", "debug, info, warn or error")
	f.BoolVar(&check, "check", false, "check the configuration, print it with its defaults, and exit")
	f.StringSliceVar(&dead.names, "declare-dead", nil, "regions to give up without a majority")
	f.BoolVar(&dead.sure, "i-know-the-other-regions-are-dead", false, "confirm --declare-dead")
	noError(c.MarkFlagRequired("config"))
	noError(c.MarkFlagFilename("config", "yaml", "yml"))
	return c
}

func (a *app) printConfig(path string, cfg *config.Config) error {
	effective, err := cfg.Effective()
	if err != nil {
		return err
	}
	a.notef("%s is valid", path)
	_, err = a.stdout.Write(effective)
	return err
}

// deadRegions are what an operator declares dead.
type deadRegions struct {
	names []string
	sure  bool
}

func (d *deadRegions) resolve(c *topology.Cluster) (node.DeclaredDead, error) {
	declared := node.DeclaredDead{Note: "declared at the start of a node"}
	if len(d.names) > 0 && !d.sure {
		return declared, usagef("--declare-dead gives regions up without a majority, and cannot be undone: " +
			"make sure that they are dead, and add --i-know-the-other-regions-are-dead")
	}
	for _, name := range d.names {
		r, ok := c.RegionNamed(name)
		if !ok {
			return declared, usagef("--declare-dead: there is no region %q", name)
		}
		declared.Regions |= membership.SetOf(r.ID)
	}
	return declared, nil
}

func (a *app) serve(ctx context.Context, cfg *config.Config, dead node.DeclaredDead) error {
	runtime.GOMAXPROCS(cfg.MaxProcs)
	if a.getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if a.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
	logger := slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if effective, err := cfg.Effective(); err == nil {
		logger.Info("configuration", "version", buildInfo().Version, "effective", string(effective))
	}
	stopPprof, err := servePprof(ctx, a.getenv("ATOLL_PPROF"), logger)
	if err != nil {
		return err
	}
	defer stopPprof()
	settings := node.Config{
		Cluster: cfg.Cluster, Node: cfg.Node.ID, DataDir: cfg.DataDir,
		NATS: node.NATS{
			URL: cfg.NATS.URL, MaxStoreBytes: cfg.NATS.MaxStoreBytes,
		},
		MinFreeBytes: cfg.MinFreeBytes, WriteBufferBytes: cfg.WriteBufferBytes, OutboxQuotaBytes: cfg.OutboxQuotaBytes,
		MaxClockOffset: cfg.MaxClockOffset, MaxClockAhead: cfg.MaxClockAhead,
		Dead: dead, Clock: a.clock, Logger: logger,
	}
	if settings.Keys, err = cfg.Keys(); err != nil {
		return fmt.Errorf("start node %s: %w", cfg.Node.ID, err)
	}
	if t := cfg.PeerTLS; t != nil {
		var err error
		if settings.TLS, err = transport.LoadTLS(t.CertFile, t.KeyFile, t.CAFile); err != nil {
			return fmt.Errorf("start node %s: %w", cfg.Node.ID, err)
		}
	}
	n, err := node.Open(ctx, settings)
	if err != nil {
		return explainOpen(err, cfg)
	}
	if err := errors.Join(n.Run(ctx), n.Close()); err != nil {
		logger.Error("stopped", "err", err)
		return err
	}
	logger.Info("stopped")
	return nil
}

// serveWitness runs the witness.
func (a *app) serveWitness(ctx context.Context, cfg *config.Config, dead node.DeclaredDead) error {
	if dead.Regions != 0 {
		return usagef("--declare-dead is for the first node of a region that lives, not for the witness")
	}
	logger := slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	w, err := node.OpenWitness(node.WitnessConfig{Cluster: cfg.Cluster, DataDir: cfg.DataDir, Logger: logger})
	if err != nil {
		return fmt.Errorf("start witness %s: %w", cfg.Cluster.Witness.Name, err)
	}
	if err := errors.Join(w.Run(ctx), w.Close()); err != nil {
		logger.Error("stopped", "err", err)
		return err
	}
	logger.Info("stopped")
	return nil
}

// explainOpen says what to do about a node that cannot start.
func explainOpen(err error, cfg *config.Config) error {
	err = fmt.Errorf("start node %s: %w", cfg.Node.ID, err)
	var corrupt *store.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return withHint(err, "nothing was served from it. With three replicas or more a node fetches what is damaged from the others: "+
			"start it again when they run. Keep %s until then, and never start the node with an empty or older one", cfg.DataDir)
	case errors.Is(err, node.ErrDataDirLocked):
		return withHint(err, "stop the other server, or give this one another --data-dir")
	default:
		return err
	}
}
