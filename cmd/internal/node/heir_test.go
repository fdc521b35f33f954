package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

const heirKeys = 10 // of both partitions

// holdsLocks checks that all keys have a value at the home, as a region sees that, and that conditions on them are judged by it.
func holdsLocks(t *testing.T, c *client.Client, value string) {
	t.Helper()
	for i := range heirKeys {
		key := fmt.Sprint("k", i)
		if got, err := c.Get(t.Context(), key, client.WithHome()); err != nil || string(got.Bytes) != value {
			t.Errorf("%s is %q, %v; want %q", key, got.Bytes, err, value)
		}
		if _, err := c.Put(t.Context(), key, []byte("again"), client.IfAbsent()); !errors.Is(err, client.ErrAlreadyExists) {
			t.Errorf("%s is taken twice: %v", key, err)
		}
	}
}

// passLocks has all keys go from one value to another.
func passLocks(t *testing.T, c *client.Client, from, to string) {
	t.Helper()
	for i := range heirKeys {
		if _, err := c.Put(t.Context(), fmt.Sprint("k", i), []byte(to), client.IfValue([]byte(from))); err != nil {
			t.Errorf("k%d from %q to %q: %v", i, from, to, err)
		}
	}
}

// namesHeir has the first region name the third one the heir of the second, and not the other way round.
func namesHeir(t *testing.T, c *client.Client) {
	t.Helper()
	for _, dry := range []bool{true, false} {
		plan, err := c.NameHeir(t.Context(), client.RegionChange{Region: "r2", Heir: "r3", DryRun: dry})
		if err != nil || plan.GetDone() || len(plan.GetSteps()) != 2 {
			t.Fatalf("naming an heir: %v, %v", plan, err)
		}
	}
	for code, heir := range map[string]string{"HEIR_NAMED": "r1", "UNKNOWN_REGION": "r9"} {
		testkit.Eventually(t, patience, func() error { // who is asked hears of what was decided by and by
			plan, err := c.NameHeir(t.Context(), client.RegionChange{Region: "r2", Heir: heir, DryRun: true})
			if err != nil || plan.GetRefusal().GetCode() != code || plan.GetRefusal().GetDo() == "" {
				return fmt.Errorf("naming %s: %v, %w", heir, plan, err)
			}
			return nil
		})
	}
	if _, err := c.NameHeir(t.Context(), client.RegionChange{Region: "r2", Heir: "r1"}); !errors.Is(err, client.ErrRegionRefused) {
		t.Errorf("another heir: %v", err)
	}
}

// says checks that an error of a client says something.
func says(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("it does not say %q: %v", what, err)
	}
}

// inherited is a deployment of three regions, of which the third has taken over the home of the second, which is closed.
func inherited(t *testing.T) (configs []Config, first *Node) {
	configs = deployment(t, 1, 1, 1)
	configs[0].Cluster.Namespaces = []topology.Namespace{{Name: "locks", Type: crdt.TypeLWWRegister, Home: 2}}
	first, stopFirst := serveNode(t, configs[0])
	t.Cleanup(stopFirst)
	_, stopSecond := serveNode(t, configs[1])
	_, stopThird := serveNode(t, configs[2])
	t.Cleanup(stopThird)
	for _, id := range []topology.RegionID{1, 2, 3} {
		becomes(t, first, id, membership.Active)
	}
	locks, heir := dial(t, configs[0], client.WithMaxAttempts(1)).Namespace("locks"), dial(t, configs[2]).Namespace("locks")
	for i := range heirKeys {
		testkit.Eventually(t, patience, func() error { // once the home has a lease
			_, err := locks.Put(t.Context(), fmt.Sprint("k", i), []byte("r2"), client.IfAbsent(), client.WithOpID(fmt.Sprint("first", i)))
			return err
		})
	}
	for i := range heirKeys {
		testkit.Eventually(t, patience, func() error {
			_, err := heir.Get(t.Context(), fmt.Sprint("k", i))
			return err
		})
	}
	stopSecond()
	if _, err := locks.NameHeir(t.Context(), client.RegionChange{Region: "r2", Heir: "r3"}); !errors.Is(err, client.ErrRegionRefused) {
		t.Errorf("the heir of a region that takes part: %v", err)
	}
	testkit.Eventually(t, patience, func() error {
		_, err := locks.FenceRegion(t.Context(), client.RegionChange{Region: "r2", Note: "a test"})
		return err
	})
	becomes(t, first, 2, membership.Closed)
	_, err := locks.Put(t.Context(), "k0", []byte("r1"))
	says(t, err, "atoll region heir r2 --to")
	moves, _, err := locks.MoveHome(t.Context(), "r3", false)
	says(t, errors.Join(err, moves[0].Err), "atoll region heir")

	namesHeir(t, locks)
	testkit.Eventually(t, patience, func() error {
		homes, err := heir.Homes(t.Context())
		if err == nil && (homes[0].Region != "r2" || homes[0].Heir != "r3" || homes[1].Heir != "r3") {
			err = fmt.Errorf("the homes are %+v", homes)
		}
		return err
	})
	_, err = dial(t, configs[2], client.WithMaxAttempts(1)).Namespace("locks").Put(t.Context(), "k0", []byte("r3"))
	says(t, err, "atoll namespace move-home")
	for _, dry := range []bool{true, false} {
		moves, _, err = locks.MoveHome(t.Context(), "r1", dry)
		says(t, errors.Join(err, moves[0].Err), "have that take over first")
	}
	if moves, done, err := locks.MoveHome(t.Context(), "r3", true); err != nil || done || moves[0].Err != nil || moves[0].From != "r2" {
		t.Errorf("a dry run: %+v, %v, %v", moves, done, err)
	}
	moveHome(t, locks, "r3")
	return configs, first
}

// A home is lost while two regions are left: the one that is named goes on where it was. What the lost one says later counts no
// more, and when it comes back it is the home no more, until that is moved to it.
func TestAnHeirTakesOverAHome(t *testing.T) {
	configs, first := inherited(t)
	locks, heir := dial(t, configs[0]).Namespace("locks"), dial(t, configs[2]).Namespace("locks")
	holdsLocks(t, locks, "r2")
	passLocks(t, locks, "r2", "heir")
	holdsLocks(t, heir, "heir")

	_, stopLost := serveNode(t, deafToVotes(t, configs[1])) // it does not know
	late := dial(t, configs[1], client.WithMaxAttempts(1))
	if _, err := late.Namespace("locks").Put(t.Context(), "k0", []byte("late"), client.IfValue([]byte("r2"))); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("a home that hears from no majority decides: %v", err)
	}
	put(t, configs[1], "late", heirKeys)
	isRefused(t, first, 0, "other-actor")
	stopLost()
	holdsLocks(t, locks, "heir")

	back := changed(configs[1], 2, func(r *topology.Region) { r.Epoch, r.Joins = 1, true })
	back.DataDir = filepath.Join(t.TempDir(), "data")
	if plan, err := locks.RejoinRegion(t.Context(), client.RegionChange{Region: "r2"}); err != nil || plan.GetEpoch() != 1 {
		t.Fatalf("the plan to rejoin: %v, %v", plan, err)
	}
	second, stopSecond := serveNode(t, back)
	defer stopSecond()
	becomes(t, second, 2, membership.Active)
	own := dial(t, back).Namespace("locks")
	var wrote client.Info
	if _, err := own.Put(t.Context(), "k0", []byte("heir"), client.IfValue([]byte("heir")), client.WithInfo(&wrote)); err != nil || wrote.Region != "r3" {
		t.Errorf("a write at the former home: %v, by %q", err, wrote.Region)
	}
	holdsLocks(t, own, "heir")
	moveHome(t, own, "r2")
	passLocks(t, locks, "heir", "back")
	holdsLocks(t, heir, "back")
	if homes, err := own.Homes(t.Context()); err != nil || !homes[0].Serving || homes[0].Region != "r2" || homes[0].Heir != "" || homes[0].Epoch>>32 != 2 {
		t.Errorf("in the end the home is %+v, %v", homes, err)
	}
}
