// Package demo runs a whole deployment in one process: three regions with real Raft, real NATS and
// real sockets on loopback, and between the regions links that delay what passes and can be cut.
//
// A running demo listens on a Unix socket (control.go), by which other processes cut and heal its
// links. The story (story.go) is what a newcomer would try, checked.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/cmd/internal/node"
	"github.com/atolldb/atoll/internal/keyring"
	"github.com/atolldb/atoll/topology"
)

// DefaultPort is the API port of the first node of the first region.
const DefaultPort = 7480

const natsStoreBytes = 1 << 30

// Config says what to run.
type Config struct {
	// Nodes per region: 1 or 3.
	Nodes int
	// Port is the API port of eu's first node; us begins at Port+10, ap at Port+20. 0 means free ports.
	Port int
	// Dir keeps the data; empty means a temporary directory that is removed at the end.
	Dir string
	// Control is the path of the control socket.
	Control string
	Clock   func() time.Time
	// skew is by how much regions' clocks are wrong, in tests.
	skew   map[string]time.Duration
	Logger *slog.Logger
}

// Demo is a running deployment.
type Demo struct {
	cfg     Config
	cluster *topology.Cluster
	links   links
	nodes   []*node.Node
	temp    string
	control *controlServer
}

// Open makes a demo ready to Run.
func Open(ctx context.Context, cfg Config) (*Demo, error) {
	if cfg.Nodes != 1 && cfg.Nodes != 3 {
		return nil, fmt.Errorf("a region of %d nodes: give 1 or 3", cfg.Nodes)
	}
	d := &Demo{cfg: cfg}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// clockOf returns the clock of a region's nodes.
func (d *Demo) clockOf(region string) func() time.Time {
	skew := d.cfg.skew[region]
	if skew == 0 {
		return d.cfg.Clock
	}
	return func() time.Time { return d.cfg.Clock().Add(skew) }
}

// drawKeys returns the keys of a secret that nobody knows, so that session tokens end with the demo.
func drawKeys() (*keyring.Ring, error) {
	secret := make([]byte, keyring.MinSecretBytes)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("draw a secret: %w", err)
	}
	return keyring.New(secret)
}

func (d *Demo) open(ctx context.Context) (err error) {
	if d.control, err = newControlServer(d.cfg.Control, d); err != nil {
		return err
	}
	dir := d.cfg.Dir
	if dir == "" {
		if d.temp, err = os.MkdirTemp("", "atoll-demo-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		dir = d.temp
	}
	if d.cluster, err = newCluster(d.cfg.Nodes, d.cfg.Port); err != nil {
		return err
	}
	var urls map[topology.RegionID]map[topology.RegionID][]string
	if d.links, urls, err = newLinks(ctx, d.cluster); err != nil {
		return err
	}
	keys, err := drawKeys()
	if err != nil {
		return err
	}
	for _, r := range d.cluster.Regions {
		for _, n := range r.Nodes {
			opened, err := node.Open(ctx, node.Config{
				Cluster: d.cluster, Node: n.ID, DataDir: nodeDir(dir, n.ID),
				NATS:       node.NATS{MaxStoreBytes: natsStoreBytes},
				RemoteURLs: urls[r.ID], Keys: keys, Clock: d.clockOf(r.Name), Logger: d.cfg.Logger,
			})
			if err != nil {
				return fmt.Errorf("node %s: %w", n.ID, err)
			}
			d.nodes = append(d.nodes, opened)
		}
	}
	return nil
}

// Run serves until ctx ends.
func (d *Demo) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.control.Run(ctx) })
	for _, group := range d.links {
		for _, l := range group {
			g.Go(func() error { return l.Run(ctx) })
		}
	}
	for _, n := range d.nodes {
		g.Go(func() error { return n.Run(ctx) })
	}
	return g.Wait()
}

// Close releases everything, and removes a temporary directory.
func (d *Demo) Close() error {
	var errs []error
	for _, n := range d.nodes {
		errs = append(errs, n.Close())
	}
	errs = append(errs, d.links.close())
	if d.control != nil {
		errs = append(errs, d.control.Close())
	}
	if d.temp != "" {
		errs = append(errs, os.RemoveAll(d.temp))
	}
	return errors.Join(errs...)
}

// Endpoints returns the API URLs of each region's nodes.
func (d *Demo) Endpoints() map[string][]string {
	endpoints := map[string][]string{}
	for _, r := range d.cluster.Regions {
		for _, n := range r.Nodes {
			endpoints[r.Name] = append(endpoints[r.Name], "http://"+n.API)
		}
	}
	return endpoints
}

// Regions returns the regions' names in the order in which to show them.
func Regions() []string { return regionNames[:] }

// Cut stops everything that passes between two regions, without telling either.
func (d *Demo) Cut(a, b string) error {
	p, err := pairOf(a, b)
	if err != nil {
		return err
	}
	for _, l := range d.links[p] {
		l.Cut()
	}
	return nil
}

// Heal undoes every Cut.
func (d *Demo) Heal() {
	for _, group := range d.links {
		for _, l := range group {
			l.Heal()
		}
	}
}

// Links returns the links between the regions.
func (d *Demo) Links() []LinkStatus {
	var statuses []LinkStatus
	for i, a := range regionNames {
		for _, b := range regionNames[i+1:] {
			s := LinkStatus{A: a, B: b, OneWayMS: oneWayDelay(a, b).Milliseconds()}
			for _, l := range d.links[pair{a, b}] {
				s.Cut = s.Cut || l.IsCut()
			}
			statuses = append(statuses, s)
		}
	}
	return statuses
}
