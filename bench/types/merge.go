package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
)

// The kinds of remote work that is merged.
const (
	mergeAdds     = "merge set adds"
	mergeBulkAdds = "merge set adds, many in a delta"
	mergePuts     = "merge puts"
	mergeCounts   = "merge counter adds"
)

// naiveMemory is the naive form without a store. automergeOpen needs none to merge.
const naiveMemory = "one value, memory"

// counters is how many counters the counter adds are on.
const counters = 1000

// merger merges chunks of what another replica did.
type merger interface {
	merge(chunk int) error
	settle() error
	// close ends the round, and checks that so many items were merged.
	close(merged int) error
}

// mergeCase merges settings.merged items, settings.mergeBatch at once. Decoding is part of it.
type mergeCase struct {
	work, contender string
	size            int
	// all means that the budget does not end it.
	all  bool
	open func(e *env) (merger, error)
}

func (c *mergeCase) name() string { return fmt.Sprintf("merge/%s/%s", c.work, c.contender) }

func (c *mergeCase) measure(e *env) (err error) {
	m, err := c.open(e)
	if err != nil {
		return err
	}
	items := 0
	defer func() {
		if closed := m.close(items); err == nil {
			err = closed
		}
		runtime.KeepAlive(m)
	}()
	e.begin()
	t := e.meter()
	for chunk := 0; items < e.settings.merged && (c.all || t.wall < e.settings.budget); chunk++ {
		if err := errors.Join(e.ended(), t.measure(func() error { return m.merge(chunk) })); err != nil {
			return err
		}
		items += e.settings.mergeBatch
	}
	if err := t.measure(m.settle); err != nil {
		return err
	}
	e.add(t.sample(row{c.work, c.size, e.settings.mergeBatch}, c.contender, items))
	return nil
}

func mergeCases(s *settings) []benchCase {
	var all []benchCase
	for _, work := range []string{mergeAdds, mergeBulkAdds, mergePuts, mergeCounts} {
		all = append(all,
			&mergeCase{work, atollGrouped, s.large, true, func(e *env) (merger, error) { return mergeOnDisk(e, work) }},
			&mergeCase{work, atollMemory, s.mergeInto, true, func(e *env) (merger, error) { return mergeInMemory(e, work) }})
		perCommit := 1
		switch work {
		case mergeBulkAdds:
			perCommit = s.mergeBatch
			all = append(all, &mergeCase{work, naiveMemory, s.mergeInto, false, mergeValues})
		case mergeAdds:
		default:
			continue
		}
		if automergeOpen != "" {
			all = append(all, &mergeCase{work, automergeOpen, s.mergeInto, false,
				func(e *env) (merger, error) { return newAutomergeMerger(e.settings, perCommit) }})
		}
	}
	return all
}

// remoteRuns are encoded runs of the remote actor's deltas, as regions send each other.
func remoteRuns(s *settings, work, set string) ([][]byte, error) {
	kv := replica.NewMemory()
	r, err := replica.Open(kv, remote)
	if err != nil {
		return nil, err
	}
	var chunks [][]byte
	for at := 0; at < s.merged; at += s.mergeBatch {
		ops := make([]replica.Op, s.mergeBatch)
		for i := range ops {
			ops[i] = remoteOp(work, set, at+i)
		}
		if work == mergeBulkAdds {
			ops = ops[:1]
			ops[0].Elements = elements(3*fresh+uint64(at), s.mergeBatch)
		}
		_, deltas, err := r.Execute(noon, ops)
		if err != nil {
			return nil, err
		}
		run, err := replica.Fold(deltas)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, replica.EncodeRun(run))
	}
	return chunks, nil
}

func remoteOp(work, set string, n int) replica.Op {
	switch work {
	case mergePuts:
		return replica.Op{Kind: replica.OpPut, Namespace: namespace, Key: key(n), Value: make([]byte, valueBytes)}
	case mergeCounts:
		return replica.Op{Kind: replica.OpCounterAdd, Namespace: namespace, Key: key(n % counters), Delta: 1}
	default:
		return replica.Op{
			Kind: replica.OpSetAdd, Namespace: namespace, Key: set, Elements: [][]byte{element(3*fresh + uint64(n))},
		}
	}
}

// diskMerger merges into a copy of the disk.
type diskMerger struct {
	*disk
	chunks [][]byte
	set    string
	want   uint64 // the set's size before, unless nothing is added to it
}

func mergeOnDisk(e *env, work string) (merger, error) {
	s := e.settings
	m := &diskMerger{set: setKey(s.large), want: uint64(s.held(s.large))}
	var err error
	if m.chunks, err = remoteRuns(s, work, m.set); err != nil {
		return nil, err
	}
	if m.disk, err = e.disk.copy(); err != nil {
		return nil, err
	}
	if work == mergePuts || work == mergeCounts {
		m.want = 0
	}
	return m, nil
}

func (m *diskMerger) merge(chunk int) error {
	return errors.Join(m.disk.merge(m.chunks[chunk]), m.flushIfFull())
}

func (m *diskMerger) settle() error { return m.Flush() }

func (m *diskMerger) close(merged int) error {
	size, err := m.sizeOf(m.set)
	if err == nil && m.want > 0 && size != m.want+uint64(merged) {
		err = fmt.Errorf("%d elements after merging %d", size, merged)
	}
	return errors.Join(err, m.remove())
}

// memoryMerger merges into a replica in memory, which stays open: what remains is the merging itself.
type memoryMerger struct {
	r      *replica.Replica
	chunks [][]byte
}

func mergeInMemory(e *env, work string) (merger, error) {
	s := e.settings
	set := setKey(s.mergeInto)
	chunks, err := remoteRuns(s, work, set)
	if err != nil {
		return nil, err
	}
	r, err := replica.Open(replica.NewMemory(), local)
	if err != nil {
		return nil, err
	}
	const most = replica.MaxOperationElements
	for at := 0; at < s.mergeInto && err == nil; at += most {
		_, _, err = r.Execute(noon, []replica.Op{{
			Kind: replica.OpSetAdd, Namespace: namespace, Key: set, Elements: elements(uint64(at), min(most, s.mergeInto-at)),
		}})
	}
	return &memoryMerger{r, chunks}, err
}

func (m *memoryMerger) merge(chunk int) error {
	if err := mergeRun(m.r, m.chunks[chunk]); err != nil {
		return err
	}
	return m.r.Flush()
}

func (m *memoryMerger) settle() error   { return nil }
func (m *memoryMerger) close(int) error { return nil }

// valueMerger joins whole states: the set as one value, with a small one that has what is new. It stays
// in memory, decoded before and encoded after.
type valueMerger struct {
	data   []byte
	chunks [][]byte
	size   int
}

func mergeValues(e *env) (merger, error) {
	s := e.settings
	v := &valueMerger{data: wholeSet(s.mergeInto).Append(nil), size: s.mergeInto}
	for at := 0; at < s.merged; at += s.mergeBatch {
		var delta crdt.AWSet
		// Each chunk is of an actor of its own: the context of a later one would cover, and so remove, what
		// is in an earlier one.
		actor := remote + crdt.Actor(len(v.chunks))
		for i, element := range elements(3*fresh+uint64(at), s.mergeBatch) {
			delta.Add(crdt.Dot{Actor: actor, Seq: uint64(i) + 1}, string(element))
		}
		v.chunks = append(v.chunks, delta.Append(nil))
	}
	return v, nil
}

func (v *valueMerger) merge(chunk int) error {
	whole, err := crdt.DecodeAWSet(v.data)
	if err != nil {
		return err
	}
	delta, err := crdt.DecodeAWSet(v.chunks[chunk])
	if err != nil {
		return err
	}
	whole.Join(delta)
	v.data = whole.Append(v.data[:0:0])
	return nil
}

func (v *valueMerger) settle() error { return nil }

func (v *valueMerger) close(merged int) error {
	whole, err := crdt.DecodeAWSet(v.data)
	if err == nil && whole.Len() != v.size+merged {
		err = fmt.Errorf("%d elements after merging %d", whole.Len(), merged)
	}
	return err
}
