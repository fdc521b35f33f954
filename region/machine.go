package region

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// Store is the durable, ordered storage of one partition.
type Store interface {
	// View calls fn with a consistent, read-only view.
	View(fn func(kv replica.KV) error) error
	// Update calls fn in one transaction, which is synced to disk when Update returns nil. An error
	// of fn rolls it back and is returned.
	Update(fn func(kv replica.KV) error) error
	// Snapshot returns one consistent copy of everything.
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
	self  crdt.Actor
	store Store
	clock *hlc.Clock
	view  atomic.Pointer[MachineView]

	// waiting holds this node's own proposals that are not yet applied.
	waiting struct {
		sync.Mutex
		proposals map[proposalID]chan<- []result
	}
	outboxChanged *broadcast
}

type proposalID struct{ proposer, proposal uint64 }

// result is what one command answered.
type result struct {
	outcomes []replica.Outcome
	repeated bool   // the outcomes were remembered, nothing was done now
	applied  uint64 // of a merge: the actor's sequence number reached
	err      error  // refused: nothing was done
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
}

// NewMachine returns the state machine of the partition in store. self is the actor of this region;
// clock observes every clock that is applied.
func NewMachine(self crdt.Actor, store Store, clock *hlc.Clock) (*Machine, error) {
	m := &Machine{self: self, store: store, clock: clock, outboxChanged: newBroadcast()}
	m.waiting.proposals = map[proposalID]chan<- []result{}
	return m, m.refresh()
}

// View returns the summary as of the last applied entry. The caller must not change it.
func (m *Machine) View() *MachineView { return m.view.Load() }

// Position returns how far the log is applied.
func (m *Machine) Position() Position { return m.View().Position }

// Durable returns how far what is applied survives a crash.
func (m *Machine) Durable() Position { return m.Position() }

// Flush makes everything applied before the call durable.
func (m *Machine) Flush() error { return nil }

// Read calls fn with a consistent, read-only view of the replica.
func (m *Machine) Read(fn func(r *replica.Replica) error) error {
	return m.store.View(func(kv replica.KV) error {
		r, err := replica.Open(kv, m.self)
		if err != nil {
			return err
		}
		return fn(r)
	})
}

// ReadOutbox returns the deltas from a sequence number on: up to maxBytes, but at least one if
// there is one.
func (m *Machine) ReadOutbox(from uint64, maxBytes int) ([]OutboxRecord, error) {
	var records []OutboxRecord
	err := m.store.View(func(kv replica.KV) (err error) {
		records, err = readOutbox(kv, from, maxBytes)
		return err
	})
	return records, err
}

// Apply applies committed entries in one durable transaction, and answers those that this node
// proposed. An error means that the storage failed or is corrupt.
func (m *Machine) Apply(entries []Entry) error {
	var answers map[proposalID][]result
	var view *MachineView
	err := m.store.Update(func(kv replica.KV) error {
		answers = map[proposalID][]result{}
		r, err := replica.Open(kv, m.self)
		if err != nil {
			return err
		}
		s, err := loadMachineState(kv)
		if err != nil {
			return err
		}
		a := application{kv: kv, replica: r, state: &s}
		for i := range entries {
			if err := a.entry(&entries[i], answers); err != nil {
				return fmt.Errorf("apply entry %d: %w", entries[i].Index, err)
			}
		}
		if err := r.Flush(); err != nil {
			return err
		}
		view = viewOf(r, &s)
		return s.save(kv)
	})
	if err != nil {
		return err
	}
	m.publish(view)
	m.answer(answers)
	return nil
}

func (m *Machine) publish(view *MachineView) {
	before := m.view.Swap(view)
	m.clock.Observe(view.HLC)
	if before == nil || before.Outbox != view.Outbox {
		m.outboxChanged.notify()
	}
}

// answer hands the results of this node's own proposals to whoever waits for them.
func (m *Machine) answer(answers map[proposalID][]result) {
	m.waiting.Lock()
	defer m.waiting.Unlock()
	for id, results := range answers {
		if reply, ok := m.waiting.proposals[id]; ok {
			delete(m.waiting.proposals, id)
			reply <- results // buffered: one send per proposal
		}
	}
}

// expect says that a proposal's results go to reply, which must have room for them.
func (m *Machine) expect(id proposalID, reply chan<- []result) {
	m.waiting.Lock()
	defer m.waiting.Unlock()
	m.waiting.proposals[id] = reply
}

// forsake takes back expect.
func (m *Machine) forsake(id proposalID) {
	m.waiting.Lock()
	defer m.waiting.Unlock()
	delete(m.waiting.proposals, id)
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
		m.publish(viewOf(r, &s))
		return nil
	})
}

func viewOf(r *replica.Replica, s *machineState) *MachineView {
	vector := r.Vector()
	view := &MachineView{
		Position: s.position,
		Outbox: OutboxState{
			Actor: r.Self(), First: s.outbox.trimmed + 1, Head: s.outbox.head, Bytes: s.outbox.bytes,
		},
		Vector: vector,
		HLC:    r.LastHLC(),
		HLCs:   map[crdt.Actor]hlc.Time{},
	}
	for _, dot := range vector.Entries() {
		view.HLCs[dot.Actor] = r.HLCOf(dot.Actor)
	}
	for k, seq := range s.watermarks {
		view.Watermarks = append(view.Watermarks, Watermark{Region: k.region, Actor: k.actor, Seq: seq})
	}
	return view
}

// application is the state of one Apply.
type application struct {
	kv      replica.KV
	replica *replica.Replica
	state   *machineState
}

func (a *application) entry(e *Entry, answers map[proposalID][]result) error {
	if e.Index <= a.state.position.Index {
		return nil
	}
	a.state.position.Index, a.state.position.Term = e.Index, e.Term
	switch e.Kind {
	case EntryNothing:
		return nil
	case EntryConfiguration:
		a.state.position.Configuration, a.state.position.ConfigurationIndex = e.Data, e.Index
		return nil
	case EntryCommand:
	}
	entry, err := decodeEntry(e.Data)
	if err != nil {
		// Every replica has the same bytes, so every replica skips the entry. Who proposed it hears
		// nothing and must say that the outcome is unknown.
		return nil
	}
	results := make([]result, len(entry.GetCommands()))
	for i, c := range entry.GetCommands() {
		if results[i], err = a.command(hlc.Time(entry.GetHlc()), c); err != nil {
			return err
		}
	}
	answers[proposalID{entry.GetProposer(), entry.GetProposal()}] = results
	return nil
}

// command runs one command. Its error is the storage's; a refusal is in the result.
func (a *application) command(now hlc.Time, c *logv1.Command) (result, error) {
	switch c := c.GetCommand().(type) {
	case *logv1.Command_Write:
		return a.write(now, c.Write)
	case *logv1.Command_Merge:
		return a.merge(c.Merge)
	case *logv1.Command_Acknowledge:
		return result{}, acknowledge(a.kv, a.state, a.replica.Self(), c.Acknowledge)
	default:
		return result{err: ErrBadCommand}, nil
	}
}

func (a *application) write(now hlc.Time, w *logv1.WriteCommand) (result, error) {
	if w.GetOpId() != "" {
		outcomes, ok, err := recall(a.kv, w)
		if errors.Is(err, ErrOpIDReused) {
			return result{err: err}, nil
		}
		if ok || err != nil {
			return result{outcomes: outcomes, repeated: ok}, err
		}
	}
	outcomes, deltas, err := a.replica.Execute(now, decodeOperations(w.GetOperations()))
	if err != nil {
		return refusal(err)
	}
	if err := appendOutbox(a.kv, &a.state.outbox, deltas); err != nil {
		return result{}, err
	}
	if w.GetOpId() != "" {
		if err := remember(a.kv, a.state, w, outcomes, max(now, a.replica.LastHLC())); err != nil {
			return result{}, err
		}
	}
	return result{outcomes: outcomes}, nil
}

func (a *application) merge(c *logv1.MergeCommand) (result, error) {
	deltas := make([]replica.Delta, len(c.GetDeltas()))
	for i, data := range c.GetDeltas() {
		var err error
		if deltas[i], err = replica.DecodeDelta(data); err != nil {
			return result{err: err}, nil
		}
	}
	actor := crdt.Actor(c.GetActor())
	if _, err := a.replica.Merge(actor, deltas); err != nil {
		return refusal(err)
	}
	return result{applied: a.replica.Vector().Get(actor)}, nil
}

// refusal sorts a replica's error: a refusal goes into the result, anything else is the storage's.
func refusal(err error) (result, error) {
	var op *replica.OpError
	var gap *replica.GapError
	var bad *replica.BadDeltaError
	if errors.As(err, &op) || errors.As(err, &gap) || errors.As(err, &bad) {
		return result{err: err}, nil
	}
	return result{}, err
}
