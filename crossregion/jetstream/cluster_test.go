package jetstream

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion/linktest"
	"github.com/atolldb/atoll/topology"
)

// cluster is a region's three servers.
type cluster struct {
	configs []ServerConfig
	servers []*Server
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	routes := make([]string, 3)
	for i := range routes {
		routes[i] = freeAddress(t)
	}
	for i := range routes {
		c.configs = append(c.configs, ServerConfig{
			Name: fmt.Sprint("eu-", i), Region: "eu", StoreDir: t.TempDir(), Password: "a:b/c@d",
			Listen: freeAddress(t), ClusterListen: routes[i], Routes: routes,
		})
		c.servers = append(c.servers, startServer(t, c.configs[i]))
	}
	return c
}

func (c *cluster) urls() []string {
	var all []string
	for _, cfg := range c.configs {
		all = append(all, "nats://"+cfg.Listen)
	}
	return all
}

// TestCluster uses one cluster for everything, because electing its leaders takes seconds.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	var links []*Link
	for i, s := range c.servers {
		l, _ := runLink(t, Config{Region: 1, Node: topology.NodeID(c.configs[i].Name), Server: s, Replicas: 3, Password: c.configs[i].Password})
		links = append(links, l)
	}
	us := startServer(t, ServerConfig{Name: "us-0", Region: "us", StoreDir: t.TempDir()})
	destination, _ := runLink(t, Config{
		Region: 2, Node: "us-0", Server: us, Password: c.configs[0].Password,
		Remotes: []Remote{{ID: 1, Name: "eu", URLs: c.urls()}},
	})
	origin := links[1]
	until(t, "stream", time.Minute, func() bool {
		_, err := origin.Outlet().Stream(t.Context())
		return err == nil
	})
	if got := replicas(t, origin); got != 3 {
		t.Errorf("the stream has %d replicas", got)
	}
	for _, l := range links { // every node sees the same stream, whoever made it
		until(t, "same stream", 20*time.Second, func() bool {
			mine, err1 := l.Outlet().Stream(t.Context())
			other, err2 := origin.Outlet().Stream(t.Context())
			return err1 == nil && err2 == nil && mine.Incarnation == other.Incarnation
		})
	}
	linktest.Run(t, linktest.Pair{
		Origin: origin, Destination: destination, OriginID: 1, DestinationID: 2,
		Wipe: func() {
			_, js, err := origin.outlet.conn.get()
			if err == nil {
				err = js.DeleteStream(t.Context(), streamName(1))
			}
			if err != nil {
				t.Error(err)
			}
		},
	})
	t.Run("a node that lost its store rejoins", func(t *testing.T) { rejoin(t, c, origin) })
}

func replicas(t *testing.T, l *Link) int {
	t.Helper()
	_, js, err := l.outlet.conn.get()
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), streamName(1))
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.Replicas
}

// rejoin empties node 0's store while it is stopped.
func rejoin(t *testing.T, c *cluster, other *Link) {
	c.servers[0].Stop()
	if err := os.RemoveAll(c.configs[0].StoreDir); err != nil {
		t.Fatal(err)
	}
	publishAll(t, other, "while one is away")
	if err := c.servers[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "whole stream", time.Minute, func() bool {
		_, js, err := other.outlet.conn.get()
		if err != nil {
			return false
		}
		s, err := js.Stream(t.Context(), streamName(1))
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		current := 1 // the leader
		for _, peer := range s.CachedInfo().Cluster.Replicas {
			if peer.Current && !peer.Offline {
				current++
			}
		}
		return current == 3
	})
	c.servers[2].Stop() // now what is left needs the one that came back
	publishAll(t, other, "with the one that came back")
}

// publishAll publishes until it works: leaders may have to be elected.
func publishAll(t *testing.T, l *Link, text string) {
	t.Helper()
	until(t, "publication", time.Minute, func() bool {
		result := make(chan error, 1)
		l.Outlet().Publish(2, []byte(text), func(_ uint64, err error) { result <- err })
		return <-result == nil
	})
}
