package region

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

const (
	// futureItems and futureBytes bound what one page of events from the future looks at.
	futureItems = 4096
	futureBytes = 2 << 20

	futureCursorVersion = 1
	// maxFutureActors bounds what a cursor knows of actors.
	maxFutureActors = 4096
)

// FutureQuery asks for a page of the values with events from the future.
type FutureQuery struct {
	// After is the latest instant that is not the future.
	After hlc.Time
	// Cursor is where the page before ended; empty is the beginning.
	Cursor []byte
	// Limit is how many values are enough.
	Limit int
}

// FutureValue is a value with an event from the future.
type FutureValue struct {
	replica.FutureValue
	// Lacking are the regions that are not known to have applied the event, ascending. OnlyHere says that no other region
	// is known to have.
	Lacking  []topology.RegionID
	OnlyHere bool
	// Seen is, of a register, what whoever wrote it had applied then of other actors' events, as far as the outbox
	// tells: those that it had not applied yet at the last event that is not in the outbox any more.
	Seen crdt.VersionVector
}

// FuturePage is one page.
type FuturePage struct {
	// Values are first those that the events in the outbox changed, in their order, and then all others that name such
	// events. A register is among the first only if it is as such an event left it.
	Values []FutureValue
	// Undated counts the values that may have such events, of which neither their instants nor they are kept.
	Undated uint64
	// Cursor is where the next page begins; empty if this was the last.
	Cursor []byte
	// Now is the instant by which it is judged whether a register has expired.
	Now hlc.Time
}

// Future returns a page of the values with events from the future, as of one instant between call and return. It reads a
// bounded part of the state, so a page may have none, and yet not be the last. Nothing waits for it.
//
// Errors: those of a linearizable Read, ErrBadCursor.
func (p *Partition) Future(ctx context.Context, q FutureQuery) (FuturePage, error) {
	from, err := decodeFutureCursor(q.Cursor)
	if err != nil {
		return FuturePage{}, err
	}
	if _, err := p.prepare(ctx, ReadOptions{}); err != nil {
		return FuturePage{}, err
	}
	view := p.machine.View()
	if view.HLC <= q.After {
		return FuturePage{}, nil // there are no later instants anywhere in the state
	}
	f := future{query: q, others: p.waitsFor(view), next: from}
	err = p.machine.store.View(func(kv replica.KV) error {
		if f.replica, err = replica.Open(kv, p.machine.self); err != nil {
			return err
		}
		if f.state, err = loadMachineState(kv); err != nil {
			return err
		}
		f.page.Now = max(p.clock.Read(), f.replica.LastHLC())
		if f.next.position == nil {
			if more, err := f.outbox(kv); more || err != nil {
				return err
			}
			f.next = futureCursor{position: &replica.Position{}}
		}
		return f.stored()
	})
	if err != nil {
		return FuturePage{}, fmt.Errorf("look for events from the future: %w", err)
	}
	return f.page, nil
}

// futureCursor says where a page begins: in the outbox, at the event after one, or in what is stored.
type futureCursor struct {
	after uint64
	// seen is what the events of the outbox up to that tell of what had been applied.
	seen     crdt.VersionVector
	position *replica.Position
}

// append appends the encoding: version 1 | 0, the event | actor, seq of what was seen, to the end; or
// version 1 | 1 | the position, to the end. Numbers are varints.
func (c *futureCursor) append(b []byte) []byte {
	b = append(b, futureCursorVersion)
	if c.position != nil {
		return append(append(b, 1), replica.EncodePosition(*c.position)...)
	}
	b = binary.AppendUvarint(append(b, 0), c.after)
	c.seen.Each(func(a crdt.Actor, seq uint64) { b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(a)), seq) })
	return b
}

func decodeFutureCursor(data []byte) (c futureCursor, err error) {
	if len(data) == 0 {
		return c, nil
	}
	if len(data) < 2 || data[0] != futureCursorVersion || data[1] > 1 {
		return c, ErrBadCursor
	}
	rest := data[2:]
	if data[1] == 1 {
		at, err := replica.DecodePosition(rest)
		if err != nil {
			return c, fmt.Errorf("%w: %w", ErrBadCursor, err)
		}
		return futureCursor{position: &at}, nil
	}
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			err, rest = ErrBadCursor, nil
			return 0
		}
		rest = rest[size:]
		return n
	}
	c.after = number()
	for n := 0; len(rest) > 0; n++ {
		a, seq := number(), number()
		if a > uint64(^crdt.Actor(0)) || n == maxFutureActors {
			return c, ErrBadCursor
		}
		c.seen.Set(crdt.Actor(a), seq)
	}
	return c, err
}

// future is one page under way.
type future struct {
	query   FutureQuery
	replica *replica.Replica
	state   machineState
	// others are the regions that take part.
	others []topology.RegionID
	next   futureCursor
	page   FuturePage
}

// outbox looks at the events that some region may lack. It returns true if the page ends among them.
func (f *future) outbox(kv replica.KV) (more bool, err error) {
	if head := f.state.outbox.head; f.replica.HLCOf(f.replica.Self()) <= f.query.After || f.next.after >= head {
		return false, nil
	}
	pairs, bytes := 0, 0
	err = scanOutbox(kv, f.next.after+1, func(p *outboxPair) (bool, error) {
		if pairs > 0 && (pairs >= futureItems || bytes >= futureBytes || len(f.page.Values) >= f.query.Limit) {
			more = true
			return false, nil
		}
		pairs, bytes = pairs+1, bytes+len(p.data)
		run, err := replica.DecodeRunOrDelta(p.data)
		if err != nil {
			return false, err
		}
		for _, d := range run.After(f.next.after) {
			for _, seen := range d.Seen {
				f.next.seen.Set(seen.Actor, max(seen.Seq, f.next.seen.Get(seen.Actor)))
			}
			if err := f.delta(&d); err != nil {
				return false, err
			}
		}
		f.next.after = p.seq
		return true, nil
	})
	if more {
		f.page.Cursor = f.next.append(nil)
	}
	return more, err
}

// delta takes the values that an event of the outbox has changed, if it is from the future.
func (f *future) delta(d *replica.Delta) error {
	if d.Time <= f.query.After {
		return nil
	}
	var last replica.Name
	for i := range d.Effects {
		e := &d.Effects[i]
		name := replica.Name{Namespace: e.Namespace, Key: e.Key, Type: e.Subject()}
		if name == last || name.Namespace == replica.HomeNamespace {
			continue
		}
		last = name
		v := FutureValue{FutureValue: replica.FutureValue{Name: name, At: d.Time, Dot: d.Dot, Last: []crdt.Dot{d.Dot}}}
		if name.Type == crdt.TypeLWWRegister {
			reg, ok, err := f.replica.Register(name.Namespace, name.Key)
			if err != nil {
				return err
			}
			if !ok || reg.Dot() != d.Dot {
				continue // something else was written since
			}
			v.Register, v.Seen = &reg, f.next.seen.Clone()
		}
		f.take(v)
	}
	return nil
}

// stored looks at what is stored, but for the events that the outbox has.
func (f *future) stored() error {
	room := f.query.Limit - len(f.page.Values)
	if room <= 0 {
		f.page.Cursor = f.next.append(nil)
		return nil
	}
	found, err := f.replica.Future(replica.FutureQuery{
		After: f.query.After, Own: f.state.outbox.trimmed, From: *f.next.position, Values: room, Items: futureItems, Bytes: futureBytes,
	})
	if err != nil {
		return err
	}
	for i := range found.Values {
		f.take(FutureValue{FutureValue: found.Values[i]})
	}
	f.page.Undated = found.Undated
	if !found.Next.End {
		f.next.position = &found.Next
		f.page.Cursor = f.next.append(nil)
	}
	return nil
}

// take adds a value to the page.
func (f *future) take(v FutureValue) {
	origins := map[topology.RegionID]bool{}
	for _, d := range v.Last {
		origin, _ := topology.ActorRegion(d.Actor)
		origins[origin] = true
	}
	v.OnlyHere = len(v.Last) > 0
	for _, r := range f.others {
		if slices.ContainsFunc(v.Last, func(d crdt.Dot) bool { return !f.has(r, d) }) {
			v.Lacking = append(v.Lacking, r)
		} else {
			v.OnlyHere = false
		}
	}
	self, _ := topology.ActorRegion(f.replica.Self())
	delete(origins, self)
	v.OnlyHere = v.OnlyHere && len(origins) == 0
	slices.SortFunc(v.Lacking, func(a, b topology.RegionID) int { return cmp.Compare(a, b) })
	f.page.Values = append(f.page.Values, v)
}

// has reports whether a region is known to have applied an event: it made it, said so, or has made an event since which
// says so.
func (f *future) has(r topology.RegionID, d crdt.Dot) bool {
	origin, _ := topology.ActorRegion(d.Actor)
	if origin == r || f.state.watermarks[watermarkKey{r, d.Actor}] >= d.Seq {
		return true
	}
	for _, last := range f.replica.Vector().Entries() {
		if by, _ := topology.ActorRegion(last.Actor); by == r && f.replica.Saw(last.Actor, d) {
			return true
		}
	}
	return false
}
