package replica

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Replica is one region's replica of one partition, over one transaction's view of its storage. It
// is used by one goroutine at a time. After an error that is not a refusal it must not be used any
// more, and the transaction must not be committed.
type Replica struct {
	kv      KV
	meta    *meta
	dirty   bool
	headers *Headers
	inside  insideLimits
	// joinLimit bounds what one JoinChunk looks at; 0 means joinBudget.
	joinLimit int
	// only is the one type that Lookup and Walk look at, 0 for all.
	only crdt.Type
	// path is where in observed-remove maps readers read; the root unless this is a view by Below.
	path crdt.Path
	// released are the cuts of actors of which nothing will come.
	released map[crdt.Actor]uint64
	// homes are of the namespaces whose home this region is, and insists what late writes of them were about.
	homes   []Home
	insists []Name
}

// Only returns a view of r in which Lookup and Walk see values of one type only; 0 means all types. It is for
// reading.
func (r *Replica) Only(t crdt.Type) *Replica {
	view := *r
	view.only = t
	return &view
}

// Nothing returns a replica that holds nothing, for reading.
func Nothing() *Replica {
	return &Replica{kv: NewMemory(), meta: newMeta(0), inside: defaultInside}
}

// Open reads the replica that kv holds; an empty kv becomes a new replica of self. If kv holds a
// replica already, Self is the actor it was made with, whatever self is. It writes nothing.
func Open(kv KV, self crdt.Actor) (*Replica, error) {
	data, ok, err := kv.Get(metaKey())
	if err != nil {
		return nil, fmt.Errorf("read replica meta: %w", err)
	}
	if ok {
		m, err := decodeMeta(data)
		if err != nil {
			return nil, err
		}
		return &Replica{kv: kv, meta: m, inside: defaultInside}, nil
	}
	// Objects without meta would be merged anew and get dots that are taken.
	err = kv.Scan([]byte{tableObject}, []byte{tableObject + 1}, func(_, _ []byte) (bool, error) {
		return false, fmt.Errorf("objects without replica meta: %w", crdt.ErrCorrupt)
	})
	if err != nil {
		return nil, err
	}
	return &Replica{kv: kv, meta: newMeta(self), dirty: true, inside: defaultInside}, nil
}

// Flush writes what Execute and Merge keep in memory: call it once before the transaction commits.
func (r *Replica) Flush() error {
	if !r.dirty {
		return nil
	}
	if err := r.kv.Put(metaKey(), r.meta.append(nil)); err != nil {
		return fmt.Errorf("write replica meta: %w", err)
	}
	r.dirty = false
	return nil
}

// Self returns the actor whose events this replica issues.
func (r *Replica) Self() crdt.Actor { return r.meta.self }

// Seq returns the sequence number of the last own event, 0 if there is none.
func (r *Replica) Seq() uint64 { return r.meta.vector.Get(r.meta.self) }

// LastHLC returns the latest instant issued or merged. Instants that come from a clock must be
// judged against it: nothing here happened after it.
func (r *Replica) LastHLC() hlc.Time { return r.meta.latest() }

// Vector returns what this replica has applied, its own events included. It is the caller's.
func (r *Replica) Vector() crdt.VersionVector { return r.meta.vector.Clone() }

// HLCOf returns the instant of the last event applied from an actor, 0 if there is none.
func (r *Replica) HLCOf(a crdt.Actor) hlc.Time { return r.meta.times[a] }

// UseReleased tells the replica which actors are gone for good, and how far each one's events count: no
// region has any others, nor will. Traces that only they could have settled go. It is part of the state that
// the replica's results are a function of, so every replica must be told the same at the same place.
func (r *Replica) UseReleased(cuts map[crdt.Actor]uint64) { r.released = cuts }

// work is one Execute or Merge under way: where it writes, and the meta as it will be.
type work struct {
	kv   KV
	meta *meta
	over *overlay // nil if kv is the replica's own
	// headers is the replica's; touched names what a staged work wrote.
	headers *Headers
	touched [][]byte
	inside  insideLimits
	// released, homes and insists are the replica's.
	released map[crdt.Actor]uint64
	homes    []Home
	insists  *[]Name
	// conflicts are what was decided so far.
	conflicts decisions
	// set is the set that effects were merged into last, if its header is not written yet.
	set *setMerge
	// name and data are where keys and values are made that are needed until the next one is.
	name, data []byte
}

// begin starts a work. A staged one changes nothing until commit. One that is not staged writes at
// once, and so must find all reasons to refuse before its first write.
func (r *Replica) begin(staged bool) *work {
	if !staged {
		return &work{kv: r.kv, meta: r.meta, headers: r.headers, inside: r.inside, released: r.released, homes: r.homes, insists: &r.insists}
	}
	over := &overlay{base: r.kv}
	return &work{kv: over, meta: r.meta.clone(), over: over, headers: r.headers, inside: r.inside, released: r.released, homes: r.homes, insists: &r.insists}
}

// commit makes a work's changes the replica's.
func (r *Replica) commit(w *work) error {
	if err := w.sweep(sweepBudget); err != nil {
		return fmt.Errorf("sweep cleared sets: %w", err)
	}
	if err := w.keepConflicts(); err != nil {
		return fmt.Errorf("keep conflicts: %w", err)
	}
	if w.over != nil {
		if err := w.over.apply(); err != nil {
			return err
		}
		for _, prefix := range w.touched {
			if r.headers != nil {
				r.headers.forget(prefix)
			}
		}
	}
	r.meta, r.dirty = w.meta, true
	return nil
}

// sweepBudget is how many pairs of cleared collections one Execute or Merge deletes, so that clearing a
// set of any size costs no single call much.
const sweepBudget = 256

// sweep deletes up to a budget of what is under the ids of cleared collections: elements, and the index of scores.
func (w *work) sweep(budget int) error {
	for w.meta.garbage > 0 && budget > 0 {
		garbage, swept, err := w.firstGarbage()
		if err != nil {
			return err
		}
		keys, err := w.leftUnder(garbage[1:], swept, budget)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := w.kv.Delete(k); err != nil {
				return err
			}
		}
		if len(keys) == budget {
			return w.kv.Put(garbage, append(marker[:len(marker):len(marker)], keys[budget-1]...))
		}
		if err := w.kv.Delete(garbage); err != nil {
			return err
		}
		w.meta.garbage--
		budget -= len(keys)
	}
	return nil
}

// firstGarbage returns the first pair of table G: its key, and the last key that was deleted under its
// id, empty if none was. Where the storage keeps what was deleted for a while, starting anew would mean
// passing all of that by, at every call.
func (w *work) firstGarbage() (garbage, swept []byte, err error) {
	err = w.kv.Scan([]byte{tableGarbage}, []byte{tableGarbage + 1}, func(k, v []byte) (bool, error) {
		if len(k) != 1+kidBytes || len(v) < len(marker) {
			return false, fmt.Errorf("garbage queue: %w", crdt.ErrCorrupt)
		}
		garbage, swept = append(garbage, k...), append(swept, v[len(marker):]...)
		return false, nil
	})
	if err == nil && garbage == nil {
		err = fmt.Errorf("garbage queue: %w", crdt.ErrCorrupt)
	}
	return garbage, swept, err
}

// leftUnder returns up to limit keys under an id that come after swept.
func (w *work) leftUnder(kid, swept []byte, limit int) (keys [][]byte, err error) {
	for _, table := range [...]byte{tableElement, tableScore} { // which ascend
		start := append([]byte{table}, kid...)
		end := prefixEnd(start)
		if len(swept) > 0 {
			switch {
			case swept[0] > table:
				continue
			case swept[0] == table:
				start = append(swept, 0)
			}
		}
		some, err := collectRange(w.kv, start, end, limit-len(keys))
		if err != nil {
			return nil, err
		}
		if keys = append(keys, some...); len(keys) == limit {
			break
		}
	}
	return keys, nil
}

// collectKeys returns up to limit keys that begin with prefix.
func collectKeys(kv reader, prefix []byte, limit int) ([][]byte, error) {
	return collectRange(kv, prefix, prefixEnd(prefix), limit)
}

// collectRange returns up to limit keys in [start, end).
func collectRange(kv reader, start, end []byte, limit int) ([][]byte, error) {
	var keys [][]byte
	err := kv.Scan(start, end, func(k, _ []byte) (bool, error) {
		keys = append(keys, append([]byte(nil), k...))
		return len(keys) < limit, nil
	})
	return keys, err
}

// discard queues a set's elements for sweeping.
func (w *work) discard(kid uint64) error {
	w.meta.garbage++
	return w.kv.Put(garbageKey(kid), marker[:])
}

// dots reads the surviving adds of an element of a set.
func (w *work) dots(set *setHeader, element []byte) (crdt.DotSet, error) {
	data, ok, err := set.load(w, element)
	if err != nil || !ok {
		return nil, err
	}
	return crdt.DecodeDotSet(data)
}

// putSet writes a set's header, or deletes it if the set has no elements left.
func (w *work) putSet(objectKey []byte, h *setHeader) error {
	w.wrote(objectKey, nil)
	if h.count == 0 {
		return w.kv.Delete(objectKey)
	}
	w.data = h.append(w.data[:0])
	return w.kv.Put(objectKey, w.data)
}
