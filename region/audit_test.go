package region_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// damage has what is stored of a key's values changed: to what change returns, or removed if that is nil.
func (f *fixture) damage(t *testing.T, key string, change func(value []byte) []byte) {
	t.Helper()
	var hit [][2][]byte
	err := f.machine.Damage(func(kv replica.KV) error {
		err := kv.Scan([]byte("K"), []byte("L"), func(k, v []byte) (bool, error) {
			if bytes.Contains(k, []byte(key)) {
				hit = append(hit, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
			}
			return true, nil
		})
		for _, pair := range hit {
			if changed := change(pair[1]); changed == nil {
				err = errors.Join(err, kv.Delete(pair[0]))
			} else {
				err = errors.Join(err, kv.Put(pair[0], changed))
			}
		}
		return err
	})
	if err != nil || len(hit) != 1 {
		t.Fatalf("%d values of %s, %v", len(hit), key, err)
	}
}

// otherValue is of a register that another value was put into.
func otherValue(t *testing.T) func([]byte) []byte {
	return func(stored []byte) []byte {
		register, err := crdt.DecodeLWWRegister(stored)
		if err != nil {
			t.Fatal(err)
		}
		register.Value = append(bytes.Clone(register.Value), '!')
		return register.Append(nil)
	}
}

func missing([]byte) []byte { return nil }

// audit compares what two regions hold, and returns the values that differ, as whoever carries that between regions.
func audit(t *testing.T, here, there *fixture, maxBytes int) (found []replica.Difference) {
	t.Helper()
	end := replica.Position{End: true}
	mine, at, err := here.OpenAudit(testEU)
	if err != nil {
		t.Fatal(err)
	}
	theirs, other, err := there.OpenAudit(testEU)
	if err != nil || !at.Equal(other) {
		t.Fatalf("at %v and %v: %v", at, other, err)
	}
	for from := (replica.Position{}); from != end; {
		ranges, err := there.ExportFingerprints(theirs, from, 7, 3)
		if err != nil {
			t.Fatal(err)
		}
		differ, err := here.ExportDiffering(mine, ranges)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differ {
			for d.From != d.To {
				items, next, err := there.ExportItems(theirs, d.From, d.To, maxBytes)
				if err != nil {
					t.Fatal(err)
				}
				more, next, err := here.ExportDifferences(mine, d.From, next, items)
				if err != nil {
					t.Fatal(err)
				}
				found, d.From = append(found, more...), next
			}
		}
		from = ranges[len(ranges)-1].To
	}
	for f, view := range map[*fixture]uint64{here: mine, there: theirs} {
		if err := f.CloseExport(view); err != nil {
			t.Error(err)
		}
	}
	return found
}

// TestAuditNamesWhatWasDamaged, and nothing else, whichever side was, and however little is compared at once.
func TestAuditNamesWhatWasDamaged(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	for i := range 60 {
		eu.mustWrite(t, "", put(fmt.Sprintf("k%02d", i), "v"), addsTo(fmt.Sprintf("s%02d", i), "a", "b", "c"), add(fmt.Sprintf("c%02d", i), 1))
	}
	us.mustMerge(t, eu, 1)
	if found := audit(t, eu, us, 1000); len(found) != 0 {
		t.Fatalf("they are equal, and differ in %+v", found)
	}
	us.damage(t, "k07", otherValue(t))
	us.damage(t, "s11", missing)
	us.damage(t, "c59", missing)
	eu.damage(t, "k58", missing)
	register, set, counter := crdt.TypeLWWRegister, crdt.TypeAWSet, crdt.TypeCounter
	want := []replica.Difference{
		{Name: replica.Name{Namespace: "default", Key: "c59", Type: counter}, OnlyHere: 1},
		{Name: replica.Name{Namespace: "default", Key: "k07", Type: register}, Changed: 1},
		{Name: replica.Name{Namespace: "default", Key: "k58", Type: register}, OnlyThere: 1},
		{Name: replica.Name{Namespace: "n", Key: "s11", Type: set}, OnlyHere: 3},
	}
	for _, maxBytes := range []int{1, 100, 1 << 20} {
		found := audit(t, eu, us, maxBytes)
		merged := slices.CompactFunc(found, func(a, b replica.Difference) bool { return a.Name == b.Name })
		names := func(d replica.Difference) replica.Name { return d.Name }
		if maxBytes > 100 && !slices.Equal(found, want) || len(merged) != len(want) {
			t.Errorf("with %d bytes at once %+v differ, want %+v", maxBytes, found, want)
		}
		for i := range min(len(merged), len(want)) {
			if names(merged[i]) != names(want[i]) {
				t.Errorf("with %d bytes at once value %d is %+v, want %+v", maxBytes, i, merged[i], want[i])
			}
		}
	}
}

// TestAuditViewsAreBounded: a region has one at a time, all together few, and they leave transfers theirs.
func TestAuditViewsAreBounded(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("a", "v"))
	first, _, err := f.OpenAudit(testUS)
	if err != nil {
		t.Fatal(err)
	}
	f.mustWrite(t, "", put("b", "v"))
	second, at, err := f.OpenAudit(testUS)
	if err != nil || at.Get(actorOf(testEU)) != 2 {
		t.Fatalf("at %v, %v", at, err)
	}
	end := replica.Position{End: true}
	if _, _, err := f.ExportItems(first, replica.Position{}, end, 100); !errors.Is(err, region.ErrNoExport) {
		t.Errorf("the region's first view: %v", err)
	}
	f.mustWrite(t, "", put("c", "v")) // not in the view
	for bytes, count := range map[int]int{1: 1, 1000: 2} {
		if items, next, err := f.ExportItems(second, replica.Position{}, end, bytes); err != nil || len(items) != count || next.End != (count == 2) {
			t.Errorf("with %d bytes %d items up to %+v, %v", bytes, len(items), next, err)
		}
	}
	for i := range 3 {
		if _, _, err := f.OpenAudit(topology.RegionID(10 + i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := f.OpenAudit(testAP); !errors.Is(err, region.ErrTooManyExports) {
		t.Errorf("a fifth region's: %v", err)
	}
	for range 2 {
		if _, _, err := f.OpenExport(); err != nil {
			t.Errorf("for a transfer: %v", err)
		}
	}
	f.clock.advance(2 * time.Minute)
	if _, _, err := f.OpenAudit(testAP); err != nil {
		t.Errorf("when nobody reads those any more: %v", err)
	}
}
