package replica

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestKVs compares Memory and the overlay, also half-way and after apply, with a plain map.
func TestKVs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{}
		base := NewMemory()
		over := &overlay{base: base}
		var kv KV = base
		key := rapid.StringMatching(`[ab]{0,3}`)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			k := key.Draw(t, "key")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				if kv == over {
					if err := over.apply(); err != nil {
						t.Fatal(err)
					}
					compareKV(t, base, want, "", "")
					over = &overlay{base: base}
				}
				kv = over
			case 1, 2, 3:
				delete(want, k)
				if err := kv.Delete([]byte(k)); err != nil {
					t.Fatal(err)
				}
			case 4:
				compareKV(t, kv, want, k, key.Draw(t, "end"))
			default:
				value := []byte(rapid.StringMatching(`[xy]{0,2}`).Draw(t, "value"))
				want[k] = string(value)
				if err := kv.Put([]byte(k), value); err != nil {
					t.Fatal(err)
				}
				if len(value) > 0 {
					value[0] = '!' // it is not kept
				}
			}
			got, ok, err := kv.Get([]byte(k))
			if v, has := want[k]; err != nil || ok != has || string(got) != v {
				t.Fatalf("%q is %q, %v, %v; want %q, %v", k, got, ok, err, v, has)
			}
		}
		compareKV(t, kv, want, "", "")
	})
}

// compareKV compares scans of [start, end), with no end if it is empty, whole and cut short.
func compareKV(t *rapid.T, kv KV, want map[string]string, start, end string) {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if k >= start && (end == "" || k < end) {
			pairs = append(pairs, k+"="+want[k])
		}
	}
	var to []byte
	if end != "" {
		to = []byte(end)
	}
	for limit := range len(pairs) + 2 {
		var got []string
		err := kv.Scan([]byte(start), to, func(k, v []byte) (bool, error) {
			got = append(got, string(k)+"="+string(v))
			return len(got) < limit, nil
		})
		if cut := pairs[:min(max(limit, 1), len(pairs))]; err != nil || !slices.Equal(got, cut) {
			t.Fatalf("scan of %q to %q finds %q, want %q, %v", start, end, got, cut, err)
		}
		stop := fmt.Errorf("stop")
		seen := 0
		err = kv.Scan([]byte(start), to, func(_, _ []byte) (bool, error) {
			seen++
			if seen > limit {
				return true, stop
			}
			return true, nil
		})
		if (err == stop) != (len(pairs) > limit) {
			t.Fatalf("scan returns %v after %d of %d", err, seen, len(pairs))
		}
	}
}

// TestMemoryWithManyKeys compares a Memory with a plain map while it grows, shrinks and is cloned, with keys
// that begin alike for different lengths. A clone does not see later changes, nor its original the clone's.
func TestMemoryWithManyKeys(t *testing.T) {
	type twin struct {
		kv   *Memory
		want map[string]string
	}
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		twins := []twin{{NewMemory(), map[string]string{}}}
		for step := range 15_000 {
			w := &twins[rng.IntN(len(twins))]
			k := fmt.Sprintf("%.*s%d", rng.IntN(14), "a prefix that many have", rng.IntN(2000))
			if seed%2 == 0 {
				k = fmt.Sprintf("%08d%d", rng.IntN(5), rng.IntN(2000))
			}
			shrinking := step/2500%2 == 1
			if rng.IntN(10) < 7 == shrinking {
				delete(w.want, k)
				_ = w.kv.Delete([]byte(k))
			} else {
				v := strings.Repeat("x", rng.IntN(20))
				w.want[k] = v
				_ = w.kv.Put([]byte(k), []byte(v))
			}
			if got, ok, _ := w.kv.Get([]byte(k)); string(got) != w.want[k] || ok != hasKey(w.want, k) {
				t.Fatalf("seed %d, step %d: %q is %q, %v", seed, step, k, got, ok)
			}
			switch {
			case step%2001 == 0 && len(twins) < 4:
				twins = append(twins, twin{w.kv.Clone(), maps.Clone(w.want)})
			case step%997 == 0:
				compareMemory(t, w.kv, w.want, k)
			}
		}
		for _, w := range twins {
			compareMemory(t, w.kv, w.want, "")
			for k := range w.want {
				_ = w.kv.Delete([]byte(k))
			}
			compareMemory(t, w.kv, nil, "")
		}
	}
}

func hasKey(m map[string]string, k string) bool { _, ok := m[k]; return ok }

// compareMemory compares a scan from a key on, and the number of pairs.
func compareMemory(t *testing.T, kv *Memory, want map[string]string, start string) {
	t.Helper()
	var pairs, got []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if k >= start {
			pairs = append(pairs, k+"="+want[k])
		}
	}
	_ = kv.Scan([]byte(start), nil, func(k, v []byte) (bool, error) {
		got = append(got, string(k)+"="+string(v))
		return true, nil
	})
	if !slices.Equal(got, pairs) || kv.Len() != len(want) {
		t.Fatalf("%d pairs from %q on, want %d; %d of all, want %d", len(got), start, len(pairs), kv.Len(), len(want))
	}
}
