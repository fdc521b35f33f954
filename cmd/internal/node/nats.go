package node

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/jetstream"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// clusterServers is how many nodes of a region run an embedded NATS server: three, which survive the
// loss of one, or one in a region too small for that. Further nodes are clients.
const clusterServers = 3

// openReplication prepares replication to other regions. A deployment of one region has none, and
// runs no NATS.
func (n *Node) openReplication(ctx context.Context) error {
	others := n.others()
	if len(others) == 0 {
		return nil
	}
	link := jetstream.Config{
		Region: n.region.ID, Node: n.cfg.Node, Replicas: 1,
		MaxStreamBytes: n.cfg.NATS.MaxStoreBytes / 2, Logger: n.cfg.Logger,
	}
	servers := n.natsServers()
	if len(servers) == clusterServers {
		link.Replicas = clusterServers
	}
	if err := n.openNATS(ctx, servers, &link); err != nil {
		return err
	}
	for _, r := range others {
		link.Remotes = append(link.Remotes, jetstream.Remote{ID: r.ID, Name: r.Name, URLs: n.urlsOf(r)})
	}
	var err error
	if n.link, err = jetstream.NewLink(link); err != nil {
		return err
	}
	ends := newReplication(n.data)
	n.replication = &crossregion.Config{
		Cluster: n.cfg.Cluster.Name, Self: n.region.ID, Node: n.cfg.Node, Actor: n.region.Actor(),
		Partitions: n.cfg.Cluster.Partitions, GivenUp: n.givenUp, Lost: n.loss.suspect,
		Source: ends, Sink: ends, State: ends, Transfers: transfers{n.data}, Audits: transfers{n.data}, Fold: partitions.Fold, Instant: replica.TimeOf, ClockAhead: n.cfg.MaxClockAhead, ClockSource: n.source,
		Derive: n.cfg.Keys.Key, WantEvent: n.wantEvent, Link: n.link, Clock: n.cfg.Clock, Logger: n.cfg.Logger,
	}
	return n.replication.Validate()
}

// wantEvent has a partition that this node leads make an event.
func (n *Node) wantEvent(p topology.PartitionID, past hlc.Time) error {
	part, err := n.data.Partition(p)
	if err != nil {
		return err
	}
	return part.WantTick(past)
}

func (n *Node) others() []*topology.Region {
	var others []*topology.Region
	for i := range n.cfg.Cluster.Regions {
		if r := &n.cfg.Cluster.Regions[i]; r.ID != n.region.ID {
			others = append(others, r)
		}
	}
	return others
}

// openNATS starts this node's embedded server, or finds the one to use instead.
func (n *Node) openNATS(ctx context.Context, servers []topology.Node, link *jetstream.Config) error {
	if n.cfg.NATS.URL != "" {
		link.URLs = []string{n.cfg.NATS.URL}
		return jetstream.CheckExternal(ctx, jetstream.External{
			URLs: link.URLs, Region: link.Region, Replicas: link.Replicas, MaxStreamBytes: link.MaxStreamBytes,
		})
	}
	cfg := jetstream.ServerConfig{
		Name: string(n.cfg.Node), Region: n.region.Name, Listen: n.self.NATS,
		StoreDir: n.dir.file("nats"), MaxStoreBytes: n.cfg.NATS.MaxStoreBytes, Logger: n.cfg.Logger,
	}
	if len(servers) == clusterServers {
		cfg.ClusterListen = n.self.NATSCluster
	}
	here := false
	for _, s := range servers {
		here = here || s.ID == n.cfg.Node
		link.URLs = append(link.URLs, "nats://"+s.NATS)
		if cfg.ClusterListen != "" {
			cfg.Routes = append(cfg.Routes, s.NATSCluster)
		}
	}
	if !here {
		return nil // a client of the region's servers
	}
	var err error
	if n.nats, err = jetstream.NewServer(cfg); err != nil {
		return err
	}
	link.Server = n.nats
	return n.nats.Start(ctx)
}

// natsServers returns the nodes of this region that run an embedded server.
func (n *Node) natsServers() []topology.Node {
	if len(n.region.Nodes) < clusterServers {
		return n.region.Nodes[:1]
	}
	return n.region.Nodes[:clusterServers]
}

// urlsOf returns how this node reaches another region's NATS.
func (n *Node) urlsOf(r *topology.Region) []string {
	if urls := n.cfg.RemoteURLs[r.ID]; len(urls) > 0 {
		return urls
	}
	if len(r.NATSURLs) > 0 {
		return r.NATSURLs
	}
	var urls []string
	for i, s := range r.Nodes {
		if i < clusterServers && s.NATS != "" {
			urls = append(urls, "nats://"+s.NATS)
		}
	}
	return urls
}

// replicationPlane replicates until ctx ends, and then stops JetStream.
func (n *Node) replicationPlane() []func(context.Context) error {
	if n.replication == nil {
		return nil
	}
	return []func(context.Context) error{func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return n.link.Run(ctx) })
		g.Go(func() error { return n.replicate(ctx) })
		g.Go(func() error { return n.watchLoss(ctx) })
		return errors.Join(g.Wait(), n.closeReplication())
	}}
}

func (n *Node) closeReplication() error {
	if n.nats != nil {
		n.nats.Stop()
	}
	return nil
}
