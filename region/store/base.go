package store

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// base is one transaction on the file.
type base struct {
	path   string
	tx     *bbolt.Tx
	bucket *bbolt.Bucket // every key's record
	// large is in the bucket of large values, once one was read.
	large *bbolt.Cursor
	// idle are cursors to use again; each Get and each Scan under way has its own.
	idle []*bbolt.Cursor
	// fault is the first damage met. It stays, so that a caller that swallows the error still cannot
	// keep what it computed from a partial answer.
	fault error
}

// begin starts a transaction on h.
func (s *Store) begin(h *handle, writable bool) (base, error) {
	tx, err := beginTx(s.path, h.db, writable)
	if err != nil {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			return base{}, s.fail(h, true, err)
		}
		return base{}, fmt.Errorf("begin: %w", err)
	}
	b := base{path: s.path, tx: tx}
	if b.bucket, err = b.openBucket(bucketName); err != nil {
		return base{}, errors.Join(err, b.rollback())
	}
	return b, nil
}

func beginTx(path string, db *bbolt.DB, writable bool) (tx *bbolt.Tx, err error) {
	defer recovered(path, &err)
	return db.Begin(writable)
}

func (b *base) openBucket(name string) (bucket *bbolt.Bucket, err error) {
	defer recovered(b.path, &err)
	if bucket = b.tx.Bucket([]byte(name)); bucket == nil {
		return nil, &CorruptError{Path: b.path, Detail: "no bucket " + name}
	}
	return bucket, nil
}

// get returns key's value after testing its checksum.
func (b *base) get(key []byte) (value []byte, ok bool, err error) {
	if len(key) == 0 {
		return nil, false, nil
	}
	defer b.guard(&err)
	c := b.takeCursor()
	defer b.putCursor(c)
	found, record := c.Seek(key)
	if found == nil || !bytes.Equal(found, key) {
		return nil, false, nil
	}
	if value, err = b.open(key, record); err != nil {
		return nil, false, err
	}
	return value, true, nil
}

// seek moves the cursor to the first key in [start, end) and returns it, nil if there is none.
func (b *base) seek(c *bbolt.Cursor, start, end []byte) (key, value []byte, err error) {
	defer b.guard(&err)
	var record []byte
	if len(start) == 0 {
		key, record = c.First()
	} else {
		key, record = c.Seek(start)
	}
	return b.pair(key, record, end)
}

// step moves the cursor to the next key and returns it, nil if there is none before end.
func (b *base) step(c *bbolt.Cursor, end []byte) (key, value []byte, err error) {
	defer b.guard(&err)
	key, record := c.Next()
	return b.pair(key, record, end)
}

func (b *base) pair(key, record, end []byte) ([]byte, []byte, error) {
	if key == nil || (end != nil && bytes.Compare(key, end) >= 0) {
		return nil, nil, nil
	}
	value, err := b.open(key, record)
	if err != nil {
		return nil, nil, err
	}
	return key, value, nil
}

// open tests a record and returns its value.
func (b *base) open(key, record []byte) ([]byte, error) {
	if !intact(key, record) {
		return nil, &CorruptError{Path: b.path, Detail: "checksum mismatch"}
	}
	if record[crcBytes] == kindValue {
		return record[recordHeaderBytes:], nil
	}
	large, err := b.findLarge(key)
	if err != nil {
		return nil, err
	}
	if !refersTo(record, large) || !intact(key, large) {
		return nil, &CorruptError{Path: b.path, Detail: "a large value is missing or damaged"}
	}
	return large[recordHeaderBytes:], nil
}

// findLarge returns the record of a large value, nil if there is none.
func (b *base) findLarge(key []byte) ([]byte, error) {
	if b.large == nil {
		bucket, err := b.openBucket(largeName)
		if err != nil {
			return nil, err
		}
		b.large = bucket.Cursor()
	}
	if found, record := b.large.Seek(key); bytes.Equal(found, key) {
		return record, nil
	}
	return nil, nil
}

func (b *base) takeCursor() *bbolt.Cursor {
	if last := len(b.idle) - 1; last >= 0 {
		c := b.idle[last]
		b.idle = b.idle[:last]
		return c
	}
	return b.bucket.Cursor()
}

func (b *base) putCursor(c *bbolt.Cursor) { b.idle = append(b.idle, c) }

// guard turns bbolt's panics and memory faults into *CorruptError and remembers the first damage.
func (b *base) guard(err *error) {
	if r := recover(); r != nil {
		*err = damage(b.path, r)
	}
	if b.fault == nil && *err != nil {
		b.fault = *err
	}
}

func (b *base) commit() (err error) {
	defer recovered(b.path, &err)
	return b.tx.Commit()
}

// rollback ends the transaction; after a commit it does nothing.
func (b *base) rollback() (err error) {
	defer recovered(b.path, &err)
	if err := b.tx.Rollback(); err != nil && !errors.Is(err, bbolterrors.ErrTxClosed) {
		return err
	}
	return nil
}

// recovered is deferred around calls into bbolt.
func recovered(path string, err *error) {
	if r := recover(); r != nil {
		*err = damage(path, r)
	}
}

// damage names what a panic in bbolt means: an assertion or a fault on a page of the file. The
// file was checked at open, so that it changed under the map, or memory or the kernel did.
func damage(path string, r any) error {
	if fault, ok := r.(runtime.Error); ok {
		if _, addressed := fault.(interface{ Addr() uintptr }); addressed {
			return &CorruptError{Path: path, Detail: "unreadable page"}
		}
	}
	return &CorruptError{Path: path, Detail: fmt.Sprintf("impossible page: %v", r)}
}
