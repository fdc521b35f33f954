package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ServerConfig describes one embedded server.
type ServerConfig struct {
	// Name is the server's own, unique and the same after every start. Region names the cluster.
	Name, Region string
	// Listen is the host:port for clients, those of other regions included. The host must be given;
	// port 0 takes any.
	Listen string
	// ClusterListen is the host:port for the region's other servers, and Routes those of all of them,
	// this one included. Both are empty for a server on its own; else there are three routes or more.
	ClusterListen string
	Routes        []string
	// StoreDir is the server's alone; the caller has locked it.
	StoreDir string
	// MaxStoreBytes bounds what is stored in it; 0 means 8 GiB.
	MaxStoreBytes int64
	// Password admits clients and other servers; without one anyone is admitted.
	Password string
	Logger   *slog.Logger
}

const (
	defaultStoreBytes = 8 << 30
	// maxPayload is more than the largest frame and its headers. Servers warn about more than this.
	maxPayload = 8 << 20
	user       = "atoll"
	account    = "ATOLL"
)

// Validate returns every fault of the configuration, joined.
func (c *ServerConfig) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !isToken(c.Name) || !isToken(c.Region) {
		fault("server name %q and region %q must be given, without spaces and quotes", c.Name, c.Region)
	}
	if _, _, err := splitListen(c.Listen); err != nil {
		fault("client address: %w", err)
	}
	if c.ClusterListen != "" {
		if _, _, err := splitListen(c.ClusterListen); err != nil {
			fault("cluster address: %w", err)
		}
		if len(c.Routes) < 3 {
			fault("a cluster of %d servers has no majority to lose: it needs 3 routes", len(c.Routes))
		}
	} else if len(c.Routes) > 0 {
		fault("routes need a cluster address")
	}
	if c.Password != "" && !isToken(c.Password) {
		fault("password must be without spaces and quotes")
	}
	if c.StoreDir == "" {
		fault("store directory is missing")
	}
	if c.Logger == nil {
		fault("logger is missing")
	}
	return errors.Join(faults...)
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r == 0x7f })
}

// splitListen takes an address apart. An empty host would mean every interface.
func splitListen(address string) (host string, port int, err error) {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(number)
	if err != nil || port < 0 || port > 65535 || !isToken(host) {
		return "", 0, fmt.Errorf("%q is no host and port to listen on", address)
	}
	if port == 0 {
		port = -1 // what the server calls any; 0 is its default port
	}
	return host, port, nil
}

// Server is an embedded NATS server with JetStream. It can be started again after Stop.
type Server struct {
	cfg ServerConfig
	mu  struct {
		sync.Mutex
		server *server.Server
	}
}

// NewServer returns a server that does nothing until Start.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if cfg.MaxStoreBytes == 0 {
		cfg.MaxStoreBytes = defaultStoreBytes
	}
	return &Server{cfg: cfg}, nil
}

// startPatience is how long a server may take to listen. Recovery of a large store comes before that.
const startPatience = time.Minute

// Start returns when the server listens and its store is open, or says why it cannot. A JetStream
// cluster may still have no leader then. A store that it cannot open is dropped: it has only copies.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.server != nil {
		return errors.New("embedded NATS runs already")
	}
	if err := dropDamaged(s.cfg.StoreDir, s.cfg.Logger); err != nil {
		return err
	}
	err := s.start(ctx)
	if !errors.Is(err, errNoJetStream) {
		return err
	}
	s.cfg.Logger.Error("JetStream does not open what it has stored, which is dropped; nothing is lost, other regions fetch what they lack", slog.Any("err", err))
	if err := os.RemoveAll(s.cfg.StoreDir); err != nil {
		return fmt.Errorf("drop a store that does not open: %w", err)
	}
	return s.start(ctx)
}

// errNoJetStream means that the server runs but for its JetStream.
var errNoJetStream = errors.New("no JetStream")

func (s *Server) start(ctx context.Context) error {
	opts, err := s.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	log := &serverLog{log: s.cfg.Logger, fatal: make(chan error, 1)}
	srv.SetLoggerV2(log, false, false, false)
	// Start logs what is fatal instead of returning it, and goes on half-started.
	srv.Start()
	if err := awaitReady(ctx, srv, log); err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return fmt.Errorf("embedded NATS on %s with store %s: %w", s.cfg.Listen, s.cfg.StoreDir, err)
	}
	s.mu.server = srv
	return nil
}

func awaitReady(ctx context.Context, srv *server.Server, log *serverLog) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		ready := srv.ReadyForConnections(50 * time.Millisecond)
		select {
		case err := <-log.fatal:
			return err
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		default:
		}
		if ready && !srv.JetStreamEnabled() {
			return fmt.Errorf("%w: %s", errNoJetStream, log.lastError())
		}
		if ready {
			return nil
		}
	}
}

// options are made from text: accounts made in code have no JetStream that outlives a reload.
func (s *Server) options() (*server.Options, error) {
	c := s.cfg
	host, port, err := splitListen(c.Listen)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("server_name: %q", c.Name)
	line("host: %q, port: %d", host, port)
	line("max_payload: %d", maxPayload)
	line("ping_interval: \"5s\", ping_max: 2")
	line("connect_error_reports: 60, reconnect_error_reports: 60") // tried every second
	line("jetstream { store_dir: %q, max_mem: 64MB, max_file: %d, sync_interval: always, limits { max_ack_pending: 20000 } }", c.StoreDir, c.MaxStoreBytes)
	if c.Password == "" {
		line("accounts { %s { jetstream: enabled, users: [ { user: %s } ] } }", account, user)
		line("no_auth_user: %s", user)
	} else {
		line("accounts { %s { jetstream: enabled, users: [ { user: %s, password: %q } ] } }", account, user, c.Password)
	}
	if c.ClusterListen != "" {
		host, port, err := splitListen(c.ClusterListen)
		if err != nil {
			return nil, err
		}
		// One connection per peer beside the system's: there is one account to carry.
		line("cluster { name: %q, host: %q, port: %d, compression: off, pool_size: 1", c.Region, host, port)
		if c.Password != "" {
			line("authorization { user: %s, password: %q }", user, c.Password)
		}
		line("routes: [")
		for _, r := range c.Routes {
			route := url.URL{Scheme: "nats-route", Host: r}
			if c.Password != "" {
				route.User = url.UserPassword(user, c.Password)
			}
			line("  %q", route.String())
		}
		line("] }")
	}
	// NoSigs: the server's own signal handlers would end the process.
	opts := &server.Options{NoSigs: true}
	if err := opts.ProcessConfigString(b.String()); err != nil {
		return nil, fmt.Errorf("embedded NATS configuration: %w", err)
	}
	return opts, nil
}

// Addr returns the address that clients reach; empty if the server does not run.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.server == nil || s.mu.server.Addr() == nil {
		return ""
	}
	return s.mu.server.Addr().String()
}

// InProcessConn connects a client of the same process.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	srv := s.mu.server
	s.mu.Unlock()
	if srv == nil {
		return nil, errNotConnected
	}
	return srv.InProcessConn()
}

// Stop ends the server and returns when all of it has ended. It may be called again.
func (s *Server) Stop() {
	s.mu.Lock()
	srv := s.mu.server
	s.mu.server = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}
