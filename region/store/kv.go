package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

const (
	crcBytes = 4
	// maxKeyBytes is bbolt's bound.
	maxKeyBytes = bbolt.MaxKeySize
	// maxValueBytes bounds what the check before open has to believe of a page's length.
	maxValueBytes = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value)
}

// view is one transaction; it satisfies replica.KV.
type view struct {
	path   string
	tx     *bbolt.Tx
	bucket *bbolt.Bucket
	// fault is the first damage met. It stays, so that a caller that swallows the error still cannot
	// commit what it computed from a partial answer.
	fault error
}

// begin starts a transaction.
func (s *Store) begin(h *handle, writable bool) (*view, error) {
	tx, err := beginTx(s.path, h.db, writable)
	if err != nil {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			return nil, s.fail(h, true, err)
		}
		return nil, fmt.Errorf("begin: %w", err)
	}
	kv := &view{path: s.path, tx: tx}
	if err := kv.openBucket(); err != nil {
		return nil, errors.Join(err, kv.rollback())
	}
	return kv, nil
}

func beginTx(path string, db *bbolt.DB, writable bool) (tx *bbolt.Tx, err error) {
	defer recovered(path, &err)
	return db.Begin(writable)
}

func (v *view) openBucket() (err error) {
	defer recovered(v.path, &err)
	if v.bucket = v.tx.Bucket([]byte(bucketName)); v.bucket == nil {
		return &CorruptError{Path: v.path, Detail: "no bucket " + bucketName}
	}
	return nil
}

// Get returns key's value after testing its checksum.
func (v *view) Get(key []byte) (value []byte, ok bool, err error) {
	defer v.guard(&err)
	record := v.bucket.Get(key)
	if record == nil {
		return nil, false, nil
	}
	if value, err = v.open(key, record); err != nil {
		return nil, false, err
	}
	return value, true, nil
}

// Put stores value under key.
func (v *view) Put(key, value []byte) (err error) {
	defer v.guard(&err)
	if len(key) == 0 || len(key) > maxKeyBytes || len(value) > maxValueBytes {
		return fmt.Errorf("%w: key of %d, value of %d bytes", ErrTooLarge, len(key), len(value))
	}
	record := make([]byte, crcBytes, crcBytes+len(value))
	binary.BigEndian.PutUint32(record, checksum(key, value))
	return v.bucket.Put(key, append(record, value...))
}

// Delete removes key.
func (v *view) Delete(key []byte) (err error) {
	defer v.guard(&err)
	return v.bucket.Delete(key)
}

// Scan visits the keys in [start, end) in order.
func (v *view) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	cursor := v.bucket.Cursor()
	key, value, ok, err := v.step(cursor, start, true)
	for ; ok && err == nil; key, value, ok, err = v.step(cursor, nil, false) {
		if end != nil && bytes.Compare(key, end) >= 0 {
			return nil
		}
		// Outside the guard: a panic in visit is the caller's, not damage.
		more, err := visit(key, value)
		if err != nil || !more {
			return err
		}
	}
	return err
}

// step moves the cursor: to the first key at or after start if first, else to the next one.
func (v *view) step(c *bbolt.Cursor, start []byte, first bool) (key, value []byte, ok bool, err error) {
	defer v.guard(&err)
	var record []byte
	switch {
	case !first:
		key, record = c.Next()
	case len(start) == 0:
		key, record = c.First()
	default:
		key, record = c.Seek(start)
	}
	if key == nil {
		return nil, nil, false, nil
	}
	value, err = v.open(key, record)
	return key, value, err == nil, err
}

// open tests a record's checksum and returns the value in it.
func (v *view) open(key, record []byte) ([]byte, error) {
	if len(record) < crcBytes {
		return nil, &CorruptError{Path: v.path, Detail: "record without checksum"}
	}
	value := record[crcBytes:]
	if binary.BigEndian.Uint32(record) != checksum(key, value) {
		return nil, &CorruptError{Path: v.path, Detail: "checksum mismatch"}
	}
	return value, nil
}

// guard turns bbolt's panics and memory faults into *CorruptError and remembers the first damage.
func (v *view) guard(err *error) {
	if r := recover(); r != nil {
		*err = damage(v.path, r)
	}
	if v.fault == nil && *err != nil {
		v.fault = *err
	}
}

func (v *view) commit() (err error) {
	defer recovered(v.path, &err)
	return v.tx.Commit()
}

// rollback ends the transaction; after a commit it does nothing.
func (v *view) rollback() (err error) {
	defer recovered(v.path, &err)
	if err := v.tx.Rollback(); err != nil && !errors.Is(err, bbolterrors.ErrTxClosed) {
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
