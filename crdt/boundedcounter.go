package crdt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// ErrAmount means that an amount was not positive.
var ErrAmount = errors.New("amount is not positive")

// InsufficientRightsError means that an actor wanted to take or give away more of a bounded counter
// than it may. Others may hold the rights that it lacks.
type InsufficientRightsError struct {
	// Have is what the actor may take or give away.
	Have int64
}

// Error says what the actor has.
func (e *InsufficientRightsError) Error() string {
	return fmt.Sprintf("insufficient rights: have %d", e.Have)
}

// BoundedTransfer is how much one actor gave to another in all. Amount is positive.
type BoundedTransfer struct {
	To     Actor
	Amount int64
}

// BoundedRow is one actor's row of a bounded counter, which only the actor writes, as of its event
// Seq: how much it added, took and gave away in all. Nothing in it ever falls.
type BoundedRow struct {
	Actor     Actor
	Seq       uint64
	Inc, Use  int64
	Transfers []BoundedTransfer // in ascending order of actors, without the row's own
}

// BoundedCounter is a counter that never falls below 0, without asking other regions before taking
// from it. For other bounds the user keeps an offset.
//
// The value is split into rights, and who adds to the counter holds the rights to it. An actor can
// take, or give to another actor, no more than it holds. So the sum of all rights is the value, and
// concurrent operations never meet in the same right: all of them count. Rights that the actor has
// lie in what it has seen; more may be on the way to it.
//
// The state has one row of running totals per actor. Join takes, row by row, the one of the larger
// sequence number. That is right in any order of arrival. Where a taking arrives before the gift that
// allowed it, Value and the Rights of others may be negative until the gift is there; never with
// causal delivery, and an actor's own rights never.
//
// There is no reset and no delete: they would take rights that others may be using at that moment. An
// actor that is gone leaves its rights unused.
//
// Laws: Join is commutative, associative and idempotent over states of one history; the zero
// BoundedCounter is neutral and has the value 0. Size: a row per actor that ever operated, about 15
// bytes, and 6 for each actor it ever gave to; nothing is ever garbage. The totals are bounded, too:
// what one actor adds, or takes, in all is at most the largest int64.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Balegas et al., "Extending Eventually Consistent Cloud Databases for Enforcing Numeric
// Invariants", SRDS 2015, arXiv:1503.09052. O'Neil, "The Escrow Transactional Method", TODS 1986.
type BoundedCounter struct {
	rows    []BoundedRow
	unknown Fields
}

// Inc adds n and gives d's actor the rights to it, as event d, which is newer than every event of
// that actor in the counter. It returns the change as a counter to join elsewhere.
//
// Errors, of Dec and Transfer, too, which then change nothing: ErrAmount if n is not positive,
// ErrCounterOverflow if the value or a total of the actor would leave int64.
func (c *BoundedCounter) Inc(d Dot, n int64) (BoundedCounter, error) {
	if n <= 0 {
		return BoundedCounter{}, ErrAmount
	}
	value := c.total()
	if value.add(n); !value.fits() {
		return BoundedCounter{}, ErrCounterOverflow
	}
	row := c.row(d.Actor)
	var err error
	if row.Inc, err = addAmounts(row.Inc, n); err != nil {
		return BoundedCounter{}, err
	}
	return c.put(d, row), nil
}

// Dec takes n, with rights of d's actor, as event d; see Inc. It returns *InsufficientRightsError if
// the actor holds less.
func (c *BoundedCounter) Dec(d Dot, n int64) (BoundedCounter, error) {
	if err := c.require(d.Actor, n); err != nil {
		return BoundedCounter{}, err
	}
	row := c.row(d.Actor)
	var err error
	if row.Use, err = addAmounts(row.Use, n); err != nil {
		return BoundedCounter{}, err
	}
	return c.put(d, row), nil
}

// Transfer gives n of the rights of d's actor to another actor, as event d; see Inc. It returns
// *InsufficientRightsError if the actor holds less. Giving to oneself changes nothing.
func (c *BoundedCounter) Transfer(d Dot, n int64, to Actor) (BoundedCounter, error) {
	if err := c.require(d.Actor, n); err != nil || to == d.Actor {
		return BoundedCounter{}, err
	}
	row := c.row(d.Actor)
	row.Transfers = slices.Clone(row.Transfers) // other counters share the old ones
	i, ok := slices.BinarySearchFunc(row.Transfers, to, func(t BoundedTransfer, a Actor) int { return cmp.Compare(t.To, a) })
	if !ok {
		row.Transfers = slices.Insert(row.Transfers, i, BoundedTransfer{To: to})
	}
	var err error
	if row.Transfers[i].Amount, err = addAmounts(row.Transfers[i].Amount, n); err != nil {
		return BoundedCounter{}, err
	}
	return c.put(d, row), nil
}

func (c BoundedCounter) require(a Actor, n int64) error {
	if n <= 0 {
		return ErrAmount
	}
	if have := c.Rights(a); have < n {
		return &InsufficientRightsError{Have: have}
	}
	return nil
}

// addAmounts adds two numbers that are not negative.
func addAmounts(a, b int64) (int64, error) {
	if a > math.MaxInt64-b {
		return 0, ErrCounterOverflow
	}
	return a + b, nil
}

func (c *BoundedCounter) put(d Dot, row BoundedRow) BoundedCounter {
	row.Seq = d.Seq
	delta := BoundedCounter{rows: []BoundedRow{row}}
	c.Join(delta)
	return delta
}

// Join merges the rows of o, which may be a whole counter or a change.
func (c *BoundedCounter) Join(o BoundedCounter) {
	for _, row := range o.rows {
		i, ok := c.search(row.Actor)
		switch {
		case !ok:
			c.rows = slices.Insert(c.rows, i, row)
		case row.Seq > c.rows[i].Seq:
			c.rows[i] = row
		}
	}
	c.unknown = c.unknown.Join(o.unknown)
}

// Value returns the counter's value. Additions that concurrent regions made may sum to more than
// fits; then it is the nearest int64.
func (c BoundedCounter) Value() int64 {
	t := c.total()
	return t.clamp()
}

func (c BoundedCounter) total() int128 {
	var t int128
	for _, row := range c.rows {
		t.add(row.Inc)
		t.sub(row.Use)
	}
	return t
}

// Rights returns how much an actor can take or give away, as far as the counter knows: what it added
// and was given, less what it took and gave. It is the nearest int64 to that.
func (c BoundedCounter) Rights(a Actor) int64 {
	var t int128
	for _, row := range c.rows {
		if row.Actor == a {
			t.add(row.Inc)
			t.sub(row.Use)
		}
		for _, transfer := range row.Transfers {
			if row.Actor == a {
				t.sub(transfer.Amount)
			}
			if transfer.To == a {
				t.add(transfer.Amount)
			}
		}
	}
	return t.clamp()
}

// Rows returns the rows in ascending order of actors. They are the caller's, but their transfers
// must not be changed.
func (c BoundedCounter) Rows() []BoundedRow { return slices.Clone(c.rows) }

// Actors returns who ever operated or was given rights, in ascending order.
func (c BoundedCounter) Actors() []Actor {
	var actors []Actor
	for _, row := range c.rows {
		actors = append(actors, row.Actor)
		for _, t := range row.Transfers {
			actors = append(actors, t.To)
		}
	}
	slices.Sort(actors)
	return slices.Compact(actors)
}

// Len returns the number of rows.
func (c BoundedCounter) Len() int { return len(c.rows) }

// Equal reports whether two counters have the same rows.
func (c BoundedCounter) Equal(o BoundedCounter) bool {
	return c.unknown == o.unknown && slices.EqualFunc(c.rows, o.rows, func(a, b BoundedRow) bool {
		return a.Actor == b.Actor && a.Seq == b.Seq && a.Inc == b.Inc && a.Use == b.Use && slices.Equal(a.Transfers, b.Transfers)
	})
}

// Clone returns a copy that shares no memory that is ever changed.
func (c BoundedCounter) Clone() BoundedCounter {
	return BoundedCounter{slices.Clone(c.rows), c.unknown}
}

func (c BoundedCounter) row(a Actor) BoundedRow {
	if i, ok := c.search(a); ok {
		return c.rows[i]
	}
	return BoundedRow{Actor: a}
}

func (c BoundedCounter) search(a Actor) (int, bool) {
	return slices.BinarySearchFunc(c.rows, a, func(r BoundedRow, a Actor) int { return cmp.Compare(r.Actor, a) })
}

// Append appends the counter's encoding: the version, then the rows in ascending order of actors, to
// the end. All numbers are varints without sign.
//
//	actor | seq | inc | use | transfers | that many (to, amount)
//
// Transfers ascend by actor; none is 0 or to the row's own actor.
func (c BoundedCounter) Append(b []byte) []byte {
	b = appendVersion(b, c.unknown)
	for _, row := range c.rows {
		b = appendDot(b, Dot{row.Actor, row.Seq})
		b = binary.AppendUvarint(b, uint64(row.Inc))
		b = binary.AppendUvarint(b, uint64(row.Use))
		b = binary.AppendUvarint(b, uint64(len(row.Transfers)))
		for _, t := range row.Transfers {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(t.To)), uint64(t.Amount))
		}
	}
	return b
}

// DecodeBoundedCounter reads what Append wrote.
func DecodeBoundedCounter(data []byte) (BoundedCounter, error) {
	r, unknown := newReader("bounded counter", data)
	c := BoundedCounter{unknown: unknown}
	for r.Len() > 0 {
		row := readBoundedRow(r)
		if n := len(c.rows); n > 0 && c.rows[n-1].Actor >= row.Actor {
			r.Fail("actors out of order")
		}
		c.rows = append(c.rows, row)
	}
	if err := r.Done(); err != nil {
		return BoundedCounter{}, err
	}
	return c, nil
}

func readBoundedRow(r *codec.Reader) BoundedRow {
	dot := readDot(r)
	row := BoundedRow{Actor: dot.Actor, Seq: dot.Seq, Inc: readAmount(r), Use: readAmount(r)}
	n := r.Count(2)
	if n > 0 {
		row.Transfers = make([]BoundedTransfer, 0, n)
	}
	for range n {
		t := BoundedTransfer{Actor(r.Uvarint(maxActor)), readAmount(r)}
		if k := len(row.Transfers); k > 0 && row.Transfers[k-1].To >= t.To {
			r.Fail("transfers out of order")
		}
		if t.To == row.Actor || t.Amount == 0 {
			r.Fail("transfer of nothing, or to oneself")
		}
		row.Transfers = append(row.Transfers, t)
	}
	if row.Inc == 0 && row.Use == 0 && n == 0 {
		r.Fail("row without content")
	}
	return row
}

func readAmount(r *codec.Reader) int64 { return int64(r.Uvarint(math.MaxInt64)) }
