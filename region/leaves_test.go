package region_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

func leafAdd(t *testing.T, n int64, path ...string) replica.Op {
	t.Helper()
	p, err := crdt.NewPath(path...)
	if err != nil {
		t.Fatal(err)
	}
	op := add("m", n)
	op.Path = p
	return op
}

// TestLeavesGoThroughTheLog writes leaves through the log of a partition: paths survive it, additions to
// different leaves under one key stay apart, and an op_id is not that of the same write to another path.
func TestLeavesGoThroughTheLog(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "id", leafAdd(t, 1, "a"))
	if again := f.mustWrite(t, "id", leafAdd(t, 1, "a")); !again.Repeated {
		t.Error("the same write is not repeated")
	}
	if _, err := f.Write(t.Context(), "id", []replica.Op{leafAdd(t, 1, "b")}); !errors.Is(err, region.ErrOpIDReused) {
		t.Errorf("op_id of another path: %v", err)
	}
	_, errs := together(t, f, make([]string, 4), [][]replica.Op{{leafAdd(t, 2, "a")}, {leafAdd(t, 3, "b", "c")}, {leafAdd(t, 4, "a")}, {leafAdd(t, 5, "b", "c")}})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		for _, names := range [][]string{{"a"}, {"b", "c"}} {
			p, err := crdt.NewPath(names...)
			if err != nil {
				return err
			}
			o, _, err := r.Below(p).LookupType("default", "m", crdt.TypeCounter, now)
			if err != nil {
				return err
			}
			got[fmt.Sprint(names)] = o.Counter
		}
		return nil
	})
	if err != nil || got["[a]"] != 7 || got["[b c]"] != 8 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRemovalOfASubtreeIsOneChange watches a map: what one event does to its leaves is told once, as a change
// of the map.
func TestRemovalOfASubtreeIsOneChange(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", leafAdd(t, 1, "a"), leafAdd(t, 1, "b"), leafAdd(t, 1, "c", "d"))
	feed := watch(t, f, nil)
	f.mustWrite(t, "", replica.Op{Kind: replica.OpORMapRemove, Namespace: "default", Key: "m"}, put("k", "1"))
	changes, err := feed.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []region.Change{
		{Namespace: "default", Key: "m", Type: crdt.TypeORMap, Cause: region.CauseLocal},
		{Namespace: "default", Key: "k", Type: crdt.TypeLWWRegister, Cause: region.CauseLocal},
	}
	if !slices.Equal(changes, want) {
		t.Errorf("%v, want %v", changes, want)
	}
}
