package replica

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// TestTablesOfTypes does what the tables of docs/types.md about flags and multi-value registers say
// that two regions do at once, in both orders of arrival, and compares what comes of it.
func TestTablesOfTypes(t *testing.T) {
	text, err := os.ReadFile("../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	kind, begin := "", Op{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		switch {
		case strings.HasPrefix(line, "|---"):
		case len(cells) != 3:
			kind = ""
		case cells[0] == "| flag, here":
			kind, begin = "flag", flagOp(OpFlagEnable)
		case cells[0] == "| multi-value register, here":
			kind, begin = "register", mvPut("a")
		case kind != "":
			rows++
			here, there := strings.TrimPrefix(cells[0], "| "), cells[1]
			want := strings.TrimSuffix(cells[2], " |")
			for _, swapped := range []bool{false, true} {
				if swapped {
					here, there = there, here
				}
				if got := outcome(t, begin, here, there); got != want {
					t.Errorf("%s: %s beside %s gives %s, want %s", kind, here, there, got, want)
				}
			}
		}
	}
	if rows < 14 {
		t.Errorf("found %d rows only", rows)
	}
}

// outcome has two regions begin with the same, and then do something each at once.
func outcome(t *testing.T, begin Op, here, there string) string {
	t.Helper()
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, first := do(t, a, begin)
	merge(t, b, first...)
	var fromA, fromB []Delta
	for _, words := range strings.Split(here, ", ") {
		_, d := do(t, a, opInWords(t, begin, words))
		fromA = append(fromA, d...)
	}
	for _, words := range strings.Split(there, ", ") {
		_, d := do(t, b, opInWords(t, begin, words))
		fromB = append(fromB, d...)
	}
	merge(t, a, fromB...)
	merge(t, b, fromA...)
	got := inWords(t, a, begin.Key)
	if other := inWords(t, b, begin.Key); got != other {
		t.Errorf("%s beside %s: one region has %s, the other %s", here, there, got, other)
	}
	return got
}

func opInWords(t *testing.T, begin Op, words string) Op {
	t.Helper()
	verb, value, _ := strings.Cut(words, " ")
	switch verb {
	case "enable":
		return flagOp(OpFlagEnable)
	case "disable":
		return flagOp(OpFlagDisable)
	case "put":
		return mvPut(value)
	case "delete":
		return Op{Kind: OpDelete, Key: begin.Key}
	default:
		t.Fatalf("operation %q", words)
		return Op{}
	}
}

func inWords(t *testing.T, r *Replica, key string) string {
	t.Helper()
	o, found, err := r.Lookup("", key, 0)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case !found && key == "f":
		return "disabled"
	case !found:
		return "absent"
	case o.Type == crdt.TypeEWFlag:
		return "enabled"
	}
	values := strings.Fields(values(t, r))
	slices.Sort(values)
	return strings.Join(values, " and ")
}
