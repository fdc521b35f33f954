package crossregion_test

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

var errNoInstant = errors.New("the record has no instant")

// instantOf reads what written wrote.
func instantOf(data []byte) (hlc.Time, error) {
	if len(data) < 8 {
		return 0, errNoInstant
	}
	return hlc.Time(binary.BigEndian.Uint64(data)), nil
}

func written(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(hlc.At(at.UnixMilli(), 0)))
}

// skews are what the clocks of regions are ahead by.
type skews [4]atomic.Int64

func (s *skews) now(r topology.RegionID) time.Time { return time.Now().Add(time.Duration(s[r].Load())) }

// quarantined returns how many flows from one region to another some node says stand because of a clock.
func (d *deployment) quarantined(from, to topology.RegionID) (atSource, atDestination int) {
	for i, r := range d.replicators {
		for _, f := range r.Flows() {
			if f.Source != from || f.Destination != to || f.Ahead == 0 || f.Stuck == "" {
				continue
			}
			if d.regions[i/2].ID == from {
				atSource++
			} else {
				atDestination++
			}
		}
	}
	return atSource, atDestination
}

// A region whose clock is wrong is refused by the others, learns so, and holds up nobody else. When the clocks have
// come together, everything goes on by itself.
func TestRegionOfTheFutureIsQuarantined(t *testing.T) {
	for name, skew := range map[string]time.Duration{"an hour": time.Hour, "ten years": 10 * 365 * 24 * time.Hour, "half a minute": 30 * time.Second} {
		var clocks skews
		var log logLines
		d := deployWith(t, 3, func(c *crossregion.Config) {
			self := c.Self
			c.Fold, c.Instant = nil, instantOf
			c.Clock = func() time.Time { return clocks.now(self) }
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		clocks[1].Store(int64(skew))
		for range 20 {
			for i, r := range d.regions {
				for p := range topology.PartitionID(testPartitions) {
					if i != 0 || p != 3 { // partition 3 of the bad region is silent
						r.Write(p, written(clocks.now(r.ID)))
					}
				}
			}
		}
		bad, us, ap := d.regions[0], d.regions[1], d.regions[2]
		d.until("the honest regions have everything of each other, and the bad one of both", func() bool {
			return us.Missing(ap)+ap.Missing(us)+bad.Missing(us)+bad.Missing(ap) == 0
		})
		d.until("both ends say that the bad region is quarantined", func() bool {
			for _, to := range []topology.RegionID{2, 3} {
				if source, destination := d.quarantined(1, to); source < 3 || destination < 3 {
					return false
				}
			}
			return true
		})
		if got, want := us.Missing(bad)+ap.Missing(bad), 2*3*20; got != want {
			t.Fatalf("%s: %d events from the future were merged", name, want-got)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2*2*3 { // two destinations, both ends, three partitions
			t.Errorf("%s: %d alarms", name, n)
		}
		clocks[2].Store(int64(skew - time.Second))
		clocks[3].Store(int64(skew - time.Second))
		d.converge()
		d.until("nobody is quarantined any more", func() bool {
			a, b := d.quarantined(1, 2)
			c, e := d.quarantined(1, 3)
			return a+b+c+e == 0
		})
		var total uint64
		for _, r := range d.replicators {
			total += r.Stats().Quarantined
		}
		if total != 6 {
			t.Errorf("%s: %d quarantines are counted", name, total)
		}
		d.stop()
	}
}

// A strobing clock: what was written while it was right, and just so, goes through; nothing of the future ever does.
func TestStrobingClock(t *testing.T) {
	var clocks skews
	d := deployWith(t, 2, func(c *crossregion.Config) { c.Instant = instantOf; c.Fold = nil })
	last := time.Now()
	for i := range 200 {
		clocks[1].Store(int64(time.Duration(i%2*2-1) * 5 * time.Second)) // +-5 s, 200 times
		if now := clocks.now(1); now.After(last) {
			last = now
		}
		last = last.Add(time.Millisecond) // an event is always after the one before
		d.regions[0].Write(0, written(last))
	}
	d.converge() // five seconds are within the bound
	d.regions[0].Write(0, written(last.Add(time.Hour)))
	d.until("it is quarantined", func() bool { _, at := d.quarantined(1, 2); return at == 1 })
	if n := d.regions[1].Missing(d.regions[0]); n != 1 {
		t.Errorf("%d are missing", n)
	}
}

func TestClockAheadIsValidated(t *testing.T) {
	d := deploy(t, 2)
	cfg := d.config(d.regions[0], 0)
	cfg.ClockAhead = -time.Second
	if _, err := crossregion.New(cfg); err == nil || !strings.Contains(err.Error(), "clock ahead") {
		t.Errorf("a negative bound answers %v", err)
	}
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}
