package topology

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/zeebo/xxh3"
)

// virtualNodes is how many points each node has on the ring; 64 keep the shares of a handful of
// nodes within about a tenth of each other.
const virtualNodes = 64

type ringPoint struct {
	hash uint64
	node int
}

// Placement returns, for each partition, the nodes of the region that hold a replica of it. The
// order is that of the ring; the first is no leader by right.
//
// It is consistent hashing with virtual nodes (Karger et al., STOC 1997), where a partition's next
// nodes on the ring are taken in zones not yet used as long as there are any. Adding a node moves
// about 1/n of the replicas.
func (c *Cluster) Placement(r *Region) [][]NodeID {
	ring := make([]ringPoint, 0, len(r.Nodes)*virtualNodes)
	for i, n := range r.Nodes {
		for v := range uint32(virtualNodes) {
			ring = append(ring, ringPoint{hashPoint(string(n.ID), v), i})
		}
	}
	slices.SortFunc(ring, func(a, b ringPoint) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.node, b.node))
	})
	placement := make([][]NodeID, c.Partitions)
	for p := range placement {
		placement[p] = pick(ring, r.Nodes, hashPoint("partition", uint32(p)), c.Replicas(r))
	}
	return placement
}

func hashPoint(name string, n uint32) uint64 {
	return xxh3.Hash(binary.BigEndian.AppendUint32([]byte(name), n))
}

// pick walks the ring from start, first taking one node per zone, then any, until it has want.
func pick(ring []ringPoint, nodes []Node, start uint64, want int) []NodeID {
	first, _ := slices.BinarySearchFunc(ring, start, func(p ringPoint, h uint64) int { return cmp.Compare(p.hash, h) })
	picked := make([]NodeID, 0, want)
	zones := map[string]bool{}
	for _, anyZone := range []bool{false, true} {
		for i := range ring {
			n := &nodes[ring[(first+i)%len(ring)].node]
			if len(picked) == want {
				return picked
			}
			if slices.Contains(picked, n.ID) || (!anyZone && n.Zone != "" && zones[n.Zone]) {
				continue
			}
			picked = append(picked, n.ID)
			zones[n.Zone] = true
		}
	}
	return picked
}
