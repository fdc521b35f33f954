package raftgroup

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
)

// fsm feeds a state machine from Raft. Results go their own way, past Raft's futures; a failure of
// the storage is told once, and nothing is applied after it.
type fsm struct {
	machine   region.StateMachine
	log       *raftlog.Group
	onFailure func(error)
	logger    *slog.Logger
	mu        sync.Mutex // Raft applies and persists in different goroutines
	failed    atomic.Bool
	applied   signal // after every change of the machine's position
}

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	entries := make([]region.Entry, len(logs))
	for i, l := range logs {
		entries[i] = region.Entry{Index: l.Index, Term: l.Term, Data: l.Data}
		if l.Type == raft.LogConfiguration {
			entries[i].Kind = region.EntryConfiguration
		}
	}
	responses := make([]any, len(logs))
	if err := f.apply(entries); err != nil {
		for i := range responses {
			responses[i] = err // committed, but not applied here: nobody may be told that it is
		}
	}
	return responses
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *fsm) apply(entries []region.Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed.Load() {
		return errFailed
	}
	if err := f.machine.Apply(entries); err != nil {
		return f.fail(err)
	}
	f.applied.notify()
	return nil
}

// fail tells of the first failure of the storage.
func (f *fsm) fail(err error) error {
	if f.failed.CompareAndSwap(false, true) {
		f.onFailure(err)
	}
	return err
}

// persist makes what is applied durable, and lets the log be cut up to there. That alone lets it be
// cut: what is only applied is lost in a crash, and is then read from the log again.
func (f *fsm) persist() error {
	if err := f.machine.Flush(); err != nil {
		return f.fail(err)
	}
	f.log.SetDurable(f.machine.Durable().Index)
	return nil
}

// Snapshot implements raft.FSM. There is nothing to copy: the state is a snapshot once it is flushed.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed.Load() {
		return nil, errFailed
	}
	return witness{f}, nil
}

// Restore implements raft.FSM: it takes over a snapshot that was received.
func (f *fsm) Restore(r io.ReadCloser) error {
	if counted, ok := r.(raft.ReadCloserWrapper); ok {
		r = counted.WrappedReadCloser()
	}
	received, ok := r.(*receivedSnapshot)
	if !ok {
		return fmt.Errorf("restore from %T: only received snapshots are restored", r)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.machine.Install(received.path); err != nil {
		return err
	}
	f.log.SetDurable(f.machine.Durable().Index)
	f.applied.notify()
	f.logger.Info("installed a snapshot", "index", f.machine.Position().Index, "bytes", received.meta.Size)
	return nil
}

// witness is Raft's leave to cut the log up to a snapshot's index. The state machine's position can be
// behind that index, over entries that mean something to Raft alone; it is moved there first, or a
// restart would look for entries that are gone.
type witness struct{ fsm *fsm }

// Persist implements raft.FSMSnapshot.
func (w witness) Persist(sink raft.SnapshotSink) error {
	s, ok := sink.(*persistSink)
	if !ok {
		return fmt.Errorf("persist into %T", sink)
	}
	if w.fsm.machine.Position().Index < s.index {
		nothing := region.Entry{Index: s.index, Term: s.term, Kind: region.EntryNothing}
		if err := w.fsm.apply([]region.Entry{nothing}); err != nil {
			return err
		}
	}
	return w.fsm.persist()
}

// Release implements raft.FSMSnapshot.
func (w witness) Release() {}
