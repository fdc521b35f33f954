package replica

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// auditFields checks what must hold at all times of the collections of fields of a replica.
func auditFields(kv KV, m *meta) error {
	var all []*fields
	w := &work{kv: kv, meta: m}
	err := kv.Scan([]byte{tableObject}, []byte{tableLeaf + 1}, func(k, v []byte) (bool, error) {
		objects := k[0] == tableObject || k[0] == tableLeaf
		if t := crdt.Type(k[len(k)-1]); objects && (t == crdt.TypeLWWMap || t == crdt.TypeZSet) {
			h, err := decodeFieldsHeader(v)
			all = append(all, &fields{work: w, of: t, object: slices.Clone(k), header: h})
			return err == nil, err
		}
		return true, nil
	})
	for i := 0; i < len(all) && err == nil; i++ {
		err = all[i].audit()
	}
	return err
}

func (f *fields) has(key []byte) bool {
	_, ok, err := f.kv.Get(key)
	return ok && err == nil
}

func (f *fields) audit() error {
	h := &f.header
	if s := h.stamp; s.Seq != 0 && (!f.has(f.spentKey(s.Time, nil)) || !somewhere(f.meta, s.Dot())) {
		return fmt.Errorf("stamp %v is in no table or not in the vector", s)
	}
	if h.kid == 0 {
		return nil
	}
	if f.has(garbageKey(h.kid)) || h.kid >= f.meta.nextKid {
		return fmt.Errorf("kid %d is garbage, or still to come", h.kid)
	}
	var count, tombstones uint64
	bad := f.auditIndex()
	err := f.survey(func(name []byte, reg *crdt.LWWRegister) {
		switch {
		case !somewhere(f.meta, reg.Dot()) || reg.Compare(h.stamp) <= 0:
			bad = fmt.Sprintf("field %q is not of the vector, or not after the delete", name)
		case !reg.Deleted:
			count++
		default:
			tombstones++
			if !f.has(f.spentKey(reg.Time, name)) {
				bad = fmt.Sprintf("tombstone of %q is in no table", name)
			}
		}
	})
	if err == nil && (bad != "" || count != h.count || tombstones != h.tombstones) {
		err = fmt.Errorf("%s: %d fields and %d tombstones, header %+v", bad, count, tombstones, h)
	}
	return err
}

// auditIndex checks that table Z has a sorted set's members and nothing else.
func (f *fields) auditIndex() string {
	keys, err := collectKeys(f.kv, scorePrefix(f.header.kid), MaxSetElements)
	if want := f.header.count; err != nil || f.of == crdt.TypeZSet && uint64(len(keys)) != want || f.of == crdt.TypeLWWMap && len(keys) > 0 {
		return fmt.Sprintf("%d of %d members in the index, %v", len(keys), want, err)
	}
	for _, k := range keys {
		ordered, member := scoreOf(k)
		reg, err := f.get(member)
		score, err2 := scoreIn(reg.Value)
		if err != nil || err2 != nil || reg.Deleted || orderedScore(score) != ordered {
			return fmt.Sprintf("index of %q says %x, its score is %v", member, ordered, score)
		}
	}
	return ""
}

// fieldsEvent is one event on a collection, as its author meant it. Nothing here knows of states.
type fieldsEvent struct {
	actor crdt.Actor
	seq   uint64
	time  hlc.Time
	key   string
	// put has the fields written, removed those taken away; deletes means all.
	put     map[string]string
	removed map[string]bool
	deletes bool
}

// fieldsHistory is every event of every region.
type fieldsHistory []*fieldsEvent

// value is the specification: of each field, what the event with the largest (time, actor) that
// concerns it says.
func (h fieldsHistory) value(key string, applied map[uint32]uint64) map[string]string {
	events := slices.Clone(h)
	slices.SortFunc(events, func(a, b *fieldsEvent) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.actor, b.actor))
	})
	value := map[string]string{}
	for _, e := range events {
		if e.key != key || e.seq > applied[uint32(e.actor)] {
			continue
		}
		if e.deletes {
			clear(value)
		}
		maps.Copy(value, e.put)
		maps.DeleteFunc(value, func(name, _ string) bool { return e.removed[name] })
	}
	return value
}

// fieldsSubject is a type that the random runs are about.
type fieldsSubject struct {
	of crdt.Type
	// op draws an operation on fields, given the present ones, and says what it means and whether it
	// should have an effect.
	op func(rng *rand.Rand, have map[string]string) (Op, *fieldsEvent)
	// read returns what a replica shows.
	read func(r *Replica, key string) (map[string]string, error)
	// check compares more of what a replica shows.
	check func(r *Replica, rng *rand.Rand, key string, want map[string]string) error
}

var fieldsKeys = []string{"k", "l"}

type fieldsWorld struct {
	fieldsSubject
	rng     *rand.Rand
	sites   []*site
	history fieldsHistory
	digests map[string]Digest
	trace   []string
}

func runFields(t *testing.T, subject fieldsSubject) {
	for i := range uint64(*schedules) {
		seed := *firstSeed + i
		w := &fieldsWorld{fieldsSubject: subject, rng: rand.New(rand.NewPCG(seed, 7)), digests: map[string]Digest{}}
		for a := range 3 {
			s := &site{actor: crdt.Actor(a + 1), clock: 1000 + w.rng.Int64N(40)}
			s.leader, s.follower = newNode(s.actor), newNode(s.actor)
			s.leader.headers = NewHeaders(2)
			s.leader.r.UseHeaders(s.leader.headers)
			w.sites = append(w.sites, s)
		}
		if err := w.run(120); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
	}
}

func (w *fieldsWorld) run(steps int) error {
	for range steps {
		s := w.sites[w.rng.IntN(len(w.sites))]
		var err error
		switch p := w.rng.IntN(100); {
		case p < 45:
			err = w.execute(s)
		case p < 80:
			err = w.deliver(s, w.sites[w.rng.IntN(len(w.sites))])
		case p < 92:
			err = w.collect(s, 1+w.rng.IntN(3))
		case p < 95:
			err = errors.Join(s.leader.reopen(s.actor), s.follower.reopen(s.actor))
		default:
			s.clock += w.rng.Int64N(150) - 60
		}
		if err == nil {
			err = w.compare(s)
		}
		if err != nil {
			return err
		}
	}
	return w.quiesce()
}

func (w *fieldsWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// execute runs an operation, and checks its answer against the specification.
func (w *fieldsWorld) execute(s *site) error {
	key := fieldsKeys[w.rng.IntN(len(fieldsKeys))]
	have := w.history.value(key, vectorMap(s.leader.r))
	op, e := w.op(w.rng, have)
	if w.rng.IntN(6) == 0 {
		op, e = Op{Kind: OpDelete, Type: w.of}, &fieldsEvent{deletes: len(have) > 0}
	}
	op.Key, e.key = key, key
	now := hlc.At(s.clock, 0)
	s.clock += w.rng.Int64N(4)
	outcomes, deltas, err := s.leader.r.Execute(now, []Op{op})
	again, _, err2 := s.follower.r.Execute(now, []Op{op})
	w.note("%d: %v %s %q %q %v -> %d deltas, %v", s.actor, op.Kind, key, op.Elements, op.Values, op.Score, len(deltas), err)
	if err != nil || err2 != nil || outcomes[0] != again[0] {
		return fmt.Errorf("%+v %w, follower %+v %w", outcomes, err, again, err2)
	}
	effect := e.deletes || len(e.put) > 0 || len(e.removed) > 0
	if effect != (len(deltas) == 1) {
		return fmt.Errorf("%d deltas, effect %v", len(deltas), effect)
	}
	after := have
	if effect {
		d := deltas[0]
		e.actor, e.seq, e.time = d.Dot.Actor, d.Dot.Seq, d.Time
		w.history = append(w.history, e)
		s.log = append(s.log, EncodeDelta(d))
		after = w.history.value(key, vectorMap(s.leader.r))
	}
	o := outcomes[0]
	if o.Existed != (len(have) > 0) || op.Kind != OpDelete && o.Size != uint64(len(after)) || o.Changed != changes(have, after) {
		return fmt.Errorf("outcome %+v from %q to %q", o, have, after)
	}
	return nil
}

// changes counts the fields that two values do not have in common.
func changes(before, after map[string]string) (n uint64) {
	for name, value := range after {
		if was, ok := before[name]; !ok || was != value {
			n++
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			n++
		}
	}
	return n
}

// deliver merges a random stretch of a log, old or new.
func (w *fieldsWorld) deliver(to, from *site) error {
	have := to.leader.r.Vector().Get(from.actor)
	if to == from || len(from.log) == 0 {
		return nil
	}
	first := min(1+w.rng.Uint64N(have+1)+w.rng.Uint64N(2)*have, have+1)
	return w.deliverRange(to, from, first, first+w.rng.Uint64N(4))
}

func (w *fieldsWorld) deliverRange(to, from *site, first, last uint64) error {
	var deltas []Delta
	for seq := first; seq <= min(last, uint64(len(from.log))); seq++ {
		d, err := DecodeDelta(slices.Clone(from.log[seq-1]))
		if err != nil {
			return err
		}
		if again := EncodeDelta(d); !bytes.Equal(again, from.log[seq-1]) {
			return fmt.Errorf("delta %x comes back as %x", from.log[seq-1], again)
		}
		deltas = append(deltas, d)
	}
	if len(deltas) == 0 {
		return nil
	}
	before := fingerprint(to.leader)
	n, err := to.leader.r.Merge(from.actor, deltas)
	_, err2 := to.follower.r.Merge(from.actor, deltas)
	w.note("%d: merge %d/%d..%d -> %d, %v", to.actor, from.actor, first, last, n, err)
	if err == nil && n == 0 && fingerprint(to.leader) != before {
		err = errors.New("a duplicate changed the replica")
	}
	return errors.Join(err, err2)
}

// collect removes tombstones behind the cut of a region.
func (w *fieldsWorld) collect(s *site, limit int) error {
	cut := s.leader.r.LastHLC()
	for _, o := range w.sites {
		if o != s {
			cut = min(cut, s.leader.r.HLCOf(o.actor))
		}
	}
	_, err := s.leader.r.Expire(Expiry{Cut: cut, Limit: limit})
	_, err2 := s.follower.r.Expire(Expiry{Cut: cut, Limit: limit})
	w.note("%d: collect up to %v", s.actor, cut)
	return errors.Join(err, err2)
}

// compare holds a region to the specification: what it shows depends on the events it has applied.
func (w *fieldsWorld) compare(s *site) error {
	if fingerprint(s.leader) != fingerprint(s.follower) {
		return fmt.Errorf("region %d: leader and follower differ", s.actor)
	}
	if err := audit(s.leader); err != nil {
		return fmt.Errorf("region %d: %w", s.actor, err)
	}
	digest, err := s.leader.r.Digest()
	if err != nil {
		return err
	}
	vector := fmt.Sprint(s.leader.r.Vector())
	if earlier, ok := w.digests[vector]; ok && earlier != digest {
		return fmt.Errorf("region %d: digests differ at vector %s", s.actor, vector)
	}
	w.digests[vector] = digest
	for _, key := range fieldsKeys {
		want := w.history.value(key, vectorMap(s.leader.r))
		got, err := w.read(s.leader.r, key)
		if err != nil || !maps.Equal(got, want) {
			return fmt.Errorf("region %d, %s: %q, want %q, %w", s.actor, key, got, want, err)
		}
		o, ok, err := s.leader.r.LookupType("", key, w.of, 0)
		if err != nil || ok != (len(want) > 0) || o.Size != uint64(len(want)) {
			return fmt.Errorf("region %d, %s: lookup says %v of %d, want %q, %w", s.actor, key, ok, o.Size, want, err)
		}
		if err := w.check(s.leader.r, w.rng, key, want); err != nil {
			return fmt.Errorf("region %d, %s: %w", s.actor, key, err)
		}
	}
	return nil
}

// quiesce delivers everything, moves every cut past it, and checks that nothing is left over.
func (w *fieldsWorld) quiesce() error {
	for _, s := range w.sites { // an event each, so that every region hears from every other
		_, deltas, err := s.leader.r.Execute(hlc.At(s.clock+100_000, 0), []Op{{Kind: OpCounterAdd, Key: "tick", Delta: 1}})
		_, _, err2 := s.follower.r.Execute(hlc.At(s.clock+100_000, 0), []Op{{Kind: OpCounterAdd, Key: "tick", Delta: 1}})
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		s.log = append(s.log, EncodeDelta(deltas[0]))
	}
	for _, to := range w.sites {
		for _, from := range w.sites {
			if to == from {
				continue
			}
			if err := w.deliverRange(to, from, to.leader.r.Vector().Get(from.actor)+1, uint64(len(from.log))); err != nil {
				return err
			}
		}
	}
	for _, s := range w.sites {
		if err := w.collect(s, 10_000); err != nil {
			return err
		}
		for s.leader.r.meta.garbage > 0 {
			_, _, err := s.leader.r.Execute(0, nil)
			_, _, err2 := s.follower.r.Execute(0, nil)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
		}
		if err := w.compare(s); err != nil {
			return err
		}
		if err := w.noResidue(s); err != nil {
			return fmt.Errorf("region %d: %w", s.actor, err)
		}
	}
	return nil
}

// noResidue checks that a region stores its fields and nothing else of them.
func (w *fieldsWorld) noResidue(s *site) error {
	want := map[byte]int{tableMeta: 1, tableObject: 1}
	for _, key := range fieldsKeys {
		value := w.history.value(key, vectorMap(s.leader.r))
		if len(value) == 0 {
			continue
		}
		want[tableObject]++
		want[tableElement] += len(value)
		if w.of == crdt.TypeZSet {
			want[tableScore] += len(value)
		}
	}
	maps.DeleteFunc(want, func(_ byte, n int) bool { return n == 0 })
	got := map[byte]int{}
	kv, _, err := spread(s.leader)
	if err != nil {
		return err
	}
	err = kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
		if k[0] != tableConflicts && k[0] != tableLosers { // what was decided is remembered
			got[k[0]]++
		}
		return true, nil
	})
	if err == nil && !maps.Equal(got, want) {
		err = fmt.Errorf("tables %v, want %v", got, want)
	}
	return err
}

// TestConcurrentOutcomesOfFields is the tables of docs/types.md: what is done here, what is done there
// later, and what is left.
func TestConcurrentOutcomesOfFields(t *testing.T) {
	remove, del := mapRemove("k", "a"), Op{Kind: OpDelete, Key: "k"}
	m := func(score float64) Op { return zset(OpZSetAdd, "k", "m", score) }
	incr := func(by float64) Op { return zset(OpZSetIncr, "k", "m", by) }
	zrem := zset(OpZSetRemove, "k", "m", 0)
	for i, c := range []struct {
		first, here, there Op
		want               string
	}{
		{mapPut("k", "a", "1"), mapPut("k", "a", "2"), mapPut("k", "a", "3"), "map[a:3]"},
		{mapPut("k", "a", "1"), mapPut("k", "a", "2"), mapPut("k", "b", "5"), "map[a:2 b:5]"},
		{mapPut("k", "a", "1"), mapPut("k", "a", "2"), remove, "map[]"},
		{mapPut("k", "a", "1"), remove, mapPut("k", "a", "3"), "map[a:3]"},
		{mapPut("k", "a", "1"), mapPut("k", "a", "2", "c", "4"), del, "map[]"},
		{mapPut("k", "a", "1"), del, mapPut("k", "a", "3"), "map[a:3]"},
		{mapPut("k", "a", "1"), del, mapPut("k", "b", "5"), "map[b:5]"},
		{m(10), m(7), m(8), "map[m:8]"},
		{m(10), incr(2), incr(3), "map[m:13]"},
		{m(10), incr(2), zrem, "map[]"},
		{m(10), zrem, incr(2), "map[m:12]"},
		{m(10), del, incr(2), "map[m:12]"},
		{m(10), incr(2), del, "map[]"},
	} {
		a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
		_, first := do(t, a, c.first)
		merge(t, b, first...)
		_, here := do(t, a, c.here)
		_, there, err := b.Execute(noon+1000, []Op{c.there})
		if err != nil {
			t.Fatal(err)
		}
		merge(t, a, there...)
		merge(t, b, here...)
		for _, r := range []*Replica{a, b} {
			fields, err := readMap(r, "k")
			scores, err2 := readZSet(r, "k")
			maps.Copy(fields, scores)
			if got := fmt.Sprint(fields); got != c.want || err != nil || err2 != nil {
				t.Errorf("case %d: %s, want %s, %v, %v", i, got, c.want, err, err2)
			}
		}
	}
}
