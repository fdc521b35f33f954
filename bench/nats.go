package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/internal/loopback"
)

const (
	natsBucket = "bench"
	// natsStoreGiB is room enough for any run.
	natsStoreGiB = 32
)

// natsSystem is three clustered NATS servers with JetStream, which sync every write.
type natsSystem struct {
	urls   []string
	pprofs []string
}

func (n *natsSystem) start(_ context.Context, s *settings, dir string) ([]*server, error) {
	addrs, err := loopback.Free(3 * members)
	if err != nil {
		return nil, err
	}
	var routes []string
	for i := range members {
		n.urls = append(n.urls, "nats://"+addrs[i])
		routes = append(routes, "nats://"+addrs[members+i])
	}
	var servers []*server
	for i := range members {
		name := fmt.Sprintf("n%d", i)
		config := fmt.Sprintf(`server_name: %s
listen: %q
jetstream { store_dir: %q, max_file_store: %dGB, sync_interval: always }
cluster { name: bench, listen: %q, routes: [%s] }
`, name, addrs[i], filepath.Join(dir, name), natsStoreGiB, addrs[members+i], strings.Join(routes, ", "))
		if s.profile != "" {
			profile := addrs[2*members+i]
			n.pprofs = append(n.pprofs, "http://"+profile)
			config += fmt.Sprintf("prof_port: %s\n", profile[strings.LastIndexByte(profile, ':')+1:])
		}
		file := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return servers, err
		}
		server, err := startPeer(s, "nats-"+name, filepath.Join(dir, name+".log"), "nats", "--config", file)
		if err != nil {
			return servers, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func (n *natsSystem) connect() (*nats.Conn, jetstream.KeyValue, error) {
	conn, err := nats.Connect(strings.Join(n.urls, ","), nats.Timeout(probeWithin))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*probeWithin)
	defer cancel()
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: natsBucket, History: 1, Replicas: members, Storage: jetstream.FileStorage,
	})
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, kv, nil
}

func (n *natsSystem) dial(_ context.Context, s *settings, _ string, clients int) (driver, error) {
	d := &natsDriver{}
	for range min(clients, s.natsConns) {
		conn, kv, err := n.connect()
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.conns, d.buckets = append(d.conns, conn), append(d.buckets, kv)
	}
	return d, nil
}

// verify checks that the bucket is what an acknowledgement promises: three replicas in files, all of
// them current.
func (n *natsSystem) verify(ctx context.Context) error {
	conn, _, err := n.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return until(ctx, probeEvery, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, "KV_"+natsBucket)
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx)
		if err != nil {
			return err
		}
		return checkStream(info)
	})
}

func checkStream(info *jetstream.StreamInfo) error {
	if info.Config.Replicas != members || info.Config.Storage != jetstream.FileStorage {
		return fmt.Errorf("the bucket has %d replicas in %s storage", info.Config.Replicas, info.Config.Storage)
	}
	if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != members-1 {
		return errors.New("the bucket is not replicated")
	}
	for _, r := range info.Cluster.Replicas {
		if r.Offline || !r.Current {
			return fmt.Errorf("replica %s is behind", r.Name)
		}
	}
	return nil
}

func (n *natsSystem) tidy(context.Context) error { return nil }

func (n *natsSystem) profiles() []string { return n.pprofs }

// natsDriver spreads the workers over several connections.
type natsDriver struct {
	conns   []*nats.Conn
	buckets []jetstream.KeyValue
}

func (d *natsDriver) of(worker int) jetstream.KeyValue { return d.buckets[worker%len(d.buckets)] }

func (d *natsDriver) put(ctx context.Context, worker int, key string, value []byte) error {
	_, err := d.of(worker).Put(ctx, key, value)
	return err
}

// get is a direct get, which any replica answers: NATS KV has no linearizable read.
func (d *natsDriver) get(ctx context.Context, worker int, key string, _ bool) ([]byte, error) {
	entry, err := d.of(worker).Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return entry.Value(), nil
}

func (d *natsDriver) load(ctx context.Context, keys []string, values [][]byte) error {
	for i, key := range keys {
		if _, err := d.of(i).Put(ctx, key, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *natsDriver) close() error {
	for _, c := range d.conns {
		c.Close()
	}
	return nil
}
