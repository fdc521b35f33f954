package protocol

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/topology"
)

// asks returns whom a receiver asks in its next fetches, none of which are answered with records.
func asks(r *Receiver, n int, now time.Time, answer FetchResult) (regions []topology.RegionID) {
	for len(regions) < n {
		now = now.Add(6 * time.Second)
		if a := r.Action(now); a.Kind == ReceiveFetch {
			regions = append(regions, a.Via)
			r.Fetched(answer, now)
		}
	}
	return regions
}

func TestOtherRegionsAreAskedInTurn(t *testing.T) {
	r := idleReceiver(10)
	for region, seq := range map[topology.RegionID]uint64{2: 15, 3: 10, 4: 12} {
		if err := r.Elsewhere(region, seq, start); err != nil {
			t.Fatal(err)
		}
	}
	if r.Elsewhere(2, 1<<60, start) == nil {
		t.Error("an impossible number is believed")
	}
	got := fmt.Sprint(asks(r, 7, start, FetchResult{Err: errTest}))
	if want := "[0 2 4 0 2 4 0]"; got != want { // 3 has no more than we have
		t.Errorf("asked %s, want %s", got, want)
	}
	if r.Stuck() != "" {
		t.Errorf("stuck: %s", r.Stuck())
	}
	now := after(time.Hour)
	a := r.Action(now)
	r.Fetched(FetchResult{Records: run(11, 12), More: [][]Record{run(13, 15)}}, now)
	m := r.Action(now)
	if a.Via != 2 || m.Kind != ReceiveMerge || len(m.Records) != 5 {
		t.Errorf("%+v gave %d records", a, len(m.Records))
	}
	r.Merged(m.Records, 15, nil, now)
	for a := r.Action(now); a.Kind == ReceiveFetch; a = r.Action(now) {
		now = now.Add(time.Minute)
		r.Fetched(FetchResult{Err: errTest}, now)
	}
	r.repair = true
	r.fetch.Succeeded()
	r.relay.asked = 0
	r.Fetched(FetchResult{Nothing: true}, now)
	if !r.relay.failingAt.IsZero() {
		t.Error("an origin that answers still passes for silent")
	}
}

// TestRelaysAreAskedBeforeGivingUp: the origin has trimmed what is missing, and others may have it.
func TestRelaysAreAskedBeforeGivingUp(t *testing.T) {
	r := idleReceiver(10)
	if err := r.Elsewhere(2, 15, start); err != nil {
		t.Fatal(err)
	}
	now := after(time.Minute)
	for _, want := range []struct {
		via   topology.RegionID
		stuck bool
	}{{0, false}, {2, false}, {0, true}} {
		a := r.Action(now)
		if a.Kind != ReceiveFetch || a.Via != want.via {
			t.Fatalf("%+v, want %+v", a, want)
		}
		res := FetchResult{TrimmedTo: 13}
		if a.Via != 0 {
			res = FetchResult{Nothing: true}
		}
		r.Fetched(res, now)
		if (r.Stuck() != "") != want.stuck {
			t.Errorf("after asking %d: stuck %q", want.via, r.Stuck())
		}
		now = now.Add(20 * time.Second)
	}
}

// TestLateRelayIsAskedBeforeGivingUp: another region is heard of while the origin is asked.
func TestLateRelayIsAskedBeforeGivingUp(t *testing.T) {
	r := idleReceiver(10)
	tick(t, r, 15, start)
	now := after(time.Minute)
	r.Action(now)
	r.Fetched(FetchResult{TrimmedTo: 13}, now)
	now = now.Add(20 * time.Second)
	r.Action(now)
	if err := r.Elsewhere(2, 15, now); err != nil {
		t.Fatal(err)
	}
	if r.Fetched(FetchResult{TrimmedTo: 13}, now); r.Stuck() != "" {
		t.Errorf("stuck before region 2 was asked: %s", r.Stuck())
	}
}

func TestRingPassesOnWhatFollows(t *testing.T) {
	r := NewRing(60)
	add := func(from, to uint64) { r.Add([]Record{{First: from, Seq: to}}, bytes.Repeat([]byte{byte(to)}, 20)) }
	tell := func(seq uint64, most int) string {
		var ends []byte
		for _, f := range r.From(seq, most) {
			ends = append(ends, f[0])
		}
		return fmt.Sprint(ends)
	}
	add(1, 3)
	add(6, 9)
	add(4, 6)
	add(4, 5) // has nothing new
	for _, c := range []struct {
		seq  uint64
		most int
		want string
	}{{1, 100, "[3 6 9]"}, {2, 40, "[3 6]"}, {5, 1, "[6]"}, {9, 100, "[9]"}, {10, 100, "[]"}} {
		if got := tell(c.seq, c.most); got != c.want {
			t.Errorf("from %d: %s, want %s", c.seq, got, c.want)
		}
	}
	add(10, 12)
	if got := tell(2, 100) + tell(6, 100); got != "[][9 12]" || r.bytes != 60 {
		t.Errorf("after the oldest had to go: %s, %d bytes", got, r.bytes)
	}
}

// TestAStateIsTakenOverInsteadOfARunThatNobodyDivides: the origin is gone, what it wrote counts up to the middle of a run, and
// who passes that on has it as a whole only.
func TestAStateIsTakenOverInsteadOfARunThatNobodyDivides(t *testing.T) {
	r := idleReceiver(10)
	if err := r.Elsewhere(2, 13, start); err != nil {
		t.Fatal(err)
	}
	whole := Record{First: 11, Seq: 15, Data: []byte("run")}
	beyond := &BadBatchError{errTest}
	now := start
	for fetches := 0; len(r.Donors(1, now)) == 0; now = now.Add(time.Second) {
		switch a := r.Action(now); {
		case a.Kind == ReceiveMerge:
			r.Merged(a.Records, 10, beyond, now)
		case a.Kind == ReceiveFetch && a.Via == 2:
			if fetches++; fetches > 20 {
				t.Fatal("the run is asked for again and again")
			}
			r.Fetched(FetchResult{Records: []Record{whole}}, now)
		case a.Kind == ReceiveFetch:
			r.Fetched(FetchResult{Err: errTest}, now)
		}
	}
	if r.Stuck() == "" {
		t.Error("it does not say why")
	}
	if donors := r.Donors(1, now); donors[len(donors)-1] != 2 {
		t.Errorf("the state is to be had from %v", donors)
	}
}

// TestNobodyWaitsForAnOriginThatIsGone: who was given up gives nothing any more. Others are asked at once, in turn, and their
// state is wanted as soon as none of them has answered for as long as one waits for the origin otherwise.
func TestNobodyWaitsForAnOriginThatIsGone(t *testing.T) {
	r := idleReceiver(10)
	for _, region := range []topology.RegionID{2, 4} {
		if err := r.Elsewhere(region, 15, start); err != nil {
			t.Fatal(err)
		}
	}
	r.OriginGone(start)
	if donors := r.Donors(1, after(time.Minute)); donors != nil {
		t.Errorf("the state of %v is wanted before they were asked", donors)
	}
	if got, want := fmt.Sprint(asks(r, 3, start.Add(-6*time.Second), FetchResult{Nothing: true})), "[2 4 2]"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	wait := DefaultTuning().RelayAfter
	if early, donors := r.Donors(1, start.Add(wait-1)), r.Donors(1, start.Add(wait)); early != nil || fmt.Sprint(donors) != "[2 4]" {
		t.Errorf("the state of %v is wanted early, then of %v", early, donors)
	}
	alone := idleReceiver(10)
	tick(t, alone, 15, start)
	alone.OriginGone(start)
	if got := fmt.Sprint(asks(alone, 2, start, FetchResult{Err: errTest})); got != "[0 0]" {
		t.Errorf("asked %s where nobody else has it", got)
	}
}
