package replica

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// TestDeadlinesMeetTheSpecification runs random schedules of writes, deadlines, deletes, expiries and
// deliveries, against causality too, on values of all types. What the replicas say of deadlines is compared
// with the events all the time, and at the end, when everything has expired, that all hold the same.
func TestDeadlinesMeetTheSpecification(t *testing.T) {
	for i := range uint64(*schedules) {
		seed := *firstSeed + i
		w := newDeadlineWorld(t, seed, 2+int(seed%3))
		if err := w.run(150); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
	}
}

// deadlineWorld is a random history in a few regions.
type deadlineWorld struct {
	*rand.Rand
	nodes  []*node
	clocks []int64
	logs   [][]Delta
	events []deadlineEvent
	trace  []string
	// sets are the adds, deletes and expiries of sets.
	sets history
}

// deadlineEvent is a deadline that an event set, or one that it ended.
type deadlineEvent struct {
	dot     crdt.Dot
	time    hlc.Time
	key     string
	of      crdt.Type
	expires hlc.Time
	ended   crdt.Dot
}

func newDeadlineWorld(t *testing.T, seed uint64, regions int) *deadlineWorld {
	t.Helper()
	w := &deadlineWorld{Rand: rand.New(rand.NewPCG(seed, 77)), logs: make([][]Delta, regions)}
	for i := range regions {
		w.nodes = append(w.nodes, newNode(crdt.Actor(i+1)))
		w.nodes[i].headers = NewHeaders(2)
		w.nodes[i].r.UseHeaders(w.nodes[i].headers)
		w.clocks = append(w.clocks, 1000+w.Int64N(50))
	}
	return w
}

func (w *deadlineWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *deadlineWorld) run(steps int) error {
	for range steps {
		i := w.IntN(len(w.nodes))
		w.clocks[i] += w.Int64N(20)
		var err error
		switch p := w.IntN(100); {
		case p < 50:
			err = w.execute(i)
		case p < 90:
			err = w.deliver(i, w.IntN(len(w.nodes)), 1+w.IntN(4))
		case p < 98:
			err = w.expire(i, hlc.At(w.clocks[i]-50, 0))
		default:
			err = w.nodes[i].reopen(crdt.Actor(i + 1))
		}
		if err == nil {
			err = w.check(i)
		}
		if err != nil {
			return err
		}
	}
	return w.quiesce()
}

func (w *deadlineWorld) randomOp(i int) Op {
	if w.IntN(10) == 0 {
		return Op{Kind: OpPut, Key: "x", Value: []byte("v"), AnyType: true}
	}
	e := expiringTypes[w.IntN(len(expiringTypes))]
	op := e.write(1 + w.IntN(9))
	op.AnyType = true
	switch w.IntN(6) {
	case 0:
		op = Op{Kind: OpExpire, Type: e.of, AnyType: true}
	case 1:
		op = Op{Kind: OpPersist, Type: e.of, AnyType: true}
	case 2:
		op = Op{Kind: OpDelete, Type: e.of, AnyType: true}
	}
	if (op.Kind == OpExpire || op.Kind == OpPersist) && w.IntN(3) == 0 {
		op.Type = 0
	}
	if op.Kind == OpExpire || op.Kind != OpPersist && op.Kind != OpDelete && w.IntN(2) == 0 {
		op.Expires = hlc.At(w.clocks[i]+w.Int64N(120)-10, 0)
	}
	op.Key = string('x' + rune(w.IntN(2)))
	return op
}

func (w *deadlineWorld) execute(i int) error {
	ops := make([]Op, 1+w.IntN(2)*w.IntN(2))
	for n := range ops {
		ops[n] = w.randomOp(i)
	}
	seen := vectorMap(w.nodes[i].r)
	before := fingerprint(w.nodes[i])
	_, deltas, err := w.nodes[i].r.Execute(hlc.At(w.clocks[i], 0), ops)
	w.note("%d: at %d %s -> %d deltas, %v", i+1, w.clocks[i], describe(ops), len(deltas), err)
	if err != nil {
		if fingerprint(w.nodes[i]) != before {
			return fmt.Errorf("refused batch changed the replica: %w", err)
		}
		return nil
	}
	return w.record(i, seen, deltas)
}

// record reads off the deltas what they say of deadlines, and of sets, and sends them through the codec.
func (w *deadlineWorld) record(i int, seen map[uint32]uint64, deltas []Delta) error {
	for _, d := range deltas {
		decoded, err := DecodeDelta(EncodeDelta(d))
		if err != nil {
			return err
		}
		w.logs[i] = append(w.logs[i], decoded)
		for _, e := range d.Effects {
			switch c := e.Change.(type) {
			case *DeadlineChange:
				w.events = append(w.events, deadlineEvent{d.Dot, d.Time, e.Key, e.Type &^ deadlineBit, c.Expires, c.Ended})
			case *SetChange:
				event := &specEvent{actor: uint32(d.Dot.Actor), seq: d.Dot.Seq, key: e.Key, clears: c.Cleared != nil, seen: map[uint32]uint64{}}
				for a, n := range seen {
					event.seen[a] = n
				}
				for _, el := range c.Elements {
					event.added = append(event.added, string(el.Element))
				}
				w.sets = append(w.sets, event)
			}
		}
		seen[uint32(d.Dot.Actor)] = d.Dot.Seq
	}
	return nil
}

func (w *deadlineWorld) deliver(to, from, n int) error {
	have := w.nodes[to].r.Vector().Get(crdt.Actor(from + 1))
	log := w.logs[from][have:]
	if to == from || len(log) == 0 {
		return nil
	}
	log = log[:min(n, len(log))]
	w.note("%d: merge %v and %d more", to+1, log[0].Dot, len(log)-1)
	_, err := w.nodes[to].r.Merge(crdt.Actor(from+1), log)
	return err
}

// cut is the instant up to which a region has heard of all others.
func (w *deadlineWorld) cut(i int) hlc.Time {
	cut := w.nodes[i].r.LastHLC()
	for a := range w.nodes {
		if a != i {
			cut = min(cut, w.nodes[i].r.HLCOf(crdt.Actor(a+1)))
		}
	}
	return cut
}

func (w *deadlineWorld) expire(i int, others hlc.Time) error {
	seen := vectorMap(w.nodes[i].r)
	before, err := w.nodes[i].r.Digest()
	if err != nil {
		return err
	}
	x := Expiry{Now: max(hlc.At(w.clocks[i], 0), w.nodes[i].r.LastHLC()), Cut: w.cut(i), Others: others, Limit: 1 + w.IntN(3)}
	due, err := w.nodes[i].r.Due(x)
	if err != nil {
		return err
	}
	found, err := w.nodes[i].r.Expire(x)
	w.note("%d: expire by %v, of others by %v: %d deltas", i+1, x.Now, x.Others, len(found.Deltas))
	if err != nil {
		return err
	}
	after, err := w.nodes[i].r.Digest()
	if !due && (len(found.Names)+len(found.Deltas) > 0 || after != before) || len(found.Deltas) == 0 && after != before {
		return fmt.Errorf("expiry without a due instant, or a change without an event: %+v, %w", found, err)
	}
	return w.record(i, seen, found.Deltas)
}

// deadlineOf returns the instant at which the specification has a value expire: the one of the last event
// that set one, unless an event ended that.
func (w *deadlineWorld) deadlineOf(key string, of crdt.Type, applied map[uint32]uint64) hlc.Time {
	var all, ended []deadlineEvent
	for _, e := range w.events {
		if e.key != key || e.of != of || e.dot.Seq > applied[uint32(e.dot.Actor)] {
			continue
		}
		if e.ended.Seq != 0 {
			ended = append(ended, e)
		} else {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		return 0
	}
	last := slices.MaxFunc(all, func(a, b deadlineEvent) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.dot.Actor, b.dot.Actor))
	})
	for _, e := range ended {
		if e.ended == last.dot {
			return 0
		}
		// What was ended may not have arrived yet: it is later than all that has.
		if e.ended.Seq > applied[uint32(e.ended.Actor)] && w.timeOf(e.ended) > last.time {
			return 0
		}
	}
	return last.expires
}

func (w *deadlineWorld) timeOf(d crdt.Dot) hlc.Time { return w.logs[d.Actor-1][d.Seq-1].Time }

// check compares what a region says with the specification.
func (w *deadlineWorld) check(i int) error {
	n := w.nodes[i]
	if err := audit(n); err != nil {
		return fmt.Errorf("region %d: %w", i+1, err)
	}
	now := max(hlc.At(w.clocks[i], 0), n.r.LastHLC())
	applied := vectorMap(n.r)
	for _, key := range []string{"x", "y"} {
		held, err := readHoldings(n.r.kv, objectPrefix("", key), true)
		if err != nil {
			return err
		}
		for _, e := range expiringTypes {
			want := w.deadlineOf(key, e.of, applied)
			o, found, err := n.r.LookupType("", key, e.of, now)
			s := held.get(e.of)
			stored := s != nil && s.live(now)
			switch {
			case err != nil:
				return err
			case found != (stored && (want == 0 || want > now)):
				return fmt.Errorf("region %d: %s %v is there: %v, stored: %v, deadline %v, now %v", i+1, key, e.of, found, stored, want, now)
			case found && o.Expires != want:
				return fmt.Errorf("region %d: %s %v expires at %v, want %v", i+1, key, e.of, o.Expires, want)
			}
		}
	}
	return nil
}

// quiesce delivers everything, has everything expire, and checks that all agree and nothing is left over.
func (w *deadlineWorld) quiesce() error {
	for round := range 12 {
		for to := range w.nodes {
			for from := range w.nodes {
				if err := w.deliver(to, from, 1<<30); err != nil {
					return err
				}
			}
		}
		if err := w.compareAll(round); err != nil {
			return err
		}
		for i := range w.nodes {
			w.clocks[i] = 1<<40 + int64(round)
			if err := w.tick(i, round); err != nil {
				return err
			}
		}
		for i := range w.nodes {
			for range 40 {
				if err := w.expire(i, hlc.At(1<<40, 0)); err != nil {
					return err
				}
			}
		}
	}
	for i, n := range w.nodes {
		if err := w.leftOver(n); err != nil {
			return fmt.Errorf("region %d: %w", i+1, err)
		}
	}
	return nil
}

// tick makes an event, so that the others can tell how late it is here.
func (w *deadlineWorld) tick(i, round int) error {
	seen := vectorMap(w.nodes[i].r)
	op := Op{Kind: OpPut, Key: "tick", Value: []byte{byte(round)}}
	_, deltas, err := w.nodes[i].r.Execute(hlc.At(w.clocks[i], 0), []Op{op})
	if err != nil {
		return err
	}
	return w.record(i, seen, deltas)
}

// compareAll checks that regions which have the same events hold the same, and that the sets among it are
// what the adds, deletes and expiries make them.
func (w *deadlineWorld) compareAll(round int) error {
	first, err := w.nodes[0].r.Digest()
	if err != nil {
		return err
	}
	for i, n := range w.nodes {
		d, err := n.r.Digest()
		if err != nil || !n.r.Vector().Equal(w.nodes[0].r.Vector()) || d != first {
			return fmt.Errorf("round %d: region %d has %v, %x, the first %v, %x: %w", round, i+1, n.r.Vector(), d, w.nodes[0].r.Vector(), first, err)
		}
		for _, key := range []string{"x", "y"} {
			members, _, err := n.r.SetMembers("", key, nil, 100, 1000)
			if want := w.sets.set(key); err != nil || !slices.Equal(texts(members), want) {
				return fmt.Errorf("round %d: region %d has the set %s %q, want %q: %w", round, i+1, key, members, want, err)
			}
		}
	}
	return nil
}

// leftOver checks that no deadline is left, and that the tables of instants have nothing.
func (w *deadlineWorld) leftOver(n *node) error {
	return n.kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
		switch {
		case k[0] == tableExpiry, k[0] == tableOverdue, k[0] == tableObject && crdt.Type(k[len(k)-1])&deadlineBit != 0:
			return false, fmt.Errorf("left with %x", k)
		}
		return true, nil
	})
}
