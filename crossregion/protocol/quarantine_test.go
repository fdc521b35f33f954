package protocol

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// dated gives records instants, in order.
func dated(records []Record, at ...time.Time) []Record {
	for i := range records {
		records[i].Time = hlc.At(at[i].UnixMilli(), 0)
	}
	return records
}

// mergeAll merges what the receiver wants merged until it waits, and returns what it waits for.
func mergeAll(r *Receiver, now time.Time) ReceiveAction {
	for {
		a := r.Action(now)
		if a.Kind != ReceiveMerge {
			return a
		}
		r.Merged(a.Records, a.Records[len(a.Records)-1].Seq, nil, now)
	}
}

func TestReceiverQuarantinesTheFuture(t *testing.T) {
	for name, ahead := range map[string]time.Duration{
		"just too far": 10*time.Second + time.Millisecond, "an hour": time.Hour, "ten years": 10 * 365 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) { quarantines(t, ahead) })
	}
}

func quarantines(t *testing.T, ahead time.Duration) {
	r := NewReceiver(DefaultTuning(), 0, start)
	bad := after(ahead)
	r.Offer(dated(run(1, 4), start, after(10*time.Second), bad, after(ahead+time.Second)), true, start)
	a := mergeAll(r, start)
	var f Flow
	r.Flow(&f, start)
	if a.Kind != ReceiveWait || r.Applied() != 2 || f.Ahead != ahead || f.Stuck == "" || r.Counts.Quarantined != 1 {
		t.Fatalf("%+v with %d applied, flow %+v, counts %+v", a, r.Applied(), f, r.Counts)
	}
	// It is not fetched over and over, nor does what follows get past it, nor is it told again.
	text := r.Stuck()
	tick(t, r, 5, start)
	r.Offer(dated(run(5, 5), after(ahead+2*time.Second)), true, start)
	just := bad.Add(-10*time.Second - time.Millisecond)
	if a := mergeAll(r, just); a.Kind != ReceiveWait || !a.Until.Equal(just.Add(time.Millisecond)) || r.Applied() != 2 {
		t.Errorf("just before it is time %+v with %d applied", a, r.Applied())
	}
	if r.Stuck() != text || r.Counts.Quarantined != 1 || r.Counts.Fetches > 1 {
		t.Errorf("told again: %q, %+v", r.Stuck(), r.Counts)
	}
	resumes(t, r, bad)
}

func resumes(t *testing.T, r *Receiver, bad time.Time) {
	var f Flow
	mergeAll(r, bad.Add(-10*time.Second))
	if r.Applied() != 3 {
		t.Errorf("when the clock has caught up, %d are applied", r.Applied())
	}
	mergeAll(r, bad)
	r.Flow(&f, bad)
	if r.Applied() != 5 || f.Stuck != "" || f.Ahead != 0 {
		t.Errorf("at last %d are applied, flow %+v", r.Applied(), f)
	}
}

func TestReceiverLooksAgainWhenItsClockIsSet(t *testing.T) {
	r := NewReceiver(DefaultTuning(), 0, start)
	r.Offer(dated(run(1, 1), after(time.Hour)), true, start)
	if a := mergeAll(r, start); a.Kind != ReceiveWait || !a.Until.Equal(after(time.Second)) {
		t.Errorf("it looks again at %v", a.Until)
	}
}

func TestReceiverTakesARunApartToFindTheFuture(t *testing.T) {
	r := NewReceiver(DefaultTuning(), 0, start)
	bad := after(time.Hour)
	r.Offer([]Record{{First: 1, Seq: 3, Data: []byte("run"), Time: hlc.At(bad.UnixMilli(), 0)}}, true, start)
	a := mergeAll(r, start)
	if a.Kind != ReceiveFetch || !a.Plain || a.From != 1 {
		t.Fatalf("a run from the future leads to %+v", a)
	}
	r.Fetched(FetchResult{Records: dated(run(1, 3), start, start, bad)}, start)
	if a := mergeAll(r, start); a.Kind != ReceiveWait || r.Applied() != 2 || r.Stuck() == "" {
		t.Errorf("%+v with %d applied, stuck %q", a, r.Applied(), r.Stuck())
	}
	// An origin that goes on sending the run does not make it fetch for ever.
	again := NewReceiver(DefaultTuning(), 0, start)
	for range 3 {
		again.Offer([]Record{{First: 1, Seq: 3, Data: []byte("run"), Time: hlc.At(bad.UnixMilli(), 0)}}, true, start)
		mergeAll(again, start)
	}
	if again.Counts.Fetches != 1 || again.Counts.Quarantined != 1 {
		t.Errorf("counts %+v", again.Counts)
	}
}

// TestReceiverWaitsWithARunThatIsAllThereIs: the outbox has folded what the run stands for.
func TestReceiverWaitsWithARunThatIsAllThereIs(t *testing.T) {
	r := NewReceiver(DefaultTuning(), 0, start)
	bad := after(time.Hour)
	folded := []Record{{First: 1, Seq: 3, Data: []byte("run"), Time: hlc.At(bad.UnixMilli(), 0)}}
	r.Offer(folded, true, start)
	if a := mergeAll(r, start); a.Kind != ReceiveFetch || !a.Plain {
		t.Fatalf("a run from the future leads to %+v", a)
	}
	r.Fetched(FetchResult{TrimmedTo: 4}, start)
	now := after(DefaultTuning().RetryMost)
	if a := mergeAll(r, now); a.Kind != ReceiveFetch || a.Plain || r.Stuck() != "" {
		t.Fatalf("what is only there folded leads to %+v, stuck %q", a, r.Stuck())
	}
	r.Fetched(FetchResult{Records: folded}, now)
	var f Flow
	a := mergeAll(r, now)
	if r.Flow(&f, now); a.Kind != ReceiveWait || f.Ahead != bad.Sub(now) || r.Counts.Fetches != 2 || r.Counts.Refused != 0 {
		t.Errorf("%+v, flow %+v, counts %+v", a, f, r.Counts)
	}
	if mergeAll(r, bad.Add(-10*time.Second)); r.Applied() != 3 || r.Stuck() != "" {
		t.Errorf("when the clock has caught up, %d are applied, stuck %q", r.Applied(), r.Stuck())
	}
}

func TestReceiverBelievesItsSinksClock(t *testing.T) {
	r := NewReceiver(DefaultTuning(), 0, start)
	r.Offer(run(1, 2), true, start)
	a := r.Action(start)
	r.Merged(a.Records, 0, &ClockAheadError{Ahead: time.Minute}, start)
	if a := r.Action(start); a.Kind != ReceiveWait || !a.Until.Equal(after(time.Second)) || r.Stuck() == "" || r.Counts.Refused != 0 {
		t.Errorf("%+v, stuck %q", a, r.Stuck())
	}
	a = r.Action(after(time.Second))
	r.Merged(a.Records, 2, nil, after(time.Second))
	if r.Stuck() != "" {
		t.Errorf("still stuck: %s", r.Stuck())
	}
}

func TestOriginLearnsThatItsClockIsRefused(t *testing.T) {
	const us = topology.RegionID(2)
	rep := NewReporter(DefaultTuning(), start)
	rep.Note(3, 7, start)
	rep.Due(after(time.Second))
	rep.NoteAhead(3, hlc.At(after(time.Minute).UnixMilli(), 0), after(time.Second))
	send, _ := rep.Due(after(2 * time.Second))
	if len(send) != 1 || rep.Ahead(3, after(2*time.Second)) != 58*time.Second {
		t.Fatalf("reported %v, ahead %v", send, rep.Ahead(3, after(2*time.Second)))
	}
	frame, err := keysOf("c", us).EncodeWatermarks(1, []Position{{Partition: 3, Actor: 64, Seq: 7, Ahead: rep.Ahead(3, after(2*time.Second))}})
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := keysOf("c", 1).DecodeWatermarks(frame)
	if err != nil || got[0].Ahead != 58*time.Second {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	ack := NewAcker(DefaultTuning(), []topology.RegionID{us}, nil, start)
	if !ack.ReportAhead(us, got[0].Ahead) || ack.ReportAhead(us, time.Second) {
		t.Error("its beginning is told twice or never")
	}
	f := Flow{Destination: us}
	if ack.Flow(&f, start); f.Ahead != time.Second || f.Stuck == "" {
		t.Errorf("the origin's flow is %+v", f)
	}
	rep.NoteAhead(3, 0, after(3*time.Second))
	if send, _ := rep.Due(after(4 * time.Second)); len(send) != 1 || rep.Ahead(3, after(4*time.Second)) != 0 {
		t.Errorf("the end is not reported: %v", send)
	}
	if !ack.ReportAhead(us, 0) {
		t.Error("the end is not told")
	}
	f = Flow{Destination: us}
	if ack.Flow(&f, start); f.Ahead != 0 || f.Stuck != "" {
		t.Errorf("the origin's flow is %+v", f)
	}
}

// A destination that says an absurd number does no harm.
func TestAbsurdAheadIsBounded(t *testing.T) {
	if got := aheadFromWire(^uint64(0)); got <= 0 {
		t.Errorf("ahead by %v", got)
	}
	if got := aheadOf(^hlc.Time(0), time.UnixMilli(0)); got <= 0 {
		t.Errorf("ahead by %v", got)
	}
}
