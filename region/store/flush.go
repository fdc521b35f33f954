package store

import (
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// Flush makes everything updated before the call durable and drops it from memory. Updates and
// views go on meanwhile. A nil error promises that it is on disk; any other stops the store.
// Errors: ErrClosed, ErrFailed.
func (s *Store) Flush() error {
	s.flush.Lock()
	defer s.flush.Unlock()
	s.write.Lock()
	h, frozen, err := s.freeze()
	s.write.Unlock()
	if err != nil || frozen == nil {
		return err
	}
	return s.flushFrozen(h, frozen)
}

// Buffered returns how much memory holds what is not on disk yet, in bytes.
func (s *Store) Buffered() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bufferedLocked()
}

func (s *Store) bufferedLocked() int64 {
	var sum int64
	for _, m := range s.mu.layers {
		if m != nil {
			sum += m.bytes.Load()
		}
	}
	return sum
}

// Full is signalled when Options.FlushBytes are buffered and somebody should call Flush.
func (s *Store) Full() <-chan struct{} { return s.full }

// freeze puts the table that takes writes aside to be flushed, nil if there is nothing in it. The
// caller holds flush and write, and hands the handle to flushFrozen.
func (s *Store) freeze() (*handle, *memtable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.unusableLocked(); err != nil {
		return nil, nil, err
	}
	active := s.mu.layers[0]
	if active.empty() {
		return nil, nil, nil
	}
	s.mu.layers = layers{newMemtable(), active}
	s.mu.current.users++
	return s.mu.current, active, nil
}

// flushFrozen commits the table that freeze put aside. The caller holds flush.
func (s *Store) flushFrozen(h *handle, frozen *memtable) error {
	err := s.commitTable(h, frozen)
	if err == nil {
		// A view that begins from here on finds all of it in the file.
		s.mu.Lock()
		s.mu.layers[1] = nil
		s.room.Broadcast()
		s.mu.Unlock()
	}
	return errors.Join(err, s.release(h))
}

// commitTable writes the newest version of every key in one synced transaction. If that fails, the
// store is done: what views were shown may be lost, and nobody knows what the disk holds.
func (s *Store) commitTable(h *handle, m *memtable) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx, err := s.begin(h, true)
	if err != nil {
		return s.fail(h, false, fmt.Errorf("flush: %w", err))
	}
	if err := tx.write(m); err != nil {
		return s.fail(h, false, fmt.Errorf("flush: %w", errors.Join(err, tx.rollback())))
	}
	s.opts.committing()
	if err := tx.commit(); err != nil {
		var corrupt *CorruptError
		return s.fail(h, errors.As(err, &corrupt), fmt.Errorf("flush: %w", err))
	}
	return nil
}

// write puts a table's newest versions into the file.
func (b *base) write(m *memtable) (err error) {
	defer b.guard(&err)
	w := tableWriter{bucket: b.bucket}
	if w.large, err = b.openBucket(largeName); err != nil {
		return err
	}
	first, _ := w.large.Cursor().First()
	w.anyLarge = first != nil
	for n := m.head.next[0].Load(); n != nil && err == nil; n = n.next[0].Load() {
		v := n.newest.Load()
		switch {
		case v == nil: // rolled back
		case v.deleted:
			err = w.remove(n.key)
		default:
			err = w.put(n.key, v.record)
		}
	}
	return err
}

// tableWriter writes pairs into the file. Records must stay as they are until the transaction ends.
type tableWriter struct {
	bucket, large *bbolt.Bucket
	anyLarge      bool // large was not empty before
	references    []byte
}

func (w *tableWriter) put(key, record []byte) error {
	if len(record) < largeBytes {
		if err := w.dropLarge(key); err != nil {
			return err
		}
		return w.bucket.Put(key, record)
	}
	if err := w.large.Put(key, record); err != nil {
		return err
	}
	if cap(w.references)-len(w.references) < referenceBytes {
		w.references = make([]byte, 0, 64*referenceBytes)
	}
	at := len(w.references)
	w.references = w.references[:at+referenceBytes]
	return w.bucket.Put(key, appendReference(w.references[at:at:at+referenceBytes], key, record))
}

// remove removes a pair; where there is none it only reads.
func (w *tableWriter) remove(key []byte) error {
	if err := w.dropLarge(key); err != nil {
		return err
	}
	return w.bucket.Delete(key)
}

// dropLarge removes what was kept apart for a key.
func (w *tableWriter) dropLarge(key []byte) error {
	if !w.anyLarge || !isReference(w.bucket.Get(key)) {
		return nil
	}
	return w.large.Delete(key)
}
