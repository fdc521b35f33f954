package client

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// readMaxBytes fits the largest reply: a BatchGet, which the server ends at 8 MiB.
	readMaxBytes = 16 << 20
	// compressMinBytes is never reached: to compress a request costs many times what it costs.
	compressMinBytes = math.MaxInt32
	idleConnsPerHost = 256 // net/http keeps 2 by default, which throttles concurrent callers
	dialTimeout      = 3 * time.Second
	idleConnTimeout  = 90 * time.Second

	// A connection that is silent for pingAfter is asked whether it lives, and given up pingTimeout later.
	pingAfter   = 5 * time.Second
	pingTimeout = 3 * time.Second
)

// Client talks to one region of a deployment. It is safe for concurrent use; make one and share it.
type Client struct {
	shared    *shared
	namespace string
	// path, if there is one, makes this the client of the handles of a leaf: what they say about the key is
	// about the leaf at that path of the map under the key.
	path []string
}

type config struct {
	namespace      string
	timeout        time.Duration
	attemptTimeout time.Duration
	attempts       int
	unary          bool
	http           *http.Client
	session        *Session
}

// Option configures a Client.
type Option func(*config)

// WithNamespace sets the namespace of the client's keys. The empty namespace means "default".
func WithNamespace(namespace string) Option { return func(c *config) { c.namespace = namespace } }

// WithTimeout bounds every call, retries included, whose context has no deadline. The default is
// 10 s. Scans and member iterations are bounded per request, not as a whole; a watch is not bounded.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithAttemptTimeout bounds one try of a call when there are several nodes, so that one that hangs is
// given up for the next. The default is 4 s.
func WithAttemptTimeout(d time.Duration) Option { return func(c *config) { c.attemptTimeout = d } }

// WithMaxAttempts bounds how often a call is tried; 1 means no retries. The default is 12, which
// with its backoff outlasts the election of a new leader.
func WithMaxAttempts(n int) Option { return func(c *config) { c.attempts = n } }

// WithUnary sends every request as an HTTP request of its own, as a client in another language or
// behind a proxy would. Streams cost a fraction of it; they are also given up by themselves where a
// server or something before it does not take them.
func WithUnary() Option { return func(c *config) { c.unary = true } }

// WithHTTPClient replaces the HTTP clients, for TLS, proxies or tests. The default ones speak HTTP/1.1
// with up to 256 idle connections per node, and HTTP/2 without TLS for streams. Requests are streamed
// only if this one speaks HTTP/2.
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
	s := newShared(cfg)
	for _, address := range endpoints {
		base, err := baseURL(address)
		if err != nil {
			return nil, err
		}
		s.seeds = append(s.seeds, s.endpoint(base))
	}
	return &Client{shared: s, namespace: cfg.namespace}, nil
}

// Namespace returns a client for another namespace that shares this one's connections.
func (c *Client) Namespace(namespace string) *Client {
	return &Client{shared: c.shared, namespace: namespace}
}

// Close releases the client's connections, and those of its copies for other namespaces. Calls after
// it fail; calls under way end by themselves.
func (c *Client) Close() error {
	c.shared.close()
	return nil
}

func newDialer() *net.Dialer { return &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second} }

// The API redirects nowhere; following one could send a write somewhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// unaryHTTPClient returns what carries requests one by one.
func unaryHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         newDialer().DialContext,
			MaxIdleConnsPerHost: idleConnsPerHost,
			IdleConnTimeout:     idleConnTimeout,
			TLSHandshakeTimeout: dialTimeout,
		},
		CheckRedirect: noRedirect,
	}
}

// streamHTTPClient returns what carries streams. Without TLS it takes for granted that the server
// speaks HTTP/2: one that does not fails the stream, and gets its requests one by one.
func streamHTTPClient() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         newDialer().DialContext,
			IdleConnTimeout:     idleConnTimeout,
			TLSHandshakeTimeout: dialTimeout,
			DisableCompression:  true,
			Protocols:           protocols,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
		CheckRedirect: noRedirect,
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
