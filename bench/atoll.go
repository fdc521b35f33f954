package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/bench/figures"
	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/loopback"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// loadBatch bounds the keys of one batch.
const loadBatch = 512

var errNotFound = errors.New("the key is not there")

// atollSystem is one region of three nodes with default settings, which other regions could join.
type atollSystem struct {
	program string
	urls    []string
	pprofs  []string
}

// buildAtoll builds the server from the tree.
func buildAtoll(ctx context.Context, repository, dir string) (string, error) {
	program, err := filepath.Abs(filepath.Join(dir, "atoll"))
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/atoll")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build atoll: %w\n%s", err, out)
	}
	return program, nil
}

func (a *atollSystem) start(_ context.Context, s *settings, dir string) ([]*server, error) {
	const ports = 5 // of each node
	addrs, err := loopback.Free(ports * members)
	if err != nil {
		return nil, err
	}
	nodes := ""
	for i := range members {
		own := addrs[ports*i:]
		a.urls = append(a.urls, "http://"+own[0])
		nodes += fmt.Sprintf("        - {name: a%d, zone: z%d, api: %q, raft: %q, nats: %q, nats_cluster: %q}\n",
			i, i, own[0], own[1], own[2], own[3])
	}
	var servers []*server
	for i := range members {
		name := fmt.Sprintf("a%d", i)
		config := fmt.Sprintf(`node: %s
data_dir: %q
max_procs: %d
log_level: warn
cluster:
  name: %s
  partitions: %d
  replication_factor: %d
  regions:
    - name: here
      id: 1
      nodes:
%s`, name, filepath.Join(dir, name), s.procs, filepath.Base(filepath.Dir(dir)), s.partitions, members, nodes)
		file := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return servers, err
		}
		var env []string
		if s.profile != "" {
			pprof := addrs[ports*i+4]
			env = append(env, "ATOLL_PPROF="+pprof)
			a.pprofs = append(a.pprofs, "http://"+pprof)
		}
		server, err := startServer("atoll-"+name, filepath.Join(dir, name+".log"), env, a.program, "server", "--config", file)
		if err != nil {
			return servers, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func (a *atollSystem) dial(_ context.Context, _ *settings, contender string, clients int) (driver, error) {
	sdk, err := client.New(a.urls)
	if err != nil {
		return nil, err
	}
	d := &atollDriver{sdk: sdk}
	if contender != figures.AtollUnary {
		return d, nil
	}
	pool := &http.Transport{MaxIdleConnsPerHost: clients}
	unary := &unaryDriver{atollDriver: d, pool: pool}
	for _, url := range a.urls {
		conn := connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: pool}, url))
		unary.nodes = append(unary.nodes, atollv1connect.NewKVClient(conn))
	}
	return unary, nil
}

// verify has nothing to ask: the configuration says how many replicas there are, and there is no other
// way to store them than synced.
func (a *atollSystem) verify(context.Context) error { return nil }

func (a *atollSystem) tidy(context.Context) error { return nil }

func (a *atollSystem) profiles() []string { return a.pprofs }

// atollDriver is one SDK client that all workers share.
type atollDriver struct{ sdk *client.Client }

func (d *atollDriver) put(ctx context.Context, _ int, key string, value []byte) error {
	_, err := d.sdk.Put(ctx, key, value)
	return err
}

func (d *atollDriver) get(ctx context.Context, _ int, key string, eventual bool) ([]byte, error) {
	var opts []client.ReadOption
	if eventual {
		opts = append(opts, client.Eventual())
	}
	value, err := d.sdk.Get(ctx, key, opts...)
	if errors.Is(err, client.ErrNotFound) {
		return nil, errNotFound
	}
	return value.Bytes, err
}

func (d *atollDriver) load(ctx context.Context, keys []string, values [][]byte) error {
	const maxBytes = 2 << 20
	var batch []client.Write
	bytes := 0
	flush := func() error {
		results, err := d.sdk.Batch(ctx, batch)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		batch, bytes = batch[:0], 0
		return err
	}
	for i, key := range keys {
		if len(batch) > 0 && (len(batch) == loadBatch || bytes+len(values[i]) > maxBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, client.NewPut(key, values[i]))
		bytes += len(values[i])
	}
	return flush()
}

func (d *atollDriver) close() error { return d.sdk.Close() }

// unaryDriver calls the service plainly, one HTTP request per operation, as curl or a generated client
// does: it knows nothing of leaders, and each worker has one node that it talks to.
type unaryDriver struct {
	*atollDriver
	nodes []atollv1connect.KVClient
	pool  *http.Transport
}

func (d *unaryDriver) put(ctx context.Context, worker int, key string, value []byte) error {
	_, err := d.nodes[worker%len(d.nodes)].Put(ctx, &atollv1.PutRequest{Key: key, Value: value})
	return err
}

func (d *unaryDriver) get(ctx context.Context, worker int, key string, eventual bool) ([]byte, error) {
	request := &atollv1.GetRequest{Key: key}
	if eventual {
		request.Options = &atollv1.ReadOptions{Consistency: atollv1.Consistency_CONSISTENCY_EVENTUAL}
	}
	answer, err := d.nodes[worker%len(d.nodes)].Get(ctx, request)
	if err != nil {
		return nil, err
	}
	if !answer.GetFound() {
		return nil, errNotFound
	}
	return answer.GetValue(), nil
}

func (d *unaryDriver) close() error {
	d.pool.CloseIdleConnections()
	return d.atollDriver.close()
}
