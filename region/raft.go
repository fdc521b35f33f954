package region

import "errors"

// What a Raft group answers when a proposal or a barrier does not succeed.
var (
	// ErrNotLeader means that the group has another leader or none: nothing was done.
	ErrNotLeader = errors.New("this node does not lead the partition")
	// ErrOutcomeUnknown means that a proposal may yet be committed, or may not.
	ErrOutcomeUnknown = errors.New("the write may or may not have taken effect")
	// ErrShuttingDown means that this node is stopping: nothing was done.
	ErrShuttingDown = errors.New("the node is shutting down")
)

// EntryKind says what a committed Raft entry carries.
type EntryKind uint8

const (
	// EntryCommand carries commands of the partition's state machine.
	EntryCommand EntryKind = iota
	// EntryConfiguration carries the group's membership, in the Raft adapter's encoding.
	EntryConfiguration
	// EntryNothing only moves the position: over entries that mean something to Raft alone, before
	// they are cut from the log.
	EntryNothing
)

// Entry is one committed entry of a partition's Raft log.
type Entry struct {
	Index, Term uint64
	Kind        EntryKind
	Data        []byte
}

// Position is how far a state machine is in its group's log.
type Position struct {
	Index, Term uint64
	// Configuration is the group's membership as of ConfigurationIndex, opaque to this package.
	Configuration      []byte
	ConfigurationIndex uint64
}

// StateMachine is what a Raft group replicates. Apply and Install are called by one goroutine at a
// time; the other methods may be called at any time.
type StateMachine interface {
	// Apply applies entries in order, in one transaction with the position of the last. They are
	// visible when it returns, and durable after a Flush. Entries at or below the present position
	// are skipped. It may wait for a flush when too much is not durable yet. An error means that the
	// storage failed or is corrupt: the group must stop and the process must end.
	Apply(entries []Entry) error
	// Position returns how far entries are applied.
	Position() Position
	// Durable returns how far entries survive a crash: the log must be kept behind it.
	Durable() Position
	// Flush makes everything applied before the call durable.
	Flush() error
	// OpenSnapshot returns one consistent, durable copy of the whole state, at Durable or later.
	OpenSnapshot() (Snapshot, error)
	// Install replaces the state by the snapshot in the file at path, which it consumes. It refuses
	// a snapshot older than the present position.
	Install(path string) error
}

// Snapshot is one consistent copy of a partition's state. Close it soon: it pins disk space.
type Snapshot interface {
	Snapshotter
	// Position is the position of this copy.
	Position() Position
}
