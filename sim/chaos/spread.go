package main

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
)

// spreadNames are the regions of a deployment that a scenario has made for itself.
var spreadNames = [...]string{"eu", "us", "ap", "sa", "af"}

// nodes returns the configurations of the nodes that the scenario is played with.
func (s *settings) nodes() ([]*configv1.Server, error) {
	if s.scenario.full.regions > 0 {
		return spreadOf(s.scenario.full.regions, s.nodesEach, uint32(s.partitions)), nil
	}
	configs, err := loadConfigs(s.configs)
	if err == nil && s.scenario.inside {
		configs = insideOf(configs, uint32(s.partitions))
	}
	return configs, err
}

// spreadOf returns a deployment of so many regions, which vote on which regions there are, of so many nodes each. Its
// addresses differ, and are to be replaced.
func spreadOf(regions, nodes int, partitions uint32) []*configv1.Server {
	used := 0
	address := func() string {
		used++
		return fmt.Sprintf("127.0.0.1:%d", used)
	}
	cluster := &configv1.Cluster{Name: "spread", Partitions: partitions}
	for i, name := range spreadNames[:regions] {
		r := &configv1.Region{Name: name, Id: uint32(i + 1), Membership: address()}
		for k := range nodes {
			r.Nodes = append(r.Nodes, &configv1.Node{
				Name: fmt.Sprintf("%s-%d", name, k+1), Api: address(), Raft: address(), Nats: address(), NatsCluster: address(),
			})
		}
		cluster.Regions = append(cluster.Regions, r)
	}
	var configs []*configv1.Server
	for _, r := range cluster.GetRegions() {
		for _, n := range r.GetNodes() {
			configs = append(configs, &configv1.Server{
				Node: n.GetName(), DataDir: n.GetName(), Cluster: proto.CloneOf(cluster), Nats: &configv1.Nats{MaxStoreMib: 1024},
			})
		}
	}
	return configs
}
