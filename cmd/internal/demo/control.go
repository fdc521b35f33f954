package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning means that no demo listens on the control socket.
var ErrNotRunning = errors.New("no demo is running")

// ErrRunning means that a demo already listens on the control socket.
var ErrRunning = errors.New("a demo is already running")

const (
	controlTimeout  = 10 * time.Second
	maxControlBytes = 64 << 10
)

// LinkStatus is the state of the link between two regions.
type LinkStatus struct {
	A        string `json:"a"`
	B        string `json:"b"`
	OneWayMS int64  `json:"one_way_ms"`
	Cut      bool   `json:"cut"`
}

// Status is the state of a running demo.
type Status struct {
	PID       int                 `json:"pid"`
	Endpoints map[string][]string `json:"endpoints"`
	Links     []LinkStatus        `json:"links"`
}

// ControlPath is where this user's demo listens.
func ControlPath() string {
	return filepath.Join(os.TempDir(), "atoll-demo-"+strconv.Itoa(os.Getuid())+".sock")
}

// controlServer lets other processes of the same user act on a running demo.
type controlServer struct {
	listener net.Listener
	server   *http.Server
}

func newControlServer(path string, d *Demo) (*controlServer, error) {
	listener, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if c, dialErr := net.Dial("unix", path); dialErr == nil {
			return nil, errors.Join(fmt.Errorf("%w: stop it first (it listens on %s)", ErrRunning, path), c.Close())
		}
		// What a killed demo left behind: nobody listens on it.
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale control socket: %w", err)
		}
		listener, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeStatus(w, d) })
	mux.HandleFunc("POST /cut", func(w http.ResponseWriter, r *http.Request) {
		if err := d.Cut(r.URL.Query().Get("a"), r.URL.Query().Get("b")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeStatus(w, d)
	})
	mux.HandleFunc("POST /heal", func(w http.ResponseWriter, _ *http.Request) {
		d.Heal()
		writeStatus(w, d)
	})
	return &controlServer{
		listener: listener,
		server:   &http.Server{Handler: mux, ReadHeaderTimeout: controlTimeout},
	}, nil
}

func writeStatus(w http.ResponseWriter, d *Demo) {
	w.Header().Set("Content-Type", "application/json")
	// The status is small, and a client that left has no use for an error.
	_ = json.NewEncoder(w).Encode(Status{PID: os.Getpid(), Endpoints: d.Endpoints(), Links: d.Links()})
}

// Run serves until ctx ends.
func (c *controlServer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.server.Close() })
	defer stop()
	if err := c.server.Serve(c.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close stops listening, which removes the socket.
func (c *controlServer) Close() error {
	err := c.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Control acts on the demo that listens on path. command is "status", "cut" or "heal"; cut takes two
// regions. The error is ErrNotRunning if nobody listens.
func Control(ctx context.Context, path, command string, regions ...string) (Status, error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	method, url := http.MethodPost, "http://demo/"+command
	if command == "status" {
		method = http.MethodGet
	}
	if len(regions) == 2 {
		url += "?" + neturl.Values{"a": {regions[0]}, "b": {regions[1]}}.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return Status{}, fmt.Errorf("ask the demo: %w", err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return Status{}, ErrNotRunning
	}
	if err != nil {
		return Status{}, fmt.Errorf("ask the demo: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxControlBytes))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return Status{}, fmt.Errorf("read the demo's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return Status{}, errors.New(string(bytes.TrimSpace(body)))
	}
	var status Status
	if err := json.Unmarshal(body, &status); err != nil {
		return Status{}, fmt.Errorf("read the demo's answer: %w", err)
	}
	return status, nil
}
