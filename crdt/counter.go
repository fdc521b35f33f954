package crdt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"math/bits"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// ErrCounterOverflow means that an addition would leave the range of a signed 64-bit integer.
var ErrCounterOverflow = errors.New("counter overflow")

// Entry is an actor's part of a counter, written by that actor alone: the running sum of what it
// added since sequence number Gen, as of its event Seq. Seq 0 means that there is none.
type Entry struct {
	Gen, Seq uint64
	Sum      int64
}

// Base is how much of an actor's part has been reset: the entry that a reset observed, and the
// event Reset that did it. Seq 0 means that there is none.
type Base struct {
	Gen, Seq uint64
	Sum      int64
	Reset    Dot
}

// Row is one actor's row of a counter.
type Row struct {
	Actor Actor
	Entry Entry
	Base  Base
}

// Live reports whether the row has additions that no reset observed.
func (r Row) Live() bool { return r.Entry.Seq > r.Base.Seq }

// parts returns what the row adds to the value, as a difference, because that itself may not fit.
func (r Row) parts() (plus, minus int64) {
	switch {
	case !r.Live():
		return 0, 0
	case r.Base.Seq >= r.Entry.Gen:
		return r.Entry.Sum, r.Base.Sum
	default:
		return r.Entry.Sum, 0
	}
}

// Value returns what the row adds to the counter's value, within the range of int64.
func (r Row) Value() int64 {
	var t int128
	plus, minus := r.parts()
	t.add(plus)
	t.sub(minus)
	return t.clamp()
}

// Counter is an observed-reset counter: its value is the sum of the additions that no reset has
// observed. Additions concurrent with a reset survive it. A counter all of whose additions were
// reset is empty, which is absent.
//
// The state has one row per actor: the actor's absolute running sum, which only the actor writes,
// and the part of it that resets have observed. Sums are absolute, so a row merges by "the later
// one wins" and applying it twice is harmless. Once an actor sees its whole sum reset it starts a
// new generation from zero; the remainder of an old generation is never carried into a new one,
// because a concurrent reset of the old one would then be ignored.
//
// Join, row by row: the larger Entry.Seq; the larger Base.Seq, and of two resets that observed the
// same entry the one with the larger dot; a base of an older generation than the entry is dropped. Of voids
// about the same event the later; those of what was reset, or of an older generation, are dropped.
//
// Laws: Join is commutative, associative and idempotent over states of one history; the zero
// Counter is neutral. Size: at most one row per actor that ever added, about 20 bytes, twice that
// with a base; Compact says what may go. Voids are about 12 bytes each, MaxVoids of an actor at most, until
// a reset.
//
// A copy by assignment shares memory with the original: Clone before changing either.
type Counter struct {
	rows []Row
	// voids ascend by actor and event.
	voids   []Void
	unknown Fields
}

// Add adds x to the row of d's actor as event d, which is newer than every event of that actor in
// the counter, and returns the change as a counter to join elsewhere. It returns ErrCounterOverflow,
// and changes nothing, if the actor's running sum or the counter's value would leave int64.
func (c *Counter) Add(d Dot, x int64) (Counter, error) {
	entry := Entry{Gen: d.Seq, Seq: d.Seq, Sum: x}
	if old := c.row(d.Actor); old.Live() {
		sum := old.Entry.Sum + x
		if (sum > old.Entry.Sum) != (x > 0) && x != 0 {
			return Counter{}, ErrCounterOverflow
		}
		entry.Gen, entry.Sum = old.Entry.Gen, sum
	}
	total := c.total()
	total.add(x)
	if !total.fits() {
		return Counter{}, ErrCounterOverflow
	}
	delta := Counter{rows: []Row{{Actor: d.Actor, Entry: entry}}}
	c.Join(delta)
	return delta, nil
}

// Reset takes away, as event d, every addition in the counter, and returns the change as a counter
// to join elsewhere; it is empty of rows if there was nothing to take away.
func (c *Counter) Reset(d Dot) Counter {
	var delta Counter
	for _, r := range c.rows {
		if r.Live() {
			base := Base{Gen: r.Entry.Gen, Seq: r.Entry.Seq, Sum: r.Entry.Sum, Reset: d}
			delta.rows = append(delta.rows, Row{Actor: r.Actor, Base: base})
		}
	}
	c.Join(delta)
	return delta
}

// Set makes x the counter's value, as one event d that resets and adds, and returns the change.
func (c *Counter) Set(d Dot, x int64) Counter {
	delta := c.Reset(d)
	// The rows of all actors are reset now, so the sum starts anew and cannot overflow.
	added := Counter{rows: []Row{{Actor: d.Actor, Entry: Entry{Gen: d.Seq, Seq: d.Seq, Sum: x}}}}
	c.Join(added)
	delta.Join(added)
	return delta
}

// Join merges the rows of o, which may be a whole counter or a change.
func (c *Counter) Join(o Counter) {
	for _, r := range o.rows {
		i, ok := c.search(r.Actor)
		if !ok {
			c.rows = slices.Insert(c.rows, i, r)
			continue
		}
		c.rows[i] = joinRows(c.rows[i], r)
	}
	c.joinVoids(o.voids)
	c.unknown = c.unknown.Join(o.unknown)
}

func joinRows(a, b Row) Row {
	if b.Entry.Seq > a.Entry.Seq {
		a.Entry = b.Entry
	}
	if cmp.Or(cmp.Compare(b.Base.Seq, a.Base.Seq), b.Base.Reset.Compare(a.Base.Reset)) > 0 {
		a.Base = b.Base
	}
	if a.Entry.Gen > a.Base.Seq {
		a.Base = Base{}
	}
	return a
}

// Compact drops what a replica need not keep, given that it is self's and includes the events of
// seen: its own row once it is wholly reset, because the owner knows to start a new generation; and
// resets of rows that are gone for that reason. Dropping another actor's row is only safe when that
// actor is known to have seen the reset; see Settle.
func (c *Counter) Compact(self Actor, seen VersionVector) {
	c.rows = slices.DeleteFunc(c.rows, func(r Row) bool {
		if r.Actor == self {
			return !r.Live()
		}
		return r.Entry.Seq == 0 && seen.Get(r.Actor) >= r.Base.Seq
	})
}

// Settle drops the wholly reset rows of other actors that know of the reset and, given that the replica
// includes the events of seen, have nothing of before it under way: they start a new generation next.
func (c *Counter) Settle(seen VersionVector, knows func(owner Actor, reset Dot) bool) {
	c.rows = slices.DeleteFunc(c.rows, func(r Row) bool {
		return !r.Live() && seen.Get(r.Actor) >= r.Base.Seq && knows(r.Actor, r.Base.Reset)
	})
}

// Resets reports whether a change takes additions away.
func (c Counter) Resets() bool {
	return slices.ContainsFunc(c.rows, func(r Row) bool { return r.Base.Seq != 0 })
}

// Value returns the counter's value. Additions that concurrent regions made may sum to more than
// fits; then it is the nearest int64.
func (c Counter) Value() int64 {
	t := c.total()
	return t.clamp()
}

// Empty reports whether there is no addition that no reset observed: the counter is absent.
func (c Counter) Empty() bool { return !slices.ContainsFunc(c.rows, Row.Live) }

// Rows returns the rows in ascending order of actors. They are the caller's.
func (c Counter) Rows() []Row { return slices.Clone(c.rows) }

// All visits the rows in ascending order of actors. The counter must not change meanwhile.
func (c Counter) All() iter.Seq[Row] { return slices.Values(c.rows) }

// Len returns the number of rows, live or not, and of voids.
func (c Counter) Len() int { return len(c.rows) + len(c.voids) }

// Equal reports whether two counters have the same rows and voids.
func (c Counter) Equal(o Counter) bool {
	return c.unknown == o.unknown && slices.Equal(c.rows, o.rows) && slices.Equal(c.voids, o.voids)
}

// Clone returns a copy that shares no memory.
func (c Counter) Clone() Counter {
	return Counter{slices.Clone(c.rows), slices.Clone(c.voids), c.unknown}
}

// NewCounter returns a counter of the given rows, which it keeps. They are in ascending order of
// actors; each has an entry or a base.
func NewCounter(rows []Row) Counter { return Counter{rows: rows} }

func (c Counter) row(a Actor) Row {
	if i, ok := c.search(a); ok {
		return c.rows[i]
	}
	return Row{Actor: a}
}

func (c Counter) search(a Actor) (int, bool) {
	return slices.BinarySearchFunc(c.rows, a, func(r Row, a Actor) int { return cmp.Compare(r.Actor, a) })
}

func (c Counter) total() int128 {
	var t int128
	for _, r := range c.rows {
		plus, minus := r.parts()
		t.add(plus)
		t.sub(minus)
	}
	c.subtractVoids(&t)
	return t
}

// int128 is a sum of int64s that cannot overflow in practice.
type int128 struct {
	hi int64
	lo uint64
}

func (t *int128) add(x int64) {
	lo, carry := bits.Add64(t.lo, uint64(x), 0)
	t.lo, t.hi = lo, t.hi+x>>63+int64(carry)
}

func (t *int128) sub(x int64) {
	lo, borrow := bits.Sub64(t.lo, uint64(x), 0)
	t.lo, t.hi = lo, t.hi-x>>63-int64(borrow)
}

func (t *int128) fits() bool { return t.hi == int64(t.lo)>>63 }

func (t *int128) clamp() int64 {
	switch {
	case t.fits():
		return int64(t.lo)
	case t.hi < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}

const (
	rowEntry = 1 << iota
	rowBase
)

// Append appends the counter's encoding: the version, which is 2 if there are voids, then the voids in that
// case, and the rows in ascending order of actors, to the end. All numbers are varints; the sums are zigzag.
//
//	number of voids | (actor | seq | at-seq | sum)*
//	actor | parts | entry, if parts&1: gen, seq-gen, sum | base, if parts&2: gen, seq-gen, sum, reset
func (c Counter) Append(b []byte) []byte {
	if len(c.voids) == 0 {
		b = appendVersion(b, c.unknown)
	} else {
		b = appendVoids(appendVersionOf(b, codecVersion2, c.unknown), c.voids)
	}
	for _, r := range c.rows {
		b = appendRow(b, r)
	}
	return b
}

func appendRow(b []byte, r Row) []byte {
	var parts byte
	if r.Entry.Seq != 0 {
		parts |= rowEntry
	}
	if r.Base.Seq != 0 {
		parts |= rowBase
	}
	b = append(binary.AppendUvarint(b, uint64(r.Actor)), parts)
	if r.Entry.Seq != 0 {
		b = appendSum(b, r.Entry.Gen, r.Entry.Seq, r.Entry.Sum)
	}
	if r.Base.Seq != 0 {
		b = appendDot(appendSum(b, r.Base.Gen, r.Base.Seq, r.Base.Sum), r.Base.Reset)
	}
	return b
}

func appendSum(b []byte, gen, seq uint64, sum int64) []byte {
	return binary.AppendVarint(binary.AppendUvarint(binary.AppendUvarint(b, gen), seq-gen), sum)
}

// DecodeCounter reads what Append wrote.
func DecodeCounter(data []byte) (Counter, error) {
	version := byte(codecVersion)
	if len(data) > 0 && data[0]&^codec.WithFields == codecVersion2 {
		version = codecVersion2
	}
	r, unknown := newReaderOf("counter", data, version)
	c := Counter{unknown: unknown}
	if version == codecVersion2 {
		c.voids = readVoids(r)
	}
	for r.Len() > 0 {
		c.rows = readNextRow(r, c.rows)
	}
	c.checkVoids(r)
	if err := r.Done(); err != nil {
		return Counter{}, err
	}
	return c, nil
}

// readNextRow reads a row and appends it to those before it.
func readNextRow(r *codec.Reader, rows []Row) []Row {
	row := readRow(r)
	if n := len(rows); n > 0 && rows[n-1].Actor >= row.Actor {
		r.Fail("actors out of order")
	}
	return append(rows, row)
}

// readCountedRows reads rows with their number before them; there is at least one.
func readCountedRows(r *codec.Reader) []Row {
	const rowBytes = 5 // the shortest row
	n := r.Count(rowBytes)
	if n == 0 {
		r.Fail("counter without rows")
	}
	var rows []Row
	for range n {
		rows = readNextRow(r, rows)
	}
	return rows
}

func appendCountedRows(b []byte, rows []Row) []byte {
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for _, r := range rows {
		b = appendRow(b, r)
	}
	return b
}

func readRow(r *codec.Reader) Row {
	row := Row{Actor: Actor(r.Uvarint(maxActor))}
	parts := r.Byte()
	if parts == 0 || parts&^(rowEntry|rowBase) != 0 {
		r.Fail("unknown row parts %#x", parts)
	}
	if parts&rowEntry != 0 {
		row.Entry.Gen, row.Entry.Seq, row.Entry.Sum = readSum(r)
	}
	if parts&rowBase != 0 {
		row.Base.Gen, row.Base.Seq, row.Base.Sum = readSum(r)
		row.Base.Reset = readDot(r)
	}
	if parts == rowEntry|rowBase && row.Entry.Gen > row.Base.Seq {
		r.Fail("base of an older generation")
	}
	return row
}

func readSum(r *codec.Reader) (gen, seq uint64, sum int64) {
	gen = r.Uvarint(maxSeq)
	if gen == 0 {
		r.Fail("generation 0")
	}
	seq = gen + r.Uvarint(maxSeq-gen)
	return gen, seq, r.Varint()
}
