package protocol

import (
	"testing"
	"time"
)

// next begins the audit that is due, and returns with which region.
func nextAudit(p *AuditPlan, now time.Time) (region int) {
	if r, ok, _ := p.Next(now); ok {
		return int(r)
	}
	return 0
}

// TestAlarmIsLookedIntoOnce, and again only if that came to nothing, ever more seldom, while it lasts.
func TestAlarmIsLookedIntoOnce(t *testing.T) {
	p, now := NewAuditPlan(DefaultTuning(), 100), epoch
	if nextAudit(p, now) != 0 {
		t.Fatal("nothing happened")
	}
	p.Alarm(3, true)
	p.Alarm(3, true)
	if r := nextAudit(p, now); r != 3 {
		t.Fatalf("with region %d", r)
	}
	var last time.Duration
	for range 10 {
		p.Progress(AuditReport{Region: 3, State: AuditFailed}, now)
		if r := nextAudit(p, now); r != 0 {
			t.Fatal("again at once")
		}
		_, _, until := p.Next(now)
		if wait := until.Sub(now); wait < last || wait < time.Minute || wait > 64*time.Minute {
			t.Errorf("again after %v, before after %v", wait, last)
		}
		last, now = until.Sub(now), until
		if r := nextAudit(p, now); r != 3 {
			t.Fatalf("with region %d", r)
		}
	}
	p.Progress(AuditReport{Region: 3, State: AuditDiffers}, now)
	if nextAudit(p, now.Add(24*time.Hour)) != 0 {
		t.Error("again, although it is known what differs")
	}
	p.Alarm(3, false)
	p.Alarm(3, true)
	if nextAudit(p, now) != 3 {
		t.Error("not looked into when it came anew")
	}
	p.Progress(AuditReport{Region: 3, State: AuditFailed}, now)
	p.Alarm(3, false)
	if nextAudit(p, now.Add(24*time.Hour)) != 0 {
		t.Error("looked into after it has ended")
	}
}

// TestWantedAuditsDoNotWait for the alarm's, have numbers of their own, and come one after another.
func TestWantedAuditsDoNotWait(t *testing.T) {
	p, now := NewAuditPlan(DefaultTuning(), 100), epoch
	p.Alarm(3, true)
	nextAudit(p, now)
	p.Progress(AuditReport{Region: 3, State: AuditFailed}, now)
	first := p.Want(3)
	if again := p.Want(3); again != first {
		t.Errorf("%d and %d for one that has not begun", first, again)
	}
	second := p.Want(2)
	if number, r := p.Last(2); number != second || r.State != AuditRunning {
		t.Errorf("before it begins: %d: %+v", number, r)
	}
	if second <= first || nextAudit(p, now) != 3 || nextAudit(p, now) != 2 || nextAudit(p, now) != 0 {
		t.Errorf("%d after %d", second, first)
	}
	p.Progress(AuditReport{Region: 2, State: AuditEqual, Ranges: 5}, now)
	if number, r := p.Last(2); number != second || r.State != AuditEqual || r.Ranges != 5 {
		t.Errorf("%d: %+v", number, r)
	}
	if number, r := p.Last(3); number != first || r.State != AuditRunning {
		t.Errorf("%d: %+v", number, r)
	}
	if third := p.Want(2); third == second {
		t.Error("one that is over serves who wants one now")
	}
	if number, _ := p.Last(4); number != 0 {
		t.Errorf("%d of a region that nobody asked about", number)
	}
}
