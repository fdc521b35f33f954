package region

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
)

// Store is the durable, ordered storage of one partition.
type Store interface {
	// View calls fn with a consistent, read-only view.
	View(fn func(kv replica.KV) error) error
	// Update calls fn in one transaction, which is visible when Update returns nil, and on disk after
	// the next Flush. An error of fn leaves the store unusable.
	Update(fn func(kv replica.KV) error) error
	// Flush makes every Update that returned before the call durable.
	Flush() error
	// Buffered is how many bytes wait for a Flush, and Full tells when they are many.
	Buffered() int64
	Full() <-chan struct{}
	// Snapshot returns one consistent, durable copy of everything.
	Snapshot() (StoreSnapshot, error)
	// Install replaces everything by the copy in the file at path, which it consumes, if check
	// accepts it.
	Install(path string, check func(kv replica.KV) error) error
}

// StoreSnapshot is one consistent copy of a store.
type StoreSnapshot interface {
	Snapshotter
	KV() replica.KV
}

// Machine is one partition's replicated state machine: it turns committed log entries into state.
// The same entries make the same state, byte for byte, on every replica; nothing here reads a
// clock, chance or configuration.
//
// Apply and Install are called by one goroutine at a time. All else is safe for concurrent use.
type Machine struct {
	self    crdt.Actor
	store   Store
	clock   *hlc.Clock
	view    atomic.Pointer[MachineView]
	durable atomic.Pointer[Position]
	flush   sync.Mutex // held by Flush, over its write
	// memory, elsewhere and headers are the applying goroutine's.
	memory    *memory
	elsewhere *elsewhere
	headers   *replica.Headers
	feed      *changes
	outbox    atomic.Pointer[outboxIndex]

	// waiting holds this node's own proposals that are not yet applied.
	waiting struct {
		sync.Mutex
		proposals map[proposalID]func([]result)
	}
	outboxChanged *broadcast
	applied       *broadcast // of every entry
}

// headersKept is of how many user keys a partition keeps in memory what they hold, at least.
const headersKept = 8192

type proposalID struct{ proposer, proposal uint64 }

// result is what one command answered.
type result struct {
	outcomes []replica.Outcome
	repeated bool // the outcomes were remembered, nothing was done now
	// elsewhere says of such that another region executed the write: of the outcomes only versions are known.
	elsewhere bool
	applied   uint64           // of a merge: the actor's sequence number reached
	cursor    replica.Position // of a resync's chunk
	err       error            // refused: nothing was done
}

// MachineView is a summary of a partition's state as of one applied entry.
type MachineView struct {
	Position Position
	Outbox   OutboxState
	Vector   crdt.VersionVector
	// HLC is the highest hybrid logical clock in the state, and HLCs that of each actor's last event.
	HLC        hlc.Time
	HLCs       map[crdt.Actor]hlc.Time
	Watermarks []Watermark
	// Evictions are of the regions that the outbox did not wait for, ascending.
	Evictions []Eviction
	// Facts are what is known of the membership of regions.
	Facts Facts
	// Homes are what is known of the homes of namespaces, in their order.
	Homes []replica.Home
	// Owed is the instant at or after which other regions may wait for an event of this one; 0 if they do not.
	Owed hlc.Time
	// Resync is the resync that is under way, nil if none is. Ahead is Vector joined with those of all donors whose
	// state was taken over in part: somewhere, the values may include as much.
	Resync *replica.ResyncState
	Ahead  crdt.VersionVector
}

// Resyncing reports whether the values are not those of Vector everywhere: then no digest of them means anything.
func (v *MachineView) Resyncing() bool { return v.Resync != nil || !v.Ahead.Equal(v.Vector) }

// NewMachine returns the state machine of the partition in store. self is the actor of this region;
// clock observes every clock that is applied.
func NewMachine(self crdt.Actor, store Store, clock *hlc.Clock) (*Machine, error) {
	m := &Machine{self: self, store: store, clock: clock, outboxChanged: newBroadcast(), applied: newBroadcast(), feed: newChanges(self)}
	m.waiting.proposals = map[proposalID]func([]result){}
	return m, m.refresh()
}

// View returns the summary as of the last applied entry. The caller must not change it.
func (m *Machine) View() *MachineView { return m.view.Load() }

// Position returns how far the log is applied.
func (m *Machine) Position() Position { return m.View().Position }

// Durable returns how far what is applied survives a crash.
func (m *Machine) Durable() Position { return *m.durable.Load() }

// Flush makes everything applied before the call durable.
func (m *Machine) Flush() error {
	m.flush.Lock()
	defer m.flush.Unlock()
	applied := m.Position()
	if err := m.store.Flush(); err != nil {
		return err
	}
	m.durable.Store(&applied)
	return nil
}

// Read calls fn with a consistent, read-only view of the replica.
func (m *Machine) Read(fn func(r *replica.Replica) error) error {
	released := m.View().Facts.released()
	return m.store.View(func(kv replica.KV) error {
		r, err := replica.Open(kv, m.self)
		if err != nil {
			return err
		}
		r.UseReleased(released)
		return fn(r)
	})
}

// ReadOutbox returns the records of the outbox from that on which has an event, up to maxBytes, but at least one
// if there is one. A run may begin before the event.
func (m *Machine) ReadOutbox(from uint64, maxBytes int) ([]OutboxRecord, error) {
	var records []OutboxRecord
	err := m.store.View(func(kv replica.KV) (err error) {
		records, err = readOutbox(kv, from, maxBytes)
		return err
	})
	return records, err
}

// Apply applies committed entries in one transaction, and answers those that this node proposed. What
// they did is visible then, and durable after a Flush; until then the log has it. An error means that
// the storage failed or is corrupt.
func (m *Machine) Apply(entries []Entry) error {
	var answers map[proposalID][]result
	var view *MachineView
	var changed []change
	err := m.store.Update(func(kv replica.KV) error {
		answers = map[proposalID][]result{}
		r, err := replica.Open(kv, m.self)
		if err != nil {
			return err
		}
		r.UseHeaders(m.headers)
		s, err := loadMachineState(kv)
		if err != nil {
			return err
		}
		r.UseReleased(s.facts.released())
		a := application{kv: kv, replica: r, state: &s, memory: m.memory, elsewhere: m.elsewhere, index: m.outbox.Load()}
		a.useHomes()
		for i := range entries {
			if err := a.entry(&entries[i], answers); err != nil {
				return fmt.Errorf("apply entry %d: %w", entries[i].Index, err)
			}
		}
		if err := r.Flush(); err != nil {
			return err
		}
		view, changed = viewOf(r, &s), a.changed
		return s.save(kv)
	})
	if err != nil {
		return err
	}
	m.publish(view)
	m.feed.add(view, changed)
	m.answer(answers)
	return nil
}

func (m *Machine) publish(view *MachineView) {
	before := m.view.Swap(view)
	m.clock.Observe(view.HLC)
	m.applied.notify()
	if before == nil || before.Outbox != view.Outbox {
		m.outboxChanged.notify()
	}
}

// answer hands the results of this node's own proposals to whoever waits for them.
func (m *Machine) answer(answers map[proposalID][]result) {
	for id, results := range answers {
		if reply := m.claim(id); reply != nil {
			reply(results)
		}
	}
}

// expect has reply called with a proposal's results, by the applying goroutine: it must not block.
func (m *Machine) expect(id proposalID, reply func([]result)) {
	m.waiting.Lock()
	defer m.waiting.Unlock()
	m.waiting.proposals[id] = reply
}

// claim takes back expect. It returns nil if the results were handed over, or are about to be.
func (m *Machine) claim(id proposalID) func([]result) {
	m.waiting.Lock()
	defer m.waiting.Unlock()
	reply := m.waiting.proposals[id]
	delete(m.waiting.proposals, id)
	return reply
}

// refresh reads the summary from the store.
func (m *Machine) refresh() error {
	return m.store.View(func(kv replica.KV) error {
		r, err := replica.Open(kv, m.self)
		if err != nil {
			return err
		}
		s, err := loadMachineState(kv)
		if err != nil {
			return err
		}
		if m.memory, err = loadMemory(kv); err != nil {
			return err
		}
		if m.elsewhere, err = loadElsewhere(kv); err != nil {
			return err
		}
		index, err := loadOutboxIndex(kv, s.outbox)
		if err != nil {
			return err
		}
		m.outbox.Store(index)
		m.headers = replica.NewHeaders(headersKept)
		view := viewOf(r, &s)
		m.publish(view)
		m.durable.Store(&view.Position)
		m.feed.restart(view)
		return nil
	})
}

func viewOf(r *replica.Replica, s *machineState) *MachineView {
	vector := r.Vector()
	view := &MachineView{
		Position: s.position,
		Outbox: OutboxState{
			Actor: r.Self(), First: s.outbox.trimmed + 1, Head: s.outbox.head, Bytes: s.outbox.bytes,
			FoldedBytes: s.outbox.foldedBytes, FoldedEvents: s.outbox.foldedEvents, Appended: s.outbox.appended,
		},
		Vector: vector,
		HLC:    r.LastHLC(),
		Owed:   r.Owed(),
		Facts:  s.facts,
		Homes:  s.homes,
		HLCs:   map[crdt.Actor]hlc.Time{},
		Ahead:  r.Ahead(),
	}
	if state, ok := r.Resync(); ok {
		view.Resync = &state
	}
	for _, dot := range vector.Entries() {
		view.HLCs[dot.Actor] = r.HLCOf(dot.Actor)
	}
	for k, seq := range s.watermarks {
		view.Watermarks = append(view.Watermarks, Watermark{Region: k.region, Actor: k.actor, Seq: seq})
	}
	for _, region := range slices.Sorted(maps.Keys(s.evictions)) {
		view.Evictions = append(view.Evictions, s.evictions[region])
	}
	return view
}
