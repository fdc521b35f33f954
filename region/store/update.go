package store

import (
	"runtime/debug"

	"github.com/atolldb/atoll/crdt/replica"
)

// View calls fn with the state as of one instant: all updates that returned before, and perhaps
// later ones, whole. fn must not write, and must not keep kv.
// Errors: fn's own, *CorruptError, ErrClosed, ErrFailed.
func (s *Store) View(fn func(kv replica.KV) error) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	v, h, err := s.beginView()
	if err != nil {
		return err
	}
	defer s.endView(v, h)
	if err := fn(v); err != nil {
		return err
	}
	return v.fault
}

// beginView opens a view of what is there now.
func (s *Store) beginView() (*view, *handle, error) {
	for {
		s.mu.Lock()
		if err := s.unusableLocked(); err != nil {
			s.mu.Unlock()
			return nil, nil, err
		}
		h := s.mu.current
		v := &view{layers: s.mu.layers, seq: s.mu.seq}
		h.users++
		v.layers[0].readers++
		s.mu.Unlock()

		s.opts.viewing()
		tx, err := s.begin(h, false)
		if err != nil {
			s.mu.Lock()
			v.layers[0].readers--
			s.mu.Unlock()
			_ = s.release(h) // the first error tells more
			return nil, nil, err
		}
		v.base = tx
		s.mu.Lock()
		same := s.mu.layers[0] == v.layers[0]
		s.mu.Unlock()
		if same {
			return v, h, nil
		}
		// The table was frozen in between, and perhaps flushed before the transaction began: the file
		// would show updates that are newer than the view.
		s.endView(v, h)
	}
}

func (s *Store) endView(v *view, h *handle) {
	_ = v.rollback() // only reads: nothing is lost
	s.mu.Lock()
	v.layers[0].readers--
	s.mu.Unlock()
	_ = s.release(h) // fails only where a closed file's close does, which nobody waits for
}

// Update calls fn, whose writes take effect together when it returns nil: views that begin after
// Update returned see them. They are on disk only after a Flush that began later, unless
// Options.Buffer is false. After any error, or a panic of fn, none of them took effect. fn must not
// call the store. Update waits while Options.MaxBuffered is exceeded.
// Errors: fn's own, *CorruptError, ErrClosed, ErrFailed. Concurrency: one Update runs at a time.
func (s *Store) Update(fn func(kv replica.KV) error) error {
	if err := s.lockWithRoom(); err != nil {
		return err
	}
	if err := s.updateLocked(fn); err != nil || s.opts.Buffer {
		return err
	}
	return s.Flush()
}

// lockWithRoom takes the write lock once there is room in memory.
func (s *Store) lockWithRoom() error {
	for {
		s.write.Lock()
		s.mu.Lock()
		err := s.unusableLocked()
		if err == nil && s.bufferedLocked() <= s.opts.MaxBuffered {
			s.mu.Unlock()
			return nil
		}
		s.write.Unlock()
		for err == nil && s.bufferedLocked() > s.opts.MaxBuffered {
			s.room.Wait()
			err = s.unusableLocked()
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// updateLocked runs fn and releases the write lock.
func (s *Store) updateLocked(fn func(kv replica.KV) error) error {
	defer s.write.Unlock()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	v, h, err := s.beginView()
	if err != nil {
		return err
	}
	defer s.endView(v, h)
	v.writes = v.layers[0]
	v.seq++
	defer v.writes.undo() // does nothing after publish; fn may panic
	if err := fn(v); err != nil {
		return err
	}
	if v.fault != nil {
		return v.fault
	}
	s.publish(v)
	return nil
}

// publish shows an update to the views that begin from now on.
func (s *Store) publish(v *view) {
	s.mu.Lock()
	s.mu.seq = v.seq
	// Whoever begins later sees this update and needs nothing older. The one reader is v itself.
	alone := v.writes.readers == 1
	s.mu.Unlock()
	v.writes.settle(alone)
	if v.writes.bytes.Load() >= s.opts.FlushBytes {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
}
