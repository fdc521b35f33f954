package check

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestRisingTellsStaleAndPhantomReads(t *testing.T) {
	var r Rising
	r.Acknowledge(r.Begin())
	old := r.Floor()
	r.Acknowledge(r.Begin())
	under := r.Begin() // under way: 3
	floor := r.Floor()
	for _, c := range []struct {
		name         string
		floor, found uint64
		want         any
	}{
		{"what was acknowledged", floor, 2, nil},
		{"what is under way", floor, under, nil},
		{"old, but the read began before", old, 1, nil},
		{"older than what was acknowledged before", floor, 1, new(*StaleError)},
		{"absent", floor, 0, new(*StaleError)},
		{"never written", floor, 4, new(*PhantomError)},
	} {
		err := r.Judge(c.floor, c.found)
		if (err == nil) != (c.want == nil) || err != nil && !errors.As(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// ledgerOf returns a ledger whose first writer has made writes with these outcomes, and what is found
// if every write that may be there is.
func ledgerOf(outcomes ...Outcome) (*Ledger, map[string][]byte) {
	l := NewLedger("k/", 7, 2, 20)
	all := map[string][]byte{}
	for _, o := range outcomes {
		n, key, value := l.Writer(0).Begin()
		l.Writer(0).End(n, o)
		all[key] = value
	}
	return l, all
}

func TestLedgerFindsWhatIsLostAndWhatIsTooMuch(t *testing.T) {
	for _, c := range []struct {
		name           string
		change         func(map[string][]byte)
		lost, phantoms int
	}{
		{"as it must be", func(m map[string][]byte) { delete(m, "k/0/2") }, 0, 0},
		{"without the unknown", func(m map[string][]byte) { delete(m, "k/0/2"); delete(m, "k/0/1") }, 0, 0},
		{"without the acknowledged", func(m map[string][]byte) { delete(m, "k/0/2"); delete(m, "k/0/0") }, 1, 0},
		{"with the refused", func(map[string][]byte) {}, 0, 1},
		{"with another value", func(m map[string][]byte) { delete(m, "k/0/2"); m["k/0/0"] = []byte("x") }, 0, 1},
		{"with another write's value", func(m map[string][]byte) { m["k/0/0"] = m["k/0/2"]; delete(m, "k/0/2") }, 0, 1},
		{"with a write that never began", func(m map[string][]byte) { delete(m, "k/0/2"); m["k/0/3"] = nil }, 0, 1},
		{"with a writer that is none", func(m map[string][]byte) { delete(m, "k/0/2"); m["k/2/0"] = nil }, 0, 1},
		{"with a foreign key", func(m map[string][]byte) { delete(m, "k/0/2"); m["other"] = nil }, 0, 1},
	} {
		l, found := ledgerOf(Done, Unknown, NotDone)
		c.change(found)
		got := l.Compare(maps.All(found))
		if got.Lost != c.lost || got.Phantoms != c.phantoms || len(got.LostKeys) != c.lost || len(got.PhantomsExamples) != c.phantoms {
			t.Errorf("%s: %+v", c.name, got)
		}
		if got.Done != 1 || got.Unknown != 1 || got.NotDone != 1 {
			t.Errorf("%s: counts %+v", c.name, got)
		}
	}
}

func TestLedgerSeesAKeyThatComesTwice(t *testing.T) {
	l, found := ledgerOf(Done)
	twice := func(yield func(string, []byte) bool) {
		for range 2 {
			maps.All(found)(yield)
		}
	}
	if c := l.Compare(twice); c.Phantoms != 1 {
		t.Errorf("%+v", c)
	}
}

// op is an operation at the times given, answered.
func op(kind Kind, call, end int64, change func(*Operation)) Operation {
	o := Operation{Key: "k", Kind: kind, Call: call, Return: end, Outcome: Done, Held: true}
	change(&o)
	return o
}

func put(call, end int64, value string) Operation {
	return op(Put, call, end, func(o *Operation) { o.Value = value })
}

func get(call, end int64, found string) Operation {
	return op(Get, call, end, func(o *Operation) { o.Found = found })
}

func swap(call, end int64, expected, value string, held bool) Operation {
	return op(Swap, call, end, func(o *Operation) { o.Expected, o.Value, o.Held = expected, value, held })
}

func remove(call, end int64, existed bool) Operation {
	return op(Delete, call, end, func(o *Operation) { o.Held = existed })
}

func unknown(o Operation) Operation { o.Outcome = Unknown; return o }

func TestLinearizableAcceptsAndRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		history []Operation
		legal   bool
	}{
		{"read your write", []Operation{put(1, 2, "a"), get(3, 4, "a")}, true},
		{"a stale read", []Operation{put(1, 2, "a"), put(3, 4, "b"), get(5, 6, "a")}, false},
		{"an old value while the new is written", []Operation{put(1, 2, "a"), put(3, 6, "b"), get(4, 5, "a")}, true},
		{"new and then old", []Operation{put(1, 2, "a"), put(3, 9, "b"), get(4, 5, "b"), get(6, 7, "a")}, false},
		{"a value that nobody wrote", []Operation{put(1, 2, "a"), get(3, 4, "x")}, false},
		{"a lost write", []Operation{put(1, 2, "a"), get(3, 4, "")}, false},
		{"an unknown write never seen", []Operation{put(1, 2, "a"), unknown(put(3, 4, "b")), get(5, 6, "a")}, true},
		{"an unknown write seen later", []Operation{put(1, 2, "a"), unknown(put(3, 4, "b")), get(5, 6, "a"), get(7, 8, "b")}, true},
		{"an unknown write seen and gone", []Operation{put(1, 2, "a"), unknown(put(3, 4, "b")), get(5, 6, "b"), get(7, 8, "a")}, false},
		{"an unknown write seen before it began", []Operation{put(1, 2, "a"), get(3, 4, "b"), unknown(put(5, 6, "b"))}, false},
		{"a swap that holds", []Operation{put(1, 2, "a"), swap(3, 4, "a", "b", true), get(5, 6, "b")}, true},
		{"a swap that does not hold, but says so", []Operation{put(1, 2, "a"), swap(3, 4, "x", "b", true)}, false},
		{"a swap that holds, but is refused", []Operation{put(1, 2, "a"), swap(3, 4, "a", "b", false)}, false},
		{"a refused swap has no effect", []Operation{put(1, 2, "a"), swap(3, 4, "x", "b", false), get(5, 6, "b")}, false},
		{"one of two swaps", []Operation{put(1, 2, "a"), swap(3, 6, "a", "b", true), swap(4, 5, "a", "c", false)}, true},
		{"two swaps of one value", []Operation{put(1, 2, "a"), swap(3, 6, "a", "b", true), swap(4, 5, "a", "c", true)}, false},
		{"a swap of what is absent", []Operation{swap(1, 2, "", "a", true), swap(3, 4, "", "b", false)}, true},
		{"a delete that finds nothing", []Operation{put(1, 2, "a"), remove(3, 4, false)}, false},
		{"deleted", []Operation{put(1, 2, "a"), remove(3, 4, true), get(5, 6, ""), remove(7, 8, false)}, true},
		{"deleted and still there", []Operation{put(1, 2, "a"), remove(3, 4, true), get(5, 6, "a")}, false},
		{"an unknown delete", []Operation{put(1, 2, "a"), unknown(remove(3, 4, false)), get(5, 6, "")}, true},
		{"a replace of what is absent", []Operation{op(Replace, 1, 2, func(o *Operation) { o.Value = "a" })}, false},
	} {
		var h History
		for _, o := range c.history {
			h.Add(o)
		}
		v := h.Linearizable(time.Minute, 2)
		if (len(v.Illegal) == 0) != c.legal || len(v.Undecided) != 0 || v.Operations != len(c.history) {
			t.Errorf("%s: %+v, want legal %v", c.name, v, c.legal)
		}
	}
}

func TestOneIllegalKeyAmongManyIsNamedAndShown(t *testing.T) {
	var h History
	for _, key := range []string{"a", "b", "c"} {
		for _, o := range []Operation{put(1, 2, "1"), put(3, 4, "2"), get(5, 6, "2")} {
			o.Key = key
			h.Add(o)
		}
	}
	stale := get(7, 8, "1")
	stale.Key = "b"
	h.Add(stale)
	v := h.Linearizable(time.Minute, 2)
	if len(v.Illegal) != 1 || v.Illegal[0] != "b" || v.Keys != 3 {
		t.Fatalf("%+v", v)
	}
	file := filepath.Join(t.TempDir(), "b.html")
	if err := h.Visualize("b", file, time.Minute); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(page), "get: ") {
		t.Errorf("the page has %d bytes, %v", len(page), err)
	}
}

func TestHistoryLeavesOutWhatWasNotDone(t *testing.T) {
	var h History
	refused := put(1, 2, "a")
	refused.Outcome = NotDone
	h.Add(refused)
	h.Add(unknown(get(1, 2, "")))
	h.Add(get(3, 4, "a")) // and its effect is seen all the same
	if v := h.Linearizable(time.Minute, 1); h.Len() != 1 || len(v.Illegal) != 1 {
		t.Errorf("%d operations, %+v", h.Len(), v)
	}
}

func TestVersionsAndValuesBelongTogether(t *testing.T) {
	versioned := func(o Operation, version string) Operation { o.Version = version; return o }
	for _, c := range []struct {
		name    string
		history []Operation
		wrong   bool
	}{
		{"one each", []Operation{versioned(put(1, 2, "a"), "1"), versioned(get(3, 4, "a"), "1"), get(5, 6, "a")}, false},
		{"two values of one version", []Operation{versioned(put(1, 2, "a"), "1"), versioned(put(3, 4, "b"), "1")}, true},
		{"two versions of one value", []Operation{versioned(put(1, 2, "a"), "1"), versioned(get(3, 4, "a"), "2")}, true},
	} {
		var h History
		for _, o := range c.history {
			h.Add(o)
		}
		if v := h.Linearizable(time.Minute, 1); (len(v.Versions) == 1) != c.wrong {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}
