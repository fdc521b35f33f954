package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

const (
	// readMaxBytes fits the largest reply: a BatchGet, which the server ends at 8 MiB.
	readMaxBytes     = 16 << 20
	compressMinBytes = 1 << 10
	idleConnsPerHost = 256 // net/http keeps 2 by default, which throttles concurrent callers
	dialTimeout      = 3 * time.Second
	idleConnTimeout  = 90 * time.Second
)

// Client talks to one region of a deployment. It is safe for concurrent use; make one and share it.
type Client struct {
	shared    *shared
	namespace string
}

// shared is what a Client and its copies for other namespaces have in common.
type shared struct {
	endpoints []*endpoint
	preferred atomic.Uint32 // index of the endpoint that answered last
	budget    *budget
	cfg       config
	closeIdle func()
	closed    atomic.Bool
}

type endpoint struct {
	address string
	kv      atollv1connect.KVClient
	regions atollv1connect.RegionsClient
}

type config struct {
	namespace      string
	timeout        time.Duration
	attemptTimeout time.Duration
	attempts       int
	http           *http.Client
}

// Option configures a Client.
type Option func(*config)

// WithNamespace sets the namespace of the client's keys. The empty namespace means "default".
func WithNamespace(namespace string) Option { return func(c *config) { c.namespace = namespace } }

// WithTimeout bounds every call, retries included, whose context has no deadline. The default is
// 10 s. Scans and member iterations are bounded per request, not as a whole.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithAttemptTimeout bounds one try of a call when there are several endpoints, so that one that
// hangs is given up for the next. The default is 4 s.
func WithAttemptTimeout(d time.Duration) Option { return func(c *config) { c.attemptTimeout = d } }

// WithMaxAttempts bounds how often a call is tried; 1 means no retries. The default is 12, which
// with its backoff outlasts the election of a new leader.
func WithMaxAttempts(n int) Option { return func(c *config) { c.attempts = n } }

// WithHTTPClient replaces the HTTP client, for TLS, proxies or tests. The default one speaks
// HTTP/1.1 and keeps up to 256 idle connections per endpoint.
func WithHTTPClient(h *http.Client) Option { return func(c *config) { c.http = h } }

// New returns a client of the region whose nodes have the given addresses: URLs, or host:port for
// http. It connects when it is first used.
func New(endpoints []string, opts ...Option) (*Client, error) {
	cfg := config{timeout: 10 * time.Second, attemptTimeout: 4 * time.Second, attempts: 12}
	for _, opt := range opts {
		opt(&cfg)
	}
	if len(endpoints) == 0 {
		return nil, errors.New("no endpoints: give at least one address of a node")
	}
	if cfg.attempts < 1 || cfg.timeout <= 0 || cfg.attemptTimeout <= 0 {
		return nil, errors.New("attempts and timeouts must be positive")
	}
	s := &shared{cfg: cfg, budget: newBudget(), closeIdle: func() {}}
	httpClient := cfg.http
	if httpClient == nil {
		httpClient = defaultHTTPClient()
		s.closeIdle = httpClient.CloseIdleConnections
	}
	for _, address := range endpoints {
		base, err := baseURL(address)
		if err != nil {
			return nil, err
		}
		conn := connect.NewClient(connecthttp.NewTransport(httpClient, base,
			connecthttp.WithReadMaxBytes(readMaxBytes), connecthttp.WithCompressMinBytes(compressMinBytes)))
		s.endpoints = append(s.endpoints, &endpoint{
			address: base,
			kv:      atollv1connect.NewKVClient(conn),
			regions: atollv1connect.NewRegionsClient(conn),
		})
	}
	return &Client{shared: s, namespace: cfg.namespace}, nil
}

// Namespace returns a client for another namespace that shares this one's connections.
func (c *Client) Namespace(namespace string) *Client {
	return &Client{shared: c.shared, namespace: namespace}
}

// Close releases the client's idle connections, and those of its copies for other namespaces.
// Calls after it fail; calls under way end by themselves.
func (c *Client) Close() error {
	if !c.shared.closed.Swap(true) {
		c.shared.closeIdle()
	}
	return nil
}

func defaultHTTPClient() *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			MaxIdleConnsPerHost: idleConnsPerHost,
			IdleConnTimeout:     idleConnTimeout,
			TLSHandshakeTimeout: dialTimeout,
		},
		// The API redirects nowhere; following one could send a write somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func baseURL(address string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("endpoint %q: want host:port or an http or https URL", address)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}
