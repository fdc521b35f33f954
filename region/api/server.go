package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/proto/atoll/peer/v1/peerv1connect"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/session"
	"github.com/atolldb/atoll/topology"
)

const (
	readMaxBytes     = 8 << 20 // a batch of 4 MiB fits as JSON too, where bytes are base64
	compressMinBytes = 1 << 10 // smaller replies cost more to compress than to send

	// defaultTimeout bounds a unary call that comes without a deadline.
	defaultTimeout = 10 * time.Second
	// digestTimeout does so for Digest, which reads everything.
	digestTimeout = time.Minute
)

// Config is what a Server needs.
type Config struct {
	// Cluster is the deployment, Region the id of this node's region, and Self this node's id.
	Cluster *topology.Cluster
	Region  topology.RegionID
	Self    topology.NodeID
	// Hosted are this node's replicas.
	Hosted Hosted
	// Replication tells how far regions are apart; nil in a deployment of one region.
	Replication Replication
	// Others asks other regions; nil in a deployment of one region.
	Others Others
	// Membership tells which actors have come to an end; nil if none ever does.
	Membership Membership
	// SessionKey authenticates session tokens. All nodes of all regions have the same.
	SessionKey [32]byte
	// Votes decides about regions; nil if nobody does.
	Votes Votes
	// Ready returns why this node should get no requests for now, besides what the server sees
	// itself; nil if it should. Optional.
	Ready func() error
	// Clocks returns what the node knows of clocks, for Status; nil means nothing.
	Clocks func() Clocks
	// HomeLease returns what the node knows of its region's lease, by which that may act as a home, for Status; asked says whether
	// it asks for one. Nil means that it does not.
	HomeLease func() (lease HomeLease, asked bool)
	// MaxAhead is how far in the future events of other regions may be, and so what FutureValues does not list unless asked;
	// 0 means region.DefaultClockAhead.
	MaxAhead time.Duration
	// MaxWatchers bounds how many watches this node serves at a time; 0 means 1000.
	MaxWatchers int
	// Transport carries requests to the region's other nodes. Optional.
	Transport http.RoundTripper
	Logger    *slog.Logger
	// Clock is the wall clock.
	Clock func() time.Time
}

// Server serves the API of one node. It is safe for concurrent use.
type Server struct {
	cluster     *topology.Cluster
	region      *topology.Region
	self        topology.NodeID
	hosted      Hosted
	replication Replication
	others      Others
	membership  Membership
	sessions    *session.Issuer
	votes       Votes
	readyCheck  func() error
	clocks      func() Clocks
	homeLease   func() (HomeLease, bool)
	logger      *slog.Logger
	clock       func() time.Time

	maxWatchers int
	maxAhead    time.Duration

	// namespaces are those that fix a type.
	namespaces map[string]crdt.Type
	// growOnly are those of them whose values take additions only.
	growOnly map[string]bool

	// homes are the namespaces that have a home.
	homes *homes

	placement [][]topology.NodeID
	peers     map[topology.NodeID]*peer
	leaders   []atomic.Pointer[peer] // who served last, of partitions that another node leads
	infos     []*atollv1.ReplyInfo   // what every answer to a write of a partition says; never changed
	topology  topologyCache
	watching  watching
	pipelined atomic.Int64 // bytes that the streams of pipelines have under way
	closeIdle func()

	drain    sync.Once
	draining chan struct{}
}

// New returns a server; its Handler serves.
func New(c Config) (*Server, error) {
	r, ok := c.Cluster.Region(c.Region)
	if !ok {
		return nil, fmt.Errorf("region %d is not in the cluster", c.Region)
	}
	if _, ok := r.Node(c.Self); !ok {
		return nil, fmt.Errorf("node %s is not in region %s", c.Self, r.Name)
	}
	if c.Hosted == nil || c.Logger == nil || c.Clock == nil {
		return nil, errors.New("hosted replicas, a logger and a clock are required")
	}
	s := &Server{
		cluster: c.Cluster, region: r, self: c.Self,
		hosted: c.Hosted, replication: c.Replication, readyCheck: c.Ready,
		others: c.Others, membership: c.Membership, votes: c.Votes, sessions: session.NewIssuer(c.Cluster.Name, c.SessionKey),
		logger: c.Logger, clock: c.Clock,
		maxWatchers: cmp.Or(c.MaxWatchers, defaultWatchers),
		maxAhead:    cmp.Or(c.MaxAhead, region.DefaultClockAhead),
		namespaces:  map[string]crdt.Type{},
		growOnly:    map[string]bool{},
		placement:   c.Cluster.Placement(r),
		leaders:     make([]atomic.Pointer[peer], c.Cluster.Partitions),
		draining:    make(chan struct{}),
	}
	for _, n := range c.Cluster.Namespaces {
		s.namespaces[n.Name], s.growOnly[n.Name] = n.Type, n.GrowOnly
	}
	for i := range c.Cluster.Partitions {
		s.infos = append(s.infos, s.replyInfo(topology.PartitionID(i)))
	}
	s.clocks, s.homeLease = c.Clocks, c.HomeLease
	peers, closePeers := newPeers(r, c.Self, c.Transport)
	homes, closeHomes := newHomes(c.Cluster, c.Region, c.Transport)
	s.peers, s.homes, s.closeIdle = peers, homes, func() { closePeers(); closeHomes() }
	return s, nil
}

// Handler returns what serves everything on the node's port: Connect, gRPC, gRPC-Web, plain JSON,
// health and reflection. Serve it with HTTP/1.1 and unencrypted HTTP/2, and without a WriteTimeout,
// which would cut scans short.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	connecthttp.Mount(mux, s.newRPC(), connecthttp.WithReadMaxBytes(readMaxBytes), connecthttp.WithCompressMinBytes(compressMinBytes),
		connecthttp.WithConditionalOptions(compressNoPipeline))
	reflector := grpcreflect.NewStaticReflector(servedNames()...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector))
	mux.HandleFunc("/healthz", s.serveHealthz)
	mux.HandleFunc("/readyz", s.serveReadyz)
	return boundBodies(mux)
}

// newRPC returns what serves every service, over whatever transport.
func (s *Server) newRPC() *connect.Server {
	rpc := connect.NewServer(s.surround)
	rpc.SetUnknownHandler(func(_ context.Context, spec connect.Spec, _ connect.ServerStream) error {
		return fail(reasonUnimplemented, "there is no procedure "+spec.Procedure)
	})
	atollv1connect.RegisterKVHandler(rpc, (*kvService)(s))
	atollv1connect.RegisterRegionsHandler(rpc, (*regionsService)(s))
	atollv1connect.RegisterClusterHandler(rpc, (*clusterService)(s))
	atollv1connect.RegisterNamespacesHandler(rpc, (*namespacesService)(s))
	peerv1connect.RegisterPeerHandler(rpc, (*peerService)(s))
	s.registerHealth(rpc)
	return rpc
}

// compressNoPipeline leaves packed answers as they are: to compress them would cost many times what
// they cost.
func compressNoPipeline(spec connect.Spec) []connecthttp.Option {
	if spec.Procedure == atollv1connect.KVPipelineProcedure {
		return []connecthttp.Option{connecthttp.WithCompressMinBytes(math.MaxInt32)}
	}
	return nil
}

// Drain makes the node unready, so that load balancers send requests elsewhere, and ends health
// watches. Requests are still served. Call it before the HTTP server is shut down.
func (s *Server) Drain() { s.drain.Do(func() { close(s.draining) }) }

// Close drains and releases idle connections to other nodes.
func (s *Server) Close() error {
	s.Drain()
	s.closeIdle()
	return nil
}

// surround is around every call: it gives it a deadline, and makes every error one of the table. A
// panic costs its own request only.
func (s *Server) surround(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		ctx, cancel := withDefaultDeadline(ctx, spec)
		defer cancel()
		// A proxy or browser must not answer a linearizable read from its cache.
		if info, ok := connecthttp.ServerInfoForContext(ctx); ok && info.HTTPMethod() == http.MethodGet {
			if call, ok := connect.CallInfoForServerContext(ctx); ok {
				call.ResponseHeader().Set("Cache-Control", "no-store")
			}
		}
		err := s.protect(func() error { return next(ctx, spec, stream) })
		if err == nil {
			return nil
		}
		return s.noted(failureOf(err), spec.Procedure).rpcError()
	}
}

// noted logs a failure that somebody should look into, and returns it.
func (s *Server) noted(f *failure, procedure string) *failure {
	if f.peer == "" && (f.reason == reasonInternal || f.reason == reasonCorrupt) {
		s.logger.Error("request failed", "procedure", procedure, "reason", string(f.reason), "err", f.cause)
	}
	return f
}

func withDefaultDeadline(ctx context.Context, spec connect.Spec) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded || spec.StreamType != connect.StreamTypeUnary {
		return ctx, func() {}
	}
	if spec.Procedure == atollv1connect.RegionsDigestProcedure {
		return context.WithTimeout(ctx, digestTimeout)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// protect turns a panic into an error, and logs where it was.
func (s *Server) protect(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("panic while serving a request", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = internalFault(nil).because(fmt.Errorf("panic: %v", p))
		}
	}()
	return do()
}

// replyInfo says who answers.
func (s *Server) replyInfo(p topology.PartitionID) *atollv1.ReplyInfo {
	return &atollv1.ReplyInfo{
		Region:    s.region.Name,
		Node:      string(s.self),
		Partition: uint32(p),
		Epoch:     uint64(s.region.Epoch),
	}
}

type (
	kvService         Server
	regionsService    Server
	clusterService    Server
	namespacesService Server
	peerService       Server
)

func (k *kvService) server() *Server         { return (*Server)(k) }
func (r *regionsService) server() *Server    { return (*Server)(r) }
func (n *namespacesService) server() *Server { return (*Server)(n) }
func (c *clusterService) server() *Server    { return (*Server)(c) }
func (p *peerService) server() *Server       { return (*Server)(p) }
