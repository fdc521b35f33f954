package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

// runWitness runs a witness until the function that it returns is called, or the test ends.
func runWitness(t *testing.T, cfg WitnessConfig) (stop func()) {
	t.Helper()
	w, err := OpenWitness(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- errors.Join(w.Run(ctx), w.Close()) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// One of two regions is lost. The other is no majority, but with the witness it is: also after the witness was started anew.
func TestAWitnessAndOneOfTwoRegionsAreAMajority(t *testing.T) {
	configs := deployment(t, 1, 1)
	c := *configs[0].Cluster
	c.Witness = topology.Witness{Name: "third", Address: testkit.FreeAddrs(t, 1)[0]}
	for i := range configs {
		configs[i].Cluster = &c
	}
	witness := WitnessConfig{Cluster: &c, DataDir: filepath.Join(t.TempDir(), "witness"), Logger: configs[0].Logger}
	stopWitness := runWitness(t, witness)
	first, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	_, stopSecond := serveNode(t, configs[1])
	becomes(t, first, 2, membership.Active)
	put(t, configs[1], "shipped", 20)
	arrives(t, configs[0], "shipped", 20)
	stopSecond()
	stopWitness()

	here := dial(t, configs[0])
	fence := client.RegionChange{Region: "r2", Note: "a test", DryRun: true}
	testkit.Eventually(t, patience, func() error { // nobody is heard of any more
		plan, err := here.FenceRegion(t.Context(), fence)
		if text := fmt.Sprint(plan.GetWarnings()); err != nil || !strings.Contains(text, "only 1 of 3 voters answer") {
			return fmt.Errorf("without the witness: %s, %w", text, err)
		}
		return nil
	})
	runWitness(t, witness)
	testkit.Eventually(t, patience, func() error {
		plan, err := here.FenceRegion(t.Context(), fence)
		if text := fmt.Sprint(plan.GetWarnings()); err != nil || strings.Contains(text, "voters answer") {
			return fmt.Errorf("with the witness: %s, %w", text, err)
		}
		return nil
	})
	fence.DryRun = false
	testkit.Eventually(t, patience, func() error {
		_, err := here.FenceRegion(t.Context(), fence)
		return err
	})
	becomes(t, first, 2, membership.Closed)
	put(t, configs[0], "alone", 10)
}

// One that is opened and never run lets go of its port and its directory.
func TestAWitnessThatDoesNotRunIsClosed(t *testing.T) {
	configs := deployment(t, 1, 1)
	c := *configs[0].Cluster
	c.Witness = topology.Witness{Name: "third", Address: testkit.FreeAddrs(t, 1)[0]}
	cfg := WitnessConfig{Cluster: &c, DataDir: filepath.Join(t.TempDir(), "witness"), Logger: configs[0].Logger}
	for range 2 {
		w, err := OpenWitness(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAWitnessKnowsItsDirectory(t *testing.T) {
	configs := deployment(t, 1, 1)
	c := *configs[0].Cluster
	c.Witness = topology.Witness{Name: "third", Address: testkit.FreeAddrs(t, 1)[0]}
	cfg := WitnessConfig{Cluster: &c, DataDir: configs[0].DataDir, Logger: configs[0].Logger}
	stop := serve(t, configs[0])
	if _, err := OpenWitness(cfg); !errors.Is(err, ErrDataDirLocked) {
		t.Errorf("a directory that is in use: %v", err)
	}
	stop()
	if _, err := OpenWitness(cfg); !errors.Is(err, ErrForeignDataDir) {
		t.Errorf("another's directory: %v", err)
	}
}
