package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/topology"
)

// DeleteStream deletes a region's stream on the NATS server at url. The region makes a new one and publishes
// again what any other region lacks, so that nothing is lost.
func DeleteStream(ctx context.Context, url string, region topology.RegionID) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", url, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("JetStream at %s: %w", url, err)
	}
	if err := js.DeleteStream(ctx, streamName(region)); err != nil {
		return fmt.Errorf("delete stream %s: %w", streamName(region), err)
	}
	return nil
}
