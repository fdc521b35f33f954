package crdt

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// boundedEvent changes the rights of the actor of its dot by amount, and those of to by the opposite;
// to 0 is nobody.
type boundedEvent struct {
	dot    Dot
	amount int64
	to     Actor
}

// boundedSpec says what rights an actor has. The value is what the events give and take in all.
func boundedSpec(events []boundedEvent, seen map[Dot]bool, a Actor) (rights, value int64) {
	for _, e := range events {
		if !seen[e.dot] {
			continue
		}
		if e.dot.Actor == a {
			rights += e.amount
		}
		if e.to == a {
			rights -= e.amount
		}
		if e.to == 0 {
			value += e.amount
		}
	}
	return rights, value
}

// boundedOperation does what a replica drew: it adds, takes or gives up to 5. It returns what the
// operation wanted and the change.
func boundedOperation(t *rapid.T, c *BoundedCounter, d Dot) (e boundedEvent, delta BoundedCounter, err error) {
	n := 1 + int64(between(0, 4).Draw(t, "n"))
	switch between(0, 2).Draw(t, "operation") {
	case 0:
		delta, err = c.Inc(d, n)
		return boundedEvent{dot: d, amount: n}, delta, err
	case 1:
		delta, err = c.Dec(d, n)
		return boundedEvent{dot: d, amount: -n}, delta, err
	default:
		to := Actor(1 + between(0, 2).Draw(t, "to"))
		delta, err = c.Transfer(d, n, to)
		return boundedEvent{dot: d, amount: -n, to: to}, delta, err
	}
}

func TestBoundedCounter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []boundedEvent(nil)
		var replicas [3]BoundedCounter
		states := []BoundedCounter{{}}
		for range 1 + between(0, 39).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			c := &replicas[i]
			if from := between(0, 6).Draw(t, "from"); from < 3 {
				c.Join(replicas[from])
				r.pull(i, from)
			} else {
				old := c.Clone()
				have, _ := boundedSpec(events, r.seen[i], Actor(i+1))
				e, delta, err := boundedOperation(t, c, Dot{Actor(i + 1), r.seq[i] + 1})
				var few *InsufficientRightsError
				if refused := errors.As(err, &few); refused != (e.amount < 0 && have < -e.amount) || refused && few.Have != have {
					t.Fatalf("%+v with rights %d: %v", e, have, err)
				}
				if err == nil {
					r.next(i)
					events = append(events, e)
				}
				roundTrip(t, delta, DecodeBoundedCounter, BoundedCounter.Equal)
				if old.Join(delta); !old.Equal(*c) {
					t.Fatalf("joining the change %+v gives %+v, not %+v", delta, old, *c)
				}
			}
			compareBounded(t, *c, events, r.seen[i])
			states = append(states, c.Clone())
		}
		checkLaws(t, states, func(a, b BoundedCounter) BoundedCounter {
			a = a.Clone()
			a.Join(b)
			return a
		}, BoundedCounter.Equal)
	})
}

// compareBounded compares a causal state with the history, and with the promises: no actor has rights
// below 0, and the rights together are the value.
func compareBounded(t *rapid.T, c BoundedCounter, events []boundedEvent, seen map[Dot]bool) {
	var sum int64
	for a := Actor(1); a <= 3; a++ {
		rights, value := boundedSpec(events, seen, a)
		if c.Rights(a) != rights || c.Value() != value || rights < 0 {
			t.Fatalf("actor %d: rights %d of %d; want %d of %d: %+v", a, c.Rights(a), c.Value(), rights, value, c)
		}
		sum += rights
	}
	if sum != c.Value() || sum < 0 {
		t.Fatalf("rights of %d for a value of %d: %+v", sum, c.Value(), c)
	}
	for _, a := range []Actor{1, 2, 3} {
		concerned := slices.ContainsFunc(events, func(e boundedEvent) bool { return seen[e.dot] && (e.dot.Actor == a || e.to == a) })
		if slices.Contains(c.Actors(), a) != concerned || !slices.IsSorted(c.Actors()) {
			t.Fatalf("actors %v of %+v", c.Actors(), c)
		}
	}
	if c.Len() != len(c.Rows()) || c.Len() > 3 {
		t.Fatalf("rows %+v", c.Rows())
	}
	roundTrip(t, c, DecodeBoundedCounter, BoundedCounter.Equal)
}

// TestBoundedCounterAnyOrder delivers single changes in any order, late, twice or never: nobody takes
// what it does not have, and all changes together have a value that is not negative.
func TestBoundedCounterAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var replicas [3]BoundedCounter
		var seq [3]uint64
		var all BoundedCounter
		deltas := []BoundedCounter{{}}
		for range 1 + between(0, 49).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			if rapid.Bool().Draw(t, "deliver") {
				replicas[i].Join(deltas[between(0, len(deltas)-1).Draw(t, "delta")])
			} else if _, delta, err := boundedOperation(t, &replicas[i], Dot{Actor(i + 1), seq[i] + 1}); err == nil {
				seq[i]++
				deltas = append(deltas, delta)
				all.Join(delta)
			}
			if rights := replicas[i].Rights(Actor(i + 1)); rights < 0 {
				t.Fatalf("own rights %d: %+v", rights, replicas[i])
			}
			var sum int64
			for a := Actor(1); a <= 3; a++ {
				if all.Rights(a) < 0 {
					t.Fatalf("rights %d of %d in %+v", all.Rights(a), a, all)
				}
				sum += all.Rights(a)
			}
			if sum != all.Value() {
				t.Fatalf("rights of %d for a value of %d: %+v", sum, all.Value(), all)
			}
		}
	})
}

func TestBoundedCounterRefuses(t *testing.T) {
	var c BoundedCounter
	if _, err := c.Inc(Dot{1, 1}, math.MaxInt64-1); err != nil {
		t.Fatal(err)
	}
	var few *InsufficientRightsError
	before := c.Clone()
	for _, n := range []int64{0, -1, math.MinInt64} {
		_, inc := c.Inc(Dot{1, 2}, n)
		_, dec := c.Dec(Dot{1, 2}, n)
		_, give := c.Transfer(Dot{1, 2}, n, 2)
		if inc != ErrAmount || dec != ErrAmount || give != ErrAmount {
			t.Errorf("%d: %v, %v, %v", n, inc, dec, give)
		}
	}
	if _, err := c.Inc(Dot{2, 1}, 2); err != ErrCounterOverflow {
		t.Errorf("value over the limit: %v", err)
	}
	if _, err := c.Dec(Dot{2, 1}, 1); !errors.As(err, &few) || few.Have != 0 || err.Error() != "insufficient rights: have 0" {
		t.Errorf("taking another's: %v", err)
	}
	if delta, err := c.Transfer(Dot{1, 2}, 5, 1); err != nil || delta.Len() != 0 {
		t.Errorf("giving to oneself: %v, %+v", err, delta)
	}
	if !c.Equal(before) {
		t.Errorf("a refused operation changed %+v to %+v", before, c)
	}
}

// TestBoundedCounterTotals: a total of an actor that would not fit is refused, even if the value fits.
func TestBoundedCounterTotals(t *testing.T) {
	const most = math.MaxInt64
	c := BoundedCounter{rows: []BoundedRow{
		{Actor: 1, Seq: 1, Inc: most, Use: most, Transfers: []BoundedTransfer{{2, most}}},
		{Actor: 3, Seq: 1, Inc: most, Transfers: []BoundedTransfer{{1, most}}},
		{Actor: 4, Seq: 1, Inc: most, Transfers: []BoundedTransfer{{1, most}}},
		{Actor: 5, Seq: 1, Use: most},
	}}
	before := c.Clone()
	if c.Value() != most || c.Rights(1) != most || c.Rights(2) != most || c.Rights(5) != -most {
		t.Fatalf("value %d, rights %d, %d, %d", c.Value(), c.Rights(1), c.Rights(2), c.Rights(5))
	}
	_, dec := c.Dec(Dot{1, 2}, 1)
	_, give := c.Transfer(Dot{1, 2}, 1, 2)
	if dec != ErrCounterOverflow || give != ErrCounterOverflow || !c.Equal(before) {
		t.Errorf("%v, %v, %+v", dec, give, c)
	}
	if _, err := c.Dec(Dot{2, 1}, 1); err != nil {
		t.Error(err)
	}
	if _, err := c.Inc(Dot{1, 2}, 1); err != ErrCounterOverflow {
		t.Errorf("%v, %+v", err, c)
	}
	c.Join(BoundedCounter{rows: []BoundedRow{{Actor: 6, Seq: 1, Inc: most}}})
	if c.Value() != most {
		t.Errorf("value %d", c.Value())
	}
}

func addBoundedCounterGolden(names *[]string, values map[string]encoder) {
	c := BoundedCounter{rows: []BoundedRow{
		{Actor: 1, Seq: 300, Inc: 1 << 40, Use: 7, Transfers: []BoundedTransfer{{2, 5}, {65, 1<<63 - 1}}},
		{Actor: 2, Seq: 1, Use: 3},
	}}
	*names = append(*names, "bounded empty", "bounded")
	values["bounded empty"], values["bounded"] = BoundedCounter{}, c
}

func TestBoundedCounterDecoderRefuses(t *testing.T) {
	const row = "0101050000" // actor 1, seq 1, inc 5
	for _, c := range []struct{ hex, reason string }{
		{"", "ends early"},
		{"02", "unknown version"},
		{"01" + "0100050000", "sequence number 0"},
		{"01" + "0101000000", "without content"},
		{"01" + row + row, "out of order"},
		{"01" + "0102", "bad varint"},
		{"01" + "0101050001", "cannot be in"},
		{"01" + "0101050001" + "0200", "transfer of nothing"},
		{"01" + "0101050001" + "0101", "to oneself"},
		{"01" + "0101050002" + "03010201", "transfers out of order"},
		{"01" + "0101050002" + "03010301", "transfers out of order"},
		{"01" + "0101" + "80808080808080808001" + "0000", "over the limit"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeAny("bounded", data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %s", c.hex, err, c.reason)
		}
	}
}
