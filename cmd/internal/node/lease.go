package node

import (
	"time"

	"github.com/atolldb/atoll/cmd/internal/members"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/api"
	"github.com/atolldb/atoll/topology"
)

// openLeases makes what keeps this node's lease, by which its region may act as a home.
func (n *Node) openLeases() {
	n.leases = members.NewLeases(members.LeaseConfig{
		Region: n.region.ID, Epoch: n.region.Epoch, View: n.share, MayLease: n.share.MayLease, Wanted: n.mayHaveHomes,
		Clock: wakingClock(n.source), Logger: n.cfg.Logger,
	})
}

// mayHaveHomes reports whether some namespace has a home, by the configuration or in the state of what this node holds.
func (n *Node) mayHaveHomes() bool {
	for _, namespace := range n.cfg.Cluster.Namespaces {
		if namespace.Home != 0 {
			return true
		}
	}
	for _, p := range n.partitions {
		if len(p.View().Homes) > 0 {
			return true
		}
	}
	return false
}

// homeLeases is region.PartitionConfig.Leases: nil without a membership, because then no region is ever given up.
func (n *Node) homeLeases() region.Leases {
	if n.region.Membership == "" {
		return nil
	}
	return homeLeases{n}
}

// homeLeases are the node's, which are opened after its partitions.
type homeLeases struct{ node *Node }

// Held implements region.Leases.
func (l homeLeases) Held() error { return l.node.leases.Held() }

// Left implements region.Leases.
func (l homeLeases) Left(id topology.RegionID) time.Duration { return l.node.leases.Left(id) }

// homeLease is api.Config.HomeLease.
func (n *Node) homeLease() (shown api.HomeLease, asked bool) {
	if n.leases == nil {
		return shown, false
	}
	d, held, asked := n.leases.State()
	if held {
		return api.HomeLease{Held: true, Left: d}, asked
	}
	return api.HomeLease{Without: d}, asked
}
