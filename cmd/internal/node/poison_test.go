package node

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/poison"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

// future returns what a region has from the future.
func future(t *testing.T, cfg Config) map[string]*atollv1.FutureValue {
	t.Helper()
	found := map[string]*atollv1.FutureValue{}
	for page, err := range dial(t, cfg).FutureValues(t.Context(), client.FutureQuery{WithValues: true, Limit: 2}) {
		if err != nil || len(page.GetErrors()) > 0 {
			t.Fatalf("%v, %v", page.GetErrors(), err)
		}
		for _, v := range page.GetValues() {
			found[v.GetKey()] = v
		}
	}
	return found
}

// rewriteAll writes what was found again, and returns what became of it.
func rewriteAll(t *testing.T, w poison.Rewriter, found map[string]*atollv1.FutureValue) map[string]poison.Outcome {
	t.Helper()
	outcomes := map[string]poison.Outcome{}
	for key, v := range found {
		outcome, err := w.Rewrite(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		outcomes[key] = outcome
	}
	return outcomes
}

func quarantined(t *testing.T, here Config, source string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		status, err := dial(t, here).Status(t.Context())
		if err != nil {
			return err
		}
		waiting := 0
		for _, f := range status.GetFlows() {
			if f.GetSource() == source && f.GetDestination() == status.GetRegion() && f.GetAhead() != nil {
				if !strings.Contains(f.GetStuck(), "atoll repair clock-poison") {
					return fmt.Errorf("the flow says %q", f.GetStuck())
				}
				waiting++
			}
		}
		if waiting != 2 {
			return fmt.Errorf("%d flows from %s wait for the clock", waiting, source)
		}
		return nil
	})
}

func putValue(t *testing.T, c *client.Client, key, value string, opts ...client.WriteOption) {
	t.Helper()
	if _, err := c.Put(t.Context(), key, []byte(value), opts...); err != nil {
		t.Fatal(err)
	}
}

func mustHold(t *testing.T, cfg Config, want map[string]string) {
	t.Helper()
	c := dial(t, cfg)
	testkit.Eventually(t, patience, func() error {
		for _, key := range slices.Sorted(maps.Keys(want)) {
			v, err := c.Get(t.Context(), key)
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				return err
			}
			if string(v.Bytes) != want[key] {
				return fmt.Errorf("%s in %s is %q, not %q", key, cfg.Node, v.Bytes, want[key])
			}
		}
		return nil
	})
}

// A region's clock is an hour ahead. The others refuse what it writes; which keys that is about can be listed there, and
// nowhere else is there anything; what registers held is written again in a sound region, once, and not over what was
// written there meanwhile. Then the region is fenced and comes back, and all hold the same.
func TestClockPoisonIsListedRewrittenAndRebuilt(t *testing.T) {
	configs := deployment(t, 1, 1, 1)
	var wrong skewed
	third := configs[2]
	third.ClockSource = wrong.source()
	third.Clock = func() time.Time { return wrong.source()().Wall }
	first, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	_, stopSecond := serveNode(t, configs[1])
	defer stopSecond()
	before, stopThird := serveNode(t, third)
	becomes(t, before, 3, membership.Active)
	sound, ill := dial(t, configs[0]), dial(t, third)
	for _, key := range []string{"old", "kept", "gone", "changed"} {
		putValue(t, sound, key, "1")
		mustHold(t, third, map[string]string{key: "1"})
	}
	stopThird()
	wrong.set(time.Hour) // it starts like that, so nobody notices
	_, stopThird = serveNode(t, third)
	writeFuture(t, sound, ill)
	quarantined(t, configs[0], "r3")
	for _, cfg := range configs[:2] {
		if found := future(t, cfg); len(found) > 0 {
			t.Errorf("%s has %v from the future", cfg.Node, found)
		}
	}
	rewriteThere(t, sound, listed(t, third, ill))

	if _, err := sound.FenceRegion(t.Context(), client.RegionChange{Region: "r3", Note: "a test"}); err != nil {
		t.Fatal(err)
	}
	becomes(t, first, 3, membership.Closed)
	stopThird()
	back := changed(configs[2], 3, func(r *topology.Region) { r.Epoch, r.Joins = 1, true })
	back.DataDir = filepath.Join(t.TempDir(), "data")
	again, stopBack := serveNode(t, back)
	defer stopBack()
	testkit.Eventually(t, patience, func() error {
		_, err := sound.RejoinRegion(t.Context(), client.RegionChange{Region: "r3"})
		return err
	})
	becomes(t, again, 3, membership.Active)
	putOnceActive(t, back, "anew", 10)
	all := []Config{configs[0], configs[1], back}
	for _, cfg := range all {
		mustHold(t, cfg, map[string]string{"new": "2", "old": "2", "brief": "2", "kept": "1", "gone": "", "changed": "3", "more7": "2", "anew9": "v"})
		if found := future(t, cfg); len(found) > 0 {
			t.Errorf("%s has %v from the future in the end", cfg.Node, found)
		}
	}
	sameDigests(t, all)
}

// writeFuture writes in the region whose clock is wrong, and then over something of it in a sound one.
func writeFuture(t *testing.T, sound, ill *client.Client) {
	t.Helper()
	for _, key := range []string{"new", "old", "changed"} {
		putValue(t, ill, key, "2")
	}
	putValue(t, ill, "brief", "2", client.WithTTL(30*time.Minute))
	for i := range 8 { // in both partitions
		putValue(t, ill, fmt.Sprint("more", i), "2")
	}
	if _, err := ill.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := ill.Counter("count").Add(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	putValue(t, sound, "changed", "3")
}

// listed lists what the region has from the future, once it knows by the others' clocks that its own is the one which is wrong.
func listed(t *testing.T, cfg Config, ill *client.Client) map[string]*atollv1.FutureValue {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		status, err := ill.Status(t.Context())
		if n := len(status.GetClocks().GetOffsets()); err == nil && n != 2 {
			err = fmt.Errorf("%d clocks are known", n)
		}
		return err
	})
	if _, _, err := poison.Present(t.Context(), ill); !errors.Is(err, poison.ErrUnsound) {
		t.Errorf("the region whose clock is wrong: %v", err)
	}
	found := future(t, cfg)
	want := []string{"brief", "changed", "count", "gone", "more0", "more1", "more2", "more3", "more4", "more5", "more6", "more7", "new", "old"}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Fatalf("listed are %v, not %v", got, want)
	}
	for _, v := range found {
		if ahead := v.GetAhead().AsDuration(); !v.GetOnlyHere() || len(v.GetLacking()) != 2 || ahead < 55*time.Minute || ahead > 65*time.Minute {
			t.Errorf("%v", v)
		}
	}
	return found
}

// rewriteThere writes what was found in a sound region: first only says so, then does it, then finds it done.
func rewriteThere(t *testing.T, sound *client.Client, found map[string]*atollv1.FutureValue) {
	t.Helper()
	w := poison.Rewriter{Sound: sound, Region: "r1", DryRun: true}
	special := map[string]poison.Outcome{"changed": poison.Changed, "count": poison.NoRegister}
	for _, want := range []poison.Outcome{poison.Would, poison.Written, poison.Same} {
		for key, got := range rewriteAll(t, w, found) {
			if expected, ok := special[key]; ok && got != expected || !ok && got != want {
				t.Errorf("%s: %s", key, got)
			}
		}
		w.DryRun = false
	}
	if name, _, err := poison.Present(t.Context(), sound); err != nil || name != "r1" {
		t.Errorf("%s, with what was written again: %v", name, err)
	}
	v, err := sound.Get(t.Context(), "brief")
	if err != nil || v.TTL > 30*time.Minute || v.TTL < 25*time.Minute {
		t.Errorf("a value with a time to live has %v left, %v", v.TTL, err)
	}
}

// sameDigests waits until regions have applied the same, and hold the same.
func sameDigests(t *testing.T, all []Config) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		var first []*atollv1.PartitionDigest
		for _, cfg := range all {
			res, err := dial(t, cfg).Digest(t.Context())
			if err != nil {
				return err
			}
			if first == nil {
				first = res.GetPartitions()
				continue
			}
			for i, p := range res.GetPartitions() {
				if !bytes.Equal(p.GetDigest(), first[i].GetDigest()) {
					return fmt.Errorf("partition %d of %s differs", i, cfg.Node)
				}
			}
		}
		return nil
	})
}
