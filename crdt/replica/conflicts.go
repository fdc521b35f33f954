package replica

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// ConflictCount says how often merges here had to decide between events of two actors that had not seen
// each other.
type ConflictCount struct {
	Namespace string
	Type      crdt.Type
	// A and B are the actors, A the smaller.
	A, B  crdt.Actor
	Count uint64
}

// decisions are what one work decided.
type decisions struct {
	counts map[conflictID]uint64
	losers []Loser
	// bytes are those of losers. full means that some did not fit, so that no earlier ones stay either.
	bytes, letGo uint64
	full         bool
}

// conflictID is what conflicts are counted by.
type conflictID struct {
	namespace string
	of        crdt.Type
	a, b      crdt.Actor
}

func (id conflictID) compare(o conflictID) int {
	return cmp.Or(strings.Compare(id.namespace, o.namespace), cmp.Compare(id.of, o.of), cmp.Compare(id.a, o.a), cmp.Compare(id.b, o.b))
}

// contest is where an event that is being merged meets one that was applied before.
type contest struct {
	delta  *Delta
	effect *Effect
	// field names the field or member, if the value has any.
	field []byte
}

// conflict counts the meeting if neither event had seen the other, and reports whether that is so. Call it
// where a merge decides between the two, and not where both simply take effect.
func (w *work) conflict(c contest, applied crdt.Dot) (bool, error) {
	concurrent, err := w.concurrent(c.delta.Dot, applied)
	if err != nil || !concurrent {
		return false, err
	}
	if w.conflicts.counts == nil {
		w.conflicts.counts = map[conflictID]uint64{}
	}
	a, b := c.delta.Dot.Actor, applied.Actor
	w.conflicts.counts[conflictID{c.effect.Namespace, c.effect.Type, min(a, b), max(a, b)}]++
	return true, nil
}

// decide notes that of a write that is merged and the one that is here the later wins. Two deletes agree,
// and where there is nothing here, Seq 0, nothing is decided. Who is a
// home is no value of a client.
func (w *work) decide(c contest, here, incoming *crdt.LWWRegister) error {
	if here.Seq == 0 || here.Deleted && incoming.Deleted || c.effect.Namespace == HomeNamespace {
		return nil
	}
	concurrent, err := w.conflict(c, here.Dot())
	if err != nil || !concurrent {
		return err
	}
	won, lost := here, incoming
	if incoming.Compare(*here) > 0 {
		won, lost = incoming, here
	}
	if !lost.Deleted {
		w.conflicts.add(loserOf(c, lost, won))
	}
	return nil
}

// outlive notes the additions to a counter that stand although a reset arrived, because it had not seen
// them.
func (w *work) outlive(c contest, rows crdt.Counter) error {
	for row := range rows.All() {
		if !row.Live() {
			continue
		}
		if _, err := w.conflict(c, crdt.Dot{Actor: row.Actor, Seq: row.Entry.Seq}); err != nil {
			return err
		}
	}
	return nil
}

// outliveAll notes adds that stand although a removal arrived.
func (w *work) outliveAll(c contest, standing crdt.DotSet) error {
	for _, dot := range standing {
		if _, err := w.conflict(c, dot); err != nil {
			return err
		}
	}
	return nil
}

// keepConflicts writes what was decided.
func (w *work) keepConflicts() error {
	ids := make([]conflictID, 0, len(w.conflicts.counts))
	for id := range w.conflicts.counts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, conflictID.compare)
	for _, id := range ids {
		key := conflictKey(id)
		var before uint64
		data, ok, err := w.kv.Get(key)
		if err != nil {
			return err
		}
		if ok {
			if before, err = decodeCount(data); err != nil {
				return err
			}
		}
		if err := w.kv.Put(key, binary.AppendUvarint([]byte{storeVersion}, before+w.conflicts.counts[id])); err != nil {
			return err
		}
	}
	return w.keepLosers()
}

func decodeCount(data []byte) (uint64, error) {
	r := codec.NewReader("count of conflicts", data, storeVersion)
	n := r.Uvarint(^uint64(0))
	return n, r.Done()
}

// conflictKey returns a key of table C.
func conflictKey(id conflictID) []byte {
	b := append(appendName([]byte{tableConflicts}, id.namespace), byte(id.of))
	b = binary.BigEndian.AppendUint32(b, uint32(id.a))
	return binary.BigEndian.AppendUint32(b, uint32(id.b))
}

func parseConflictKey(b []byte) (ConflictCount, error) {
	const rest = 1 + 4 + 4
	namespace, b, ok := readName(b[1:])
	if !ok || len(b) != rest {
		return ConflictCount{}, fmt.Errorf("key of a count of conflicts: %w", crdt.ErrCorrupt)
	}
	return ConflictCount{
		Namespace: namespace, Type: crdt.Type(b[0]),
		A: crdt.Actor(binary.BigEndian.Uint32(b[1:])), B: crdt.Actor(binary.BigEndian.Uint32(b[5:])),
	}, nil
}

// ConflictCounts returns all counts, in ascending order of namespace, type and actors, or those of one
// namespace.
func (r *Replica) ConflictCounts(namespace *string) ([]ConflictCount, error) {
	prefix := []byte{tableConflicts}
	if namespace != nil {
		prefix = appendName(prefix, *namespace)
	}
	var counts []ConflictCount
	err := r.kv.Scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		c, err := parseConflictKey(k)
		if err != nil {
			return false, err
		}
		c.Count, err = decodeCount(v)
		counts = append(counts, c)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("read counts of conflicts: %w", err)
	}
	return counts, nil
}

// ConflictsUnsure returns how often what events had seen could not be kept, so that counts may be too
// high.
func (r *Replica) ConflictsUnsure() uint64 { return r.meta.unsure }
