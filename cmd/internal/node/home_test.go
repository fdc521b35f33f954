package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
)

// Conditions hold for all regions where a namespace has a home, also while that moves, and when it is gone nothing
// is done.
func TestAHomeDecidesForAllRegions(t *testing.T) {
	configs := deployment(t, 1, 2)
	locksAt(configs, 2)
	witnessed(t, configs)
	var stops []func()
	for _, cfg := range configs {
		_, stop := serveNode(t, cfg)
		stops = append(stops, stop)
	}
	defer stops[0]()
	far := dial(t, configs[0]).Namespace("locks")
	near := dial(t, configs[1], client.WithUnary()).Namespace("locks")
	for i := range 10 {
		takeOnce(t, near, far, fmt.Sprint("k", i))
		takeOnce(t, far, near, fmt.Sprint("l", i))
	}
	if _, err := far.Put(t.Context(), "k", []byte("v"), client.WithLocalDurability()); !errors.Is(err, client.ErrInvalidArgument) {
		t.Errorf("one node acknowledges: %v", err)
	}
	moveHome(t, far, "r1")
	for i, c := range []*client.Client{near, far} {
		key := fmt.Sprint("k", i)
		var wrote client.Info
		_, err := c.Put(t.Context(), key, []byte("moved"), client.IfValue([]byte("mine")), client.WithInfo(&wrote))
		if err != nil || wrote.Region != "r1" {
			t.Errorf("after the move: %v, by %q", err, wrote.Region)
		}
	}
	stops[1]()
	stops[2]()
	if _, err := far.Put(t.Context(), "k0", []byte("alone"), client.IfValue([]byte("moved"))); err != nil {
		t.Errorf("the home alone: %v", err)
	}
}

// A home that moved is found by nodes that have no replica, when the region that the configuration names is gone.
func TestAMovedHomeIsFoundEverywhere(t *testing.T) {
	configs := deployment(t, 1, 2)
	locksAt(configs, 1)
	witnessed(t, configs)
	var stops []func()
	for _, cfg := range configs {
		_, stop := serveNode(t, cfg)
		stops = append(stops, stop)
	}
	defer stops[1]()
	defer stops[2]()
	first := dial(t, configs[0]).Namespace("locks")
	for i := range 10 {
		if _, err := first.Put(t.Context(), fmt.Sprint("k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	moveHome(t, dial(t, configs[1]).Namespace("locks"), "r2")
	stops[0]()
	for _, cfg := range configs[1:] {
		c := dial(t, cfg, client.WithUnary(), client.WithMaxAttempts(1)).Namespace("locks")
		for i := range 10 {
			if _, err := c.Put(t.Context(), fmt.Sprint("k", i), []byte("v"), client.IfValue([]byte("v"))); err != nil {
				t.Errorf("node %s: %v", cfg.Node, err)
			}
		}
	}
}

// takeOnce has one region take a key that is free, and another one find it taken.
func takeOnce(t *testing.T, one, other *client.Client, key string) {
	t.Helper()
	var wrote client.Info
	if _, err := one.Put(t.Context(), key, []byte("mine"), client.IfAbsent(), client.WithInfo(&wrote)); err != nil || wrote.Region != "r2" {
		t.Fatalf("%v, by %q", err, wrote.Region)
	}
	if _, err := other.Put(t.Context(), key, []byte("yours"), client.IfAbsent()); !errors.Is(err, client.ErrAlreadyExists) {
		t.Fatalf("%s is taken twice: %v", key, err)
	}
	if got, err := other.Get(t.Context(), key, client.WithHome()); err != nil || string(got.Bytes) != "mine" {
		t.Fatalf("%s reads %q, %v", key, got.Bytes, err)
	}
}

// moveHome moves the home of both partitions, as somebody who asks one region.
func moveHome(t *testing.T, c *client.Client, to string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		moves, done, err := c.MoveHome(t.Context(), to, false)
		if err == nil && !done {
			err = fmt.Errorf("%+v", moves)
		}
		return err
	})
}

// While the home moves to and fro, two regions count by compare-and-set: no increment is lost, or done on a value that
// was not the last.
func TestAHomeMovesUnderLoad(t *testing.T) {
	configs := deployment(t, 1, 2)
	locksAt(configs, 2)
	for _, cfg := range configs {
		_, stop := serveNode(t, cfg)
		defer stop()
	}
	ends := []*client.Client{dial(t, configs[0]).Namespace("locks"), dial(t, configs[1]).Namespace("locks")}
	home, err := ends[0].Homes(t.Context())
	if err != nil || len(home) != 2 || home[0].Region != "r2" || home[0].Epoch != 0 || home[0].Serving {
		t.Errorf("at first the home is %+v, %v", home, err)
	}
	if _, err := ends[0].Put(t.Context(), "n", []byte("0")); err != nil {
		t.Fatal(err)
	}
	movesNothing(t, ends[0], dial(t, configs[0]))
	counted := countWhile(t, ends, func() {
		for _, to := range []string{"r1", "r1", "r2", "r1"} {
			moveHome(t, ends[1], to)
		}
	})
	got, err := ends[1].Get(t.Context(), "n", client.WithHome())
	if err != nil || string(got.Bytes) != fmt.Sprint(counted) {
		t.Errorf("counted %d times to %q, %v", counted, got.Bytes, err)
	}
	if home, err := ends[0].Homes(t.Context()); err != nil || !home[0].Serving || home[0].Epoch != 1<<32+3 {
		t.Errorf("in the end the home is %+v, %v", home, err)
	}
}

// movesNothing asks for what is not done.
func movesNothing(t *testing.T, c, other *client.Client) {
	t.Helper()
	if moves, done, err := c.MoveHome(t.Context(), "r1", true); err != nil || done || moves[0].From != "r2" || moves[0].Err != nil {
		t.Errorf("a dry run: %+v, %v, %v", moves, done, err)
	}
	if _, _, err := c.MoveHome(t.Context(), "r9", false); !errors.Is(err, client.ErrInvalidArgument) {
		t.Errorf("to a region that is not there: %v", err)
	}
	if _, _, err := other.MoveHome(t.Context(), "r1", false); !errors.Is(err, client.ErrInvalidArgument) {
		t.Errorf("of a namespace without one: %v", err)
	}
}

// countWhile has clients count while something is done, and returns how often they did.
func countWhile(t *testing.T, clients []*client.Client, do func()) int64 {
	t.Helper()
	var counting errgroup.Group
	var counted atomic.Int64
	end := make(chan struct{})
	for _, c := range clients {
		counting.Go(func() error { return countUntil(t.Context(), c, end, &counted) })
	}
	do()
	close(end)
	if err := counting.Wait(); err != nil {
		t.Fatal(err)
	}
	return counted.Load()
}

// countUntil increments a number again and again.
func countUntil(ctx context.Context, c *client.Client, end <-chan struct{}, counted *atomic.Int64) error {
	for {
		select {
		case <-end:
			return nil
		default:
		}
		now, err := c.Get(ctx, "n", client.WithHome())
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(now.Bytes))
		if err != nil {
			return err
		}
		switch _, err := c.Put(ctx, "n", []byte(strconv.Itoa(n+1)), client.IfValue(now.Bytes)); {
		case err == nil:
			counted.Add(1)
		case !errors.Is(err, client.ErrValueMismatch):
			return err
		}
	}
}

// A home whose region is lost is replaced by the one that is left, once that is fenced and closed, and not before.
func TestAClosedHomeIsTakenOver(t *testing.T) {
	configs := deployment(t, 1, 1)
	locksAt(configs, 2)
	witnessed(t, configs)
	first, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	_, stopSecond := serveNode(t, configs[1])
	becomes(t, first, 2, membership.Active)
	locks := dial(t, configs[0]).Namespace("locks")
	for i := range 10 { // of both partitions
		if _, err := locks.Put(t.Context(), fmt.Sprint("k", i), []byte("r2"), client.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		testkit.Eventually(t, patience, func() error {
			_, err := locks.Get(t.Context(), fmt.Sprint("k", i))
			return err
		})
	}
	stopSecond()
	if moves, done, err := locks.MoveHome(t.Context(), "r1", false); err != nil || done || !strings.Contains(fmt.Sprint(moves[0].Err), "fence it first") {
		t.Errorf("a home that may live is replaced: %+v, %v, %v", moves, done, err)
	}
	began := time.Now()
	testkit.Eventually(t, patience, func() error {
		_, err := locks.FenceRegion(t.Context(), client.RegionChange{Region: "r2", Note: "a test"})
		return err
	})
	becomes(t, first, 2, membership.Closed)
	if moves, done, err := locks.MoveHome(t.Context(), "r1", true); err != nil || done || moves[0].Err != nil || moves[0].From != "r2" {
		t.Errorf("a dry run: %+v, %v, %v", moves, done, err)
	}
	moveHome(t, locks, "r1")
	if took := time.Since(began); took < membership.LeaseOver {
		t.Errorf("it took over %v after the fence: the former home may have had a lease", took)
	}
	for i := range 10 {
		key := fmt.Sprint("k", i)
		if _, err := locks.Put(t.Context(), key, []byte("r1"), client.IfAbsent()); !errors.Is(err, client.ErrAlreadyExists) {
			t.Errorf("%s is taken twice: %v", key, err)
		}
		if _, err := locks.Put(t.Context(), key, []byte("r1"), client.IfValue([]byte("r2"))); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A write that cannot get to the home is not done, and says where it would have been.
func TestAHomeThatIsGoneRefuses(t *testing.T) {
	configs := deployment(t, 1, 1)
	locksAt(configs, 2)
	_, stop := serveNode(t, configs[0])
	defer stop()
	far := dial(t, configs[0], client.WithMaxAttempts(1)).Namespace("locks")
	_, err := far.Put(t.Context(), "k", []byte("v"))
	var failed *client.Error
	if !errors.As(err, &failed) || failed.Reason != client.ReasonNoLeader || failed.Metadata["region_to_use"] != "r2" {
		t.Errorf("without its home a write answers %v: %+v", err, failed)
	}
	if _, err := far.Get(t.Context(), "k"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a read here answers %v", err)
	}
	if _, err := dial(t, configs[0]).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("another namespace: %v", err)
	}
}
