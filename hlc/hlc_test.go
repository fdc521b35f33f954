package hlc

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimeParts(t *testing.T) {
	for _, c := range []struct {
		name    string
		time    Time
		ms      int64
		logical uint16
		text    string
	}{
		{"zero", 0, 0, 0, "1970-01-01T00:00:00.000Z/0"},
		{"parts", At(1_700_000_000_123, 7), 1_700_000_000_123, 7, "2023-11-14T22:13:20.123Z/7"},
		{"next", At(5, 7).Next(), 5, 8, "1970-01-01T00:00:00.005Z/8"},
		{"logical overflow carries into the milliseconds", At(5, 65535).Next(), 6, 0, "1970-01-01T00:00:00.006Z/0"},
		{"before the epoch", At(-1, 3), 0, 3, "1970-01-01T00:00:00.000Z/3"},
		{"past the end", At(1<<60, 0), 1<<48 - 1, 0, "10889-08-02T05:31:50.655Z/0"},
		{"the end has no next", (^Time(0)).Next(), 1<<48 - 1, 65535, "10889-08-02T05:31:50.655Z/65535"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.time.Millis() != c.ms || c.time.Logical() != c.logical {
				t.Errorf("parts %d, %d; want %d, %d", c.time.Millis(), c.time.Logical(), c.ms, c.logical)
			}
			if c.time.String() != c.text {
				t.Errorf("text %q, want %q", c.time.String(), c.text)
			}
		})
	}
}

// TestClockAgainstItsPromise drives a clock with a wall clock that jumps both ways.
func TestClockAgainstItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wall := int64(1_000_000)
		clock := NewClock(func() time.Time { return time.UnixMilli(wall) })
		var newest Time
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			wall += rapid.Int64Range(-5_000, 5_000).Draw(t, "jump")
			if rapid.Bool().Draw(t, "observe") {
				seen := At(wall+rapid.Int64Range(-3_000, 3_000).Draw(t, "offset"), rapid.Uint16().Draw(t, "logical"))
				clock.Observe(seen)
				newest = max(newest, seen)
			} else {
				now := clock.Now()
				if now <= newest {
					t.Fatalf("%v is not after %v", now, newest)
				}
				if now < At(wall, 0) {
					t.Fatalf("%v is behind the wall clock %v", now, At(wall, 0))
				}
				newest = now
			}
			if clock.Last() != newest {
				t.Fatalf("last is %v, want %v", clock.Last(), newest)
			}
		}
	})
}

func TestClockConcurrently(t *testing.T) {
	clock := NewClock(func() time.Time { return time.UnixMilli(42) })
	const workers, each = 8, 500
	issued := make([][]Time, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				issued[w] = append(issued[w], clock.Now())
			}
		})
	}
	wg.Wait()
	seen := map[Time]bool{}
	for _, times := range issued {
		for i, at := range times {
			if seen[at] {
				t.Fatalf("%v was issued twice", at)
			}
			if i > 0 && at <= times[i-1] {
				t.Fatalf("%v after %v", at, times[i-1])
			}
			seen[at] = true
		}
	}
}
