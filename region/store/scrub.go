package store

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"
)

// scrubBytes is about how much Scrub reads at once: little enough that its transactions are short.
const scrubBytes = 256 << 10

// Scrub reads everything that is on disk once, at about bytesPerSecond but in a second at least, and
// tests every checksum and that every key is found where a read looks for it. Damage stops the store
// as a failed commit does: a restart finds it and the file must be replaced. What the kernel has in
// its cache is read from there.
// Errors: *CorruptError, ErrClosed, ErrFailed, ctx's.
func (s *Store) Scrub(ctx context.Context, bytesPerSecond int64) error {
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for from, more := []byte(nil), true; more; {
		next, read, err := s.scrubSome(from)
		if err != nil {
			return err
		}
		from, more = next, next != nil
		wait := time.Duration(float64(read) / float64(max(bytesPerSecond, 1)) * float64(time.Second))
		if !more {
			wait = max(wait, time.Second)
		}
		pause.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
	return nil
}

// scrubSome tests pairs from a key on, and returns where to go on, nil at the end.
func (s *Store) scrubSome(from []byte) (next []byte, read int, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	h, err := s.acquire()
	if err != nil {
		return nil, 0, err
	}
	tx, err := s.begin(h, false)
	if err == nil {
		next, read, err = tx.scrub(from)
		err = errors.Join(err, tx.rollback())
	}
	var corrupt *CorruptError
	if errors.As(err, &corrupt) && !errors.Is(err, ErrFailed) {
		err = s.fail(h, false, err)
	}
	return next, read, errors.Join(err, s.release(h))
}

// scrub tests scrubBytes of pairs.
func (b *base) scrub(from []byte) (next []byte, read int, err error) {
	c := b.takeCursor()
	defer b.putCursor(c)
	var last []byte
	key, value, err := b.seek(c, from, nil)
	for ; err == nil && key != nil; key, value, err = b.step(c, nil) {
		if bytes.Compare(key, from) < 0 || (last != nil && bytes.Compare(key, last) <= 0) {
			return nil, read, &CorruptError{Path: b.path, Detail: "keys out of order"}
		}
		if _, ok, err := b.get(key); !ok && err == nil {
			return nil, read, &CorruptError{Path: b.path, Detail: "a key is not where a read looks for it"}
		}
		if last = key; read >= scrubBytes {
			return append(slices.Clone(key), 0), read, nil
		}
		read += len(key) + len(value)
	}
	return nil, read, err
}
