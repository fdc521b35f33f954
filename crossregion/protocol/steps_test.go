package protocol

import (
	"errors"
	"testing"
	"time"
)

var (
	start    = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	errTest  = errors.New("no")
	oneInTwo = StreamState{Incarnation: "two", LastSeq: 1}
)

func after(d time.Duration) time.Time { return start.Add(d) }

func run(from, to uint64) []Record {
	var records []Record
	for seq := from; seq <= to; seq++ {
		records = append(records, Record{Seq: seq, Data: make([]byte, 1000)})
	}
	return records
}

// openShipper returns a shipper whose stream is empty and whose outbox holds records 1 to head of
// the given size.
func openShipper(head, size uint64) *Shipper {
	s := NewShipper(DefaultTuning())
	s.OutboxIs(OutboxState{First: 1, Head: head, Bytes: head * size})
	s.Open(StreamState{Incarnation: "one"}, 0)
	return s
}

// send lets a shipper send until it waits, n records at a time.
func send(s *Shipper, n uint64, now time.Time) (froms []uint64) {
	for {
		a := s.Action(now)
		if a.Kind != ShipRead {
			return froms
		}
		froms = append(froms, a.From)
		s.Sent(uint64(len(froms)), run(a.From, min(a.From+n-1, s.outbox.Head)), now)
	}
}

func TestShipperKeepsAWindowInOrder(t *testing.T) {
	s := openShipper(1000, 10000)
	froms := send(s, 26, start)
	if len(froms) != s.tuning.Window || froms[0] != 1 || froms[5] != 131 {
		t.Fatalf("sent from %v", froms)
	}
	s.Answered(2, 2, nil, start)
	if a := s.Action(start); a.Kind != ShipWait {
		t.Errorf("the window moves although its first has no answer: %+v", a)
	}
	s.Answered(1, 1, nil, start)
	if froms := send(s, 26, start); len(froms) != 2 || froms[0] != 157 {
		t.Errorf("after two answers sent from %v", froms)
	}
}

func TestShipperDrainsAndRewindsAfterAFailure(t *testing.T) {
	s := openShipper(1000, 10000)
	send(s, 26, start)
	s.Answered(1, 1, nil, start)
	s.Answered(3, 0, errTest, start)
	s.Answered(2, 0, errTest, start)
	s.Answered(4, 2, nil, start)
	s.Answered(5, 3, nil, start)
	if a := s.Action(after(time.Hour)); a.Kind != ShipWait || !a.Until.IsZero() {
		t.Errorf("the window is not drained: %+v", a)
	}
	s.Answered(6, 4, nil, start)
	if a := s.Action(start); a.Kind != ShipWait || a.Until != after(100*time.Millisecond) {
		t.Errorf("no pause after a failure: %+v", a)
	}
	if a := s.Action(after(time.Second)); a.Kind != ShipOpen {
		t.Errorf("the stream is not looked up: %+v", a)
	}
	s.Open(StreamState{Incarnation: "one", LastSeq: 4}, 156)
	if a := s.Action(after(time.Second)); a.Kind != ShipRead || a.From != 27 {
		t.Errorf("went back to %+v", a)
	}
}

func TestShipperResumes(t *testing.T) {
	cases := map[string]struct {
		First, head, last, want uint64
	}{
		"empty stream":               {1, 10, 0, 1},
		"behind its last frame":      {1, 10, 7, 8},
		"all is there":               {1, 10, 10, 11},
		"last frame before outbox":   {5, 10, 3, 5},
		"last frame just before it":  {5, 10, 4, 5},
		"stream knows more than is":  {1, 10, 11, 1},
		"empty outbox, empty stream": {11, 10, 0, 11},
		"empty outbox":               {11, 10, 10, 11},
	}
	for name, c := range cases {
		s := NewShipper(DefaultTuning())
		s.OutboxIs(OutboxState{First: c.First, Head: c.head, Bytes: 1})
		s.Open(oneInTwo, c.last)
		s.Action(start)
		if s.next != c.want {
			t.Errorf("%s: goes on at %d, not %d", name, s.next, c.want)
		}
	}
}

func TestShipperNoticesALostStream(t *testing.T) {
	lose := map[string]func(*Shipper){
		"another one":        func(s *Shipper) { s.Observe(oneInTwo) },
		"its end is gone":    func(s *Shipper) { s.Observe(StreamState{Incarnation: "one", LastSeq: 4}) },
		"numbers start anew": func(s *Shipper) { s.Answered(6, 1, nil, start) },
	}
	for name, how := range lose {
		s := openShipper(130, 11000)
		for id, from := range send(s, 26, start) {
			_ = from
			s.Answered(uint64(id+1), uint64(id+1), nil, start)
		}
		if a := s.Action(start); a.Kind != ShipWait {
			t.Fatalf("%s: %+v", name, a)
		}
		s.OutboxIs(OutboxState{First: 1, Head: 156, Bytes: 1716000})
		if name == "numbers start anew" {
			s.Sent(6, run(131, 156), start)
		}
		how(s)
		now := after(time.Minute)
		if a := s.Action(now); a.Kind != ShipOpen {
			t.Errorf("%s: %+v", name, a)
		}
		s.Open(StreamState{Incarnation: "one", LastSeq: 1}, 0)
		if a := s.Action(now); a.Kind != ShipRead || a.From != 1 {
			t.Errorf("%s: goes on with %+v", name, a)
		}
	}
}

func TestShipperGathersSmallRecords(t *testing.T) {
	s := openShipper(1, 100)
	if froms := send(s, 100, start); len(froms) != 1 {
		t.Fatalf("the first record waits: %v", froms)
	}
	s.OutboxIs(OutboxState{First: 1, Head: 5, Bytes: 500})
	if a := s.Action(start); a.Kind != ShipWait || !a.Until.IsZero() {
		t.Errorf("sends little while something is in flight: %+v", a)
	}
	s.Answered(1, 1, nil, after(time.Millisecond))
	if a := s.Action(after(time.Millisecond)); a.Kind != ShipWait || a.Until != after(s.tuning.Linger) {
		t.Errorf("does not Linger: %+v", a)
	}
	if a := s.Action(after(s.tuning.Linger)); a.Kind != ShipRead || a.From != 2 {
		t.Errorf("lingers too long: %+v", a)
	}
	s.OutboxIs(OutboxState{First: 1, Head: 5000, Bytes: 500000})
	if a := s.Action(after(time.Millisecond)); a.Kind != ShipRead {
		t.Errorf("lingers although an envelope is full: %+v", a)
	}
}

// idleReceiver returns a receiver that has finished its first fetch.
func idleReceiver(applied uint64) *Receiver {
	r := NewReceiver(DefaultTuning(), applied, start)
	r.Action(start)
	r.Fetched(FetchResult{Nothing: true}, start)
	return r
}

// tick tells a receiver how far the origin's outbox reaches.
func tick(t *testing.T, r *Receiver, head uint64, now time.Time) {
	t.Helper()
	if err := r.Tick(&Head{Position: Position{Seq: head}, First: head + 1}, true, now); err != nil {
		t.Fatal(err)
	}
}

func TestReceiverFetchesWhenItBegins(t *testing.T) {
	r := NewReceiver(DefaultTuning(), 7, start)
	if a := r.Action(start); a.Kind != ReceiveFetch || a.From != 8 {
		t.Errorf("%+v", a)
	}
}

func TestReceiverTrimsDropsAndJoins(t *testing.T) {
	r := idleReceiver(10)
	r.Offer(run(1, 10), true, start)
	r.Offer(run(8, 12), true, start)
	r.Offer(run(13, 15), true, start)
	r.Offer(run(11, 15), true, start)
	r.Offer(run(13, 14), true, start)
	a := r.Action(start)
	if a.Kind != ReceiveMerge || a.Records[0].Seq != 11 || len(a.Records) != 5 {
		t.Fatalf("%v records from %d", len(a.Records), a.Records[0].Seq)
	}
	for i, rec := range a.Records {
		if rec.Seq != uint64(11+i) {
			t.Errorf("record %d in place %d", rec.Seq, i)
		}
	}
	r.Merged(a.Records, 15, nil, start)
	if len(r.waiting) != 0 || r.waitingBytes != 0 || r.Counts.Duplicates != 2 {
		t.Errorf("%d chunks of %d bytes are left, %d duplicates", len(r.waiting), r.waitingBytes, r.Counts.Duplicates)
	}
}

func TestReceiverWaitsForALateEnvelopeThenFetches(t *testing.T) {
	r := idleReceiver(10)
	r.Offer(run(13, 14), true, start)
	if a := r.Action(start); a.Kind != ReceiveWait || a.Until != after(r.tuning.GapWait) {
		t.Fatalf("%+v", a)
	}
	if a := r.Action(after(r.tuning.GapWait)); a.Kind != ReceiveFetch || a.From != 11 {
		t.Fatalf("%+v", a)
	}
	r.Fetched(FetchResult{Records: run(11, 12)}, after(r.tuning.GapWait))
	a := r.Action(after(r.tuning.GapWait))
	if a.Kind != ReceiveMerge || len(a.Records) != 4 {
		t.Fatalf("%+v", a)
	}
	r.Merged(a.Records, 14, nil, after(r.tuning.GapWait))
	if a := r.Action(after(time.Hour)); a.Kind != ReceiveWait {
		t.Errorf("goes on fetching although the stream follows: %+v", a)
	}
}

func TestReceiverFindsALostTail(t *testing.T) {
	r := idleReceiver(10)
	tick(t, r, 12, start)
	if a := r.Action(start); a.Kind != ReceiveWait || a.Until != after(r.tuning.StallWait) {
		t.Fatalf("%+v", a)
	}
	if a := r.Action(after(r.tuning.StallWait)); a.Kind != ReceiveFetch || a.From != 11 {
		t.Errorf("%+v", a)
	}
}

func TestReceiverBoundsItsBufferAndItsMerges(t *testing.T) {
	r := idleReceiver(0)
	for from := uint64(1000); from > 0; from -= 100 {
		r.Offer(run(from, from+99), true, start)
		for i := range r.waiting[:len(r.waiting)-1] {
			if r.waiting[i].Begin() >= r.waiting[i+1].Begin() {
				t.Fatal("chunks are not in order")
			}
		}
	}
	r.tuning.BufferBytes = 300 << 10
	r.evict()
	if r.waitingBytes > 300<<10 || r.waiting[0].Begin() != 100 {
		t.Errorf("%d bytes from %d on are kept", r.waitingBytes, r.waiting[0].Begin())
	}
	r.applied = 99
	r.tuning.MergeBytes = 50 << 10
	if a := r.Action(start); a.Kind != ReceiveMerge || len(a.Records) > 51 {
		t.Errorf("%d records in one merge", len(a.Records))
	}
	r.tuning.MergeRecords = 7
	if a := r.Action(start); len(a.Records) != 7 {
		t.Errorf("%d records in one merge", len(a.Records))
	}
	r.Offer([]Record{{Seq: 100, Data: make([]byte, 1<<20)}}, true, start)
	r.tuning.MergeRecords = 4096
	if a := r.Action(start); len(a.Records) == 0 {
		t.Error("one large record is never merged")
	}
}

func TestReceiverDoesNotTrustAFailedMerge(t *testing.T) {
	r := idleReceiver(0)
	r.Offer(run(1, 5), true, start)
	r.Merged(r.Action(start).Records, 5, errTest, start) // applied after all
	if r.applied != 5 || len(r.waiting) != 0 {
		t.Errorf("applied %d, %d chunks wait", r.applied, len(r.waiting))
	}
	r.Offer(run(6, 9), true, start)
	r.merge.Succeeded()
	r.Merged(r.Action(start).Records, 5, errTest, start)
	if a := r.Action(start); a.Kind != ReceiveWait || a.Until.IsZero() {
		t.Errorf("no pause: %+v", a)
	}
	if a := r.Action(after(time.Minute)); a.Kind != ReceiveMerge || a.Records[0].Seq != 6 {
		t.Errorf("%+v", a)
	}
}

func TestReceiverSaysWhyItIsStuck(t *testing.T) {
	r := idleReceiver(10)
	tick(t, r, 20, start)
	r.Action(after(time.Minute))
	for i := range time.Duration(11) {
		r.Fetched(FetchResult{TrimmedTo: 15}, after(i*time.Second))
	}
	if r.stuck == "" || r.Counts.Trimmed != 1 {
		t.Errorf("a trimmed outbox goes unnoticed: stuck %q, %d times", r.stuck, r.Counts.Trimmed)
	}
	r = idleReceiver(10)
	for i := range time.Duration(40) {
		tick(t, r, 3, after(i*time.Second))
	}
	if r.stuck == "" {
		t.Error("an origin that lost its events goes unnoticed")
	}
	tick(t, r, 10, after(time.Minute))
	if r.stuck != "" {
		t.Error("a deposed leader's ticks are held against its region for ever")
	}
}

func TestBadEventStopsOnlyItsFlow(t *testing.T) {
	now := time.Unix(0, 0)
	core := NewReceiver(DefaultTuning(), 0, now)
	records := []Record{{Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}}
	core.Offer(records, true, now)
	applied := uint64(0)
	for range 20 {
		a := core.Action(now)
		if a.Kind != ReceiveMerge {
			break
		}
		var err error
		for _, rec := range a.Records {
			if rec.Seq == 3 {
				err = &BadBatchError{errors.New("poison")}
			}
		}
		if err == nil {
			applied = a.Records[len(a.Records)-1].Seq
		}
		core.Merged(a.Records, applied, err, now)
	}
	if applied != 2 || core.stuck == "" || core.Counts.Refused != 1 {
		t.Fatalf("applied %d, stuck %q, refused %d", applied, core.stuck, core.Counts.Refused)
	}
	if a := core.Action(now); a.Kind != ReceiveWait {
		t.Errorf("a bad event is tried again at once: %+v", a)
	}
	now = now.Add(core.tuning.StuckWait)
	if a := core.Action(now); a.Kind != ReceiveFetch || a.From != 3 {
		t.Errorf("the outbox's copy is not tried: %+v", a)
	}
	core.Fetched(FetchResult{Records: records[2:]}, now)
	core.Merged(core.Action(now).Records, 4, nil, now)
	if core.stuck != "" {
		t.Errorf("still stuck: %s", core.stuck)
	}
}

// A new leader has in its log, but not yet in its state, what the last one applied, reported, and so
// let the origin trim.
func TestReceiverCatchesUpWithWhatTheLastLeaderApplied(t *testing.T) {
	r := NewReceiver(DefaultTuning(), 10, start)
	if a := r.Action(start); a.Kind != ReceiveFetch || a.From != 11 {
		t.Fatalf("%+v", a)
	}
	r.Fetched(FetchResult{TrimmedTo: 13}, start)
	if r.stuck != "" {
		t.Errorf("stuck at once: %s", r.stuck)
	}
	r.Offer(run(13, 14), true, start)
	r.AppliedIs(12, after(time.Second))
	a := r.Action(after(time.Second))
	if a.Kind != ReceiveMerge || a.Records[0].Seq != 13 {
		t.Fatalf("%+v", a)
	}
	r.Merged(a.Records, 14, nil, after(time.Second))
	r.AppliedIs(11, after(time.Second)) // an old answer
	if r.applied != 14 || r.stuck != "" || !r.trimmedAt.IsZero() {
		t.Errorf("applied %d, stuck %q, trimmed at %v", r.applied, r.stuck, r.trimmedAt)
	}
}

func TestMarksTellTheAgeOfTheOldestMissing(t *testing.T) {
	var m marks
	for i := range time.Duration(200) {
		m.add(uint64(i+1), after(i*time.Second))
		m.add(uint64(i+1), after(time.Hour))
	}
	if len(m.heads) > maxMarks || m.behind(after(200*time.Second)) != 200*time.Second {
		t.Errorf("%d marks, behind by %v", len(m.heads), m.behind(after(200*time.Second)))
	}
	m.reached(10)
	if got := m.behind(after(200 * time.Second)); got != 190*time.Second {
		t.Errorf("behind by %v", got)
	}
	m.reached(200)
	if got := m.behind(after(200 * time.Second)); got != 0 {
		t.Errorf("behind by %v with everything applied", got)
	}
}

func TestReporterGathersAndRepeats(t *testing.T) {
	r := NewReporter(DefaultTuning(), start)
	r.Note(1, 5, start)
	r.Note(2, 6, after(100*time.Millisecond))
	if send, until := r.Due(after(150 * time.Millisecond)); send != nil || until != after(200*time.Millisecond) {
		t.Errorf("%v until %v", send, until)
	}
	if send, _ := r.Due(after(200 * time.Millisecond)); len(send) != 2 || send[1] != 5 || send[2] != 6 {
		t.Errorf("%v", send)
	}
	r.Note(1, 5, after(time.Second))
	if send, until := r.Due(after(time.Second)); send != nil || until != after(10*time.Second) {
		t.Errorf("unchanged, yet %v until %v", send, until)
	}
	r.Forget(2)
	if send, _ := r.Due(after(10 * time.Second)); len(send) != 1 || send[1] != 5 {
		t.Errorf("all of them are %v", send)
	}
}

func TestAckerRecordsWhatAdvances(t *testing.T) {
	a := NewAcker(DefaultTuning(), nil, nil, start)
	if err := a.Report(2, 11, 10); !errors.Is(err, ErrBeyondHead) {
		t.Errorf("a watermark beyond the head: %v", err)
	}
	if marks, _ := a.Due(start); marks != nil {
		t.Errorf("%v", marks)
	}
	_, _, _ = a.Report(2, 5, 10), a.Report(3, 4, 10), a.Report(2, 3, 10)
	marks, _ := a.Due(start)
	if len(marks) != 2 || marks[0] != (Watermark{Region: 2, Seq: 5}) {
		t.Fatalf("%v", marks)
	}
	a.Done(marks, errTest, start)
	if marks, until := a.Due(start); marks != nil || until != after(500*time.Millisecond) {
		t.Errorf("%v until %v", marks, until)
	}
	marks, _ = a.Due(after(time.Second))
	a.Done(marks, nil, after(time.Second))
	if marks, until := a.Due(after(time.Hour)); marks != nil || !until.IsZero() {
		t.Errorf("%v are recorded twice", marks)
	}
}

// TestReporterHurriesForWhoWaits: a watermark that an origin waits for goes at once, also if it was sent before,
// and not more often than every 20 ms.
func TestReporterHurriesForWhoWaits(t *testing.T) {
	r := NewReporter(DefaultTuning(), start)
	due := func(ms int) uint64 {
		send, _ := r.Due(after(time.Duration(ms) * time.Millisecond))
		return send[1]
	}
	r.Urge(1, 5, start) // not led here
	r.Note(1, 4, start)
	r.Urge(1, 5, start)
	if got := due(1); got != 0 {
		t.Errorf("sent %d, which nobody waits for, at once", got)
	}
	r.Note(1, 5, after(10*time.Millisecond))
	if got := due(11); got != 5 {
		t.Errorf("sent %d where 5 is waited for", got)
	}
	r.Urge(1, 5, after(15*time.Millisecond))
	if got := due(16); got != 0 {
		t.Error("sent again within 20 ms")
	}
	if got := due(31); got != 5 {
		t.Errorf("sent %d: the first report may be lost", got)
	}
	r.Note(1, 6, after(100*time.Millisecond))
	if got := due(150); got != 0 {
		t.Error("hurried for nobody")
	}
	if got := due(300); got != 6 {
		t.Errorf("sent %d", got)
	}
}

func TestAckerCountsWhoHasReached(t *testing.T) {
	a := NewAcker(DefaultTuning(), nil, nil, start)
	_, _ = a.Report(2, 5, 10), a.Report(3, 4, 10)
	for seq, want := range map[uint64]int{4: 2, 5: 1, 6: 0} {
		if got := a.Reached(seq); got != want {
			t.Errorf("%d regions have reached %d, want %d", got, seq, want)
		}
	}
}

func TestRequestsAreReadBackOrRefused(t *testing.T) {
	asker, asked := keysOf("c", 2), testKeys
	want := Request{Partition: 3, Actor: asked.self, EventPast: 7, WatermarkOf: 9}
	frame, err := asker.EncodeRequest(1, want)
	if err != nil {
		t.Fatal(err)
	}
	if KindOf(frame) != FrameRequest || KindOf(frame[:3]) != 0 {
		t.Errorf("kind %d", KindOf(frame))
	}
	if from, got, err := asked.DecodeRequest(frame); err != nil || from != 2 || got != want {
		t.Errorf("%v of %d, %v", got, from, err)
	}
	if _, _, err := keysOf("other", 1).DecodeRequest(frame); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("of another cluster: %v", err)
	}
	if _, _, err := keysOf("c", 3).DecodeRequest(frame); err == nil {
		t.Error("another region takes what is not for it")
	}
	other, err := asker.EncodeRequest(1, Request{Actor: asked.self + 64})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := asked.DecodeRequest(other); !errors.Is(err, ErrOtherActor) {
		t.Errorf("for another actor: %v", err)
	}
	frame[len(frame)-1] ^= 1
	if _, _, err := asked.DecodeRequest(frame); !errors.Is(err, ErrBadFrame) {
		t.Errorf("damaged: %v", err)
	}
}
