package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/api"
	"github.com/atolldb/atoll/session"
	"github.com/atolldb/atoll/topology"
)

const (
	// drainTimeout bounds how long requests may take that were running when the node was told to stop.
	drainTimeout      = 5 * time.Second
	readHeaderTimeout = 5 * time.Second
	maxStreams        = 1000 // per HTTP/2 connection
	// The state files are scrubbed one after another, at this speed, with a pause after each.
	scrubBytesPerSecond = 4 << 20
	scrubPause          = time.Minute
)

// Run serves until ctx ends or a disk fails, and returns nil or why it had to end.
//
// It stops in this order: the API, which drains running requests; replication to other regions, whose
// outboxes keep what was not yet shipped; JetStream; the vote on regions; the partitions and their Raft groups; the
// connections between the nodes.
func (n *Node) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Each layer lives until the ones above it have ended.
	below := context.WithoutCancel(ctx)
	var layers []*layer
	for _, run := range [][]func(context.Context) error{{n.mux.Run}, n.dataPlane(), n.membershipPlane(), n.replicationPlane(), {n.serveAPI, n.serveGRPC}} {
		l := startLayer(below, stop, run)
		layers = append(layers, l)
	}
	select {
	case <-ctx.Done():
	case err := <-n.fatal:
		stop(fmt.Errorf("disk: %w", err))
	}
	n.cfg.Logger.Info("stopping", "cause", context.Cause(ctx))
	var errs []error
	for i := len(layers) - 1; i >= 0; i-- {
		layers[i].cancel()
		errs = append(errs, layers[i].group.Wait())
	}
	// A disk that failed while the layers stopped counts too.
	select {
	case err := <-n.fatal:
		errs = append(errs, err)
	default:
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		errs = append(errs, cause)
	}
	return n.noteDamage(errors.Join(errs...))
}

// layer is a set of loops that end together.
type layer struct {
	group  *errgroup.Group
	cancel context.CancelFunc
}

// startLayer runs loops. If one fails, so does the node.
func startLayer(ctx context.Context, fail context.CancelCauseFunc, loops []func(context.Context) error) *layer {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range loops {
		group.Go(func() error {
			err := loop(ctx)
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	return &layer{group, cancel}
}

func (n *Node) dataPlane() []func(context.Context) error {
	loops := []func(context.Context) error{n.data.Run, n.disk.Run, n.scrub, n.drift.Run, n.yield}
	for _, g := range n.groups {
		loops = append(loops, g.Run)
	}
	for _, q := range n.queues {
		loops = append(loops, q.Run)
	}
	return loops
}

// scrub reads the state files over and over, slowly, to find damage before somebody asks for what is
// damaged. A file that is ends the node, by fail.
func (n *Node) scrub(ctx context.Context) error {
	pause := time.NewTicker(scrubPause)
	defer pause.Stop()
	if len(n.stores) == 0 { // no replica was placed here
		<-ctx.Done()
		return nil
	}
	for {
		for _, s := range n.stores {
			if err := s.Scrub(ctx, scrubBytesPerSecond); err != nil && ctx.Err() == nil {
				return fmt.Errorf("scrub: %w", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-pause.C:
			}
		}
	}
}

func (n *Node) openAPI(ctx context.Context) error {
	var replication api.Replication
	var others api.Others
	if n.replication != nil {
		replication, others = flows{n}, flows{n}
	}
	var decides api.Votes
	if n.share != nil {
		decides = changes{n}
	}
	var err error
	n.api, err = api.New(api.Config{
		Cluster: n.cfg.Cluster, Region: n.region.ID, Self: n.cfg.Node,
		Hosted: api.HostedBy(n.data), Replication: replication, Others: others, Membership: closings{n.data}, Votes: decides,
		SessionKey: n.cfg.Keys.Key(session.Purpose),
		Logger:     n.cfg.Logger, Clock: n.cfg.Clock, Ready: n.joined, Clocks: n.clocks, HomeLease: n.homeLease,
		MaxAhead: n.cfg.MaxClockAhead,
	})
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	if n.listener, err = listen.Listen(ctx, "tcp", n.self.API); err != nil {
		return fmt.Errorf("listen for the API on %s: %w", n.self.API, err)
	}
	if n.self.GRPC == "" {
		return nil
	}
	if n.grpc, err = listen.Listen(ctx, "tcp", n.self.GRPC); err != nil {
		return fmt.Errorf("listen for gRPC on %s: %w", n.self.GRPC, err)
	}
	return nil
}

// serveGRPC serves the second port until ctx ends, and then drains.
func (n *Node) serveGRPC(ctx context.Context) error {
	if n.grpc == nil {
		return nil
	}
	server := n.api.GRPC()
	n.cfg.Logger.Info("serving", "grpc", n.grpc.Addr().String())
	served := make(chan error, 1)
	go func() { served <- server.Serve(n.grpc) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve gRPC: %w", err)
	case <-ctx.Done():
	}
	n.api.Drain()
	late := time.AfterFunc(drainTimeout, server.Stop)
	defer late.Stop()
	server.GracefulStop()
	<-served // nil, after a stop
	return nil
}

// serveAPI serves until ctx ends, and then drains.
func (n *Node) serveAPI(ctx context.Context) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           n.api.Handler(),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		// No WriteTimeout: it would cut scans short. Every call has a deadline of its own.
	}
	n.cfg.Logger.Info("serving", "api", n.listener.Addr().String())
	served := make(chan error, 1)
	go func() { served <- server.Serve(n.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	n.api.Drain()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		n.cfg.Logger.Warn("requests were cut off", "err", err)
		_ = server.Close() // the listener is closed already; this closes the connections
	}
	<-served // ErrServerClosed
	return nil
}

// Close releases everything that Open took. Run must have ended.
func (n *Node) Close() error {
	var errs []error
	if n.api != nil {
		errs = append(errs, n.api.Close())
	}
	if n.listener != nil {
		errs = append(errs, ignoreClosed(n.listener.Close()))
	}
	if n.grpc != nil {
		errs = append(errs, ignoreClosed(n.grpc.Close()))
	}
	errs = append(errs, n.closeReplication(), n.closeMembership())
	for _, g := range n.groups {
		errs = append(errs, g.Close())
	}
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	for _, s := range n.stores {
		errs = append(errs, s.Close())
	}
	if n.log != nil {
		errs = append(errs, n.log.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.Close())
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// closings shows the API which actors have come to an end.
type closings struct{ data *region.Node }

// Closed implements api.Membership.
func (c closings) Closed(p topology.PartitionID, actor crdt.Actor) (hlc.Time, bool) {
	partition, err := c.data.Partition(p)
	if err != nil {
		return 0, false
	}
	return partition.View().Closed(actor)
}
