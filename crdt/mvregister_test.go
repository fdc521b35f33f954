package crdt

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

type putEvent struct {
	dot    Dot
	put    bool
	at     hlc.Time
	value  string
	before map[Dot]bool
}

// mvRegisterSpec is what a register shows that has seen some of the events: the puts that no put or
// delete had seen, and the one of them to read if one is wanted.
func mvRegisterSpec(events []putEvent, seen map[Dot]bool) (siblings []string, latest string) {
	var last putEvent
	for _, p := range events {
		gone := func(e putEvent) bool { return seen[e.dot] && e.before[p.dot] }
		if !p.put || !seen[p.dot] || slices.ContainsFunc(events, gone) {
			continue
		}
		siblings = append(siblings, fmt.Sprintf("%s at %d: %s", p.dot, p.at, p.value))
		if !last.put || p.at > last.at || p.at == last.at && p.dot.Actor > last.dot.Actor {
			last = p
		}
	}
	slices.Sort(siblings)
	return siblings, last.value
}

func showMVRegister(r MVRegister) (siblings []string, latest string) {
	for _, s := range r.Siblings() {
		siblings = append(siblings, fmt.Sprintf("%s at %d: %s", s.Dot, s.Time, s.Value))
	}
	last, _ := r.Latest()
	return siblings, string(last.Value)
}

func joinMVRegisters(a, b MVRegister) MVRegister {
	a = a.Clone()
	a.Join(b)
	return a
}

func TestMVRegister(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []putEvent(nil)
		var replicas [3]MVRegister
		var clock [3]hlc.Time // of each replica, which may run behind what it has seen
		states := []MVRegister{{}}
		for range between(1, 25).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			reg := &replicas[i]
			old := reg.Clone()
			switch from := between(-4, 2).Draw(t, "from"); {
			case from >= 0:
				reg.Join(replicas[from])
				r.pull(i, from)
			case from >= -3:
				clock[i] += hlc.Time(between(1, 3).Draw(t, "step")) // equal times across actors are common
				d, before := r.next(i)
				value := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "value")
				reg.Put(d, clock[i], []byte(value))
				events = append(events, putEvent{d, true, clock[i], value, before})
			default:
				before := maps.Clone(r.seen[i])
				reg.Delete()
				events = append(events, putEvent{dot: removal(r, i, len(events)), before: before})
			}
			if !joinMVRegisters(old, *reg).Equal(*reg) {
				t.Fatalf("joining %+v to %+v is not the operation", *reg, old)
			}
			wantSiblings, wantLatest := mvRegisterSpec(events, r.seen[i])
			siblings, latest := showMVRegister(*reg)
			if !slices.Equal(siblings, wantSiblings) || latest != wantLatest || reg.Len() != len(siblings) {
				t.Fatalf("%q, latest %q; want %q, latest %q", siblings, latest, wantSiblings, wantLatest)
			}
			roundTrip(t, *reg, DecodeMVRegister, MVRegister.Equal)
			states = append(states, reg.Clone())
		}
		checkLaws(t, states, joinMVRegisters, MVRegister.Equal)
	})
}

// TestMVRegisterLatest: the latest sibling is a way to read, so a delete that observed it leaves the
// concurrent, earlier one.
func TestMVRegisterLatest(t *testing.T) {
	var a, b MVRegister
	a.Put(Dot{1, 1}, 10, []byte("late"))
	b.Put(Dot{2, 1}, 5, []byte("early"))
	deleted := a.Clone()
	deleted.Delete()
	for _, c := range []struct {
		states []MVRegister
		want   string
	}{
		{[]MVRegister{a, b}, "late"}, {[]MVRegister{a, b, deleted}, "early"}, {[]MVRegister{deleted, b, a}, "early"}, {[]MVRegister{deleted, a}, ""},
	} {
		var r MVRegister
		for _, s := range c.states {
			r.Join(s)
		}
		if last, ok := r.Latest(); string(last.Value) != c.want || ok != (c.want != "") {
			t.Errorf("latest of %+v is %q, %v, want %q", r, last.Value, ok, c.want)
		}
	}
	if context := deleted.Context(); !context.Covers(Dot{1, 1}) || context.Len() != 1 {
		t.Errorf("context %v", context)
	}
}

func TestMVRegisterCopies(t *testing.T) {
	var a, b MVRegister
	a.Put(Dot{1, 1}, 1, []byte("a"))
	b.Put(Dot{2, 1}, 1, []byte("b"))
	copied := a.Clone()
	a.Siblings()[0].Value = []byte("changed")
	a.Join(b)
	a.Put(Dot{1, 2}, 2, []byte("new"))
	if siblings, _ := showMVRegister(copied); !slices.Equal(siblings, []string{"1.1 at 1: a"}) || copied.Context().Len() != 1 {
		t.Errorf("the copy changed: %q, %v", siblings, copied.Context())
	}
}

func goldenMVRegister(siblings bool) MVRegister {
	at := hlc.At(1_700_000_000_000, 5)
	var r MVRegister
	r.context.Set(7, 300)
	r.Put(Dot{1, 2}, at, []byte("one"))
	r.Delete()
	if siblings {
		r.Put(Dot{1, 3}, at+1, []byte("two"))
		var o MVRegister
		o.Put(Dot{65, 300}, at, nil)
		r.Join(o)
	}
	return r
}

func TestDecodeMVRegisterRefuses(t *testing.T) {
	const at, context = "0000000000000001", "01" + "0201020201"
	checkRefused(t, "mvregister", map[string]string{
		"":                                 "ends early",
		"0200":                             "unknown version",
		"0105":                             "cannot be in",
		"010201010102":                     "twice in the context",
		context + "0102" + at:              "bad varint",
		context + "0102" + "00":            "ends early",
		context + "0102" + at + "0541":     "5 bytes wanted",
		context + "0102" + at + "81808001": "over the limit",
		context + "0103" + at + "00":       "outside of the context",
		context + "0301" + at + "00":       "outside of the context",
		context + "0100" + at + "00":       "sequence number 0",
		context + "0201" + at + "000101" + at + "00": "out of order",
		context + "0101" + at + "000102" + at + "00": "out of order",
	})
}

// checkRefused checks that a decoder refuses encodings in hexadecimal, for the reasons given.
func checkRefused(t *testing.T, kind string, reasons map[string]string) {
	t.Helper()
	for text, reason := range reasons {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = decodeAny(kind, data); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s %s: %v, want %s", kind, text, err, reason)
		}
	}
}
