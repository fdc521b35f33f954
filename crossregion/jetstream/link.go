package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/topology"
)

// Remote is another region and where its NATS can be reached from here.
type Remote struct {
	ID   topology.RegionID
	Name string
	URLs []string
}

// Config describes a node's end of all streams.
type Config struct {
	Region topology.RegionID
	Node   topology.NodeID
	// Server is this node's embedded server; without one, URLs are those of the region's NATS.
	Server  *Server
	URLs    []string
	Remotes []Remote
	// Replicas of the region's stream: 1, or 3 where the region has as many servers.
	Replicas int
	// MaxStreamBytes bounds the stream; 0 means half of what the embedded server may store, or 4 GiB.
	MaxStreamBytes int64
	// Password is that of every region's servers.
	Password string
	Logger   *slog.Logger
}

// Validate returns every fault of the configuration, joined.
func (c *Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Region == 0 || c.Node == "" {
		fault("region and node must be named")
	}
	if c.Server == nil && len(c.URLs) == 0 {
		fault("neither an embedded server nor URLs are given")
	}
	for _, r := range c.Remotes {
		if len(r.URLs) == 0 {
			fault("region %s has no NATS URLs", r.Name)
		}
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		fault("replicas is %d: must be 1 to 5", c.Replicas)
	}
	if c.Logger == nil {
		fault("logger is missing")
	}
	return errors.Join(faults...)
}

// Link implements crossregion.Link. Without Run it is never connected.
type Link struct {
	outlet *outlet
	inlets map[topology.RegionID]*inlet
	conns  []*conn
}

// NewLink returns a link that connects to nothing until Run.
func NewLink(cfg Config) (*Link, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("link to other regions: %w", err)
	}
	switch {
	case cfg.MaxStreamBytes != 0:
	case cfg.Server != nil:
		cfg.MaxStreamBytes = cfg.Server.cfg.MaxStoreBytes / 2
	default:
		cfg.MaxStreamBytes = defaultStreamBytes
	}
	own := newConn("self", string(cfg.Node), strings.Join(cfg.URLs, ","), cfg.Password, cfg.Logger)
	if cfg.Server != nil {
		own.urls = nats.DefaultURL // not dialled
		own.opts = append(own.opts, nats.InProcessServer(cfg.Server))
	}
	l := &Link{
		inlets: make(map[topology.RegionID]*inlet, len(cfg.Remotes)),
		conns:  []*conn{own},
		outlet: &outlet{
			region: cfg.Region, conn: own, log: cfg.Logger, ended: make(chan struct{}),
			config: streamConfig(cfg.Region, cfg.Replicas, cfg.MaxStreamBytes),
		},
	}
	for _, r := range cfg.Remotes {
		c := newConn(r.Name, string(cfg.Node), strings.Join(r.URLs, ","), cfg.Password, cfg.Logger)
		l.conns = append(l.conns, c)
		l.inlets[r.ID] = &inlet{region: r.ID, conn: c, log: c.log}
	}
	return l, nil
}

// ensureWait is the pause between two attempts to make sure that the stream exists. A cluster of
// servers takes some seconds to elect its leader, so it is only said after ensurePatience attempts.
const (
	ensureWait     = time.Second
	ensurePatience = 20
)

// Run keeps the connections until ctx is done, then returns nil when all has ended.
func (l *Link) Run(ctx context.Context) error {
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx by a moment
	defer disconnect()
	var wg sync.WaitGroup
	for _, c := range l.conns {
		wg.Go(func() { c.run(connected) })
	}
	wg.Go(func() { l.ensure(ctx) })
	<-ctx.Done()
	l.outlet.refuse()
	disconnect()
	wg.Wait()
	l.outlet.end()
	return nil
}

// ensure makes sure once that the stream exists, so that others find it. Later its users do.
func (l *Link) ensure(ctx context.Context) {
	ticker := time.NewTicker(ensureWait)
	defer ticker.Stop()
	for attempts := 1; ; attempts++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		callCtx, cancel := context.WithTimeout(ctx, apiPatience)
		_, err := l.outlet.Stream(callCtx)
		cancel()
		if err == nil {
			return
		}
		if attempts%ensurePatience == 0 {
			l.outlet.log.Warn("the region's stream is not ready, deltas are only fetched", slog.Any("err", err))
		}
	}
}

// Outlet implements crossregion.Link.
func (l *Link) Outlet() crossregion.Outlet { return l.outlet }

// Inlet implements crossregion.Link. The region must be one of the configured remotes.
func (l *Link) Inlet(region topology.RegionID) crossregion.Inlet { return l.inlets[region] }
