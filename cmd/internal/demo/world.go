package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/atolldb/atoll/internal/loopback"
	"github.com/atolldb/atoll/internal/wan"
	"github.com/atolldb/atoll/topology"
)

// ClusterName is the deployment's name.
const ClusterName = "atoll-demo"

// partitions are few, so that a demo of nine nodes idles cheaply.
const partitions = 4

// portsPerRegion is the distance between the API ports of two regions' first nodes.
const portsPerRegion = 10

// portsPerNode: Raft, NATS, NATS routes, API.
const portsPerNode = 4

// regionNames are the demo's regions; a region's id is its index here plus 1.
var regionNames = [...]string{"eu", "us", "ap"}

// oneWayDelay is the simulated delay between two regions, about that of public clouds.
func oneWayDelay(a, b string) time.Duration {
	switch {
	case a != "ap" && b != "ap":
		return 40 * time.Millisecond // eu, us
	case a == "us" || b == "us":
		return 75 * time.Millisecond // us, ap
	default:
		return 90 * time.Millisecond // eu, ap
	}
}

// newCluster describes the demo's deployment: the API on fixed ports, unless basePort is 0, and all
// else on free ones.
func newCluster(nodes, basePort int) (*topology.Cluster, error) {
	c := &topology.Cluster{Name: ClusterName, Partitions: partitions}
	free, err := loopback.Free(len(regionNames) * nodes * portsPerNode)
	if err != nil {
		return nil, err
	}
	for i, name := range regionNames {
		r := topology.Region{ID: topology.RegionID(i + 1), Name: name}
		for j := range nodes {
			addrs := free[:portsPerNode]
			free = free[portsPerNode:]
			if basePort != 0 {
				addrs[3] = fmt.Sprintf("127.0.0.1:%d", basePort+portsPerRegion*i+j)
			}
			r.Nodes = append(r.Nodes, topology.Node{
				ID:   topology.NodeID(fmt.Sprintf("%s-%d", name, j+1)),
				Zone: fmt.Sprintf("%s-%c", name, 'a'+rune(j%3)),
				Raft: addrs[0], NATS: addrs[1], NATSCluster: addrs[2], API: addrs[3],
			})
		}
		c.Regions = append(c.Regions, r)
	}
	return c, c.Validate()
}

// pair is two regions, in the order of regionNames.
type pair struct{ a, b string }

func pairOf(a, b string) (pair, error) {
	index := map[string]int{}
	for i, name := range regionNames {
		index[name] = i
	}
	i, knowA := index[a]
	j, knowB := index[b]
	switch {
	case !knowA || !knowB:
		return pair{}, fmt.Errorf("the demo's regions are %v", regionNames)
	case i == j:
		return pair{}, errors.New("name two different regions")
	case i > j:
		return pair{b, a}, nil
	default:
		return pair{a, b}, nil
	}
}

// links are the simulated wide-area links: for each node of each region, one per other region that
// pulls from it.
type links map[pair][]*wan.Link

func (l links) close() error {
	var errs []error
	for _, group := range l {
		for _, link := range group {
			if err := link.Close(); !errors.Is(err, net.ErrClosed) { // Run closed it
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// newLinks opens the links, and returns per region how it reaches the others' NATS.
func newLinks(ctx context.Context, c *topology.Cluster) (links, map[topology.RegionID]map[topology.RegionID][]string, error) {
	all, urls := links{}, map[topology.RegionID]map[topology.RegionID][]string{}
	for _, destination := range c.Regions {
		urls[destination.ID] = map[topology.RegionID][]string{}
		for _, origin := range c.Regions {
			if origin.ID == destination.ID {
				continue
			}
			between, err := pairOf(origin.Name, destination.Name)
			if err != nil {
				return all, nil, err
			}
			for _, n := range origin.Nodes {
				link, err := wan.Listen(ctx, wan.Config{
					Listen: "127.0.0.1:0", Target: n.NATS, Delay: oneWayDelay(origin.Name, destination.Name),
				})
				if err != nil {
					return all, nil, fmt.Errorf("link %s to %s: %w", origin.Name, destination.Name, err)
				}
				all[between] = append(all[between], link)
				urls[destination.ID][origin.ID] = append(urls[destination.ID][origin.ID], "nats://"+link.Addr())
			}
		}
	}
	return all, urls, nil
}

func nodeDir(dir string, n topology.NodeID) string { return filepath.Join(dir, string(n)) }
