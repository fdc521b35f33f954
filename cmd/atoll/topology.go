package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func newTopology(a *app) *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "topology",
		Short: "Show the nodes of a region, and where its partitions are",
		Long: "Show the nodes of a region and for each partition who leads it and who holds replicas, as the asked\n" +
			"node knows it. With --watch it is shown again after each change; -o json then prints one object per\n" +
			"line.",
		Example: `  atoll topology
  atoll topology --watch
  atoll topology -o json | jq '[.partitions[] | select(.state == "no leader")] | length'`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			if !follow {
				t, err := kv.Topology(cmd.Context())
				if err != nil {
					return err
				}
				return a.showTopology(t)
			}
			for t, err := range kv.WatchTopology(cmd.Context()) {
				if errors.Is(err, context.Canceled) {
					return nil // an interrupt is how a watch ends
				}
				if err != nil {
					return err
				}
				if err := a.showTopology(t); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&follow, "watch", false, "show it again after each change, until interrupted")
	return c
}

// topologyView is a topology as JSON.
type topologyView struct {
	Cluster    string          `json:"cluster"`
	Region     string          `json:"region"`
	Epoch      uint64          `json:"epoch"`
	Nodes      []nodeView      `json:"nodes"`
	Partitions []partitionView `json:"partitions"`
	Namespaces []namespaceView `json:"namespaces,omitempty"`
}

// namespaceView is a namespace that has values of one type only.
type namespaceView struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	GrowOnly bool   `json:"grow_only,omitempty"`
}

type nodeView struct {
	Name        string `json:"name"`
	Zone        string `json:"zone,omitempty"`
	Address     string `json:"address"`
	GRPCAddress string `json:"grpc_address,omitempty"`
	Leads       int    `json:"leads"`
	Replicas    int    `json:"replicas"`
}

type partitionView struct {
	Partition uint32   `json:"partition"`
	State     string   `json:"state"`
	Leader    string   `json:"leader,omitempty"`
	Term      uint64   `json:"term"`
	Replicas  []string `json:"replicas"`
}

func viewOf(t *atollv1.Topology) *topologyView {
	v := &topologyView{Cluster: t.GetCluster(), Region: t.GetRegion(), Epoch: t.GetEpoch()}
	leads, replicas := map[string]int{}, map[string]int{}
	for _, p := range t.GetPartitions() {
		state := "unknown"
		switch p.GetState() {
		case atollv1.PartitionState_PARTITION_STATE_ACTIVE:
			state = "active"
		case atollv1.PartitionState_PARTITION_STATE_NO_LEADER:
			state = "no leader"
		}
		v.Partitions = append(v.Partitions, partitionView{p.GetPartition(), state, p.GetLeader(), p.GetTerm(), p.GetReplicas()})
		leads[p.GetLeader()]++
		for _, name := range p.GetReplicas() {
			replicas[name]++
		}
	}
	for _, n := range t.GetNodes() {
		v.Nodes = append(v.Nodes, nodeView{n.GetName(), n.GetZone(), n.GetAddress(), n.GetGrpcAddress(), leads[n.GetName()], replicas[n.GetName()]})
	}
	for _, n := range t.GetNamespaces() {
		v.Namespaces = append(v.Namespaces, namespaceView{n.GetName(), client.Type(n.GetType()).String(), n.GetGrowOnly()})
	}
	return v
}

func (a *app) showTopology(t *atollv1.Topology) error {
	v := viewOf(t)
	format, err := a.format()
	if err != nil {
		return err
	}
	if format == "json" {
		return a.stream(func(out *bufio.Writer, _ string) error { return jsonLine(out, v) })
	}
	nodes := &grid{
		title:  fmt.Sprintf("region %s of cluster %s, epoch %d", v.Region, v.Cluster, v.Epoch),
		header: []string{"NODE", "ZONE", "ADDRESS", "GRPC", "LEADS", "REPLICAS"},
	}
	for _, n := range v.Nodes {
		nodes.add(n.Name, n.Zone, n.Address, cmp.Or(n.GRPCAddress, "-"), strconv.Itoa(n.Leads), strconv.Itoa(n.Replicas))
	}
	partitions := &grid{title: "partitions", header: []string{"PARTITION", "STATE", "LEADER", "TERM", "REPLICAS"}}
	for _, p := range v.Partitions {
		partitions.add(strconv.Itoa(int(p.Partition)), p.State, cmp.Or(p.Leader, "none"), strconv.FormatUint(p.Term, 10), strings.Join(p.Replicas, ", "))
	}
	grids := []*grid{nodes, partitions}
	if len(v.Namespaces) > 0 {
		namespaces := &grid{title: "namespaces of one type", header: []string{"NAMESPACE", "TYPE"}}
		for _, n := range v.Namespaces {
			of := n.Type
			if n.GrowOnly {
				of += ", additions only"
			}
			namespaces.add(printable([]byte(n.Name), 60), of)
		}
		grids = append(grids, namespaces)
	}
	return a.tables(v, grids...)
}
