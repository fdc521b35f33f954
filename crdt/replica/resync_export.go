package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// exporter makes one chunk.
type exporter struct {
	r      *Replica
	chunk  Chunk
	left   int // bytes
	hidden bool
	// removed are the pairs of table R in the range, in order of positions.
	removed []aheadPair
	// scanned is how many elements were looked at without being sent.
	scanned int
}

// aheadPair is a pair of table R.
type aheadPair struct {
	object string
	removedAhead
}

// maxExportScan bounds how many elements are looked at for one chunk of what is hidden, and so how large the range
// that a fingerprint is of can be.
const maxExportScan = 16384

// Export returns what this replica holds from a position on, as much as maxBytes holds, and one part more:
// the next chunk begins at its To. TargetChunkBytes is a good bound, and the largest. All chunks of a transfer, and the Donor, come from one view: those of a live
// donor would lose removals that are forgotten in between. Error: ErrResyncing.
func (r *Replica) Export(from Position, maxBytes int) (Chunk, error) {
	return r.export(from, Position{End: true}, maxBytes, false)
}

// ExportRange is Export that ends before a position at the latest.
func (r *Replica) ExportRange(from, to Position, maxBytes int) (Chunk, error) {
	return r.export(from, to, maxBytes, false)
}

// ExportHidden returns what this replica holds in a range, as Export does, for a replica that is known to hold the
// same items there: only what fingerprints do not tell. The chunk may end before to.
func (r *Replica) ExportHidden(from, to Position, maxBytes int) (Chunk, error) {
	return r.export(from, to, maxBytes, true)
}

func (r *Replica) export(from, to Position, maxBytes int, hidden bool) (Chunk, error) {
	if len(r.meta.layers) > 0 {
		return Chunk{}, ErrResyncing
	}
	if from.Compare(to) >= 0 {
		return Chunk{}, fmt.Errorf("export of no range: %w", crdt.ErrCorrupt)
	}
	x := &exporter{r: r, chunk: Chunk{From: from, To: to}, left: min(maxBytes, TargetChunkBytes), hidden: hidden}
	if err := x.findRemoved(); err != nil {
		return Chunk{}, fmt.Errorf("export removals: %w", err)
	}
	if err := x.objects(); err != nil {
		return Chunk{}, fmt.Errorf("export: %w", err)
	}
	if hidden {
		d, err := r.fingerprint(from, x.chunk.To, 0)
		if err != nil {
			return Chunk{}, err
		}
		x.chunk.Fingerprint = &d
	}
	return x.chunk, nil
}

// findRemoved reads the first pairs of table R in the range, as many as a chunk holds, and lets the range end
// behind them if there are more. Their order is another, so all are looked at.
func (x *exporter) findRemoved() error {
	if x.r.meta.preremovals == 0 {
		return nil
	}
	size := 0
	err := x.r.kv.Scan([]byte{tablePreremoval}, []byte{tablePreremoval + 1}, func(k, _ []byte) (bool, error) {
		next, err := parsePreremoval(k)
		if err != nil {
			return false, err
		}
		if at := next.at(); at.Compare(x.chunk.From) < 0 || at.Compare(x.chunk.To) >= 0 {
			return true, nil
		}
		x.removed = append(x.removed, next)
		if size += next.bytes(); size > 4*maxRemovedBytes {
			size = x.boundRemoved()
		}
		return true, nil
	})
	if err == nil {
		x.boundRemoved()
	}
	return err
}

func (a *aheadPair) at() Position { return Position{Object: a.object, Element: a.element} }

// bytes is at least how much of a chunk it takes.
func (a *aheadPair) bytes() int { return len(a.object) + len(a.element) + 20 }

// boundRemoved keeps the first of the removals, and returns how many bytes they take.
func (x *exporter) boundRemoved() (size int) {
	slices.SortFunc(x.removed, func(a, b aheadPair) int {
		if order := a.at().Compare(b.at()); order != 0 {
			return order
		}
		return a.dot.Compare(b.dot)
	})
	for i := range x.removed {
		if size > maxRemovedBytes && x.removed[i].at() != x.removed[i-1].at() {
			x.chunk.To, x.removed = x.removed[i].at(), x.removed[:i]
			break
		}
		size += x.removed[i].bytes()
	}
	return size
}

// parsePreremoval reads a key of table R.
func parsePreremoval(k []byte) (aheadPair, error) {
	const dotBytes = 4 + 8
	if len(k) > 1+dotBytes {
		for _, table := range [...]byte{tableObject, tableLeaf} {
			object, t, rest, err := cutObjectKey(append([]byte{table}, k[1+dotBytes:]...))
			if err == nil && t != crdt.TypeORMap {
				dot := crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(k[1:])), Seq: binary.BigEndian.Uint64(k[5:])}
				return aheadPair{positionOf(object), removedAhead{string(rest), dot}}, nil
			}
		}
	}
	return aheadPair{}, fmt.Errorf("key of a removed add of %d bytes: %w", len(k), crdt.ErrCorrupt)
}

// objects fills the chunk until it is full, or the range is at its end.
func (x *exporter) objects() error {
	scan := scanObjects(x.r.kv, x.chunk.From, x.chunk.To, true)
	for {
		o, ok, err := scan.next()
		if err != nil {
			return err
		}
		if ok && (x.full() && len(x.chunk.objects)+x.scanned > 0) && (Position{Object: o.object}).Compare(x.chunk.From) > 0 {
			x.chunk.To = Position{Object: o.object}
			ok = false
		}
		if !ok {
			return x.removedBefore(x.chunk.To)
		}
		if err := x.removedBefore(Position{Object: o.object}); err != nil {
			return err
		}
		done, err := x.object(&o)
		if err != nil || done {
			return err
		}
	}
}

func (x *exporter) full() bool { return x.left <= 0 || x.scanned >= maxExportScan }

// removedBefore adds objects of which nothing is stored but removals.
func (x *exporter) removedBefore(before Position) error {
	for len(x.removed) > 0 && x.removed[0].at().Compare(before) < 0 {
		o := chunkObject{object: x.removed[0].object}
		x.takeRemoved(&o, before)
		x.add(o)
	}
	return nil
}

// takeRemoved moves the removals of an object before a position to it.
func (x *exporter) takeRemoved(o *chunkObject, before Position) {
	for len(x.removed) > 0 && x.removed[0].object == o.object && x.removed[0].at().Compare(before) < 0 {
		o.removed = append(o.removed, x.removed[0].removedAhead)
		x.left -= x.removed[0].bytes()
		x.removed = x.removed[1:]
	}
}

// add adds an object to the chunk if there is anything to say of it.
func (x *exporter) add(o chunkObject) {
	if o.head == nil && o.cleared.Len() == 0 && len(o.removed)+len(o.elements) == 0 {
		return
	}
	sortRemoved(o.removed)
	x.left -= len(o.object) + len(o.head)
	x.chunk.objects = append(x.chunk.objects, o)
}

// object adds an object, or as much of it as there is room for: then done is true, and the chunk ends in it.
func (x *exporter) object(o *scanned) (done bool, err error) {
	low, high, head := within(x.chunk.From, x.chunk.To, o.object)
	out := chunkObject{object: o.object}
	if o.cleared != nil {
		if out.cleared, err = crdt.DecodeVersionVector(o.cleared); err != nil {
			return false, err
		}
	}
	if o.value != nil {
		kind, ok := kindOf(o.t).(transferable)
		if !ok {
			return false, fmt.Errorf("object of %v: %w", o.t, crdt.ErrCorrupt)
		}
		s, err := kindOf(o.t).decode(o.value)
		if err != nil {
			return false, err
		}
		if head {
			out.head = kind.head(s, x.hidden)
		}
		x.scanned++
		if done, err = x.elements(kind, s, &out, low, high); err != nil {
			return false, err
		}
	}
	x.takeRemoved(&out, x.chunk.To)
	x.add(out)
	return done, nil
}

// elements adds the elements of an object from low on and before high.
func (x *exporter) elements(kind transferable, s stored, out *chunkObject, low, high string) (done bool, err error) {
	visit := func(name, value []byte) (bool, error) {
		if x.full() && string(name) > low {
			x.chunk.To = Position{Object: out.object, Element: string(name)}
			done = true
			return false, nil
		}
		e := pair{slices.Clone(name), slices.Clone(value)}
		if x.hidden && !kind.hidden(e) {
			x.scanned++
			return true, nil
		}
		out.elements = append(out.elements, e)
		x.left -= len(name) + len(value) + 4
		return true, nil
	}
	switch s := s.(type) {
	case *siblings:
		for _, sibling := range s.list {
			name := siblingName(sibling.Dot)
			if name < low || high != "" && name >= high {
				continue
			}
			if more, err := visit([]byte(name), appendSiblingValue(sibling)); err != nil || !more {
				return done, err
			}
		}
	case elemental:
		err = s.stored().scan(x.r.kv, []byte(low), orNone(high), visit)
	}
	return done, err
}

// appendSiblingValue returns what a chunk has of a value of a multi-value register.
func appendSiblingValue(s crdt.Sibling) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(s.Time)), s.Value...)
}
