package crossregion

import "time"

// Hasten shortens the intervals of a replicator that does not run yet.
func Hasten(r *Replicator) {
	t := &r.tuning
	t.retryMost, t.gapWait, t.stallWait = 200*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	t.heartbeat, t.streamCheck = 20*time.Millisecond, 50*time.Millisecond
	t.reportWait, t.reportAll, t.ackWait = 10*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond
	t.fetchTimeout = 200 * time.Millisecond
	for _, rep := range r.reporters {
		rep.mu.core = newReporter(r.tuning, r.cfg.Clock())
	}
}
