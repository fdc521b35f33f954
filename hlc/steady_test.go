package hlc

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// machine has two clocks that tests set.
type machine struct {
	wall    time.Time
	elapsed time.Duration
}

func newMachine() *machine {
	return &machine{wall: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), elapsed: time.Hour}
}

func (m *machine) read() Reading        { return Reading{m.wall, m.elapsed} }
func (m *machine) pass(d time.Duration) { m.wall, m.elapsed = m.wall.Add(d), m.elapsed+d }
func (m *machine) set(d time.Duration)  { m.wall = m.wall.Add(d) }

func TestSteadyDoesNotFollowForwardJumps(t *testing.T) {
	for _, jump := range []time.Duration{501 * time.Millisecond, 5 * time.Second, time.Hour, 10 * 365 * 24 * time.Hour} {
		m := newMachine()
		s := NewSteady(m.read, 500*time.Millisecond)
		m.pass(time.Minute)
		before := s.Wall()
		m.set(jump)
		m.pass(time.Second)
		if got := s.Wall(); got != before.Add(time.Second) || s.Jump() != jump {
			t.Errorf("%v: reads %v a second after %v, jump %v", jump, got, before, s.Jump())
		}
		m.pass(time.Hour) // time alone does not make it right
		if s.Jump() != jump {
			t.Errorf("%v: after an hour the jump is %v", jump, s.Jump())
		}
		m.set(-jump)
		if got := s.Wall(); got != m.wall || s.Jump() != 0 {
			t.Errorf("%v: set back it reads %v, jump %v", jump, got, s.Jump())
		}
		m.set(jump)
		s.Accept()
		if got := s.Wall(); got != m.wall || s.Jump() != 0 {
			t.Errorf("%v: accepted it reads %v, jump %v", jump, got, s.Jump())
		}
	}
}

func TestSteadyFollowsTheRest(t *testing.T) {
	m := newMachine()
	s := NewSteady(m.read, 500*time.Millisecond)
	for _, set := range []time.Duration{-time.Hour, 400 * time.Millisecond, -time.Millisecond, 500 * time.Millisecond, -10 * 365 * 24 * time.Hour, 0} {
		m.pass(3 * time.Second)
		s.Wall()
		m.set(set)
		if got := s.Wall(); got != m.wall || s.Jump() != 0 {
			t.Errorf("set by %v it reads %v, not %v", set, got, m.wall)
		}
	}
}

// TestSteadyAddsUpSteps: many small steps at once are a jump, too.
func TestSteadyAddsUpSteps(t *testing.T) {
	m := newMachine()
	s := NewSteady(m.read, 500*time.Millisecond)
	for range 10 {
		m.set(100 * time.Millisecond)
		m.pass(time.Millisecond)
		s.Wall()
	}
	if s.Jump() != time.Second {
		t.Errorf("ten steps of 100 ms are a jump of %v", s.Jump())
	}
}

// TestClockOverSteady: whatever the wall clock does, no instant is issued that is further ahead of the time that has
// really passed than the bound for each two seconds, and none twice.
func TestClockOverSteady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine()
		s := NewSteady(m.read, 500*time.Millisecond)
		c := NewClock(s.Wall)
		first, last := *m, Time(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				m.set(rapid.SampledFrom([]time.Duration{5 * time.Second, time.Hour, 10 * 365 * 24 * time.Hour, 600 * time.Millisecond}).Draw(t, "jump"))
			case 1:
				m.set(-time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "back")))
			default:
				m.pass(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "pass")))
			}
			ran := m.elapsed - first.elapsed
			allowed := first.wall.Add(ran + (ran/steadyRebase+1)*500*time.Millisecond)
			now := c.Now()
			if now <= last || now.Wall().After(allowed) {
				t.Fatalf("%v after %v, %v after the beginning at %v", now, last, ran, first.wall)
			}
			if read := c.Read(); read < now {
				t.Fatalf("reads %v after %v was issued", read, now)
			}
			last = now
		}
	})
}

func TestReadDoesNotTakeTheClockAlong(t *testing.T) {
	wall := time.UnixMilli(1000)
	c := NewClock(func() time.Time { return wall })
	c.Now()
	wall = wall.Add(time.Hour)
	if got := c.Read(); got != At(wall.UnixMilli(), 0) {
		t.Errorf("reads %v", got)
	}
	wall = wall.Add(-time.Hour)
	if got, want := c.Now(), At(1000, 1); got != want {
		t.Errorf("issues %v, not %v", got, want)
	}
}

func TestSourceOfTimeNow(t *testing.T) {
	source := SourceOf(time.Now)
	a, b := source(), source()
	if b.Elapsed < a.Elapsed || b.Wall.Sub(a.Wall) < 0 || time.Since(a.Wall) > time.Minute {
		t.Errorf("%v, then %v", a, b)
	}
}
