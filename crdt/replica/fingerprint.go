package replica

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/atolldb/atoll/crdt"
)

// RangeFingerprint is the Digest of the items in [From, To).
type RangeFingerprint struct {
	From, To Position
	Digest
}

// Item is one item of a digest: where it is, and its hash, big-endian.
type Item struct {
	Position Position
	Hash     [16]byte
}

// add adds other items to the sum.
func (d *Digest) add(item *Item) {
	lo, carry := bits.Add64(binary.BigEndian.Uint64(d.Sum[8:]), binary.BigEndian.Uint64(item.Hash[8:]), 0)
	hi, _ := bits.Add64(binary.BigEndian.Uint64(d.Sum[:8]), binary.BigEndian.Uint64(item.Hash[:8]), carry)
	binary.BigEndian.PutUint64(d.Sum[:8], hi)
	binary.BigEndian.PutUint64(d.Sum[8:], lo)
	d.Items++
}

// Fingerprints divides [from, to) into ranges of a number of items each, of which the last may have fewer, and
// returns at most limit of them. The last one returned ends at to, or is followed by more: the caller goes on from
// its end. The sums of all ranges add up to the Digest. What is in one item is what Digest says.
func (r *Replica) Fingerprints(from, to Position, items, limit int) ([]RangeFingerprint, error) {
	if items <= 0 || limit <= 0 {
		return nil, fmt.Errorf("%d ranges of %d items", limit, items)
	}
	ranges := []RangeFingerprint{{From: from, To: to}}
	err := r.eachItem(from, to, func(i *Item) (bool, error) {
		last := &ranges[len(ranges)-1]
		if last.Items == uint64(items) {
			last.To = i.Position
			if len(ranges) == limit {
				return false, nil
			}
			ranges = append(ranges, RangeFingerprint{From: i.Position, To: to})
			last = &ranges[len(ranges)-1]
		}
		last.add(i)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("fingerprint ranges: %w", err)
	}
	return ranges, nil
}

// Differing returns this replica's fingerprints of those ranges of another one in which it differs. They may
// differ because the vectors do; at equal vectors something is wrong.
func (r *Replica) Differing(theirs []RangeFingerprint) ([]RangeFingerprint, error) {
	var differ []RangeFingerprint
	for _, t := range theirs {
		mine, err := r.fingerprint(t.From, t.To, 0)
		if err != nil {
			return nil, err
		}
		if mine != t.Digest {
			differ = append(differ, RangeFingerprint{t.From, t.To, mine})
		}
	}
	return differ, nil
}

// fingerprint returns the digest of a range, of which it reads no more than enough items unless that is 0.
func (r *Replica) fingerprint(from, to Position, enough uint64) (Digest, error) {
	var d Digest
	err := r.eachItem(from, to, func(i *Item) (bool, error) {
		d.add(i)
		return enough == 0 || d.Items < enough, nil
	})
	if err != nil {
		return Digest{}, fmt.Errorf("fingerprint a range: %w", err)
	}
	return d, nil
}

// Items returns the items in [from, to), at most limit of them, and where the next one would begin: to if there is
// none.
func (r *Replica) Items(from, to Position, limit int) (items []Item, next Position, err error) {
	next = to
	err = r.eachItem(from, to, func(i *Item) (bool, error) {
		if len(items) == limit {
			next = i.Position
			return false, nil
		}
		items = append(items, *i)
		return true, nil
	})
	if err != nil {
		return nil, Position{}, fmt.Errorf("list items: %w", err)
	}
	return items, next, nil
}

// Difference is a value of which two replicas do not have the same items: how many of them one replica has and the
// other has not, and how many both have and are not the same.
type Difference struct {
	Name
	OnlyHere, OnlyThere, Changed uint64
}

// Differences returns the values of which two replicas do not have the same items, in order and each once. Both lists
// are of the same range, and in order. Error: crdt.ErrCorrupt for a position of no object.
func Differences(here, there []Item) (all []Difference, err error) {
	for len(here) > 0 || len(there) > 0 {
		var order int
		switch {
		case len(here) == 0:
			order = 1
		case len(there) == 0:
			order = -1
		default:
			order = here[0].Position.Compare(there[0].Position)
		}
		switch {
		case order < 0:
			all, err = differs(all, here[0].Position, Difference{OnlyHere: 1})
		case order > 0:
			all, err = differs(all, there[0].Position, Difference{OnlyThere: 1})
		case here[0].Hash != there[0].Hash:
			all, err = differs(all, here[0].Position, Difference{Changed: 1})
		}
		if err != nil {
			return nil, err
		}
		if order <= 0 {
			here = here[1:]
		}
		if order >= 0 {
			there = there[1:]
		}
	}
	return all, nil
}

// differs adds how the item at a position differs to its value, which is the last one or new.
func differs(all []Difference, at Position, how Difference) ([]Difference, error) {
	name, err := nameAtPosition(at.Object)
	if err != nil {
		return nil, err
	}
	if n := len(all); n == 0 || all[n-1].Name != name {
		all = append(all, Difference{Name: name})
	}
	last := &all[len(all)-1]
	last.OnlyHere += how.OnlyHere
	last.OnlyThere += how.OnlyThere
	last.Changed += how.Changed
	return all, nil
}

// eachItem visits the items in [from, to) in order.
func (r *Replica) eachItem(from, to Position, visit func(i *Item) (more bool, err error)) error {
	scan := scanObjects(r.kv, from, to, false)
	for {
		o, ok, err := scan.next()
		if err != nil || !ok {
			return err
		}
		more, err := r.itemsOf(&o, from, to, visit)
		if err != nil || !more {
			return err
		}
	}
}

// itemsOf visits the items of one object.
func (r *Replica) itemsOf(o *scanned, from, to Position, visit func(i *Item) (bool, error)) (more bool, err error) {
	kind := kindOf(o.t)
	s, err := kind.decode(o.value)
	if err != nil {
		return false, err
	}
	low, high, head := within(from, to, o.object)
	if list, ok := s.(*siblings); ok {
		return siblingsItem(o, list, low, high, visit)
	}
	var sum digestSum
	if more = true; head {
		if kind.digest(&sum, o.key, s, r.meta.last); sum.items > 0 {
			if more, err = visit(sum.take(Position{Object: o.object})); err != nil || !more {
				return false, err
			}
		}
	}
	e, ok := s.(elemental)
	if !ok {
		return true, nil
	}
	err = e.stored().scan(r.kv, []byte(low), orNone(high), func(name, v []byte) (bool, error) {
		if err := sum.element(kind, o.key, pair{name, v}); err != nil || sum.items == 0 {
			return err == nil, err
		}
		var err error
		more, err = visit(sum.take(Position{Object: o.object, Element: string(name)}))
		return more, err
	})
	return more, err
}

// take returns the one item of a sum, which is empty afterwards.
func (s *digestSum) take(at Position) *Item {
	i := &Item{Position: at}
	binary.BigEndian.PutUint64(i.Hash[:8], s.hi)
	binary.BigEndian.PutUint64(i.Hash[8:], s.lo)
	s.hi, s.lo, s.items = 0, 0, 0
	return i
}

// siblingsItem visits the one item of a multi-value register or flag: of those of its parts that are in the range.
func siblingsItem(o *scanned, s *siblings, low, high string, visit func(i *Item) (bool, error)) (bool, error) {
	part := siblings{}
	for _, sibling := range s.list {
		if name := siblingName(sibling.Dot); name >= low && (high == "" || name < high) {
			part.list = append(part.list, sibling)
		}
	}
	if len(part.list) == 0 {
		return true, nil
	}
	var sum digestSum
	siblingsKind{o.t}.digest(&sum, o.key, &part, 0)
	return visit(sum.take(Position{Object: o.object, Element: low}))
}

// siblingName returns the name in positions of a value of a multi-value register.
func siblingName(d crdt.Dot) string {
	return string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(d.Actor)), d.Seq))
}

// elemental is a stored object with elements.
type elemental interface{ stored() *elements }

func (e *elements) stored() *elements { return e }

// orNone returns the end of a range of names, nil if there is none.
func orNone(high string) []byte {
	if high == "" {
		return nil
	}
	return []byte(high)
}
