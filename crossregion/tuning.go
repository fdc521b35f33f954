package crossregion

import "time"

// tuning holds the bounds and intervals of the step functions and their loops.
type tuning struct {
	// window is how many publications of a partition are in flight at once.
	window int
	// linger is the least time between two envelopes that are not full: small ones cost the stream
	// as much as large ones.
	linger time.Duration
	// A failed call is repeated after retryLeast, doubling up to retryMost.
	retryLeast, retryMost time.Duration
	// bufferBytes bounds what a receiver holds that is not merged; the lowest records are kept.
	bufferBytes int
	// One call of Sink.Merge gets at most this much.
	mergeBytes, mergeRecords int
	// fetchBytes is how much of an outbox is asked for at once.
	fetchBytes int
	// gapWait is how long a missing record may still come out of order before it is fetched.
	gapWait time.Duration
	// stallWait is how long a receiver that knows of more may get nothing before it fetches.
	stallWait time.Duration
	// stuckWait is the time between two tries of what will hardly ever succeed.
	stuckWait time.Duration
	// heartbeat is the interval of heartbeats; streamCheck that of looking whether the stream is
	// still the same one.
	heartbeat, streamCheck time.Duration
	// Watermarks are sent reportWait after the first change, and all of them every reportAll.
	reportWait, reportAll time.Duration
	// ackWait is the least time between two Raft entries with watermarks of one partition.
	ackWait time.Duration
	// mergeTimeout, fetchTimeout and openTimeout bound one call each.
	mergeTimeout, fetchTimeout, openTimeout time.Duration
}

func defaultTuning() tuning {
	return tuning{
		window: 6, linger: 25 * time.Millisecond,
		retryLeast: 100 * time.Millisecond, retryMost: 5 * time.Second,
		bufferBytes: 2 << 20, mergeBytes: 512 << 10, mergeRecords: 4096, fetchBytes: 512 << 10,
		gapWait: 500 * time.Millisecond, stallWait: 2 * time.Second, stuckWait: 10 * time.Second,
		heartbeat: time.Second, streamCheck: 15 * time.Second,
		reportWait: 200 * time.Millisecond, reportAll: 10 * time.Second,
		ackWait:      500 * time.Millisecond,
		mergeTimeout: 30 * time.Second, fetchTimeout: 3 * time.Second, openTimeout: 5 * time.Second,
	}
}

// A flow is unknown when its other end was not heard for this many of its intervals.
const unknownAfter = 5
