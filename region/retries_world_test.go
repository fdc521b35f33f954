package region_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

var (
	retrySchedules = flag.Int("retries", 60, "random schedules of retries per number of regions")
	retrySeed      = flag.Uint64("retries-seed", 1, "seed of the first schedule of retries")
)

// TestRetriesInOtherRegionsCountOnce runs random schedules of writes that clients repeat in several regions under
// the same op_id, of resets and deletes, and of deliveries between the regions, folded and not. In the end all
// regions hold what they would hold if each op_id had been done once, by the lowest actor that did it at all.
func TestRetriesInOtherRegionsCountOnce(t *testing.T) {
	for _, regions := range []int{2, 3} {
		t.Run(fmt.Sprintf("regions=%d", regions), func(t *testing.T) {
			t.Parallel()
			for i := range uint64(*retrySchedules) {
				seed := *retrySeed + i
				w := newRetryWorld(t, seed, regions)
				if err := w.run(60 + int(seed%90)); err != nil {
					t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
				}
			}
		})
	}
}

// memStore is a store in memory.
type memStore struct{ kv *replica.Memory }

func (s *memStore) View(fn func(kv replica.KV) error) error   { return fn(s.kv) }
func (s *memStore) Update(fn func(kv replica.KV) error) error { return fn(s.kv) }
func (s *memStore) Flush() error                              { return nil }
func (s *memStore) Buffered() int64                           { return 0 }
func (s *memStore) Full() <-chan struct{}                     { return nil }
func (s *memStore) Snapshot() (region.StoreSnapshot, error)   { return nil, errors.ErrUnsupported }
func (s *memStore) Install(string, func(kv replica.KV) error) error {
	return errors.ErrUnsupported
}

func (s *memStore) dump() string {
	var b strings.Builder
	_ = s.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		fmt.Fprintf(&b, "%x=%x\n", k, v)
		return true, nil
	})
	return b.String()
}

// retrySite is one region: a leader, and a follower that applies the same entries, several at a time.
type retrySite struct {
	actor            crdt.Actor
	clock            int64
	leader, follower *retryNode
	behind           []region.Entry // what the follower has not applied
	index            uint64
}

type retryNode struct {
	store   *memStore
	machine *region.Machine
}

func openNode(actor crdt.Actor, kv *replica.Memory) (*retryNode, error) {
	n := &retryNode{store: &memStore{kv}}
	var err error
	n.machine, err = region.NewMachine(actor, n.store, hlc.NewClock(time.Now))
	return n, err
}

// retryWorld is one schedule.
type retryWorld struct {
	rng      *rand.Rand
	sites    []*retrySite
	requests []*request
	resets   []*reset
	trace    []string
}

func newRetryWorld(t *testing.T, seed uint64, regions int) *retryWorld {
	w := &retryWorld{rng: rand.New(rand.NewPCG(seed, uint64(regions)))}
	for i := range regions {
		s := &retrySite{actor: actorOf(topology.RegionID(i + 1)), clock: 1_700_000_000_000 + w.rng.Int64N(50)}
		var err, err2 error
		s.leader, err = openNode(s.actor, replica.NewMemory())
		s.follower, err2 = openNode(s.actor, replica.NewMemory())
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		w.sites = append(w.sites, s)
	}
	return w
}

func (w *retryWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *retryWorld) run(steps int) error {
	for range steps {
		s := w.sites[w.rng.IntN(len(w.sites))]
		var err error
		switch p := w.rng.IntN(100); {
		case p < 40:
			err = w.write(s)
		case p < 52:
			err = w.reset(s)
		case p < 85:
			err = w.deliver(s, w.sites[w.rng.IntN(len(w.sites))], 1+w.rng.Uint64N(6))
		case p < 90:
			s.leader, err = openNode(s.actor, s.leader.store.kv)
		case p < 94:
			err = s.catchUp()
		case p < 97:
			w.note("%d: the follower takes a snapshot", s.actor)
			s.behind = nil
			s.follower, err = openNode(s.actor, s.leader.store.kv.Clone())
		default:
			s.clock += w.rng.Int64N(200) - 80
		}
		if err != nil {
			return err
		}
	}
	return w.quiesce()
}

// apply applies one entry of commands on a region's leader.
func (w *retryWorld) apply(s *retrySite, commands ...*logv1.Command) ([]region.WriteResult, []error, error) {
	s.index++
	s.clock += w.rng.Int64N(4)
	entry := &logv1.LogEntry{Proposer: 1, Proposal: s.index, Hlc: uint64(hlc.At(s.clock, 0)), Commands: commands}
	data, err := proto.Marshal(entry)
	if err != nil {
		return nil, nil, err
	}
	e := region.Entry{Index: s.index, Term: 1, Data: data}
	s.behind = append(s.behind, e)
	return s.leader.machine.ApplyForResults(e, 1, s.index)
}

// catchUp has the follower apply what the leader has.
func (s *retrySite) catchUp() error {
	if len(s.behind) > 0 {
		if err := s.follower.machine.Apply(s.behind); err != nil {
			return err
		}
		s.behind = nil
	}
	if s.leader.store.dump() != s.follower.store.dump() {
		return fmt.Errorf("region %d: leader and follower differ", s.actor)
	}
	return nil
}

// write has clients write in a region: a new write, a repeated one, or several additions to one counter in one entry.
func (w *retryWorld) write(s *retrySite) error {
	var some []*request
	switch n := len(w.requests); {
	case n > 0 && w.rng.IntN(2) == 0:
		some = append(some, w.requests[max(0, n-1-w.rng.IntN(8))])
	case w.rng.IntN(4) == 0:
		for range 2 + w.rng.IntN(3) {
			some = append(some, w.newRequest(replica.Op{Kind: replica.OpCounterAdd, Key: "hot", Delta: w.rng.Int64N(19) - 9}))
		}
		if n > 0 { // one of them may be there already
			some = append(some, w.requests[n-1])
		}
	default:
		ops := make([]replica.Op, 1+w.rng.IntN(3)*w.rng.IntN(2))
		for i := range ops {
			ops[i] = w.randomAddition(len(w.requests), i)
		}
		some = append(some, w.newRequest(ops...))
	}
	return w.send(s, some)
}

// send applies requests in one entry, and notes what each did.
func (w *retryWorld) send(s *retrySite, some []*request) error {
	before := s.leader.machine.View().Vector
	commands := make([]*logv1.Command, len(some))
	for i, r := range some {
		commands[i] = region.WriteCommand(r.id, r.ops)
	}
	results, errs, err := w.apply(s, commands...)
	if err != nil || len(results) != len(some) {
		return fmt.Errorf("%d results: %w", len(results), err)
	}
	for i, r := range some {
		w.note("%d: write %s %s -> %+v, %v", s.actor, r.id, describeOps(r.ops), results[i], errs[i])
		if err := w.noteResult(s, r, before, results[i], errs[i]); err != nil {
			return fmt.Errorf("write %s in region %d: %w", r.id, s.actor, err)
		}
	}
	return nil
}

// noteResult records that a request was executed, or holds its answer against what the region knows.
func (w *retryWorld) noteResult(s *retrySite, r *request, before crdt.VersionVector, result region.WriteResult, err error) error {
	if err != nil {
		if refused := (*replica.OpError)(nil); !errors.As(err, &refused) || r.done[s.actor] != nil {
			return err
		}
		return nil // no rights, and nothing done
	}
	known := r.knownTo(s.actor, before)
	if result.Repeated != (known != nil) {
		return fmt.Errorf("repeated: %v, known of %+v", result.Repeated, known)
	}
	if known == nil {
		x := &execution{actor: s.actor}
		after := s.leader.machine.View().Vector.Get(s.actor)
		for _, o := range result.Outcomes {
			seq, ok := seqOf(o.Version, s.actor, after)
			if !ok {
				return fmt.Errorf("no event %q up to %d", o.Version, after)
			}
			x.events, x.versions = append(x.events, seq), append(x.versions, o.Version)
		}
		r.done[s.actor] = x
		w.sets(s, r, x, before)
		return nil
	}
	if result.Elsewhere == (r.done[s.actor] != nil) {
		return fmt.Errorf("elsewhere: %v, executed here: %v", result.Elsewhere, r.done[s.actor])
	}
	for i, o := range result.Outcomes {
		told := func(x *execution) bool { return x != nil && x.versions[i] == o.Version }
		if !slices.ContainsFunc(slices.Collect(r.executions()), told) {
			return fmt.Errorf("operation %d answers version %q, which none of the executions did", i, o.Version)
		}
	}
	return nil
}

func seqOf(version string, actor crdt.Actor, last uint64) (uint64, bool) {
	for seq := last; seq > 0; seq-- {
		if (crdt.Dot{Actor: actor, Seq: seq}).String() == version {
			return seq, true
		}
	}
	return 0, false
}

// deliver has a region merge a stretch of another's outbox, folded or not, from a little before what it has.
func (w *retryWorld) deliver(to, from *retrySite, most uint64) error {
	if to == from {
		return nil
	}
	have := to.leader.machine.View().Vector.Get(from.actor)
	first := 1 + have - min(have, w.rng.Uint64N(4))
	records, err := from.leader.machine.ReadOutbox(first, 1<<20)
	if err != nil {
		return err
	}
	records = records[:min(uint64(len(records)), have+1-first+most)]
	command := &logv1.MergeCommand{Actor: uint32(from.actor)}
	for len(records) > 0 {
		n := 1 + w.rng.IntN(len(records))
		if w.rng.IntN(2) == 0 {
			n = 1
		}
		data := records[0].Data
		if n > 1 || w.rng.IntN(2) == 0 {
			if data, err = region.FoldOutbox(records[:n]); err != nil {
				return err
			}
		}
		command.Deltas = append(command.Deltas, data)
		records = records[n:]
	}
	_, errs, err := w.apply(to, &logv1.Command{Command: &logv1.Command_Merge{Merge: command}})
	w.note("%d: merge %d deltas and runs of %d from %d: now at %v", to.actor, len(command.Deltas), from.actor, first, to.leader.machine.View().Vector)
	return errors.Join(err, errs[0])
}

// quiesce delivers everything everywhere, also what is taken back then, and holds all regions to the specification.
func (w *retryWorld) quiesce() error {
	if err := w.exchangeAll(); err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return err
	}
	// Once there are rights, what is owed is taken back.
	for _, s := range w.sites {
		if err := w.send(s, []*request{w.newRequest(replica.Op{Kind: replica.OpBoundedInc, Key: "b", Delta: 1000})}); err != nil {
			return err
		}
		if owed, err := s.leader.machine.Owed(); owed != 0 || err != nil {
			return fmt.Errorf("region %d owes %d, %w", s.actor, owed, err)
		}
	}
	if err := w.exchangeAll(); err != nil {
		return err
	}
	return w.check()
}

func (w *retryWorld) exchangeAll() error {
	for round := 0; ; round++ {
		before := len(w.trace)
		for _, to := range w.sites {
			for _, from := range w.sites {
				if to != from && to.leader.machine.View().Vector.Get(from.actor) < from.leader.machine.View().Outbox.Head {
					if err := w.deliver(to, from, 1<<20); err != nil {
						return err
					}
				}
			}
		}
		if len(w.trace) == before {
			return nil
		}
		if round > 10 {
			return errors.New("the regions take back without end")
		}
	}
}
