package replica

import (
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// The first byte of a run's encoding, with which no delta begins. What one version can say is never said in a
// later one.
const (
	runVersion  = 0x40
	runVersion2 = 0x41 // with Writes
)

// IsRun reports whether an encoding is that of a run, of any version, rather than of a delta.
func IsRun(data []byte) bool { return len(data) > 0 && data[0]&runVersion != 0 }

// EncodeRun returns a run's encoding, which the package comment draws.
func EncodeRun(r Run) []byte {
	version := byte(runVersion)
	if r.tellsOfWrites() {
		version = runVersion2
	}
	b := binary.AppendUvarint(append(make([]byte, 0, 256), version), uint64(r.Actor()))
	b = binary.AppendUvarint(b, r.From)
	b = binary.AppendUvarint(b, uint64(len(r.Deltas)))
	last := Delta{Dot: crdt.Dot{Seq: r.From - 1}}
	for i := range r.Deltas {
		b = appendRunDelta(b, version, &last, &r.Deltas[i])
		last = r.Deltas[i]
	}
	return appendRunEffects(b, r.placed())
}

func (r *Run) tellsOfWrites() bool {
	return slices.ContainsFunc(r.Deltas, func(d Delta) bool { return len(d.Writes) > 0 })
}

// appendRunDelta appends what a delta is beside its effects.
func appendRunDelta(b []byte, version byte, last, d *Delta) []byte {
	gap := (d.Dot.Seq - last.Dot.Seq - 1) << 1
	extended := len(d.Seen) > 0 || len(d.Unknown) > 0 || len(d.Writes) > 0
	if extended {
		gap |= 1
	}
	b = binary.AppendUvarint(b, gap)
	b = appendTimeAfter(b, last.Time, d.Time)
	if !extended {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(d.Seen)))
	for _, seen := range d.Seen {
		b = appendDot(b, seen)
	}
	if version >= runVersion2 {
		b = appendWrites(b, d)
	}
	return codec.AppendBytes(b, d.Unknown)
}

const logicalBits = 16

// appendTimeAfter appends a time by its distance from an earlier one: by how many milliseconds it is later,
// and its logical part, from that of last on if it is of the same millisecond.
func appendTimeAfter(b []byte, last, t hlc.Time) []byte {
	ms := uint64(t)>>logicalBits - uint64(last)>>logicalBits
	logical := uint64(t) & (1<<logicalBits - 1)
	if ms == 0 {
		logical -= uint64(last)&(1<<logicalBits-1) + 1
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, ms), logical)
}

func readTimeAfter(r *codec.Reader, last hlc.Time) hlc.Time {
	const most = 1<<logicalBits - 1
	from := uint64(last) >> logicalBits
	ms, logical := r.Uvarint(^uint64(0)>>logicalBits-from), r.Uvarint(most)
	if ms == 0 {
		if logical += uint64(last)&most + 1; logical > most {
			r.Fail("logical time out of range")
		}
	}
	return hlc.Time((from+ms)<<logicalBits | logical)
}

// placedEffect is an effect with the number of its delta in a run.
type placedEffect struct {
	delta  int
	object objectID
	change Change
}

// placed returns a run's effects by their objects, and those of one object in the order of events.
func (r *Run) placed() []placedEffect {
	n := 0
	for i := range r.Deltas {
		n += len(r.Deltas[i].Effects)
	}
	all := make([]placedEffect, 0, n)
	for i := range r.Deltas {
		for j := range r.Deltas[i].Effects {
			e := &r.Deltas[i].Effects[j]
			all = append(all, placedEffect{i, e.id(), e.Change})
		}
	}
	slices.SortStableFunc(all, func(a, b placedEffect) int { return a.object.compare(b.object) })
	return all
}

// appendRunEffects appends effects by namespace, object and delta, each written once.
func appendRunEffects(b []byte, all []placedEffect) []byte {
	b = binary.AppendUvarint(b, countGroups(all, sameNamespace))
	for len(all) > 0 {
		in := group(all, sameNamespace)
		all = all[len(in):]
		b = codec.AppendBytes(b, in[0].object.namespace)
		b = binary.AppendUvarint(b, countGroups(in, sameObject))
		for last := ""; len(in) > 0; {
			on := group(in, sameObject)
			in = in[len(on):]
			b = appendObject(b, last, on[0].object)
			last = on[0].object.key
			b = binary.AppendUvarint(b, uint64(len(on)))
			at := -1
			for _, e := range on {
				b = binary.AppendUvarint(b, uint64(e.delta-at-1))
				b = appendRunChange(b, e.change)
				at = e.delta
			}
		}
	}
	return b
}

func sameNamespace(a, b *placedEffect) bool { return a.object.namespace == b.object.namespace }
func sameObject(a, b *placedEffect) bool    { return a.object == b.object }

// group returns those at the beginning of all that are the same.
func group(all []placedEffect, same func(a, b *placedEffect) bool) []placedEffect {
	n := 1
	for n < len(all) && same(&all[0], &all[n]) {
		n++
	}
	return all[:n]
}

func countGroups(all []placedEffect, same func(a, b *placedEffect) bool) (n uint64) {
	for len(all) > 0 {
		all = all[len(group(all, same)):]
		n++
	}
	return n
}

// appendObject appends an object's key, of which it leaves out what it shares with the one before it, and
// what else names the object beside the namespace.
func appendObject(b []byte, last string, o objectID) []byte {
	shared := sharedPrefix(last, o.key)
	b = codec.AppendBytes(binary.AppendUvarint(b, uint64(shared)), o.key[shared:])
	return appendPlace(b, o.path, o.of)
}

func readObject(r *codec.Reader, namespace, last string) objectID {
	shared := r.Uvarint(uint64(len(last)))
	rest := r.Bytes(MaxKeyBytes - min(int(shared), MaxKeyBytes))
	if !r.OK() {
		return objectID{}
	}
	key := last[:shared] + string(rest)
	if sharedPrefix(last, key) != int(shared) {
		r.Fail("key shares more with the one before")
	}
	o := objectID{namespace: namespace, key: key}
	o.path, o.of = readPlaceAndType(r)
	return o
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// runHead is what a run's encoding begins with.
type runHead struct {
	actor crdt.Actor
	from  uint64
}

// before returns the dot before the run's first.
func (h runHead) before() crdt.Dot { return crdt.Dot{Actor: h.actor, Seq: h.from - 1} }

// readRunHead reads the beginning of a run, and how many deltas follow.
func readRunHead(r *codec.Reader) (h runHead, n int) {
	h.actor = crdt.Actor(r.Uvarint(uint64(^crdt.Actor(0))))
	h.from = r.Uvarint(^uint64(0))
	n = r.Count(3) // a delta has at least three numbers
	if n > MaxRunDeltas || n == 0 || h.from == 0 {
		r.Fail("run of %d deltas from %d", n, h.from)
	}
	return h, n
}

// newRunReader reads a run's version, of which there are two.
func newRunReader(data []byte) (r *codec.Reader, version byte) {
	version = runVersion
	if len(data) > 0 && data[0] == runVersion2 {
		version = runVersion2
	}
	return codec.NewReader("run", data, version), version
}

// DecodeRun reads what EncodeRun returned, and checks it as MergeRun does. The run shares data's memory.
func DecodeRun(data []byte) (Run, error) {
	r, version := newRunReader(data)
	head, n := readRunHead(r)
	run, last := Run{From: head.from}, Delta{Dot: head.before()}
	for i := 0; i < n && r.OK(); i++ {
		last = readRunDelta(r, version, &last)
		run.Deltas = append(run.Deltas, last)
	}
	if version >= runVersion2 && !run.tellsOfWrites() {
		r.Fail("version 2 says nothing that version 1 cannot")
	}
	hand(run.Deltas, readRunEffects(r, run.Deltas))
	if err := r.Done(); err != nil {
		return Run{}, err
	}
	if err := run.check(); err != nil {
		r.Fail("%v", err)
	}
	if err := r.Done(); err != nil {
		return Run{}, err
	}
	return run, nil
}

func readRunDelta(r *codec.Reader, version byte, last *Delta) Delta {
	gap := r.Uvarint(^uint64(0))
	d := Delta{Dot: last.Dot, Time: readTimeAfter(r, last.Time)}
	if gap>>1 >= ^uint64(0)-last.Dot.Seq {
		r.Fail("number out of range")
	}
	d.Dot.Seq += gap>>1 + 1
	if gap&1 == 0 {
		return d
	}
	for range r.Count(2) {
		d.Seen = append(d.Seen, readDot(r))
	}
	if version >= runVersion2 {
		d.Writes = readWrites(r, &d)
	}
	d.Unknown = r.FieldsIn(r.Bytes(r.Len()))
	if len(d.Seen) == 0 && len(d.Unknown) == 0 && len(d.Writes) == 0 {
		r.Fail("flagged delta with nothing more")
	}
	return d
}

// hand gives each delta its effects, in the order that they come in, out of one piece of memory.
func hand(deltas []Delta, all []placedEffect) {
	counts := make([]int, len(deltas))
	for i := range all {
		counts[all[i].delta]++
	}
	memory := make([]Effect, len(all))
	for i, n := range counts {
		if n > 0 {
			deltas[i].Effects, memory = memory[:0:n], memory[n:]
		}
	}
	for i := range all {
		d := &deltas[all[i].delta]
		d.Effects = append(d.Effects, all[i].object.effect(all[i].change))
	}
}

// readRunEffects reads effects, those of each delta in its order. It knows of the deltas all but these.
func readRunEffects(r *codec.Reader, deltas []Delta) []placedEffect {
	all := make([]placedEffect, 0, len(deltas))
	var last objectID
	for i, namespaces := 0, r.Count(2); i < namespaces && r.OK(); i++ {
		namespace := string(r.Bytes(MaxNamespaceBytes))
		objects := r.Count(5) // an object has at least two lengths, a type, a count and a delta
		if objects == 0 || i > 0 && namespace <= last.namespace {
			r.Fail("namespace without objects or out of order")
		}
		last = objectID{namespace: namespace}
		for j := 0; j < objects && r.OK(); j++ {
			o := readObject(r, namespace, last.key)
			if j > 0 && o.compare(last) <= 0 {
				r.Fail("objects out of order")
			}
			all = readObjectEffects(r, deltas, o, all)
			last = o
		}
	}
	return all
}

// readObjectEffects adds the effects on an object to all.
func readObjectEffects(r *codec.Reader, deltas []Delta, o objectID, all []placedEffect) []placedEffect {
	k := kindOf(o.of)
	if k == nil {
		r.Fail("unknown %v", o.of)
		return all
	}
	n := r.Count(2)
	if n == 0 {
		r.Fail("object without effects")
	}
	at := -1
	for i := 0; i < n && r.OK(); i++ {
		gap := r.Uvarint(uint64(len(deltas)))
		if at += int(gap) + 1; at >= len(deltas) {
			r.Fail("effect of no delta")
			return all
		}
		all = append(all, placedEffect{at, o, readRunChange(r, k, &deltas[at])})
	}
	return all
}

// ownEntry is written in place of a counter's change that is an entry of its author alone. It cannot be the
// length of one.
const ownEntry = 0

// appendRunChange appends a change as in a delta, but a counter's entry shorter.
func appendRunChange(b []byte, c Change) []byte {
	counter, ok := c.(*CounterChange)
	if !ok || !counter.onlyEntry() {
		return c.append(b)
	}
	e := counter.Rows()[0].Entry
	return binary.AppendVarint(binary.AppendUvarint(append(b, ownEntry), e.Seq-e.Gen), e.Sum)
}

// onlyEntry reports whether all there is to say of a counter's change is one entry.
func (c *CounterChange) onlyEntry() bool {
	rows := c.Rows()
	return len(rows) == 1 && rows[0].Entry.Seq != 0 && rows[0].Base == crdt.Base{} && c.Equal(crdt.NewCounter(rows))
}

func readRunChange(r *codec.Reader, k kind, d *Delta) Change {
	if _, ok := k.(counterKind); !ok || r.Peek() != ownEntry {
		c := k.decodeChange(r, d)
		if counter, ok := c.(*CounterChange); ok && counter.onlyEntry() {
			r.Fail("entry longer than needed")
		}
		return c
	}
	r.Byte()
	seq := d.Dot.Seq
	e := crdt.Entry{Gen: seq - r.Uvarint(seq-1), Seq: seq, Sum: r.Varint()}
	return &CounterChange{crdt.NewCounter([]crdt.Row{{Actor: d.Dot.Actor, Entry: e}})}
}
