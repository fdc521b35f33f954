package crdt

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// Void takes back what one event of an actor added to a counter, or part of it, as the actor's later event
// At: it was a duplicate of what another actor had done. Of what event Seq added, Sum does not count.
//
// An addition of the opposite sign would not do. A reset that observed the event but not what takes it back
// covers the one and leaves the other, which then eats what survives the reset. A void goes with the event
// that it is about: whoever resets that, resets both.
type Void struct {
	Actor   Actor
	Seq, At uint64
	Sum     int64
}

// MaxVoids is how many events of one actor can be void in a counter at a time.
const MaxVoids = 256

// compare orders voids by the events that they are about.
func (v Void) compare(o Void) int {
	return cmp.Or(cmp.Compare(v.Actor, o.Actor), cmp.Compare(v.Seq, o.Seq))
}

// Void takes back x of what d's actor added as its event seq, as event d, and returns the change as a counter
// to join elsewhere. It reports false, and changes nothing, if that cannot be said: MaxVoids events of the
// actor are void already, or sums would leave int64. The change is empty if there is nothing to take back,
// because the counter has no such event or all of it was reset.
func (c *Counter) Void(d Dot, seq uint64, x int64) (change Counter, ok bool) {
	row := c.row(d.Actor)
	if !row.Live() || seq < row.Entry.Gen || seq <= row.Base.Seq || seq > row.Entry.Seq {
		return Counter{}, true
	}
	v := Void{Actor: d.Actor, Seq: seq, At: d.Seq, Sum: x}
	of := 0
	for _, old := range c.voids {
		switch {
		case old.Actor != d.Actor:
			continue
		case old.Seq == seq:
			v.Sum += old.Sum
			if (v.Sum > old.Sum) != (x > 0) && x != 0 {
				return Counter{}, false
			}
		default:
			of++
		}
	}
	if of >= MaxVoids {
		return Counter{}, false
	}
	change = Counter{voids: []Void{v}}
	c.Join(change)
	return change, true
}

// Voids returns what does not count, in ascending order of actors and events. They are the caller's.
func (c Counter) Voids() []Void { return slices.Clone(c.voids) }

// NewVoids returns a change that has nothing but voids, in ascending order.
func NewVoids(voids []Void) Counter { return Counter{voids: voids} }

// Known returns the rows and the voids of a counter without the fields of a newer program.
func (c Counter) Known() Counter { return Counter{rows: c.rows, voids: c.voids} }

// Effective returns what a row of the counter adds to its value, within the range of int64.
func (c Counter) Effective(row Row) int64 {
	only := Counter{rows: []Row{row}, voids: slices.DeleteFunc(c.Voids(), func(v Void) bool { return v.Actor != row.Actor })}
	return only.Value()
}

// LiveRows returns the rows with additions that no reset observed, and what is void of them.
func (c Counter) LiveRows() Counter {
	live := Counter{rows: slices.DeleteFunc(c.Rows(), func(r Row) bool { return !r.Live() })}
	for _, v := range c.voids {
		if _, ok := live.search(v.Actor); ok {
			live.voids = append(live.voids, v)
		}
	}
	return live
}

// joinVoids merges voids, and drops those that a reset, or a new generation, made superfluous.
func (c *Counter) joinVoids(voids []Void) {
	if len(c.voids) == 0 && len(voids) == 0 {
		return
	}
	all := slices.Concat(c.voids, voids)
	slices.SortFunc(all, func(a, b Void) int { return cmp.Or(a.compare(b), cmp.Compare(b.At, a.At)) })
	all = slices.CompactFunc(all, func(a, b Void) bool { return a.compare(b) == 0 }) // the later is first
	c.voids = slices.DeleteFunc(all, func(v Void) bool {
		row := c.row(v.Actor)
		return v.Seq <= row.Base.Seq || v.Seq < row.Entry.Gen
	})
	if len(c.voids) == 0 {
		c.voids = nil
	}
}

// subtractVoids takes what is void off a sum of all rows.
func (c Counter) subtractVoids(t *int128) {
	for _, v := range c.voids {
		if row := c.row(v.Actor); row.Live() && v.Seq <= row.Entry.Seq {
			t.sub(v.Sum)
		}
	}
}

// codecVersion2 is the version of a counter's encoding that has voids. What version 1 can say is never said
// in it.
const codecVersion2 = 2

func appendVoids(b []byte, voids []Void) []byte {
	b = binary.AppendUvarint(b, uint64(len(voids)))
	for _, v := range voids {
		b = binary.AppendUvarint(appendDot(b, Dot{v.Actor, v.Seq}), v.At-v.Seq)
		b = binary.AppendVarint(b, v.Sum)
	}
	return b
}

func readVoids(r *codec.Reader) []Void {
	const voidBytes = 4
	n := r.Count(voidBytes)
	if n == 0 {
		r.Fail("version 2 says nothing that version 1 cannot")
	}
	voids := make([]Void, 0, n)
	for range n {
		dot := readDot(r)
		v := Void{Actor: dot.Actor, Seq: dot.Seq, At: dot.Seq + r.Uvarint(maxSeq-dot.Seq), Sum: r.Varint()}
		if v.Seq == 0 || v.At == v.Seq {
			r.Fail("void of an event still to come")
		}
		if k := len(voids); k > 0 && voids[k-1].compare(v) >= 0 {
			r.Fail("voids out of order")
		}
		voids = append(voids, v)
	}
	return voids
}

// checkVoids refuses voids that Join would have dropped.
func (c Counter) checkVoids(r *codec.Reader) {
	kept := Counter{rows: c.rows}
	if kept.joinVoids(c.voids); r.OK() && len(kept.voids) != len(c.voids) {
		r.Fail("void of what was reset")
	}
}
