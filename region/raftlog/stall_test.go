package raftlog

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAWriteThatTakesTooLongIsNoticedOnce(t *testing.T) {
	wait := func(d time.Duration) { <-time.After(d) }
	synctest.Test(t, func(t *testing.T) {
		begin, stalls := time.Now(), []time.Duration{}
		s := newStallTimer(20*time.Second, func() { stalls = append(stalls, time.Since(begin)) })
		for range 3 { // these end in time
			s.start()
			wait(19 * time.Second)
			s.stop()
		}
		wait(time.Hour)
		synctest.Wait()
		if len(stalls) != 0 {
			t.Fatalf("stalled at %v", stalls)
		}
		begin = time.Now()
		s.start()
		wait(time.Minute)
		synctest.Wait()
		s.stop()
		if len(stalls) != 1 || stalls[0] != 20*time.Second {
			t.Errorf("stalled at %v", stalls)
		}
	})
}

// After the process did not run for a minute, all that a timer says is that its time has come.
func TestTimeInWhichTheProcessDidNotRunCountsForOneStep(t *testing.T) {
	stalled := false
	s := newStallTimer(time.Hour, func() { stalled = true })
	s.start()
	for range max(1, stallSteps-1) {
		s.tick()
		if stalled {
			t.Fatal("the disk had no time to answer")
		}
	}
	s.stop()
	s.tick() // it had come before the write ended
	if stalled {
		t.Error("a write that has ended is said to be stalled")
	}
	s.start()
	for range stallSteps {
		s.tick()
	}
	s.stop()
	if !stalled {
		t.Error("a disk that never answers is not noticed")
	}
}
