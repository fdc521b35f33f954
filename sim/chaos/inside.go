package main

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/internal/wan"
	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// mostAnswerBytes fits the largest answer, a batch of values.
const mostAnswerBytes = 16 << 20

// insideOf makes of a deployment one that has its first region only.
func insideOf(configs []*configv1.Server, partitions uint32) []*configv1.Server {
	region := configs[0].GetCluster().GetRegions()[0]
	for _, c := range configs {
		for _, r := range c.GetCluster().GetRegions() {
			if r.GetId() < region.GetId() {
				region = r
			}
		}
	}
	var inside []*configv1.Server
	for _, n := range region.GetNodes() {
		for _, c := range configs {
			if c.GetNode() != n.GetName() {
				continue
			}
			c.Cluster.Regions = []*configv1.Region{proto.CloneOf(region)}
			c.Cluster.Partitions = partitions
			inside = append(inside, c)
		}
	}
	return inside
}

// addLinksInside has the nodes of the region reach each other's Raft through links, one for each
// node and each other that it dials. A node answers on the connection on which it was asked, so what
// is delayed on the way back are answers.
func (d *deployment) addLinksInside(ctx context.Context) error {
	raft := map[string]string{}
	for _, m := range d.members {
		for _, n := range m.config.GetCluster().GetRegions()[0].GetNodes() {
			raft[n.GetName()] = n.GetRaft()
		}
	}
	for _, m := range d.members {
		for _, n := range m.config.GetCluster().GetRegions()[0].GetNodes() {
			if n.GetName() == m.name {
				continue
			}
			l, err := wan.Listen(ctx, wan.Config{
				Listen: "127.0.0.1:0", Target: raft[n.GetName()], BackDelay: d.settings.replyDelay,
			})
			if err != nil {
				return err
			}
			d.links = append(d.links, link{from: m.name, to: n.GetName(), Link: l})
			n.Raft = l.Addr()
		}
	}
	return nil
}

// way cuts or heals one way of the links from one node to another.
func (d *deployment) way(from, to string, w wan.Way, cut bool) {
	for _, l := range d.links {
		if l.from != from || l.to != to {
			continue
		}
		if cut {
			l.CutWay(w)
		} else {
			l.HealWay(w)
		}
	}
}

// endpoints returns where all nodes serve the API.
func (d *deployment) endpoints() []string {
	var endpoints []string
	for _, m := range d.members {
		endpoints = append(endpoints, "http://"+m.api)
	}
	return endpoints
}

// named returns the member of that name.
func (d *deployment) named(name string) *member {
	for _, m := range d.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// direct talks to one node as it is told to, whereas the SDK looks for the node that can answer.
type direct struct {
	node    string
	kv      atollv1connect.KVClient
	regions atollv1connect.RegionsClient
	http    *http.Transport
}

func (m *member) direct() *direct {
	transport := &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}
	conn := connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, "http://"+m.api,
		connecthttp.WithReadMaxBytes(mostAnswerBytes)))
	return &direct{
		node: m.name, http: transport,
		kv: atollv1connect.NewKVClient(conn), regions: atollv1connect.NewRegionsClient(conn),
	}
}

func (d *direct) close() { d.http.CloseIdleConnections() }
