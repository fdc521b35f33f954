// Package membership decides which regions a deployment has, under which epochs they write, and when
// what a lost region has written is complete. It is a replicated state machine: State.Apply turns a
// command into the next state, without a clock, chance or I/O, so that every voter that applies the same
// commands has the same bytes. What carries the commands is a small Raft group across the regions; a
// command takes effect only where a majority has taken it, so two halves of a deployment cannot fence
// each other. The data path never waits for any of it.
//
// A region writes as an actor, the pair of region and epoch. An epoch is used once and an actor is never
// reopened, because the sequence numbers of an actor name events for ever: a region that lost some, or
// that others gave up, comes back under a higher epoch.
//
//	region:  JOINING -> ACTIVE -> DRAINING -----------------> CLOSED -> REMOVED
//	            |          |          |                          |
//	            +----------+----------+-> FENCED -> (closed) ----+
//	            ^                            |                   |
//	            +---------- rejoin, under a higher epoch --------+
//
//	actor:   OPEN -> FENCED -> CLOSED, at a cut -> released
//
// Joining: every member confirms that it waits for the new actor, with its garbage collection and its
// outboxes, before a donor's state may be copied (State.MayCopy). So whatever a member collected before
// is older than all that the new actor will write.
//
// Closing: after a fence no member merges the actor's events any more, so what each has of them stands
// still, and each reports it. The cut is the most that any living member has, per partition; members that
// have less fetch the rest, up to the cut, and nothing beyond it is ever accepted. Each report answers
// one round of the closing: should a member be fenced itself before everybody is at the cut, it may have
// been the only one to hold what lies below, so the closing begins again without it, and its cut can only
// fall. A region that drains in order stops writing and reports too: its last numbers are the cut, and it
// stays until everybody has what it wrote. If anybody has more, it has lost something, and is fenced.
//
// A closed actor is released when every living member is at its cut. From then on nothing waits for it.
//
// A region that is given up may have been the home of namespaces. Who takes that over is decided here, too: an heir of its last
// actor, named once, and only while its region has not come back. Heirs are never forgotten.
//
// Files: state.go and query.go are the state and what follows from it; command.go, apply.go, join.go, close.go
// and heir.go the commands; codec.go, command_codec.go and state_codec.go their encodings; plan.go what a
// command would lead to; duty.go what a member has to do; facts.go what each partition must know;
// standing.go what regions have, for those that join, and with whom they exchange anything; start.go whether a
// region may start; view.go how others follow the state; lease.go for how long a region may act as a home.
package membership
