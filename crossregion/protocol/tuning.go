package protocol

import "time"

// Tuning holds the bounds and intervals of the step functions and their loops.
type Tuning struct {
	// Window is how many publications of a partition are in flight at once.
	Window int
	// Linger is the least time between two envelopes that are not full: small ones cost the stream
	// as much as large ones.
	Linger time.Duration
	// A failed call is repeated after RetryLeast, doubling up to RetryMost.
	RetryLeast, RetryMost time.Duration
	// BufferBytes bounds what a receiver holds that is not merged; the lowest records are kept.
	BufferBytes int
	// One call of Sink.Merge gets at most this much.
	MergeBytes, MergeRecords int
	// FetchBytes is how much of an outbox is asked for at once.
	FetchBytes int
	// GapWait is how long a missing record may still come out of order before it is fetched.
	GapWait time.Duration
	// StallWait is how long a receiver that knows of more may get nothing before it fetches.
	StallWait time.Duration
	// StuckWait is the time between two tries of what will hardly ever succeed.
	StuckWait time.Duration
	// RelayAfter is for how long an origin may not give what is missing before other regions are asked for it;
	// RelayBytes is how much each partition keeps of each origin for others.
	RelayAfter time.Duration
	RelayBytes int
	// ClockAhead is how far in the future an event may be to be merged. One that is further would win every conflict
	// until then. A flow that waits for that is looked at every ClockLook, because clocks are set.
	ClockAhead, ClockLook time.Duration
	// OriginWait is for how long neither an origin nor anybody else may give what is missing before another region's
	// state is taken over; DonorWait how long a donor may not answer before another one is asked.
	OriginWait, DonorWait time.Duration
	// ResyncBytes is how much of a state is asked for at once, ResyncRate how many bytes a second a node takes over,
	// and ResyncRanges and ResyncItems how many fingerprints are asked for at once, of how many items each.
	ResyncBytes, ResyncRate, ResyncRanges, ResyncItems int
	// AuditAttempts is how often two states are looked at until they are of one vector, AuditWait and more apart; AuditAgain is
	// the least time until what could not be compared is tried again, as long as it is to be.
	AuditAttempts         int
	AuditWait, AuditAgain time.Duration
	// TickEvery is the interval of ticks; StreamCheck that of looking whether the stream is
	// still the same one.
	TickEvery, StreamCheck time.Duration
	// Watermarks are sent ReportWait after the first change, and all of them every ReportAll.
	ReportWait, ReportAll time.Duration
	// ReportUrged is the least time between two reports if an origin waits for one.
	ReportUrged time.Duration
	// AckWait is the least time between two Raft entries with watermarks of one partition.
	AckWait time.Duration
	// A digest is computed of a partition that has been the same for DigestQuiet, DigestEvery after the last at the
	// earliest, or DigestAgain if it has not changed since; and for one part in DigestShare of one CPU.
	DigestQuiet, DigestEvery, DigestAgain time.Duration
	DigestShare                           int
	// DetailEvery is how often a tick repeats a vector and a digest that have not changed.
	DetailEvery time.Duration
	// MergeTimeout, FetchTimeout and OpenTimeout bound one call each.
	MergeTimeout, FetchTimeout, OpenTimeout time.Duration
}

// DefaultTuning returns what real regions use.
func DefaultTuning() Tuning {
	return Tuning{
		Window: 6, Linger: 25 * time.Millisecond,
		RetryLeast: 100 * time.Millisecond, RetryMost: 5 * time.Second,
		BufferBytes: 2 << 20, MergeBytes: 512 << 10, MergeRecords: 4096, FetchBytes: 512 << 10,
		GapWait: 500 * time.Millisecond, StallWait: 2 * time.Second, StuckWait: 10 * time.Second,
		RelayAfter: 5 * time.Second, RelayBytes: 1 << 20,
		ClockAhead: 10 * time.Second, ClockLook: time.Second,
		OriginWait: 30 * time.Second, DonorWait: 20 * time.Second,
		ResyncBytes: 512 << 10, ResyncRate: 32 << 20, ResyncRanges: 64, ResyncItems: 256,
		AuditAttempts: 6, AuditWait: 500 * time.Millisecond, AuditAgain: time.Minute,
		TickEvery: time.Second, StreamCheck: 15 * time.Second,
		ReportWait: 200 * time.Millisecond, ReportAll: 10 * time.Second, ReportUrged: 20 * time.Millisecond,
		AckWait:     500 * time.Millisecond,
		DigestQuiet: 2 * time.Second, DigestEvery: 10 * time.Second, DigestAgain: 10 * time.Minute, DigestShare: 50,
		DetailEvery:  10 * time.Second,
		MergeTimeout: 30 * time.Second, FetchTimeout: 3 * time.Second, OpenTimeout: 5 * time.Second,
	}
}

// unknownAfter is for how many ticks one end of a flow may be silent before the flow is unknown.
const unknownAfter = 5

// silentAfter is for how long it may be before that counts as lag: less than two ticks.
func silentAfter(t Tuning) time.Duration { return t.TickEvery + t.TickEvery/2 }
