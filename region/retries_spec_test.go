package region_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

// This file is the specification that schedules of retries are held to: which requests clients made, who executed
// them when, and what had been seen by whoever took something away. It looks at no state of the regions.

// request is a client's write, under one op_id.
type request struct {
	id   string
	ops  []replica.Op
	done map[crdt.Actor]*execution
}

// execution is that a region ran a request: by which event each of its operations, and what it answered.
type execution struct {
	actor    crdt.Actor
	events   []uint64
	versions []string
}

// reset is an event that takes away what its author had seen of an object, or of a timeline what is not later.
type reset struct {
	actor  crdt.Actor
	event  uint64
	seen   crdt.VersionVector
	object object
}

// object names what an operation is on; all of a key's if the type is 0.
type object struct {
	key, path, member string
}

func objectOf(op *replica.Op) object {
	o := object{key: op.Key, path: op.Path.Encoded()}
	if op.Kind == replica.OpZSetAdd || op.Kind == replica.OpZSetIncr {
		o.member = string(op.Elements[0])
	}
	return o
}

func (r *request) executions() iter.Seq[*execution] { return maps.Values(r.done) }

// knownTo returns an execution that a region with a vector has applied to its end.
func (r *request) knownTo(self crdt.Actor, vector crdt.VersionVector) *execution {
	if x := r.done[self]; x != nil {
		return x
	}
	for _, x := range r.done {
		if vector.Get(x.actor) >= slices.Max(x.events) {
			return x
		}
	}
	return nil
}

// survivor returns the execution that counts.
func (r *request) survivor() *execution {
	if len(r.done) == 0 {
		return nil
	}
	return r.done[slices.Min(slices.Collect(maps.Keys(r.done)))]
}

func (w *retryWorld) newRequest(ops ...replica.Op) *request {
	for i := range ops {
		ops[i].Namespace = "default"
	}
	r := &request{id: fmt.Sprintf("op-%d", len(w.requests)), ops: ops, done: map[crdt.Actor]*execution{}}
	w.requests = append(w.requests, r)
	return r
}

// randomAddition returns an operation whose duplicate would count.
func (w *retryWorld) randomAddition(request, number int) replica.Op {
	amount := w.rng.Int64N(19) - 9
	leaf, err := crdt.NewPath("user", "visits")
	if err != nil {
		panic(err)
	}
	member := [][]byte{[]byte(string(rune('x' + w.rng.IntN(2))))}
	switch w.rng.IntN(9) {
	case 0, 1:
		return replica.Op{Kind: replica.OpCounterAdd, Key: "hot", Delta: amount}
	case 2:
		return replica.Op{Kind: replica.OpCounterSet, Key: "hot", Delta: amount}
	case 3:
		return replica.Op{Kind: replica.OpZSetIncr, Key: "z", Type: crdt.TypeCounterZSet, Elements: member, Score: float64(amount)}
	case 4:
		return replica.Op{Kind: replica.OpZSetAdd, Key: "z", Type: crdt.TypeCounterZSet, Elements: member, Score: float64(amount)}
	case 5:
		return replica.Op{Kind: replica.OpBoundedInc, Key: "b", Delta: 1 + w.rng.Int64N(9)}
	case 6:
		return replica.Op{Kind: replica.OpBoundedDec, Key: "b", Delta: 1 + w.rng.Int64N(4)}
	case 7:
		return replica.Op{Kind: replica.OpTimelineAdd, Key: "t", Value: fmt.Appendf(nil, "%d/%d", request, number)}
	default:
		return replica.Op{Kind: replica.OpCounterAdd, Key: "m", Path: leaf, Delta: amount}
	}
}

// sets records the resets that are in a request.
func (w *retryWorld) sets(s *retrySite, r *request, x *execution, before crdt.VersionVector) {
	for i := range r.ops {
		op := &r.ops[i]
		if op.Kind != replica.OpCounterSet && (op.Kind != replica.OpZSetAdd || op.Type != crdt.TypeCounterZSet) {
			continue
		}
		seen := before.Clone()
		seen.Set(s.actor, x.events[i]-1)
		w.resets = append(w.resets, &reset{actor: s.actor, event: x.events[i], seen: seen, object: objectOf(op)})
	}
}

// reset takes something away in a region, by a write of its own.
func (w *retryWorld) reset(s *retrySite) error {
	op := []replica.Op{
		{Kind: replica.OpCounterReset, Key: "hot"},
		{Kind: replica.OpZSetRemove, Key: "z", Type: crdt.TypeCounterZSet, Elements: [][]byte{[]byte("x")}},
		{Kind: replica.OpDelete, Key: "z"},
		{Kind: replica.OpDelete, Key: "m"},
		{Kind: replica.OpDelete, Key: "t"},
	}[w.rng.IntN(5)]
	op.Namespace = "default"
	seen := s.leader.machine.View().Vector.Clone()
	results, errs, err := w.apply(s, region.WriteCommand("", []replica.Op{op}))
	if err != nil || errs[0] != nil {
		return errors.Join(err, errs[0])
	}
	after := s.leader.machine.View().Vector.Get(s.actor)
	w.note("%d: %s -> %+v", s.actor, describeOps([]replica.Op{op}), results[0])
	if after > seen.Get(s.actor) {
		r := &reset{actor: s.actor, event: after, seen: seen, object: object{key: op.Key}}
		if op.Kind == replica.OpZSetRemove {
			r.object.member = "x"
		}
		w.resets = append(w.resets, r)
	}
	return nil
}

// takes reports whether a reset takes away what an execution did to an object.
func (r *reset) takes(o object, actor crdt.Actor, event uint64) bool {
	if r.object.key != o.key || r.object.member != "" && r.object.member != o.member {
		return false
	}
	return (r.actor != actor || r.event != event) && r.seen.Get(actor) >= event
}

// expected returns what every object adds up to, and the entries of the timeline by value.
func (w *retryWorld) expected() (sums map[object]int64, entries []string, err error) {
	sums = map[object]int64{}
	for _, r := range w.requests {
		x := r.survivor()
		if x == nil {
			continue
		}
		for i := range r.ops {
			op, event := &r.ops[i], x.events[i]
			o := objectOf(op)
			if op.Kind == replica.OpTimelineAdd {
				trimmed, err := w.trimmed(x.actor, event)
				if err != nil {
					return nil, nil, err
				}
				if !trimmed {
					entries = append(entries, string(op.Value))
				}
				continue
			}
			if slices.ContainsFunc(w.resets, func(r *reset) bool { return r.takes(o, x.actor, event) }) {
				continue
			}
			switch op.Kind {
			case replica.OpBoundedDec:
				sums[o] -= op.Delta
			case replica.OpZSetAdd, replica.OpZSetIncr:
				sums[o] += int64(op.Score)
			default:
				sums[o] += op.Delta
			}
		}
	}
	slices.Sort(entries)
	return sums, entries, nil
}

// trimmed reports whether a trim is later than an event.
func (w *retryWorld) trimmed(actor crdt.Actor, event uint64) (bool, error) {
	at, err := w.timeOf(actor, event)
	if err != nil {
		return false, err
	}
	for _, r := range w.resets {
		if r.object.key != "t" {
			continue
		}
		trim, err := w.timeOf(r.actor, r.event)
		if err != nil {
			return false, err
		}
		if at <= trim {
			return true, nil
		}
	}
	return false, nil
}

// timeOf returns an event's instant, as its delta has it.
func (w *retryWorld) timeOf(actor crdt.Actor, event uint64) (hlc.Time, error) {
	for _, s := range w.sites {
		if s.actor != actor {
			continue
		}
		records, err := s.leader.machine.ReadOutbox(event, 0)
		if err != nil {
			return 0, err
		}
		d, err := replica.DecodeDelta(records[0].Data)
		return d.Time, err
	}
	return 0, errors.New("no such region")
}

// check holds all regions, which have exchanged everything, to the specification.
func (w *retryWorld) check() error {
	sums, entries, err := w.expected()
	if err != nil {
		return err
	}
	owed := int64(0)
	for _, s := range w.sites {
		o, err := s.leader.machine.Owed()
		if owed += o; err != nil {
			return err
		}
	}
	sums[object{key: "b"}] += owed
	var digest replica.Digest
	for i, s := range w.sites {
		if err := s.catchUp(); err != nil {
			return err
		}
		err := s.leader.machine.Read(func(r *replica.Replica) error {
			d, err := r.Digest()
			if i == 0 {
				digest = d
			}
			if err != nil || d != digest {
				return fmt.Errorf("digest %x, want %x, %w", d, digest, err)
			}
			return compareSums(r, sums, entries, s.actor)
		})
		if err != nil {
			return fmt.Errorf("region %d: %w", s.actor, err)
		}
	}
	return nil
}

func compareSums(r *replica.Replica, sums map[object]int64, entries []string, self crdt.Actor) error {
	leaf, err := crdt.NewPath("user", "visits")
	if err != nil {
		return err
	}
	var got int64
	for _, o := range []object{{key: "hot"}, {key: "b"}, {key: "z", member: "x"}, {key: "z", member: "y"}, {key: "m", path: leaf.Encoded()}} {
		var found replica.Object
		switch o.key {
		case "z":
			got, _, err = r.CounterZSetScore("default", "z", []byte(o.member))
		case "b":
			found, _, err = r.LookupType("default", "b", crdt.TypeBoundedCounter, 0)
			if got = found.Bounded.Value(); found.Bounded.Rights(self) < 0 {
				return fmt.Errorf("rights are %d", found.Bounded.Rights(self))
			}
		case "m":
			found, _, err = r.Below(leaf).LookupType("default", "m", crdt.TypeCounter, 0)
			got = found.Counter
		default:
			found, _, err = r.LookupType("default", o.key, crdt.TypeCounter, 0)
			got = found.Counter
		}
		if err != nil || got != sums[o] {
			return fmt.Errorf("%+v is %d, want %d, %w", o, got, sums[o], err)
		}
	}
	all, _, err := r.Timeline("default", "t", replica.TimelineRange{Limit: 10_000, MaxBytes: 1 << 20})
	var values []string
	for _, e := range all {
		values = append(values, string(e.Value))
	}
	slices.Sort(values)
	if err != nil || !slices.Equal(values, entries) {
		return fmt.Errorf("timeline has %q, want %q, %w", values, entries, err)
	}
	return nil
}

func describeOps(ops []replica.Op) string {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "[%d %s%v %q %d %v %s]", o.Kind, o.Key, o.Path.Names(), o.Elements, o.Delta, o.Score, o.Value)
	}
	return b.String()
}
