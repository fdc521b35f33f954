package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/atolldb/atoll/internal/loopback"
)

const (
	// etcdQuota is the largest quota that etcd's operators are advised to set; the default of 2 GiB is
	// too little for a run with large values.
	etcdQuota = 8 << 30
	// etcdTxnOps is etcd's default limit of operations in a transaction.
	etcdTxnOps = 128
	// etcdTxnBytes keeps a transaction below the default limit of 1.5 MiB.
	etcdTxnBytes = 1 << 20
)

// etcdSystem is three etcd members with default settings but for the quota and the log level.
type etcdSystem struct {
	endpoints []string
	profiled  bool
}

func (e *etcdSystem) start(_ context.Context, s *settings, dir string) ([]*server, error) {
	addrs, err := loopback.Free(2 * members)
	if err != nil {
		return nil, err
	}
	e.profiled = s.profile != ""
	var initial []string
	for i := range members {
		e.endpoints = append(e.endpoints, "http://"+addrs[i])
		initial = append(initial, fmt.Sprintf("m%d=http://%s", i, addrs[members+i]))
	}
	var servers []*server
	for i := range members {
		name := fmt.Sprintf("m%d", i)
		peer := "http://" + addrs[members+i]
		server, err := startPeer(s, "etcd-"+name, filepath.Join(dir, name+".log"), "etcd",
			"--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-client-urls", e.endpoints[i], "--advertise-client-urls", e.endpoints[i],
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", filepath.Base(filepath.Dir(dir)),
			"--quota-backend-bytes", fmt.Sprint(etcdQuota), "--log-level", "error",
			fmt.Sprintf("--enable-pprof=%t", e.profiled))
		if err != nil {
			return servers, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func (e *etcdSystem) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: e.endpoints, DialTimeout: probeWithin, Logger: zap.NewNop()})
}

func (e *etcdSystem) dial(_ context.Context, s *settings, _ string, clients int) (driver, error) {
	d := &etcdDriver{}
	for range min(clients, s.etcdClients) {
		c, err := e.client()
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.clients = append(d.clients, c)
	}
	return d, nil
}

// verify checks that all members vote.
func (e *etcdSystem) verify(ctx context.Context) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if m.IsLearner {
			return fmt.Errorf("member %s does not vote", m.Name)
		}
	}
	if len(list.Members) != members {
		return fmt.Errorf("%d members", len(list.Members))
	}
	return nil
}

// tidy compacts what was overwritten, as etcd's operators have it done, so that its database does not
// grow with every round.
func (e *etcdSystem) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	c, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	now, err := c.Get(ctx, "probe/0")
	if err != nil {
		return err
	}
	_, err = c.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	return err
}

func (e *etcdSystem) profiles() []string {
	if !e.profiled {
		return nil
	}
	return e.endpoints
}

// etcdDriver spreads the workers over several clients, each of which spreads its calls over all members.
type etcdDriver struct{ clients []*clientv3.Client }

func (d *etcdDriver) of(worker int) *clientv3.Client { return d.clients[worker%len(d.clients)] }

func (d *etcdDriver) put(ctx context.Context, worker int, key string, value []byte) error {
	_, err := d.of(worker).Put(ctx, key, string(value))
	return err
}

func (d *etcdDriver) get(ctx context.Context, worker int, key string, eventual bool) ([]byte, error) {
	var opts []clientv3.OpOption
	if eventual {
		opts = append(opts, clientv3.WithSerializable())
	}
	answer, err := d.of(worker).Get(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	if len(answer.Kvs) == 0 {
		return nil, errNotFound
	}
	return answer.Kvs[0].Value, nil
}

func (d *etcdDriver) load(ctx context.Context, keys []string, values [][]byte) error {
	var ops []clientv3.Op
	bytes := 0
	flush := func() error {
		_, err := d.of(0).Txn(ctx).Then(ops...).Commit()
		ops, bytes = ops[:0], 0
		return err
	}
	for i, key := range keys {
		if len(ops) > 0 && (len(ops) == etcdTxnOps || bytes+len(values[i]) > etcdTxnBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		ops = append(ops, clientv3.OpPut(key, string(values[i])))
		bytes += len(values[i])
	}
	return flush()
}

func (d *etcdDriver) close() error {
	var errs []error
	for _, c := range d.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
