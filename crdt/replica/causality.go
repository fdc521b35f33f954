package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// maxAhead bounds table A. It is reached only where one region's events stay away for long while those of
// a region that has seen them arrive; what is not kept then is counted.
const maxAhead = 1 << 16

// riseOfOwn returns by how much the own vector has risen since the last own event, own entry apart, and
// counts it as told.
func (m *meta) riseOfOwn() []crdt.Dot {
	told := m.seen[m.self]
	var rise []crdt.Dot
	m.vector.Each(func(a crdt.Actor, seq uint64) {
		if a != m.self && seq > told.Get(a) {
			rise = append(rise, crdt.Dot{Actor: a, Seq: seq})
		}
	})
	m.raiseSeen(m.self, rise)
	return rise
}

// raiseSeen joins dots to what an actor had seen as of its last event here.
func (m *meta) raiseSeen(a crdt.Actor, rise []crdt.Dot) {
	if len(rise) == 0 {
		return
	}
	seen := m.seen[a].Clone() // a staged work shares it with the replica
	for _, d := range rise {
		if !seen.Covers(d) {
			seen.Set(d.Actor, d.Seq)
		}
	}
	m.seen[a] = seen
}

// observe takes in what the author of a delta had seen when it made it, before the delta's effects are
// merged. What of it has not arrived here yet goes into table A.
func (w *work) observe(d *Delta) error {
	for _, seen := range d.Seen {
		if w.meta.vector.Covers(seen) {
			continue
		}
		if w.meta.ahead >= maxAhead {
			w.meta.unsure++
			continue
		}
		key := aheadKey(seen.Actor, d.Dot.Actor, seen.Seq)
		// An author names what it sees once, but a program may have told less than it had seen.
		_, ok, err := w.kv.Get(key)
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		if err := w.kv.Put(key, binary.AppendUvarint([]byte{storeVersion}, d.Dot.Seq)); err != nil {
			return err
		}
		w.meta.ahead++
	}
	w.meta.raiseSeen(d.Dot.Actor, d.Seen)
	return nil
}

// concurrent reports whether neither of two events has seen the other: one that is being merged, and one
// that was applied here before.
func (w *work) concurrent(incoming, applied crdt.Dot) (bool, error) {
	if incoming.Actor == applied.Actor || w.meta.seen[incoming.Actor].Covers(applied) {
		return false, nil
	}
	if w.meta.ahead == 0 {
		return true, nil // what was applied before cannot have seen what was not there
	}
	saw, err := w.sawAhead(applied, incoming)
	return !saw, err
}

// sawAhead reports whether an event had seen one that arrives only now. Of what an author sees of another
// actor both numbers rise, so the first pair not before the one that is looked for decides.
func (w *work) sawAhead(applied, incoming crdt.Dot) (saw bool, err error) {
	end := prefixEnd(aheadPrefix(incoming.Actor, applied.Actor))
	err = w.kv.Scan(aheadKey(incoming.Actor, applied.Actor, incoming.Seq), end, func(_, v []byte) (bool, error) {
		r := codec.NewReader("event seen ahead", v, storeVersion)
		first := r.Uvarint(^uint64(0))
		saw = first <= applied.Seq
		return false, r.Done()
	})
	return saw, err
}

// forgetAhead deletes what table A says of an actor's events that have arrived by now.
func (w *work) forgetAhead(arrived crdt.Actor) error {
	if w.meta.ahead == 0 {
		return nil
	}
	upTo := w.meta.vector.Get(arrived)
	for _, by := range w.meta.vector.Entries() {
		keys, err := collectRange(w.kv, aheadPrefix(arrived, by.Actor), aheadKey(arrived, by.Actor, upTo+1), maxAhead)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := w.kv.Delete(k); err != nil {
				return err
			}
		}
		if w.meta.ahead < uint64(len(keys)) {
			return fmt.Errorf("%d pairs seen ahead, of %d: %w", len(keys), w.meta.ahead, crdt.ErrCorrupt)
		}
		w.meta.ahead -= uint64(len(keys))
	}
	return nil
}

// aheadPrefix returns what the keys in table A of one actor's events that another has seen begin with.
func aheadPrefix(of, by crdt.Actor) []byte {
	b := binary.BigEndian.AppendUint32([]byte{tableAhead}, uint32(of))
	return binary.BigEndian.AppendUint32(b, uint32(by))
}

func aheadKey(of, by crdt.Actor, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(aheadPrefix(of, by), seq)
}
