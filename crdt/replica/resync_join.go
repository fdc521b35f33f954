package replica

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// joinBudget bounds how many objects and elements one JoinChunk looks at, on either side, roughly.
const joinBudget = 8192

// Joined is what a JoinChunk did.
type Joined struct {
	// Cursor is how far the resync is now. If it is not at the chunk's end, the same chunk is to be joined again:
	// there is more here, in its range, than one call looks at.
	Cursor Position
	// Changed are the values that changed, or may have, in order.
	Changed []Name
}

// JoinChunk joins what the donor holds in a range to what is here, and moves the cursor to the range's end. A
// chunk that was joined before is passed by. The result is a function of the replica's state and the arguments.
//
// What only one side holds is gone if the other one has seen it, and else stays; so nothing need be told of
// deletes whose traces are gone. What is here at a place includes the events of both sides afterwards.
//
// Errors after which nothing was changed: ErrNoResync, also if the chunk begins behind the cursor, ErrRangeDiffers
// if it is for who holds the same items, *BadDeltaError if no honest donor sends it. Any other means that the
// storage failed or is corrupt.
func (r *Replica) JoinChunk(id uint64, c Chunk) (Joined, error) {
	l := r.meta.active()
	if l == nil || l.id != id || c.From.Compare(l.cursor) > 0 {
		return Joined{}, ErrNoResync
	}
	if l.cursor.Compare(c.To) >= 0 {
		return Joined{Cursor: l.cursor}, nil
	}
	if err := c.check(&l.donor); err != nil {
		return Joined{}, &BadDeltaError{crdt.Dot{Actor: l.donor.Actor}, err.Error()}
	}
	if c.Fingerprint != nil {
		have, err := r.fingerprint(c.From, c.To, c.Fingerprint.Items+1)
		if err != nil {
			return Joined{}, err
		}
		if have != *c.Fingerprint || l.cursor != c.From {
			return Joined{}, ErrRangeDiffers
		}
	}
	j := &joiner{w: r.begin(false), chunk: &c, donor: &l.donor, from: l.cursor, left: joinBudget, hidden: c.Fingerprint != nil}
	if r.joinLimit > 0 {
		j.left = r.joinLimit
	}
	j.version = l.donor.newTo(r.meta.vector)
	if err := j.objects(); err != nil {
		return Joined{}, fmt.Errorf("join a chunk: %w", err)
	}
	l.cursor = j.cursor
	j.w.meta.dropLayers()
	return Joined{Cursor: j.cursor, Changed: j.changed}, r.commit(j.w)
}

// newTo returns an event of the donor's that a vector does not include; Seq is 0 if there is none. It names, as
// versions do, what a join made of a value.
func (d *Donor) newTo(v crdt.VersionVector) crdt.Dot {
	for _, e := range d.Vector.Entries() {
		if !v.Covers(e) {
			return e
		}
	}
	return crdt.Dot{}
}

// joiner is a JoinChunk under way.
type joiner struct {
	w      *work
	chunk  *Chunk
	donor  *Donor
	from   Position
	cursor Position
	// left is the rest of the budget.
	left int
	// hidden means that what the donor does not name is as it is here.
	hidden  bool
	version crdt.Dot
	changed []Name
}

// objects joins the objects of both sides, in order.
func (j *joiner) objects() error {
	theirs := j.chunk.objects
	for len(theirs) > 0 && theirs[0].object < j.from.Object {
		theirs = theirs[1:]
	}
	mine := &ownObjects{}
	if !j.hidden {
		mine.scan = scanObjects(j.w.kv, j.from, j.chunk.To, false)
	}
	for {
		if err := mine.advance(); err != nil {
			return err
		}
		o := &chunkObject{object: mine.next.object}
		switch {
		case len(theirs) > 0 && (!mine.ok || theirs[0].object <= mine.next.object):
			o, theirs = &theirs[0], theirs[1:]
		case !mine.ok:
			j.cursor = j.chunk.To
			return nil
		}
		if j.left <= 0 && !j.hidden { // of what is hidden, the chunk bounds how much there is
			j.cursor = Position{Object: o.object}
			return nil
		}
		stopped, err := j.object(o)
		if err != nil || stopped {
			return err
		}
		mine.done = o.object
	}
}

// ownObjects are the objects here, those up to done passed by.
type ownObjects struct {
	scan *objectScan // nil for none
	next scanned
	ok   bool
	done string
}

func (m *ownObjects) advance() (err error) {
	for m.scan != nil && (!m.ok || m.next.object <= m.done) {
		if m.next, m.ok, err = m.scan.next(); err != nil || !m.ok {
			m.scan = nil
		}
	}
	m.ok = m.ok && m.next.object > m.done
	return err
}

// object joins one object, or the first part of it: then the cursor is in it.
func (j *joiner) object(theirs *chunkObject) (stopped bool, err error) {
	key, t, err := objectAtPosition(theirs.object)
	if err != nil {
		return false, err
	}
	o := &joining{joiner: j, key: key, t: t, theirs: theirs}
	o.low, o.high, o.head = within(j.from, j.chunk.To, theirs.object)
	j.left--
	kind := kindOf(t).(transferable) // check has looked at the donor's, and all that is stored is
	join := func() error { return kind.joinObject(o) }
	if key[0] != tableLeaf {
		err = join()
	} else if err = j.w.changeLeaf(key, t, crdt.Dot{}, join); err == nil && o.changed {
		err = j.w.touchMap(key, j.version)
	}
	if err != nil {
		return false, err
	}
	if o.changed {
		if err := j.tell(theirs.object); err != nil {
			return false, err
		}
	}
	if o.stopped != "" {
		j.cursor = Position{Object: theirs.object, Element: o.stopped}
	}
	return o.stopped != "", nil
}

// tell notes that a value changed.
func (j *joiner) tell(object string) error {
	name, err := nameAtPosition(object)
	if n := len(j.changed); err == nil && (n == 0 || j.changed[n-1] != name) {
		j.changed = append(j.changed, name)
	}
	return err
}

// joining is one object under way.
type joining struct {
	*joiner
	key    []byte
	t      crdt.Type
	theirs *chunkObject
	// The elements from low on and before high are joined, and with head what is before them.
	low, high string
	head      bool
	// stopped is where the budget ended, changed whether anything did.
	stopped string
	changed bool
}

// here returns whether this replica has seen an event, where an element is.
func (o *joining) here(element string) func(crdt.Dot) bool {
	return func(d crdt.Dot) bool { return o.w.meta.includes(o.theirs.object, element, d) }
}

// there reports whether the donor has seen an event.
func (o *joining) there(d crdt.Dot) bool { return o.donor.Vector.Covers(d) }

// mark notes that the object changed, and returns the event that names what it is now.
func (o *joining) mark(last crdt.Dot) crdt.Dot {
	o.changed = true
	if o.version.Seq == 0 {
		return last
	}
	return o.version
}

// both is an element of either side, or both; what a side does not have is nil.
type both struct{ name, mine, theirs []byte }

// elements returns the elements of both sides, in order, as far as the budget goes.
func (o *joining) elements(mine *elements) ([]both, error) {
	all := make([]both, 0, len(o.theirs.elements))
	if o.hidden {
		for _, t := range o.theirs.elements {
			have, _, err := mine.get(o.w.kv, t.name)
			if err != nil {
				return nil, err
			}
			all = append(all, both{t.name, append([]byte(nil), have...), t.value})
		}
		return all, nil
	}
	theirs := o.theirs.elements
	for len(theirs) > 0 && string(theirs[0].name) < o.low {
		theirs = theirs[1:]
	}
	take := func(before []byte) {
		for len(theirs) > 0 && (before == nil || string(theirs[0].name) < string(before)) {
			all, theirs = append(all, both{theirs[0].name, nil, theirs[0].value}), theirs[1:]
		}
	}
	err := mine.scan(o.w.kv, []byte(o.low), orNone(o.high), func(name, value []byte) (bool, error) {
		take(name)
		if len(all) > max(o.left, 0) && string(name) > o.low {
			o.stopped = string(name)
			return false, nil
		}
		b := both{append([]byte(nil), name...), append([]byte{}, value...), nil}
		if len(theirs) > 0 && string(theirs[0].name) == string(name) {
			b.theirs, theirs = theirs[0].value, theirs[1:]
		}
		all = append(all, b)
		return true, nil
	})
	if o.stopped == "" {
		take(nil)
	}
	o.left -= len(all)
	return all, err
}

// covers reports whether an element is among those that are joined.
func (o *joining) covers(element string) bool {
	return element >= o.low && (o.stopped == "" || element < o.stopped)
}

// touchMap notes in the header of a map that one of its leaves changed.
func (w *work) touchMap(leaf []byte, event crdt.Dot) error {
	object, err := mapKey(leaf)
	if err != nil || event.Seq == 0 {
		return err
	}
	data, ok, err := w.kv.Get(object)
	if err != nil || !ok {
		return err
	}
	h, err := decodeORMapHeader(data)
	if err != nil {
		return err
	}
	h.last = event
	return w.putORMap(object, &h)
}

// effectHere returns an effect on the object, without a change: who counts conflicts goes by it.
func (o *joining) effectHere() (*Effect, error) {
	_, rest, _ := readName(o.key[1:])
	namespace, _, _ := readName(o.key[1:])
	user, rest, _ := readName(rest)
	e := &Effect{Namespace: namespace, Key: user, Type: o.t}
	if o.key[0] == tableLeaf {
		p, _, ok := readPlace(rest)
		if !ok {
			return nil, fmt.Errorf("leaf key: %w", crdt.ErrCorrupt)
		}
		e.Path = p
	}
	return e, nil
}

// decide notes that of two writes that had not seen each other the later wins. What the author of the donor's had
// seen at that event is not known; what it had at its last one is.
func (o *joining) decide(mine, theirs *crdt.LWWRegister, field []byte) error {
	if mine.Seq == 0 || mine.Dot() == theirs.Dot() || o.donor.Seen[theirs.Actor].Covers(mine.Dot()) || o.here(string(field))(theirs.Dot()) {
		return nil
	}
	e, err := o.effectHere()
	if err != nil {
		return err
	}
	d := &Delta{Dot: theirs.Dot(), Time: theirs.Time}
	return o.w.decide(contest{delta: d, effect: e, field: []byte(strings.Clone(string(field)))}, mine, theirs)
}

// insist leaves a register of a home as it is if the donor has one that comes too late, or lost this one to an event
// that does.
func (o *joining) insist(mine, theirs *crdt.LWWRegister) (bool, error) {
	if len(o.w.homes) == 0 || theirs.Dot() == mine.Dot() {
		return false, nil
	}
	e, err := o.effectHere()
	if err != nil {
		return false, err
	}
	home := slices.IndexFunc(o.w.homes, func(h Home) bool { return h.Namespace == e.Namespace })
	switch {
	case home < 0:
		return false, nil
	case theirs.Seq != 0 && o.w.homes[home].late(theirs) && !o.here("")(theirs.Dot()):
		c := contest{delta: &Delta{Dot: theirs.Dot(), Time: theirs.Time}, effect: e}
		return true, o.w.refuseLate(c, mine, theirs)
	case theirs.Seq == 0 && !o.hidden && mine.Seq != 0 && !mine.Deleted && o.there(mine.Dot()):
		o.w.insist(e.Namespace, e.Key)
		return true, nil
	}
	return false, nil
}
