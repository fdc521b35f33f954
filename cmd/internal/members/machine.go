package members

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
)

// ErrDamaged means that the file with the membership cannot be read.
var ErrDamaged = errors.New("the file with the membership is damaged")

// The file, written anew after each change, and sent as it is to a voter that is behind:
//
//	magic "ATMB" | version u8 | index u64 | term u64 | configuration index u64 | configuration: length u32, bytes
//	state: length u32, bytes | CRC-32C of all before u32
const (
	fileMagic    = "ATMB"
	fileVersion  = 1
	fileHeader   = len(fileMagic) + 1 + 3*8
	maxFileBytes = 32 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // a constant

// machine is the membership as a Raft group's state machine. Its state is small and changes seldom: each
// change is on disk before anybody hears of it, so a node knows it again at its next start, with or without a
// majority.
type machine struct {
	path  string
	view  *membership.Published
	write sync.Mutex // over whatever changes the state

	mu struct {
		sync.Mutex
		state    *membership.State
		position region.Position
		durable  region.Position
		waiting  map[uint64]chan error
	}
}

var _ region.StateMachine = (*machine)(nil)

// openMachine reads the file, if there is one, and tells view of what is in it.
// Errors: ErrDamaged.
func openMachine(path string, view *membership.Published) (*machine, error) {
	m := &machine{path: path, view: view}
	m.mu.state, m.mu.waiting = &membership.State{}, map[uint64]chan error{}
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	state, position, err := decodeFile(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.mu.state, m.mu.position, m.mu.durable = state, position, position
	view.Publish(state)
	return m, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, info.Size())
	}
	return os.ReadFile(path)
}

// Position implements region.StateMachine.
func (m *machine) Position() region.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.position
}

// Durable implements region.StateMachine.
func (m *machine) Durable() region.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.durable
}

// state returns the newest state.
func (m *machine) state() *membership.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.state
}

// Apply implements region.StateMachine. A proposal is a number that names it, u64, and a command.
func (m *machine) Apply(entries []region.Entry) error {
	m.write.Lock()
	defer m.write.Unlock()
	m.mu.Lock()
	state, position := m.mu.state, m.mu.position
	m.mu.Unlock()
	answers := map[uint64]error{}
	for _, e := range entries {
		if e.Index <= position.Index {
			continue
		}
		position.Index, position.Term = e.Index, e.Term
		switch e.Kind {
		case region.EntryConfiguration:
			position.Configuration, position.ConfigurationIndex = e.Data, e.Index
		case region.EntryCommand:
			if len(e.Data) < 8 {
				continue
			}
			c, err := membership.DecodeCommand(e.Data[8:])
			if err == nil {
				state, err = state.Apply(c)
			}
			answers[binary.BigEndian.Uint64(e.Data)] = err
		case region.EntryNothing:
		}
	}
	return m.commit(state, position, answers)
}

// commit makes a state durable and then known.
func (m *machine) commit(state *membership.State, position region.Position, answers map[uint64]error) error {
	if err := writeFile(m.path, encodeFile(state, position)); err != nil {
		return err
	}
	m.mu.Lock()
	m.mu.state, m.mu.position, m.mu.durable = state, position, position
	for id, answer := range answers {
		if reply := m.mu.waiting[id]; reply != nil {
			reply <- answer // has room for the one answer
			delete(m.mu.waiting, id)
		}
	}
	m.mu.Unlock()
	m.view.Publish(state)
	return nil
}

// Flush implements region.StateMachine: everything is on disk already.
func (m *machine) Flush() error { return nil }

// expect returns a channel that gets what a proposal of this node answers.
func (m *machine) expect(id uint64) <-chan error {
	m.mu.Lock()
	defer m.mu.Unlock()
	reply := make(chan error, 1)
	m.mu.waiting[id] = reply
	return reply
}

// forget takes back expect.
func (m *machine) forget(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.waiting, id)
}

// OpenSnapshot implements region.StateMachine.
func (m *machine) OpenSnapshot() (region.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &snapshot{data: encodeFile(m.mu.state, m.mu.position), position: m.mu.position}, nil
}

// Install implements region.StateMachine.
func (m *machine) Install(path string) error {
	m.write.Lock()
	defer m.write.Unlock()
	data, err := readFile(path)
	if err != nil {
		return err
	}
	state, position, err := decodeFile(data)
	if err != nil {
		return err
	}
	if have := m.Position(); position.Index < have.Index {
		return fmt.Errorf("snapshot at index %d is older than the state at %d", position.Index, have.Index)
	}
	if err := m.commit(state, position, nil); err != nil {
		return err
	}
	return os.Remove(path)
}

// snapshot is a copy of the file.
type snapshot struct {
	data     []byte
	position region.Position
}

// Position implements region.Snapshot.
func (s *snapshot) Position() region.Position { return s.position }

// Size implements region.Snapshot.
func (s *snapshot) Size() int64 { return int64(len(s.data)) }

// WriteTo implements io.WriterTo.
func (s *snapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.data)
	return int64(n), err
}

// Close implements region.Snapshot.
func (s *snapshot) Close() error { return nil }

func encodeFile(s *membership.State, p region.Position) []byte {
	b := append([]byte(fileMagic), fileVersion)
	for _, n := range []uint64{p.Index, p.Term, p.ConfigurationIndex} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, part := range [][]byte{p.Configuration, s.Encode()} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeFile(data []byte) (*membership.State, region.Position, error) {
	var p region.Position
	if len(data) < fileHeader+3*4 || string(data[:len(fileMagic)]) != fileMagic || data[len(fileMagic)] != fileVersion {
		return nil, p, fmt.Errorf("%w: it is none of this version", ErrDamaged)
	}
	body, sum := data[:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, p, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	numbers := body[len(fileMagic)+1:]
	p.Index, p.Term, p.ConfigurationIndex = binary.BigEndian.Uint64(numbers), binary.BigEndian.Uint64(numbers[8:]), binary.BigEndian.Uint64(numbers[16:])
	var parts [2][]byte
	rest := body[fileHeader:]
	for i := range parts {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
			return nil, p, fmt.Errorf("%w: it is cut short", ErrDamaged)
		}
		n := binary.BigEndian.Uint32(rest)
		parts[i], rest = rest[4:4+n], rest[4+n:]
	}
	if len(rest) > 0 {
		return nil, p, fmt.Errorf("%w: %d bytes too many", ErrDamaged, len(rest))
	}
	p.Configuration = append([]byte(nil), parts[0]...)
	s, err := membership.DecodeState(parts[1])
	if err != nil {
		return nil, p, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, p, nil
}

// writeFile writes a file whole or not at all, and syncs it.
func writeFile(path string, data []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the membership: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the membership: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write the membership: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write the membership: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
