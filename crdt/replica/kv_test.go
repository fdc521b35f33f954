package replica

import (
	"fmt"
	"maps"
	"slices"
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
