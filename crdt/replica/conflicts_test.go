package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// concurrentPut makes the delta of a write of register k by an actor that has seen nothing.
func concurrentPut(a crdt.Actor, seq uint64, value []byte) Delta {
	d := Delta{Dot: crdt.Dot{Actor: a, Seq: seq}, Time: noon + hlc.Time(seq)}
	reg := crdt.LWWRegister{Time: d.Time, Actor: a, Seq: seq, Value: value}
	d.Effects = []Effect{{Key: "k", Type: crdt.TypeLWWRegister, Change: &RegisterChange{reg}}}
	return d
}

func allLosers(t *testing.T, r *Replica) []Loser {
	t.Helper()
	losers, more, err := r.Losers(LoserQuery{Limit: MaxLosers, Bytes: 2 * MaxLoserBytes})
	if err != nil || more {
		t.Fatal(more, err)
	}
	return losers
}

// mergeLosing merges writes of actor 2, numbered from first to last.
func mergeLosing(t *testing.T, r *Replica, first, last, valueBytes int) {
	t.Helper()
	var deltas []Delta
	for seq := first; seq <= last; seq++ {
		deltas = append(deltas, concurrentPut(2, uint64(seq), bytes.Repeat([]byte{byte(seq)}, valueBytes)))
	}
	if _, err := r.Merge(2, deltas); err != nil {
		t.Fatal(err)
	}
}

// TestLosersAreBounded has many small and a few large values lose, in merges of one delta and of many.
func TestLosersAreBounded(t *testing.T) {
	for _, c := range []struct {
		name        string
		deltas, per int
		valueBytes  int
		kept        int
	}{
		{"many", MaxLosers + 500, 1, 1, MaxLosers},
		{"many at once", 2*MaxLosers + 500, 3000, 1, MaxLosers},
		{"more at once than are kept", 3*MaxLosers + 2, MaxLosers + 1, 1, MaxLosers},
		{"large", 7, 1, 1 << 20, 3},
		{"large at once", 7, 3, 1 << 20, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(1)
			if _, _, err := n.r.Execute(noon+1<<40, []Op{{Kind: OpPut, Key: "k", Value: []byte("mine")}}); err != nil {
				t.Fatal(err)
			}
			for from := 1; from <= c.deltas; from += c.per {
				mergeLosing(t, n.r, from, min(from+c.per-1, c.deltas), c.valueBytes)
			}
			losers := allLosers(t, n.r)
			if len(losers) != c.kept || n.r.LosersLetGo() != uint64(c.deltas-c.kept) {
				t.Errorf("%d losers are kept, %d are not, of %d", len(losers), n.r.LosersLetGo(), c.deltas)
			}
			for i, l := range losers {
				if l.Lost.Seq != uint64(c.deltas-i) || len(l.Value) != c.valueBytes || l.Won.Actor != 1 {
					t.Fatalf("loser %d is %v, to %v", i, l.Lost, l.Won)
				}
			}
			counts, err := n.r.ConflictCounts(nil)
			if err != nil || len(counts) != 1 || counts[0].Count != uint64(c.deltas) {
				t.Errorf("counts %v, %v", counts, err)
			}
			if err := audit(n); err != nil {
				t.Error(err)
			}
		})
	}
}

func loserIDs(t *testing.T, r *Replica, q LoserQuery) (ids []uint64, more bool) {
	t.Helper()
	losers, more, err := r.Losers(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range losers {
		ids = append(ids, l.ID)
	}
	return ids, more
}

func TestLoserQueries(t *testing.T) {
	n := newNode(1)
	for i, name := range []string{"ns1/a", "ns1/ab", "ns2/a", "ns1/b", "ns1/a"} {
		namespace, key := name[:3], name[4:]
		if _, _, err := n.r.Execute(noon+1<<40, []Op{{Kind: OpPut, Namespace: namespace, Key: key}}); err != nil {
			t.Fatal(err)
		}
		d := concurrentPut(2, uint64(i+1), []byte("lost"))
		d.Effects[0].Namespace, d.Effects[0].Key = namespace, key
		merge(t, n.r, d)
	}
	ns1 := "ns1"
	for _, c := range []struct {
		query LoserQuery
		want  []uint64
		more  bool
	}{
		{LoserQuery{Limit: 9, Bytes: 1 << 20}, []uint64{5, 4, 3, 2, 1}, false},
		{LoserQuery{Limit: 2, Bytes: 1 << 20}, []uint64{5, 4}, true},
		{LoserQuery{Limit: 9, Bytes: 1}, []uint64{5}, true},
		{LoserQuery{Limit: 9, Bytes: 1 << 20, Before: 3}, []uint64{2, 1}, false},
		{LoserQuery{Limit: 9, Bytes: 1 << 20, Before: 1}, nil, false},
		{LoserQuery{Limit: 9, Bytes: 1 << 20, Namespace: &ns1, Prefix: "a"}, []uint64{5, 2, 1}, false},
		{LoserQuery{Limit: 2, Bytes: 1 << 20, Namespace: &ns1, Key: "a"}, []uint64{5, 1}, false},
	} {
		if ids, more := loserIDs(t, n.r, c.query); more != c.more || !slices.Equal(ids, c.want) {
			t.Errorf("%+v: %v, %v", c.query, ids, more)
		}
	}
	counts, err := n.r.ConflictCounts(&ns1)
	if err != nil || len(counts) != 1 || counts[0].Count != 4 || counts[0].Type != crdt.TypeLWWRegister {
		t.Errorf("counts %v, %v", counts, err)
	}
}

func TestLoserByNumber(t *testing.T) {
	n := newNode(1)
	if _, _, err := n.r.Execute(noon+1<<40, []Op{{Kind: OpPut, Key: "k"}}); err != nil {
		t.Fatal(err)
	}
	mergeLosing(t, n.r, 1, 2, 4)
	if l, ok, err := n.r.Loser(2); err != nil || !ok || l.Key != "k" || string(l.Value) != "\x02\x02\x02\x02" {
		t.Errorf("loser %+v, %v, %v", l, ok, err)
	}
	if _, ok, err := n.r.Loser(3); err != nil || ok {
		t.Errorf("a loser that is still to come: %v, %v", ok, err)
	}
}

// TestSeenAheadIsBounded has a region tell of more events of one that is cut off than may be remembered.
func TestSeenAheadIsBounded(t *testing.T) {
	n := newNode(1)
	var deltas []Delta
	for seq := uint64(1); seq <= maxAhead+10; seq++ {
		deltas = append(deltas, Delta{Dot: crdt.Dot{Actor: 2, Seq: seq}, Time: noon + hlc.Time(seq), Seen: []crdt.Dot{{Actor: 3, Seq: seq}}})
	}
	if _, err := n.r.Merge(2, deltas); err != nil {
		t.Fatal(err)
	}
	if m := n.r.meta; m.ahead != maxAhead || n.r.ConflictsUnsure() != 10 {
		t.Errorf("%d are seen ahead, %d not kept", m.ahead, m.unsure)
	}
	for i := range deltas {
		deltas[i] = Delta{Dot: crdt.Dot{Actor: 3, Seq: uint64(i + 1)}, Time: noon + hlc.Time(i+1)}
	}
	if _, err := n.r.Merge(3, deltas[:maxAhead/2]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(audit(n), n.reopen(1)); err != nil || n.r.meta.ahead != maxAhead/2 {
		t.Errorf("%d are seen ahead, %v", n.r.meta.ahead, err)
	}
	if _, err := n.r.Merge(3, deltas); err != nil || n.r.meta.ahead != 0 {
		t.Errorf("%d are seen ahead, %v", n.r.meta.ahead, err)
	}
}

// TestTellsWhatItHasSeen looks at what deltas say about their author's past.
func TestTellsWhatItHasSeen(t *testing.T) {
	a, b := newNode(1), newNode(2)
	tells := func(n *node, want ...crdt.Dot) Delta {
		t.Helper()
		_, deltas := do(t, n.r, Op{Kind: OpCounterAdd, Key: "c", Delta: 1})
		if !slices.Equal(deltas[0].Seen, want) {
			t.Errorf("%v tells %v, want %v", deltas[0].Dot, deltas[0].Seen, want)
		}
		return deltas[0]
	}
	merge(t, b.r, tells(a))
	merge(t, b.r, tells(a))
	first := tells(b, crdt.Dot{Actor: 1, Seq: 2})
	if err := b.reopen(2); err != nil {
		t.Fatal(err)
	}
	second := tells(b)
	merge(t, b.r, tells(a))
	merge(t, a.r, first, second)
	merge(t, b.r, tells(a, crdt.Dot{Actor: 2, Seq: 2}))
	_, deltas, err := b.r.Execute(noon, []Op{{Kind: OpCounterAdd, Key: "c", Delta: 1}, {Kind: OpCounterAdd, Key: "c", Delta: 1}})
	if err != nil || len(deltas[0].Seen) != 1 || len(deltas[1].Seen) != 0 {
		t.Errorf("%+v, %v", deltas, err)
	}
	// It has told, also if the batch was refused between.
	wrong := Op{Kind: OpSetAdd, Key: "c", Elements: [][]byte{{1}}}
	merge(t, b.r, tells(a))
	if _, _, err := b.r.Execute(noon, []Op{{Kind: OpCounterAdd, Key: "c", Delta: 1}, wrong}); err == nil {
		t.Error("an operation on another type was not refused")
	}
	tells(b, crdt.Dot{Actor: 1, Seq: 5})
}

// TestMetaOfVersion1 reads what was stored before replicas kept what others had seen.
func TestMetaOfVersion1(t *testing.T) {
	data, err := hex.DecodeString("0101" + "0000000100000009" + "05" + "000000" + "0104" + "0000000100000009" + "0207" + "0000000100000008")
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeMeta(data)
	if err != nil || m.self != 1 || m.nextKid != 5 || m.vector.Get(1) != 4 || m.vector.Get(2) != 7 || len(m.seen) != 0 || m.times[2] != 0x100000008 {
		t.Fatalf("%+v, %v", m, err)
	}
	if told := m.riseOfOwn(); !slices.Equal(told, []crdt.Dot{{Actor: 2, Seq: 7}}) {
		t.Errorf("it tells %v", told)
	}
	if m.owed != 0x10000000a {
		t.Errorf("it owes an event at %v", m.owed)
	}
}

// TestMetaOfVersion2 reads what was stored before replicas knew that others wait for them.
func TestMetaOfVersion2(t *testing.T) {
	data, err := hex.DecodeString("0201" + "0000000100000009" + "05" + "000000" + "040506" + "0309" + "6407" +
		"02" + "0104" + "0000000100000009" + "0207" + "0000000100000008" + "01" + "01" + "0207" + "02" + "02" + "0103" + "4601")
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeMeta(data)
	if err != nil || m.vector.Get(2) != 7 || m.times[2] != 0x100000008 || !m.seen[2].Covers(crdt.Dot{Actor: 70, Seq: 1}) || m.losers != (loserWindow{3, 9, 100, 7}) {
		t.Fatalf("%+v, %v", m, err)
	}
	if m.owed != 0x10000000a {
		t.Errorf("it owes an event at %v", m.owed)
	}
	alone := newMeta(1)
	alone.advance(crdt.Dot{Actor: 1, Seq: 4}, 0x100000009)
	if alone.oweAfterUpgrade(); alone.owed != 0 {
		t.Errorf("where there is no other region, an event is owed at %v", alone.owed)
	}
}

// TestMetaOfVersion3 reads what was stored before there were resyncs.
func TestMetaOfVersion3(t *testing.T) {
	data, err := hex.DecodeString("0301" + "0000000100000009" + "05" + "000000" + "040506" + "0309" + "6407" + "8a80808010" +
		"02" + "0104" + "0000000100000009" + "0207" + "0000000100000008" + "01" + "01" + "0207" + "02" + "02" + "0103" + "4601")
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeMeta(data)
	if err != nil || m.vector.Get(2) != 7 || m.owed != 0x10000000a || m.collected != 0 || len(m.layers) != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestMetaEncoding pins the present version.
func TestMetaEncoding(t *testing.T) {
	m := newMeta(1)
	m.last, m.nextKid = 0x100000009, 5
	m.advance(crdt.Dot{Actor: 1, Seq: 4}, 0x100000009)
	m.advance(crdt.Dot{Actor: 2, Seq: 7}, 0x100000008)
	m.riseOfOwn()
	m.losers, m.ahead, m.unsettled, m.unsure = loserWindow{3, 9, 100, 7}, 4, 5, 6
	m.raiseSeen(2, []crdt.Dot{{Actor: 1, Seq: 3}, {Actor: 70, Seq: 1}})
	m.owe(0x100000009) // was told
	m.owe(0x10000000a)
	const want = "0401" + "0000000100000009" + "05" + "000000" + "040506" + "0309" + "6407" + "8a80808010" + "0000" +
		"02" + "0104" + "0000000100000009" + "0207" + "0000000100000008" + "01" + "01" + "0207" + "02" + "02" + "0103" + "4601"
	if got := fmt.Sprintf("%x", m.append(nil)); got != want {
		t.Errorf("encodes to\n%s, want\n%s", got, want)
	}
	back, err := decodeMeta(m.append(nil))
	if err != nil || !bytes.Equal(back.append(nil), m.append(nil)) || back.losers != m.losers || back.owed != m.owed {
		t.Errorf("%+v, %v", back, err)
	}
	const seenFrom, seenBetween = 49, 53 // it could end there
	for i := range m.append(nil) {
		if _, err := decodeMeta(m.append(nil)[:i]); err == nil && i != seenFrom && i != seenBetween {
			t.Errorf("cut off after %d bytes it is no error", i)
		}
	}
}

func TestLoserEncoding(t *testing.T) {
	path, err := crdt.NewPath("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	l := Loser{
		Namespace: "n", Key: "k", Path: path, Type: crdt.TypeLWWMap, Field: []byte("f"), Value: []byte("v"), Expires: 5,
		Lost: crdt.Dot{Actor: 1, Seq: 300}, LostAt: 6, Won: crdt.Dot{Actor: 2, Seq: 1}, WonAt: 7,
	}
	const want = "01016e016b040161016209016601760000000000000005" + "01ac020000000000000006" + "02010000000000000007"
	if got := fmt.Sprintf("%x", l.append(nil)); got != want {
		t.Errorf("encodes to %s, want %s", got, want)
	}
	back, err := decodeLoser(l.append(nil))
	if err != nil || fmt.Sprint(back) != fmt.Sprint(l) {
		t.Errorf("%+v, %v", back, err)
	}
}
