package replica

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

var resyncSchedules = flag.Int("resyncs", 0, "random schedules of resyncs, as many as -schedules if 0")

// TestResyncMakesTheSameState runs random histories of all types, with expiry and ticks, in which regions take over
// the state of others at any moment: chunk by chunk, with local writes, merges, expiry and reopening in between,
// from donors that vanish, and with ranges skipped that are the same. Whenever a region's state is that of its
// vector, it must be what the events up to there make, in any order. At the end everything is deleted, and nothing
// may be left.
func TestResyncMakesTheSameState(t *testing.T) {
	t.Parallel()
	done, hidden := 0, 0
	for i := range uint64(resyncCount()) {
		seed := *firstSeed + i
		w := newResyncWorld(seed, "")
		if err := w.run(120 + int(seed%150)); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
		done, hidden = done+w.done, hidden+w.hidden
	}
	if resyncCount() >= 100 && (done == 0 || hidden == 0) {
		t.Errorf("%d resyncs came to an end, %d ranges were skipped", done, hidden)
	}
}

func resyncCount() int {
	if *resyncSchedules > 0 {
		return *resyncSchedules
	}
	return 3 * *schedules
}

// TestResyncMutantsAreSeen: what must not be left out of a resync is noticed by the schedules above if it is.
func TestResyncMutantsAreSeen(t *testing.T) {
	const enough = 1000
	for mutant, first := range map[string]uint64{ // from a seed on that is not far from one that notices
		"no pre-removals": 380, "no deferred clears": 430, "live donor": 1, "no tombstones": 60, "merges again": 1, "always skip": 1,
	} {
		t.Run(mutant, func(t *testing.T) {
			t.Parallel()
			for seed := first; seed < first+enough; seed++ {
				if err := newResyncWorld(seed, mutant).run(120 + int(seed%150)); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Errorf("%d schedules did not notice", enough)
		})
	}
}

// resyncWorld is a tickWorld with resyncs.
type resyncWorld struct {
	*tickWorld
	mutant string
	// transfers are those under way, by region.
	transfers    []*transfer
	done, hidden int
}

// transfer is a resync under way: its donor's view of one instant.
type transfer struct {
	id    uint64
	from  int
	view  *Replica
	donor Donor
}

func newResyncWorld(seed uint64, mutant string) *resyncWorld {
	w := &resyncWorld{tickWorld: newTickWorld(seed), mutant: mutant}
	w.Rand = rand.New(rand.NewPCG(seed, 77))
	w.transfers = make([]*transfer, len(w.nodes))
	return w
}

func (w *resyncWorld) run(steps int) error {
	writers := len(w.nodes) - 1
	for range steps {
		i := w.IntN(len(w.nodes))
		w.clocks[i] += w.Int64N(200)
		var err error
		switch p := w.IntN(100); {
		case p < 30:
			i = w.IntN(writers)
			err = w.execute(i, w.randomOp())
		case p < 50:
			err = w.merge(i, w.IntN(len(w.nodes)))
		case p < 56:
			err = w.expire(i)
		case p < 60:
			err = w.tick(i)
		case p < 64:
			err = w.nodes[i].reopen(crdt.Actor(i + 1))
		case p < 69:
			err = w.begin(i)
		default:
			err = w.chunk(i)
		}
		if err == nil {
			err = w.check(i, w.IntN(4) == 0)
		}
		if err != nil {
			return fmt.Errorf("region %d: %w", i+1, err)
		}
	}
	return w.quiesce(writers)
}

// merge delivers deltas, as if nothing of theirs were there already if that is the mutant.
func (w *resyncWorld) merge(to, from int) error {
	m := w.nodes[to].r.meta
	layers := m.layers
	if w.mutant == "merges again" {
		m.layers = nil
		defer func() { m.layers = layers }()
	}
	return w.deliver(to, from, 1+w.IntN(5))
}

// begin takes a view of another region.
func (w *resyncWorld) begin(i int) error {
	from := w.IntN(len(w.nodes))
	if from == i || w.nodes[from].r.Resyncing() {
		return nil
	}
	if err := w.nodes[from].r.Flush(); err != nil {
		return err
	}
	t := &transfer{id: w.Uint64() | 1, from: from}
	var err error
	if t.view, err = Open(w.nodes[from].kv.Clone(), crdt.Actor(from+1)); err != nil {
		return err
	}
	if t.donor, err = t.view.Donor(); err != nil {
		return err
	}
	donor, err := DecodeDonor(EncodeDonor(t.donor))
	if err != nil {
		return err
	}
	switch err := w.nodes[i].r.BeginResync(t.id, donor); {
	case errors.Is(err, ErrResyncNotNeeded) || errors.Is(err, ErrTooManyResyncs):
		return nil
	case err != nil:
		if donor.Vector.Len() == 0 {
			return nil
		}
		return err
	}
	w.note("%d: resync %x from %d at %v", i+1, t.id, from+1, donor.Vector)
	w.transfers[i] = t
	w.nodes[i].r.joinLimit = 1 + w.IntN(6)
	return nil
}

// chunk takes over the next part, or ends the resync that has them all.
func (w *resyncWorld) chunk(i int) error {
	t, r := w.transfers[i], w.nodes[i].r
	if t == nil {
		return nil
	}
	state, ok := r.Resync()
	if !ok || state.ID != t.id {
		return fmt.Errorf("resync %x is gone: %+v", t.id, state)
	}
	if w.IntN(25) == 0 {
		w.note("%d: gives up at %+v", i+1, state.Cursor)
		w.transfers[i] = nil
		return r.AbandonResync(t.id)
	}
	if state.Cursor.End {
		w.note("%d: resync %x ends", i+1, t.id)
		w.transfers[i] = nil
		w.done++
		w.causes += len(w.nodes)
		return r.EndResync(t.id)
	}
	c, err := w.export(i, t, state.Cursor)
	if err != nil {
		return err
	}
	again, err := DecodeChunk(EncodeChunk(&c))
	if err != nil {
		return err
	}
	for range 1 + w.IntN(3) {
		joined, err := r.JoinChunk(t.id, again)
		w.note("%d: join [%+v, %+v) of %d objects, hidden %v -> %+v, %v", i+1, c.From, c.To, len(c.objects), c.Fingerprint != nil, joined, err)
		if err != nil {
			return err
		}
	}
	return nil
}

// export makes a chunk, of what is hidden if the next range is the same at both sides.
func (w *resyncWorld) export(i int, t *transfer, from Position) (Chunk, error) {
	view := t.view
	if w.mutant == "live donor" {
		if view = w.nodes[t.from].r; view.Resyncing() {
			return Chunk{From: from, To: Position{End: true}}, nil
		}
	}
	size := 1 + w.IntN(150)
	if w.IntN(2) == 0 {
		ranges, err := view.Fingerprints(from, Position{End: true}, 1+w.IntN(3), 1)
		if err != nil {
			return Chunk{}, err
		}
		differ, err := w.nodes[i].r.Differing(ranges)
		if err != nil {
			return Chunk{}, err
		}
		if w.mutant == "always skip" {
			return Chunk{From: from, To: ranges[0].To}, nil
		}
		if len(differ) == 0 {
			w.hidden++
			c, err := view.ExportHidden(from, ranges[0].To, size)
			return w.mutate(c), err
		}
	}
	c, err := view.Export(from, size)
	return w.mutate(c), err
}

// mutate leaves something out.
func (w *resyncWorld) mutate(c Chunk) Chunk {
	for j := range c.objects {
		o := &c.objects[j]
		_, t, _ := objectAtPosition(o.object)
		switch w.mutant {
		case "no pre-removals":
			o.removed = nil
		case "no deferred clears":
			o.cleared = crdt.VersionVector{}
		case "no tombstones":
			if t == crdt.TypeLWWRegister && o.head != nil {
				if reg, err := crdt.DecodeLWWRegister(o.head); err == nil && reg.Deleted {
					o.head = nil
				}
			}
		}
	}
	return c
}

// check holds a region against the rules for its tables, and its values against what the events that it has seen
// make of an empty replica.
func (w *resyncWorld) check(i int, exact bool) error {
	n := w.nodes[i]
	if err := audit(n); err != nil || !exact || n.r.Resyncing() {
		return err
	}
	twin := newNode(100)
	for _, actor := range w.Perm(len(w.logs)) {
		seen := n.r.Vector().Get(crdt.Actor(actor + 1))
		if _, err := twin.r.Merge(crdt.Actor(actor+1), w.logs[actor][:seen]); err != nil {
			return err
		}
	}
	want, err := twin.r.Digest()
	if err != nil {
		return err
	}
	got, err := n.r.Digest()
	if err != nil || got == want {
		return err
	}
	a, _, err := n.r.Items(Position{}, Position{End: true}, 1000)
	if err != nil {
		return err
	}
	b, _, err := twin.r.Items(Position{}, Position{End: true}, 1000)
	if err != nil {
		return err
	}
	names, err := Differences(a, b)
	return errors.Join(err, fmt.Errorf("at vector %v it is not what its events make: %+v differ", n.r.Vector(), names))
}

// quiesce ends all resyncs, or gives them up, and then deletes everything.
func (w *resyncWorld) quiesce(writers int) error {
	for i := range w.nodes {
		for w.transfers[i] != nil {
			if err := w.chunk(i); err != nil {
				return fmt.Errorf("region %d: %w", i+1, err)
			}
		}
	}
	if err := w.deleteAll(writers); err != nil {
		return err
	}
	for range 4 {
		if err := w.everyone(); err != nil {
			return err
		}
	}
	for i := range w.nodes {
		if err := w.check(i, true); err != nil {
			return fmt.Errorf("region %d at the end: %w", i+1, err)
		}
		if w.nodes[i].r.Resyncing() {
			return fmt.Errorf("region %d has layers left: %+v", i+1, w.nodes[i].r.meta.layers)
		}
	}
	if err := w.deleteAll(1); err != nil {
		return err
	}
	return w.fallSilent()
}
