package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
)

var (
	errFailed     = errors.New("the state machine's storage has failed")
	errNoSnapshot = errors.New("no such snapshot")
)

const receivedPrefix = "received-"

// snapshotStore gives Raft the state machine's own file as its one snapshot, always the latest, so
// that no second copy is kept. What is received from a leader goes through a temporary file.
type snapshotStore struct {
	machine region.StateMachine
	dir     string
	budget  *Budget
	mu      struct {
		sync.Mutex
		received map[string]*receivedSnapshot
		count    int
	}
}

// List implements raft.SnapshotStore: the state as it would survive a crash, or nothing if there is
// none. Raft applies what the log has beyond it anew.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	p := s.machine.Durable()
	if p.Index == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{metaOf(p, 0)}, nil
}

func metaOf(p region.Position, size int64) *raft.SnapshotMeta {
	m := &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: fmt.Sprintf("state-%d-%d", p.Term, p.Index),
		Index: p.Index, Term: p.Term, ConfigurationIndex: p.ConfigurationIndex, Size: size,
	}
	if len(p.Configuration) > 0 {
		m.Configuration = raft.DecodeConfiguration(p.Configuration)
	}
	return m
}

// Open implements raft.SnapshotStore. A received snapshot is for Restore; any other name opens the
// state as of now, whose metadata are read from the copy itself.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if strings.HasPrefix(id, receivedPrefix) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r, ok := s.mu.received[id]
		if !ok {
			return nil, nil, fmt.Errorf("%w: %s", errNoSnapshot, id)
		}
		delete(s.mu.received, id)
		return &r.meta, r, nil
	}
	snapshot, err := s.openOutgoing()
	if err != nil {
		return nil, nil, err
	}
	return metaOf(snapshot.position, snapshot.size), snapshot, nil
}

// openOutgoing opens the state as of now for sending, within the node's budget.
func (s *snapshotStore) openOutgoing() (*snapshotReader, error) {
	if err := s.budget.begin(); err != nil {
		return nil, err
	}
	snapshot, err := s.machine.OpenSnapshot()
	if err != nil {
		s.budget.end()
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	return newSnapshotReader(snapshot, s.budget.end), nil
}

// Create implements raft.SnapshotStore. Raft calls it for two ends: to witness the state machine's own
// state, into which nothing is written, and to receive a leader's.
func (s *snapshotStore) Create(
	version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.count++
	return &persistSink{
		store: s, index: index, term: term,
		meta: raft.SnapshotMeta{
			Version: version, ID: receivedPrefix + strconv.Itoa(s.mu.count), Index: index, Term: term,
			Configuration: configuration, ConfigurationIndex: configurationIndex,
		},
	}, nil
}

// persistSink takes a snapshot. Its file is made by the first write.
type persistSink struct {
	store       *snapshotStore
	index, term uint64
	meta        raft.SnapshotMeta
	file        *os.File
}

// ID implements raft.SnapshotSink.
func (s *persistSink) ID() string { return s.meta.ID }

// Write implements io.Writer.
func (s *persistSink) Write(data []byte) (int, error) {
	if s.file == nil {
		f, err := os.CreateTemp(s.store.dir, receivedPrefix+"*.db")
		if err != nil {
			return 0, fmt.Errorf("receive snapshot: %w", err)
		}
		s.file = f
	}
	n, err := s.file.Write(data)
	s.meta.Size += int64(n)
	return n, err
}

// Close implements io.Closer: what was received is complete, on disk, and ready for Open.
func (s *persistSink) Close() error {
	if s.file == nil {
		return nil
	}
	if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
		return errors.Join(err, os.Remove(s.file.Name()))
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for id, old := range s.store.mu.received { // one that was never restored
		_ = os.Remove(old.path) // emptied at the next start at the latest
		delete(s.store.mu.received, id)
	}
	if s.store.mu.received == nil {
		s.store.mu.received = map[string]*receivedSnapshot{}
	}
	s.store.mu.received[s.meta.ID] = &receivedSnapshot{path: filepath.Clean(s.file.Name()), meta: s.meta}
	return nil
}

// Cancel implements raft.SnapshotSink.
func (s *persistSink) Cancel() error {
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	closed := s.file.Close()
	s.file = nil
	return errors.Join(closed, os.Remove(name))
}

// receivedSnapshot names a file for Restore; it is not read through Raft.
type receivedSnapshot struct {
	path string
	meta raft.SnapshotMeta
}

// Read implements io.Reader. Nothing reads a received snapshot but the store that takes it over.
func (r *receivedSnapshot) Read([]byte) (int, error) { return 0, io.EOF }

// Close implements io.Closer. It removes the file if it was not taken over.
func (r *receivedSnapshot) Close() error {
	if err := os.Remove(r.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// snapshotReader turns a snapshot that writes itself into one that is read.
type snapshotReader struct {
	*io.PipeReader
	position region.Position
	size     int64
	done     chan struct{}
	close    func() error
}

// newSnapshotReader calls onClosed once it is closed.
func newSnapshotReader(s region.Snapshot, onClosed func()) *snapshotReader {
	read, write := io.Pipe()
	r := &snapshotReader{PipeReader: read, position: s.Position(), size: s.Size(), done: make(chan struct{})}
	r.close = sync.OnceValue(func() error {
		defer onClosed()
		err := read.Close()
		<-r.done
		return errors.Join(err, s.Close())
	})
	go func() {
		defer close(r.done)
		_, err := s.WriteTo(write)
		_ = write.CloseWithError(err) // never fails
	}()
	return r
}

// Close implements io.Closer. More calls do nothing.
func (r *snapshotReader) Close() error { return r.close() }
