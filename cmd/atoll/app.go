package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/charmbracelet/x/term"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const probeWithin = time.Second

// app is what the commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	clock          func() time.Time
	flags          struct {
		servers           []string
		region, namespace string
		timeout           time.Duration
		output            string
		session           string
	}
	session *client.Session // what --session names; nil without it
	kept    []byte          // what is in its file
	clients []*client.Client
	began   bool // whether a command ran, and not only its flags were looked at
}

func (a *app) close() error {
	err := a.keepSession()
	for _, c := range a.clients {
		_ = c.Close() // has no error
	}
	return err
}

// servers returns the addresses to talk to: flag, then environment, then default.
func (a *app) servers() []string {
	servers := a.flags.servers
	if len(servers) == 0 {
		servers = strings.FieldsFunc(a.getenv("ATOLL_SERVER"), func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(servers) == 0 {
		servers = []string{defaultServer}
	}
	return servers
}

func (a *app) dial(servers []string, opts ...client.Option) (*client.Client, error) {
	if a.flags.timeout <= 0 {
		return nil, usagef("--timeout must be positive")
	}
	opts = append(opts, client.WithNamespace(a.flags.namespace), client.WithTimeout(a.flags.timeout))
	if err := a.openSession(); err != nil {
		return nil, err
	}
	if a.session != nil {
		opts = append(opts, client.WithSession(a.session))
	}
	c, err := client.New(servers, opts...)
	if err != nil {
		return nil, &usageError{err: err}
	}
	a.clients = append(a.clients, c)
	return c, nil
}

// client returns a client of the region that the flags ask for. It fails at once if nobody listens at
// any of the addresses: a person who mistyped one should not wait for all the retries.
func (a *app) client(ctx context.Context, opts ...client.Option) (*client.Client, error) {
	if err := probe(ctx, a.servers()); err != nil {
		return nil, err
	}
	return a.patientClient(ctx, opts...)
}

// patientClient is client without the impatience.
func (a *app) patientClient(ctx context.Context, opts ...client.Option) (*client.Client, error) {
	c, err := a.dial(a.servers(), opts...)
	if err != nil || a.flags.region == "" {
		return c, err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("find region %s: %w", a.flags.region, err)
	}
	var names []string
	for _, r := range status.GetRegions() {
		if r.GetName() == a.flags.region {
			return a.regionClient(r, opts...)
		}
		names = append(names, r.GetName())
	}
	return nil, withHint(usagef("there is no region %q", a.flags.region), "one of: %s", strings.Join(names, ", "))
}

// probe returns an error if every server refuses connections. Whatever else is wrong is for the client
// to find out.
func probe(ctx context.Context, servers []string) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	var refused error
	for _, server := range servers {
		if !strings.Contains(server, "://") {
			server = "http://" + server
		}
		u, err := url.Parse(server)
		if err != nil {
			return nil
		}
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil || proxy != nil {
			return nil
		}
		host := u.Host
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), u.Scheme)
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", host)
		if err == nil {
			return conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		refused = fmt.Errorf("nobody listens at %s: %w", host, err)
	}
	return &codeError{refused, exitUnavailable}
}

// regionClient returns a client of a region's nodes. They are taken to speak as --server does.
func (a *app) regionClient(r *atollv1.Region, opts ...client.Option) (*client.Client, error) {
	scheme := "http"
	if u, err := url.Parse(a.servers()[0]); err == nil && u.Scheme == "https" {
		scheme = "https"
	}
	var servers []string
	for _, n := range r.GetNodes() {
		servers = append(servers, scheme+"://"+n.GetAddress())
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("region %s has no nodes", r.GetName())
	}
	return a.dial(servers, opts...)
}

// format returns how results are printed.
func (a *app) format() (string, error) {
	switch a.flags.output {
	case "table", "json", "raw":
		return a.flags.output, nil
	case "":
		if isTerminal(a.stdout) {
			return "table", nil
		}
		return "raw", nil
	default:
		return "", usagef("unknown output %q: want table, json or raw", a.flags.output)
	}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// maxValueBytes bounds what is read for one value, so that the server's limit is reported by name
// and not by running out of memory.
const maxValueBytes = 1<<20 + 1

// value reads a VALUE argument: the text itself, - for stdin, or @FILE.
func (a *app) value(arg string) ([]byte, error) {
	from := a.stdin
	switch {
	case arg == "-":
	case strings.HasPrefix(arg, "@"):
		f, err := os.Open(arg[1:])
		if err != nil {
			return nil, fmt.Errorf("read value: %w", err)
		}
		defer f.Close()
		from = f
	default:
		return []byte(arg), nil
	}
	data, err := io.ReadAll(io.LimitReader(from, maxValueBytes))
	if err != nil {
		return nil, fmt.Errorf("read value: %w", err)
	}
	if len(data) == maxValueBytes {
		return nil, &usageError{err: errors.New("the value has more than 1 MiB")}
	}
	return data, nil
}

func (a *app) notef(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }
