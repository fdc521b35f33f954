package localqueue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/atolldb/atoll/region/raftlog"
)

const (
	// MaxWriteBytes bounds a write: that of a client's largest batch, encoded.
	MaxWriteBytes = 7 << 20

	defaultMaxBytes  = 64 << 20
	defaultMaxWrites = 100_000
	// commitBytes closes a group commit: later writes go into the next.
	commitBytes = 1 << 20

	indexBits     = 40
	maxGeneration = 1<<(64-indexBits) - 1
	maxIndex      = 1<<indexBits - 1
)

var (
	queueKey      = []byte("queue")
	generationKey = []byte("generation")
)

var (
	// ErrQueueFull means that too much waits for the partition's leader: nothing was queued.
	ErrQueueFull = errors.New("too many local writes wait for the partition's leader")
	// ErrTooLarge means that a write is over MaxWriteBytes: nothing was queued.
	ErrTooLarge = errors.New("local write too large")
	// errIncomplete means that the queue has writes but not its name.
	errIncomplete = errors.New("the queue's number is missing")
	errExhausted  = errors.New("the queue has no more sequence numbers")
)

// Config is what a queue needs.
type Config struct {
	// Log is the queue's own group of the node's log, see Group.
	Log *raftlog.Group
	// Submit has the partition apply encoded WriteCommands in order; nil means that all are applied
	// and will stay so. A write that is applied already must be dropped by its position.
	Submit func(ctx context.Context, writes [][]byte) error
	// MaxBytes and MaxWrites bound what may wait; 0 is 64 MiB and 100 000 writes.
	MaxBytes  int64
	MaxWrites int
	Logger    *slog.Logger
}

// Group returns the number of the log group that keeps the queue for a partition.
func Group(partition uint32) uint32 { return partition | 1<<31 }

// Queue is one node's queue of LOCAL writes to one partition. It is safe for concurrent use.
type Queue struct {
	cfg        Config
	number     uint64
	generation uint64

	turn sync.Mutex // taken before mu, held over the write to the log

	mu struct {
		sync.Mutex
		first, next uint64 // indexes of the head and of the next write
		kept        uint64 // the first index that the log still has
		writes      int    // admitted and not yet applied
		bytes       int64
		open        *groupCommit
		changed     chan struct{} // closed when there is more to submit
	}
}

// Open reads a queue, or makes it.
// Errors: those of the log, which a damaged one answers with *raftlog.CorruptError.
func Open(c Config) (*Queue, error) {
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.MaxWrites == 0 {
		c.MaxWrites = defaultMaxWrites
	}
	q := &Queue{cfg: c}
	q.mu.changed = make(chan struct{})
	for _, load := range []func() error{q.loadNumber, q.loadGeneration, q.loadWrites} {
		if err := load(); err != nil {
			return nil, fmt.Errorf("open queue of local writes: %w", err)
		}
	}
	return q, nil
}

func (q *Queue) loadNumber() error {
	number, err := q.cfg.Log.GetUint64(queueKey)
	if err != nil {
		return err
	}
	if number == 0 && q.cfg.Log.LastIndex() != 0 {
		return errIncomplete
	}
	for number == 0 {
		var random [8]byte
		if _, err := rand.Read(random[:]); err != nil {
			return fmt.Errorf("draw a queue number: %w", err)
		}
		if number = binary.BigEndian.Uint64(random[:]); number == 0 {
			continue
		}
		if err := q.cfg.Log.SetUint64(queueKey, number); err != nil {
			return err
		}
	}
	q.number = number
	return nil
}

func (q *Queue) loadGeneration() error {
	before, err := q.cfg.Log.GetUint64(generationKey)
	if err != nil {
		return err
	}
	if before >= maxGeneration {
		return errExhausted
	}
	q.generation = before + 1
	return q.cfg.Log.SetUint64(generationKey, q.generation)
}

func (q *Queue) loadWrites() error {
	s := q.cfg.Log.Stats()
	q.mu.first, q.mu.kept, q.mu.next = max(s.First, 1), max(s.First, 1), s.Last+1
	for index := s.First; index != 0 && index <= s.Last; index++ {
		e, err := q.cfg.Log.Entry(index)
		if err != nil {
			return err
		}
		q.mu.writes++
		q.mu.bytes += int64(len(e.Data))
	}
	return nil
}

// Stats are a queue's figures.
type Stats struct {
	// Writes and Bytes wait to be applied.
	Writes int
	Bytes  int64
}

// Stats returns the queue's figures.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{Writes: q.mu.writes, Bytes: q.mu.bytes}
}

// Number returns the random number that names the queue.
func (q *Queue) Number() uint64 { return q.number }
