package main

import (
	"errors"
	"fmt"
	"time"
)

// The works on sets.
const (
	workAdd      = "add"
	workContains = "contains"
	workRemove   = "remove"
)

// set is a contender's set of elements [0, size) and what was added since.
type set interface {
	// add and remove change elements, and store that durably unless the contender's name says otherwise.
	add(elements [][]byte) error
	remove(elements [][]byte) error
	// contains returns how many of the elements are in the set.
	contains(elements [][]byte) (int, error)
	// settle ends a phase: what is not durable yet becomes so. It is measured.
	settle() error
	// close ends the round. It is not measured.
	close() error
}

// setCase adds to, tests and removes from one contender's set. The set is as before afterwards.
type setCase struct {
	contender   string
	size, batch int
	// exactly is how many elements to add if the number matters; otherwise the budget decides, up to most.
	exactly, most int
	open          func(size int) (set, error)
}

func (c *setCase) name() string { return fmt.Sprintf("set/%s/%d/%d", c.contender, c.size, c.batch) }

func (c *setCase) measure(e *env) (err error) {
	s, err := c.open(c.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	e.begin()
	var added [][][]byte
	next := uint64(fresh + e.round*c.most)
	err = c.phase(e, workAdd, s, func() ([][]byte, bool) {
		if len(added)*c.batch >= max(c.exactly, c.most) {
			return nil, false
		}
		batch := elements(next, c.batch)
		next += uint64(c.batch)
		added = append(added, batch)
		return batch, true
	}, s.add)
	if err != nil {
		return err
	}
	// Every second element is in the set, and all are scattered over it.
	tested, held := uint64(e.round*7918), uint64(e.settings.held(c.size))
	err = c.phase(e, workContains, s, func() ([][]byte, bool) {
		batch := make([][]byte, c.batch)
		for i := range batch {
			if batch[i] = element(2*fresh + tested); tested%2 == 0 {
				batch[i] = element(mix(tested) % held)
			}
			tested++
		}
		return batch, true
	}, func(batch [][]byte) error {
		found, err := s.contains(batch)
		if err == nil && found != (len(batch)+1)/2 && found != len(batch)/2 {
			err = fmt.Errorf("%d of %d elements found", found, len(batch))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.removeAll(e, s, added)
}

// removeAll removes what was added, all of it: what the budget leaves is not measured.
func (c *setCase) removeAll(e *env, s set, added [][][]byte) error {
	left := added
	err := c.phase(e, workRemove, s, func() ([][]byte, bool) {
		if len(left) == 0 {
			return nil, false
		}
		batch := left[0]
		left = left[1:]
		return batch, true
	}, s.remove)
	for _, batch := range left {
		if err == nil {
			err = s.remove(batch)
		}
	}
	if err == nil && len(left) > 0 {
		err = s.settle()
	}
	if err != nil {
		return err
	}
	for _, batch := range added {
		if found, err := s.contains(batch); err != nil || found > 0 {
			return errors.Join(err, fmt.Errorf("%d of %d removed elements found", found, len(batch)))
		}
	}
	return nil
}

// phase does work on batches until there is none or the budget is used up.
func (c *setCase) phase(e *env, work string, s set, next func() ([][]byte, bool), do func([][]byte) error) error {
	m := e.meter()
	ops := 0
	began := time.Now()
	for time.Since(began) < e.settings.budget || c.exactly > 0 && ops < c.exactly {
		if err := e.ended(); err != nil {
			return err
		}
		batch, ok := next()
		if !ok {
			break
		}
		if err := m.measure(func() error { return do(batch) }); err != nil {
			return fmt.Errorf("%s: %w", work, err)
		}
		ops += len(batch)
	}
	if err := m.measure(s.settle); err != nil {
		return fmt.Errorf("%s: %w", work, err)
	}
	e.add(m.sample(row{work, c.size, c.batch}, c.contender, ops))
	return nil
}
