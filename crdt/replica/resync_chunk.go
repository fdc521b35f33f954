package replica

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

const (
	// MaxChunkBytes bounds an encoded Chunk. One is made of at most TargetChunkBytes and one part more, which is
	// as large as a value may be.
	MaxChunkBytes = 4 << 20
	// TargetChunkBytes is what Export aims at.
	TargetChunkBytes = 512 << 10
	// maxRemovedBytes bounds how much one chunk has of removals that overtook their adds.
	maxRemovedBytes = 256 << 10
	chunkVersion    = 1
)

// Chunk is what a donor holds in [From, To), encoded by EncodeChunk. What it does not have, the donor does not hold.
//
// A chunk with a Fingerprint is for who holds the same items in the range. It has only what is not in
// fingerprints, and is not to be had otherwise: removals that overtook their adds, tombstones, marks, resets.
type Chunk struct {
	From, To    Position
	Fingerprint *Digest
	objects     []chunkObject
}

// chunkObject is what a chunk has of one object.
type chunkObject struct {
	object string
	// head is what the object is made of besides its elements, if that is in the range; nil if there is nothing.
	head []byte
	// cleared is a clear that covers adds which the donor still has to come. Every chunk that has a part of the
	// object has it.
	cleared crdt.VersionVector
	// removed are adds that were removed before they arrived.
	removed []removedAhead
	// elements ascend by name.
	elements []pair
}

// removedAhead is an add of an element, or of an object without any, that was removed before it arrived.
type removedAhead struct {
	element string
	dot     crdt.Dot
}

const (
	chunkHead = 1 << iota
	chunkCleared
	chunkFlags = chunkHead | chunkCleared
)

// EncodeChunk returns the encoding:
//
//	version 1 | from | to | 0, or 1 | sum 16 | items | number of objects | objects
//	object    position's object bytes | flags 1 (1 head, 2 clear) | head bytes, if flagged | crdt.VersionVector as bytes, if flagged
//	          number of removed | removed | number of elements | elements
//	removed   element bytes | dot
//	element   name bytes | value bytes
//
// Numbers without a width are varints; objects, elements and removed ascend. A head is a register, a counter, a
// bounded counter, a maximum, a minimum or a HyperLogLog as package crdt encodes it; of fields the instant 8 and
// the dot of the last delete of all of them; of a timeline its mark 8; of a deadline what is stored of it. Elements
// are as in table E; of a multi-value register or flag they are named actor 4, seq 8 and have time 8, value.
func EncodeChunk(c *Chunk) []byte {
	b := c.To.append(c.From.append([]byte{chunkVersion}))
	if c.Fingerprint == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(append(append(b, 1), c.Fingerprint.Sum[:]...), c.Fingerprint.Items)
	}
	b = binary.AppendUvarint(b, uint64(len(c.objects)))
	for i := range c.objects {
		b = c.objects[i].append(b)
	}
	return b
}

func (o *chunkObject) append(b []byte) []byte {
	b = codec.AppendBytes(b, o.object)
	var flags byte
	if o.head != nil {
		flags |= chunkHead
	}
	if o.cleared.Len() > 0 {
		flags |= chunkCleared
	}
	b = append(b, flags)
	if o.head != nil {
		b = codec.AppendBytes(b, o.head)
	}
	if o.cleared.Len() > 0 {
		b = codec.AppendBytes(b, o.cleared.Append(nil))
	}
	b = binary.AppendUvarint(b, uint64(len(o.removed)))
	for _, r := range o.removed {
		b = appendDot(codec.AppendBytes(b, r.element), r.dot)
	}
	b = binary.AppendUvarint(b, uint64(len(o.elements)))
	for _, e := range o.elements {
		b = codec.AppendBytes(codec.AppendBytes(b, e.name), e.value)
	}
	return b
}

// DecodeChunk reads what EncodeChunk wrote. What it returns shares data's memory. It does not check the parts;
// JoinChunk does.
func DecodeChunk(data []byte) (Chunk, error) {
	if len(data) > MaxChunkBytes {
		return Chunk{}, fmt.Errorf("chunk of %d bytes: %w", len(data), crdt.ErrCorrupt)
	}
	r := codec.NewReader("chunk", data, chunkVersion)
	c := Chunk{From: readPosition(r), To: readPosition(r)}
	switch r.Byte() {
	case 0:
	case 1:
		c.Fingerprint = &Digest{}
		binary.BigEndian.PutUint64(c.Fingerprint.Sum[:8], r.Uint64())
		binary.BigEndian.PutUint64(c.Fingerprint.Sum[8:], r.Uint64())
		c.Fingerprint.Items = r.Uvarint(^uint64(0))
	default:
		r.Fail("unknown kind of chunk")
	}
	if c.From.Compare(c.To) >= 0 {
		r.Fail("chunk of no range")
	}
	const objectBytes = 4
	for range r.Count(objectBytes) {
		o := readChunkObject(r)
		if n := len(c.objects); n > 0 && c.objects[n-1].object >= o.object {
			r.Fail("objects out of order")
		}
		if c.objects = append(c.objects, o); !r.OK() {
			break
		}
	}
	return c, r.Done()
}

func readChunkObject(r *codec.Reader) chunkObject {
	o := chunkObject{object: string(r.Bytes(maxObjectBytes))}
	flags := r.Byte()
	if flags&^chunkFlags != 0 {
		r.Fail("unknown flags %#x of an object", flags)
	}
	if flags&chunkHead != 0 {
		o.head = r.Bytes(r.Len())
	}
	if flags&chunkCleared != 0 {
		cleared, err := crdt.DecodeVersionVector(r.Bytes(r.Len()))
		if err != nil {
			r.FailWith(err)
		}
		if o.cleared = cleared; cleared.Len() == 0 {
			r.Fail("clear of nothing")
		}
	}
	for range r.Count(3) {
		next := removedAhead{element: string(r.Bytes(crdt.MaxElementBytes)), dot: readDot(r)}
		if n := len(o.removed); n > 0 && compareRemoved(o.removed[n-1], next) >= 0 {
			r.Fail("removed adds out of order")
		}
		if o.removed = append(o.removed, next); !r.OK() {
			return o
		}
	}
	for range r.Count(2) {
		next := pair{r.Bytes(crdt.MaxElementBytes), r.Bytes(r.Len())}
		if n := len(o.elements); len(next.name) == 0 || n > 0 && string(o.elements[n-1].name) >= string(next.name) {
			r.Fail("elements out of order")
		}
		if o.elements = append(o.elements, next); !r.OK() {
			return o
		}
	}
	return o
}

func compareRemoved(a, b removedAhead) int {
	return cmp.Or(strings.Compare(a.element, b.element), a.dot.Compare(b.dot))
}

// check returns what no honest donor sends of what is in the chunk: it is called before anything is written.
func (c *Chunk) check(d *Donor) error {
	for i := range c.objects {
		o := &c.objects[i]
		_, t, err := objectAtPosition(o.object)
		if err != nil {
			return err
		}
		k, ok := kindOf(t).(transferable)
		if !ok {
			return fmt.Errorf("chunk with a %v: %w", t, crdt.ErrCorrupt)
		}
		low, high, head := within(c.From, c.To, o.object)
		first := Position{Object: o.object, Element: low}
		if first.Compare(c.From) < 0 || first.Compare(c.To) >= 0 || o.head != nil && !head {
			return fmt.Errorf("%v outside of its chunk: %w", t, crdt.ErrCorrupt)
		}
		for j, e := range o.elements {
			if string(e.name) < low || high != "" && string(e.name) >= high {
				return fmt.Errorf("element %d of a %v outside of its chunk: %w", j, t, crdt.ErrCorrupt)
			}
		}
		if err := o.checkHome(); err != nil {
			return err
		}
		if err := o.check(k, d); err != nil {
			return fmt.Errorf("%v in a chunk: %w", t, err)
		}
	}
	return nil
}

// check returns what about an object no honest donor sends.
func (o *chunkObject) check(k transferable, d *Donor) error {
	if o.head != nil {
		if err := k.checkHead(o.head, d); err != nil {
			return err
		}
	}
	for _, e := range o.elements {
		if err := k.checkElement(e, d); err != nil {
			return err
		}
	}
	for _, r := range o.removed {
		if d.Vector.Covers(r.dot) {
			return fmt.Errorf("removed %v, which has arrived: %w", r.dot, crdt.ErrCorrupt)
		}
	}
	_, dotted := k.(dottedKind)
	if !dotted && (len(o.removed) > 0 || o.cleared.Len() > 0) {
		return fmt.Errorf("removed adds of what has none: %w", crdt.ErrCorrupt)
	}
	return nil
}

// transferable is a kind whose objects can be transferred: a head, and elements.
type transferable interface {
	// head returns what an object is made of besides elements, nil if nothing. With hidden it is for a replica with
	// the same items, and nil if they say all of it.
	head(s stored, hidden bool) []byte
	// hidden reports whether an element is not in fingerprints, or not all of it.
	hidden(e pair) bool
	// checkHead and checkElement return what no honest donor sends.
	checkHead(data []byte, d *Donor) error
	checkElement(e pair, d *Donor) error
	// joinObject joins a part of an object.
	joinObject(j *joining) error
}

// dottedKind is a kind with adds that can be removed before they arrive.
type dottedKind interface{ dotted() }

func (setKind) dotted()      {}
func (siblingsKind) dotted() {}

// checkEvent returns an error unless a donor's state includes an event.
func (d *Donor) checkEvent(dot crdt.Dot, at hlc.Time) error {
	if dot.Seq == 0 || !d.Vector.Covers(dot) || at > d.Times[dot.Actor] {
		return fmt.Errorf("event %v at %v, which the donor has not seen: %w", dot, at, crdt.ErrCorrupt)
	}
	return nil
}

// checkRows does the same for all additions of a counter.
func (d *Donor) checkRows(c crdt.Counter) error {
	for row := range c.All() {
		if row.Entry.Seq > d.Vector.Get(row.Actor) || row.Base.Seq != 0 && !d.Vector.Covers(row.Base.Reset) {
			return fmt.Errorf("row of actor %d, which the donor has not seen: %w", row.Actor, crdt.ErrCorrupt)
		}
	}
	for _, v := range c.Voids() {
		if v.At > d.Vector.Get(v.Actor) {
			return fmt.Errorf("void of actor %d, which the donor has not seen: %w", v.Actor, crdt.ErrCorrupt)
		}
	}
	if c.Len() == 0 {
		return fmt.Errorf("counter without rows: %w", crdt.ErrCorrupt)
	}
	return nil
}

func noElements(e pair) error {
	return fmt.Errorf("element of %d bytes of what has none: %w", len(e.name), crdt.ErrCorrupt)
}

func noHead(data []byte) error {
	return fmt.Errorf("head of %d bytes of what has none: %w", len(data), crdt.ErrCorrupt)
}

// sortRemoved puts them in order.
func sortRemoved(removed []removedAhead) { slices.SortFunc(removed, compareRemoved) }
