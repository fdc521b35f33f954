package crossregion

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
func openShipper(head, size uint64) *shipper {
	s := newShipper(defaultTuning())
	s.outboxIs(OutboxState{First: 1, Head: head, Bytes: head * size})
	s.open(StreamState{Incarnation: "one"}, 0)
	return s
}

// send lets a shipper send until it waits, n records at a time.
func send(s *shipper, n uint64, now time.Time) (froms []uint64) {
	for {
		a := s.action(now)
		if a.kind != shipRead {
			return froms
		}
		froms = append(froms, a.from)
		s.sent(uint64(len(froms)), run(a.from, min(a.from+n-1, s.outbox.Head)), now)
	}
}

func TestShipperKeepsAWindowInOrder(t *testing.T) {
	s := openShipper(1000, 10000)
	froms := send(s, 26, start)
	if len(froms) != s.tuning.window || froms[0] != 1 || froms[5] != 131 {
		t.Fatalf("sent from %v", froms)
	}
	s.answered(2, 2, nil, start)
	if a := s.action(start); a.kind != shipWait {
		t.Errorf("the window moves although its first has no answer: %+v", a)
	}
	s.answered(1, 1, nil, start)
	if froms := send(s, 26, start); len(froms) != 2 || froms[0] != 157 {
		t.Errorf("after two answers sent from %v", froms)
	}
}

func TestShipperDrainsAndRewindsAfterAFailure(t *testing.T) {
	s := openShipper(1000, 10000)
	send(s, 26, start)
	s.answered(1, 1, nil, start)
	s.answered(3, 0, errTest, start)
	s.answered(2, 0, errTest, start)
	s.answered(4, 2, nil, start)
	s.answered(5, 3, nil, start)
	if a := s.action(after(time.Hour)); a.kind != shipWait || !a.until.IsZero() {
		t.Errorf("the window is not drained: %+v", a)
	}
	s.answered(6, 4, nil, start)
	if a := s.action(start); a.kind != shipWait || a.until != after(100*time.Millisecond) {
		t.Errorf("no pause after a failure: %+v", a)
	}
	if a := s.action(after(time.Second)); a.kind != shipOpen {
		t.Errorf("the stream is not looked up: %+v", a)
	}
	s.open(StreamState{Incarnation: "one", LastSeq: 4}, 156)
	if a := s.action(after(time.Second)); a.kind != shipRead || a.from != 27 {
		t.Errorf("went back to %+v", a)
	}
}

func TestShipperResumes(t *testing.T) {
	cases := map[string]struct {
		first, head, last, want uint64
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
		s := newShipper(defaultTuning())
		s.outboxIs(OutboxState{First: c.first, Head: c.head, Bytes: 1})
		s.open(oneInTwo, c.last)
		s.action(start)
		if s.next != c.want {
			t.Errorf("%s: goes on at %d, not %d", name, s.next, c.want)
		}
	}
}

func TestShipperNoticesALostStream(t *testing.T) {
	lose := map[string]func(*shipper){
		"another one":        func(s *shipper) { s.observe(oneInTwo) },
		"its end is gone":    func(s *shipper) { s.observe(StreamState{Incarnation: "one", LastSeq: 4}) },
		"numbers start anew": func(s *shipper) { s.answered(6, 1, nil, start) },
	}
	for name, how := range lose {
		s := openShipper(130, 11000)
		for id, from := range send(s, 26, start) {
			_ = from
			s.answered(uint64(id+1), uint64(id+1), nil, start)
		}
		if a := s.action(start); a.kind != shipWait {
			t.Fatalf("%s: %+v", name, a)
		}
		s.outboxIs(OutboxState{First: 1, Head: 156, Bytes: 1716000})
		if name == "numbers start anew" {
			s.sent(6, run(131, 156), start)
		}
		how(s)
		now := after(time.Minute)
		if a := s.action(now); a.kind != shipOpen {
			t.Errorf("%s: %+v", name, a)
		}
		s.open(StreamState{Incarnation: "one", LastSeq: 1}, 0)
		if a := s.action(now); a.kind != shipRead || a.from != 1 {
			t.Errorf("%s: goes on with %+v", name, a)
		}
	}
}

func TestShipperGathersSmallRecords(t *testing.T) {
	s := openShipper(1, 100)
	if froms := send(s, 100, start); len(froms) != 1 {
		t.Fatalf("the first record waits: %v", froms)
	}
	s.outboxIs(OutboxState{First: 1, Head: 5, Bytes: 500})
	if a := s.action(start); a.kind != shipWait || !a.until.IsZero() {
		t.Errorf("sends little while something is in flight: %+v", a)
	}
	s.answered(1, 1, nil, after(time.Millisecond))
	if a := s.action(after(time.Millisecond)); a.kind != shipWait || a.until != after(s.tuning.linger) {
		t.Errorf("does not linger: %+v", a)
	}
	if a := s.action(after(s.tuning.linger)); a.kind != shipRead || a.from != 2 {
		t.Errorf("lingers too long: %+v", a)
	}
	s.outboxIs(OutboxState{First: 1, Head: 5000, Bytes: 500000})
	if a := s.action(after(time.Millisecond)); a.kind != shipRead {
		t.Errorf("lingers although an envelope is full: %+v", a)
	}
}

// idleReceiver returns a receiver that has finished its first fetch.
func idleReceiver(applied uint64) *receiver {
	r := newReceiver(defaultTuning(), applied, start)
	r.action(start)
	r.fetched(fetchResult{nothing: true}, start)
	return r
}

func TestReceiverFetchesWhenItBegins(t *testing.T) {
	r := newReceiver(defaultTuning(), 7, start)
	if a := r.action(start); a.kind != receiveFetch || a.from != 8 {
		t.Errorf("%+v", a)
	}
}

func TestReceiverTrimsDropsAndJoins(t *testing.T) {
	r := idleReceiver(10)
	r.offer(run(1, 10), true, start)
	r.offer(run(8, 12), true, start)
	r.offer(run(13, 15), true, start)
	r.offer(run(11, 15), true, start)
	r.offer(run(13, 14), true, start)
	a := r.action(start)
	if a.kind != receiveMerge || a.records[0].Seq != 11 || len(a.records) != 5 {
		t.Fatalf("%v records from %d", len(a.records), a.records[0].Seq)
	}
	for i, rec := range a.records {
		if rec.Seq != uint64(11+i) {
			t.Errorf("record %d in place %d", rec.Seq, i)
		}
	}
	r.merged(a.records, 15, nil, start)
	if len(r.waiting) != 0 || r.waitingBytes != 0 || r.counts.duplicates != 2 {
		t.Errorf("%d chunks of %d bytes are left, %d duplicates", len(r.waiting), r.waitingBytes, r.counts.duplicates)
	}
}

func TestReceiverWaitsForALateEnvelopeThenFetches(t *testing.T) {
	r := idleReceiver(10)
	r.offer(run(13, 14), true, start)
	if a := r.action(start); a.kind != receiveWait || a.until != after(r.tuning.gapWait) {
		t.Fatalf("%+v", a)
	}
	if a := r.action(after(r.tuning.gapWait)); a.kind != receiveFetch || a.from != 11 {
		t.Fatalf("%+v", a)
	}
	r.fetched(fetchResult{records: run(11, 12)}, after(r.tuning.gapWait))
	a := r.action(after(r.tuning.gapWait))
	if a.kind != receiveMerge || len(a.records) != 4 {
		t.Fatalf("%+v", a)
	}
	r.merged(a.records, 14, nil, after(r.tuning.gapWait))
	if a := r.action(after(time.Hour)); a.kind != receiveWait {
		t.Errorf("goes on fetching although the stream follows: %+v", a)
	}
}

func TestReceiverFindsALostTail(t *testing.T) {
	r := idleReceiver(10)
	r.heartbeat(12, start)
	if a := r.action(start); a.kind != receiveWait || a.until != after(r.tuning.stallWait) {
		t.Fatalf("%+v", a)
	}
	if a := r.action(after(r.tuning.stallWait)); a.kind != receiveFetch || a.from != 11 {
		t.Errorf("%+v", a)
	}
}

func TestReceiverBoundsItsBufferAndItsMerges(t *testing.T) {
	r := idleReceiver(0)
	for from := uint64(1000); from > 0; from -= 100 {
		r.offer(run(from, from+99), true, start)
		for i := range r.waiting[:len(r.waiting)-1] {
			if r.waiting[i].first() >= r.waiting[i+1].first() {
				t.Fatal("chunks are not in order")
			}
		}
	}
	r.tuning.bufferBytes = 300 << 10
	r.evict()
	if r.waitingBytes > 300<<10 || r.waiting[0].first() != 100 {
		t.Errorf("%d bytes from %d on are kept", r.waitingBytes, r.waiting[0].first())
	}
	r.applied = 99
	r.tuning.mergeBytes = 50 << 10
	if a := r.action(start); a.kind != receiveMerge || len(a.records) > 51 {
		t.Errorf("%d records in one merge", len(a.records))
	}
	r.tuning.mergeRecords = 7
	if a := r.action(start); len(a.records) != 7 {
		t.Errorf("%d records in one merge", len(a.records))
	}
	r.offer([]Record{{Seq: 100, Data: make([]byte, 1<<20)}}, true, start)
	r.tuning.mergeRecords = 4096
	if a := r.action(start); len(a.records) == 0 {
		t.Error("one large record is never merged")
	}
}

func TestReceiverDoesNotTrustAFailedMerge(t *testing.T) {
	r := idleReceiver(0)
	r.offer(run(1, 5), true, start)
	r.merged(r.action(start).records, 5, errTest, start) // applied after all
	if r.applied != 5 || len(r.waiting) != 0 {
		t.Errorf("applied %d, %d chunks wait", r.applied, len(r.waiting))
	}
	r.offer(run(6, 9), true, start)
	r.merge.succeeded()
	r.merged(r.action(start).records, 5, errTest, start)
	if a := r.action(start); a.kind != receiveWait || a.until.IsZero() {
		t.Errorf("no pause: %+v", a)
	}
	if a := r.action(after(time.Minute)); a.kind != receiveMerge || a.records[0].Seq != 6 {
		t.Errorf("%+v", a)
	}
}

func TestReceiverSaysWhyItIsStuck(t *testing.T) {
	r := idleReceiver(10)
	r.heartbeat(20, start)
	r.action(after(time.Minute))
	for i := range time.Duration(11) {
		r.fetched(fetchResult{trimmedTo: 15}, after(i*time.Second))
	}
	if r.stuck == "" || r.counts.trimmed != 1 {
		t.Errorf("a trimmed outbox goes unnoticed: stuck %q, %d times", r.stuck, r.counts.trimmed)
	}
	r = idleReceiver(10)
	for i := range time.Duration(40) {
		r.heartbeat(3, after(i*time.Second))
	}
	if r.stuck == "" {
		t.Error("an origin that lost its events goes unnoticed")
	}
	r.heartbeat(10, after(time.Minute))
	if r.stuck != "" {
		t.Error("a deposed leader's heartbeats are held against its region for ever")
	}
}

// A new leader has in its log, but not yet in its state, what the last one applied, reported, and so
// let the origin trim.
func TestReceiverCatchesUpWithWhatTheLastLeaderApplied(t *testing.T) {
	r := newReceiver(defaultTuning(), 10, start)
	if a := r.action(start); a.kind != receiveFetch || a.from != 11 {
		t.Fatalf("%+v", a)
	}
	r.fetched(fetchResult{trimmedTo: 13}, start)
	if r.stuck != "" {
		t.Errorf("stuck at once: %s", r.stuck)
	}
	r.offer(run(13, 14), true, start)
	r.appliedIs(12, after(time.Second))
	a := r.action(after(time.Second))
	if a.kind != receiveMerge || a.records[0].Seq != 13 {
		t.Fatalf("%+v", a)
	}
	r.merged(a.records, 14, nil, after(time.Second))
	r.appliedIs(11, after(time.Second)) // an old answer
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
	r := newReporter(defaultTuning(), start)
	r.note(1, 5, start)
	r.note(2, 6, after(100*time.Millisecond))
	if send, until := r.due(after(150 * time.Millisecond)); send != nil || until != after(200*time.Millisecond) {
		t.Errorf("%v until %v", send, until)
	}
	if send, _ := r.due(after(200 * time.Millisecond)); len(send) != 2 || send[1] != 5 || send[2] != 6 {
		t.Errorf("%v", send)
	}
	r.note(1, 5, after(time.Second))
	if send, until := r.due(after(time.Second)); send != nil || until != after(10*time.Second) {
		t.Errorf("unchanged, yet %v until %v", send, until)
	}
	r.forget(2)
	if send, _ := r.due(after(10 * time.Second)); len(send) != 1 || send[1] != 5 {
		t.Errorf("all of them are %v", send)
	}
}

func TestAckerRecordsWhatAdvances(t *testing.T) {
	a := newAcker(defaultTuning())
	if err := a.report(2, 11, 10, start); !errors.Is(err, errBeyondHead) {
		t.Errorf("a watermark beyond the head: %v", err)
	}
	if marks, _ := a.due(start); marks != nil {
		t.Errorf("%v", marks)
	}
	_, _, _ = a.report(2, 5, 10, start), a.report(3, 4, 10, start), a.report(2, 3, 10, start)
	marks, _ := a.due(start)
	if len(marks) != 2 || marks[0] != (Watermark{Region: 2, Seq: 5}) {
		t.Fatalf("%v", marks)
	}
	a.done(marks, errTest, start)
	if marks, until := a.due(start); marks != nil || until != after(500*time.Millisecond) {
		t.Errorf("%v until %v", marks, until)
	}
	marks, _ = a.due(after(time.Second))
	a.done(marks, nil, after(time.Second))
	if marks, until := a.due(after(time.Hour)); marks != nil || !until.IsZero() {
		t.Errorf("%v are recorded twice", marks)
	}
}
