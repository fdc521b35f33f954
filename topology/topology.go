package topology

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// RegionID numbers a region. It is 1 to 63 and never used for two regions of a deployment.
type RegionID uint8

// NodeID names a node. It is unique in a deployment and never reused for another disk.
type NodeID string

// PartitionID numbers a partition: 0 to Partitions-1.
type PartitionID uint32

// Epoch is a region's incarnation. It rises when a region comes back with less than its peers
// have seen of it.
type Epoch uint32

// Bounds of a deployment.
const (
	MaxRegionID   = 63
	MaxEpoch      = 1<<16 - 1
	MaxPartitions = 4096
	MaxReplicas   = 5
	// MaxNamespaceBytes is that of crdt/replica.
	MaxNamespaceBytes = 255
)

// Node is one server process of a region.
type Node struct {
	ID   NodeID
	Zone string
	// API, Raft, NATS and NATSCluster are host:port addresses.
	API, Raft, NATS, NATSCluster string
	// GRPC is the address of a second port that serves gRPC only; empty if there is none.
	GRPC string
}

// Region is one region of a deployment.
type Region struct {
	ID    RegionID
	Name  string
	Epoch Epoch
	Nodes []Node
	// NATSURLs is how other regions reach this region's NATS.
	NATSURLs []string
	// Membership is the address of the region's vote on which regions there are, at its first node; empty
	// without one. Joins means that others take that vote in: the region was not there from the beginning,
	// or not under its epoch.
	Membership string
	Joins      bool
}

// Cluster is a deployment. It is read-only once validated, and safe for concurrent use then.
type Cluster struct {
	Name string
	// Partitions is a power of two, the same in every region, fixed for good.
	Partitions uint32
	// ReplicationFactor is how many replicas a partition has in a region; 0 means 3, or 1 in a
	// region with fewer than 3 nodes.
	ReplicationFactor int
	Regions           []Region
	// Namespaces fix the types of values, the same in every region.
	Namespaces []Namespace
	// Witness has a vote on which regions there are beside theirs; it has no name if there is none.
	Witness Witness
}

// Witness is a process without data that only votes: of two regions and a witness, one region and the witness
// are a majority. Address is the host:port of its vote.
type Witness struct{ Name, Address string }

// Namespace fixes the type of the values that keys of a namespace hold.
type Namespace struct {
	Name string
	Type crdt.Type
	// GrowOnly, of counters and sets, means that they take additions only.
	GrowOnly bool
	// Home, of registers, is the region that all writes are made in until it is moved; 0 means that every region writes.
	Home RegionID
}

// Validate returns every fault of the description, joined; nil means that all other methods work.
func (c *Cluster) Validate() error {
	v := validation{ids: map[RegionID]string{}, names: map[string]bool{}, nodes: map[NodeID]bool{}}
	if c.Name == "" {
		v.fault("cluster has no name")
	}
	if c.Partitions == 0 || c.Partitions > MaxPartitions || bits.OnesCount32(c.Partitions) != 1 {
		v.fault("partitions is %d: must be a power of two, 1 to %d", c.Partitions, MaxPartitions)
	}
	if c.ReplicationFactor < 0 || c.ReplicationFactor > MaxReplicas {
		v.fault("replication factor is %d: must be 1 to %d", c.ReplicationFactor, MaxReplicas)
	}
	if len(c.Regions) == 0 {
		v.fault("cluster has no regions")
	}
	for i := range c.Regions {
		v.region(&c.Regions[i], c.Replicas(&c.Regions[i]))
	}
	if w := c.Witness; w.Name != "" && (v.nodes[NodeID(w.Name)] || w.Address == "" || c.Regions[0].Membership == "") {
		v.fault("witness %q has the name of a node, or no address, or regions do not vote", w.Name)
	}
	for i := range c.Namespaces {
		v.namespace(&c.Namespaces[i], c.Namespaces[:i])
	}
	return errors.Join(v.faults...)
}

// validation gathers faults, and what must be unique.
type validation struct {
	faults []error
	ids    map[RegionID]string
	names  map[string]bool
	nodes  map[NodeID]bool
}

func (v *validation) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf(format, args...))
}

func (v *validation) region(r *Region, replicas int) {
	if r.ID == 0 || r.ID > MaxRegionID {
		v.fault("region %s: id is %d: must be 1 to %d", r.Name, r.ID, MaxRegionID)
	}
	if other, taken := v.ids[r.ID]; taken {
		v.fault("regions %s and %s have the same id %d", other, r.Name, r.ID)
	}
	v.ids[r.ID] = r.Name
	if r.Name == "" || v.names[r.Name] {
		v.fault("region name %q is empty or used twice", r.Name)
	}
	v.names[r.Name] = true
	if r.Epoch > MaxEpoch {
		v.fault("region %s: epoch is %d: must be at most %d", r.Name, r.Epoch, MaxEpoch)
	}
	if len(r.Nodes) == 0 {
		v.fault("region %s has no nodes", r.Name)
	} else if len(r.Nodes) < replicas {
		v.fault("region %s has %d nodes: replication factor %d needs as many", r.Name, len(r.Nodes), replicas)
	}
	for _, n := range r.Nodes {
		if n.ID == "" || v.nodes[n.ID] {
			v.fault("region %s: node name %q is empty or used twice", r.Name, n.ID)
		}
		v.nodes[n.ID] = true
	}
}

func (v *validation) namespace(n *Namespace, before []Namespace) {
	if n.Name == "" || len(n.Name) > MaxNamespaceBytes || slices.ContainsFunc(before, func(o Namespace) bool { return o.Name == n.Name }) {
		v.fault("namespace %q is empty, longer than %d bytes or there twice", n.Name, MaxNamespaceBytes)
	}
	if !n.Type.Valid() {
		v.fault("namespace %q: there is no %v", n.Name, n.Type)
	}
	if n.GrowOnly && n.Type != crdt.TypeCounter && n.Type != crdt.TypeAWSet {
		v.fault("namespace %q: values of type %v cannot be kept from shrinking: grow_only is for counters and sets", n.Name, n.Type)
	}
	if n.Home != 0 && (n.Type != crdt.TypeLWWRegister || v.ids[n.Home] == "") {
		v.fault("namespace %q: home is for registers, and one of the regions", n.Name)
	}
}

// Replicas returns how many replicas a partition has in a region.
func (c *Cluster) Replicas(r *Region) int {
	switch {
	case c.ReplicationFactor > 0:
		return c.ReplicationFactor
	case len(r.Nodes) < 3:
		return 1
	default:
		return 3
	}
}

// Region returns the region with the given id.
func (c *Cluster) Region(id RegionID) (*Region, bool) {
	for i := range c.Regions {
		if c.Regions[i].ID == id {
			return &c.Regions[i], true
		}
	}
	return nil, false
}

// RegionNamed returns the region with the given name.
func (c *Cluster) RegionNamed(name string) (*Region, bool) {
	for i := range c.Regions {
		if c.Regions[i].Name == name {
			return &c.Regions[i], true
		}
	}
	return nil, false
}

// Node returns the node with the given id and its region.
func (c *Cluster) Node(id NodeID) (*Node, *Region, bool) {
	for i := range c.Regions {
		if n, ok := c.Regions[i].Node(id); ok {
			return n, &c.Regions[i], true
		}
	}
	return nil, nil, false
}

// Node returns the region's node with the given id.
func (r *Region) Node(id NodeID) (*Node, bool) {
	for i := range r.Nodes {
		if r.Nodes[i].ID == id {
			return &r.Nodes[i], true
		}
	}
	return nil, false
}
