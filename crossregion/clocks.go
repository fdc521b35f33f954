package crossregion

import (
	"sync"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// clocks drives the measuring of other regions' clocks.
type clocks struct {
	source hlc.Source
	mu     struct {
		sync.Mutex
		core *protocol.Clocks
	}
}

func newClocks(cfg *Config) *clocks {
	c := &clocks{source: cfg.ClockSource}
	if c.source == nil {
		c.source = hlc.SourceOf(cfg.Clock)
	}
	c.mu.core = protocol.NewClocks(cfg.Self, cfg.Node)
	return c
}

func (c *clocks) reading() *crossregionv1.ClockReading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.core.Reading(c.source())
}

func (c *clocks) heard(region topology.RegionID, node topology.NodeID, m *crossregionv1.ClockReading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.core.Heard(region, node, m, c.source())
}

// Clocks returns how far the clocks of other regions' nodes are ahead of this node's, as far as that is known. Safe for
// concurrent use.
func (r *Replicator) Clocks() []protocol.ClockOffset {
	r.clocks.mu.Lock()
	defer r.clocks.mu.Unlock()
	return r.clocks.mu.core.Offsets(r.clocks.source())
}
