package crdt

import (
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// timedState is the state of a type that is ordered by (time, actor).
type timedState[T any] interface {
	*T
	Join(T)
	Collect(hlc.Time)
	Equal(T) bool
	Clone() T
}

// timedChange is what one event of a run changed.
type timedChange[T any] struct {
	dot   Dot
	at    hlc.Time
	delta T
}

// runTimed drives three replicas of a value through operations and pulls of each other's whole state,
// and holds them to check, which compares a state with the history that it has seen. Clocks are only
// those of the actors, so equal times and late writers are common.
func runTimed[T encoder, P timedState[T]](t *rapid.T, decode func([]byte) (T, error),
	operate func(state P, at hlc.Time, d Dot) T, check func(state P, seen map[Dot]bool)) {
	r := newRun()
	var replicas [3]T
	var clocks [3]hlc.Time
	var changes []timedChange[T]
	states := []T{replicas[0]}
	equal := func(a, b T) bool { return P(&a).Equal(b) }
	join := func(a, b T) T {
		a = P(&a).Clone()
		P(&a).Join(b)
		return a
	}
	for range between(1, 25).Draw(t, "steps") {
		i := between(0, 2).Draw(t, "replica")
		state := P(&replicas[i])
		if from := between(-5, 2).Draw(t, "from"); from >= 0 {
			state.Join(replicas[from])
			r.pull(i, from)
		} else {
			old := state.Clone()
			clocks[i] += hlc.Time(between(1, 3).Draw(t, "step"))
			d, _ := r.next(i)
			delta := operate(state, clocks[i], d)
			changes = append(changes, timedChange[T]{d, clocks[i], delta})
			if joined := join(old, delta); !equal(joined, *state) {
				t.Fatalf("joining the change %+v gives %+v, not %+v", delta, joined, *state)
			}
			roundTrip(t, delta, decode, equal)
		}
		check(state, r.seen[i])
		roundTrip(t, *state, decode, equal)
		states = append(states, state.Clone())
	}
	checkLaws(t, states, join, equal)
	checkCollect[T, P](t, replicas[0], r.seen[0], changes, check)
}

// checkCollect applies the changes that a replica has not seen, in any order, to its state and to the
// same after Collect up to the latest possible cut: both show what the history says at each step.
func checkCollect[T encoder, P timedState[T]](t *rapid.T, state T, seen map[Dot]bool, changes []timedChange[T], check func(P, map[Dot]bool)) {
	cut, end := hlc.Time(1000), hlc.Time(1000)
	var late []timedChange[T]
	for _, c := range changes {
		if !seen[c.dot] {
			late = append(late, c)
			cut = min(cut, c.at-1)
		}
	}
	seen = maps.Clone(seen)
	kept, collected := P(&state).Clone(), P(&state).Clone()
	P(&collected).Collect(cut)
	check(P(&collected), seen)
	for _, c := range rapid.Permutation(late).Draw(t, "late") {
		seen[c.dot] = true
		P(&kept).Join(c.delta)
		P(&collected).Join(c.delta)
		check(P(&kept), seen)
		check(P(&collected), seen)
	}
	P(&kept).Collect(end)
	P(&collected).Collect(end)
	if !P(&kept).Equal(collected) {
		t.Fatalf("%+v and %+v are left", kept, collected)
	}
}

// timedGolden are values whose encodings must never change, in the order of the file.
func timedGolden(values map[string]encoder) (names []string) {
	at := hlc.At(1_700_000_000_000, 5)
	var m, deleted LWWMap
	m.Put(at, Dot{1, 1}, "old", []byte("gone"))
	m.Delete(at+1, Dot{65, 300})
	m.Put(at+2, Dot{1, 2}, "name", []byte("value"))
	m.Put(at+1, Dot{66, 1}, "empty", nil)
	m.Put(at+3, Dot{1, 3}, "removed", []byte{0, 255})
	m.Remove(at+4, Dot{65, 301}, "removed")
	deleted.Delete(at, Dot{1, 1})
	var z ZSet
	for i, score := range []float64{-1.5, 0, 1 << 60} {
		_, _ = z.Add(at, Dot{Actor(i + 1), 1}, string(rune('a'+i)), score)
	}
	z.Remove(at+1, Dot{1, 2}, "d")
	var l Timeline
	l.Add(at+1, Dot{65, 300}, []byte("later"))
	l.Add(at+1, Dot{1, 2}, nil)
	l.Add(at, Dot{1, 1}, []byte{0, 255})
	l.Trim(at)
	list := []struct {
		name  string
		value encoder
	}{
		{"map empty", LWWMap{}}, {"map", m}, {"map deleted", deleted},
		{"zset empty", ZSet{}}, {"zset", z},
		{"timeline empty", Timeline{}}, {"timeline", l},
	}
	for _, v := range list {
		names = append(names, v.name)
		values[v.name] = v.value
	}
	return names
}

// TestTimedDecodersRefuse feeds what no encoder writes.
func TestTimedDecodersRefuse(t *testing.T) {
	const (
		time5  = "0000000000000005"
		mark   = "0c" + "0101" + time5 + "0101" // deleted at 5 by 1.1
		put6   = "0d" + "0100" + "0000000000000006" + "0102" + "41"
		put5   = "0d" + "0100" + time5 + "0101" + "41"
		score6 = "14" + "0100" + "0000000000000006" + "0102"
	)
	for _, c := range []struct{ name, hex, reason string }{
		{"map", "", "ends early"},
		{"map", "0200", "unknown version"},
		{"map", "0105", "over the limit"},
		{"map", "01" + put6, "no delete"},
		{"map", "01" + "0c" + "0101" + "0000000000000000" + "0001", "no delete"},
		{"map", "01" + "01" + "01", "ends early"},
		{"map", "0100" + "00" + put6, "field empty"},
		{"map", "0100" + "0162" + put6 + "0161" + put6, "out of order"},
		{"map", "0100" + "0161" + put6 + "0161" + put6, "out of order"},
		{"map", "0100" + "8108", "over the limit"},
		{"map", "0100" + "0161", "bad varint"},
		{"map", "0100" + "0161" + "00", "ends early"},
		{"map", "01" + mark + "0161" + put5, "not after the delete"},
		{"map", "0100" + "0161" + "0c" + "0100" + "0000000000000000" + "0001", "not after the delete"},
		{"map", "0100" + "0161" + "14" + "0102" + time5 + "0101" + "0000000000000009", "expiry"},
		{"zset", "0100" + "0161" + put6, "not of 8 bytes"},
		{"zset", "0100" + "0161" + score6 + "7ff8000000000001", "not a number"},
		{"zset", "0100" + "0161" + score6 + "8000000000000000", "score -0"},
		{"timeline", "01" + "00", "ends early"},
		{"timeline", "01" + time5 + "0000000000000004" + "0101" + "00", "before the mark"},
		{"timeline", "01" + time5 + time5 + "0100" + "00", "sequence number 0"},
		{"timeline", "01" + time5 + time5 + "0101" + "81808001", "over the limit"},
		{"timeline", "01" + time5 + time5 + "0101" + "0141", ""},
		{"timeline", "01" + time5 + time5 + "0101" + "00" + time5 + "0101" + "00", "out of order"},
		{"timeline", "01" + time5 + time5 + "0201" + "00" + time5 + "0102" + "00", "out of order"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		switch _, err = decodeAny(c.name, data); {
		case c.reason == "" && err != nil:
			t.Errorf("%s %s: %v", c.name, c.hex, err)
		case c.reason != "" && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason)):
			t.Errorf("%s %s: %v, want %s", c.name, c.hex, err, c.reason)
		}
	}
}
