package replica

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// TestTablesOfNumbers does what the tables of docs/types.md about bounded counters, maxima, minima and
// HyperLogLogs say.
func TestTablesOfNumbers(t *testing.T) {
	text, err := os.ReadFile("../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	table := ""
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			table = ""
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name, _, header := strings.Cut(cells[0], ",")
		switch {
		case table == "" && header:
			table = name
		case cells[0] == "---" || !slices.Contains([]string{"bounded counter", "max", "min", "hll"}, table):
		default:
			rows[table]++
			t.Run(table+" "+cells[0]+" and "+cells[1], func(t *testing.T) { tableRow(t, table, cells) })
		}
	}
	for name, want := range map[string]int{"bounded counter": 7, "max": 9, "min": 6, "hll": 9} {
		if rows[name] != want {
			t.Errorf("%d rows about a %s", rows[name], name)
		}
	}
}

func tableRow(t *testing.T, table string, cells []string) {
	nodes := []*node{newNode(1), newNode(2)}
	begin := map[string]string{"bounded counter": "inc 8, transfer 3 to us", "max": "raise 5", "min": "lower 5", "hll": "add a"}
	deltas := tableOps(t, nodes[0], begin[table], 1000)
	merge(t, nodes[1].r, deltas...)
	var made [2][]Delta
	for i, n := range nodes {
		made[i] = tableOps(t, n, cells[i], int64(2000+1000*i))
	}
	for i, n := range nodes {
		if len(made[1-i]) > 0 {
			merge(t, n.r, made[1-i]...)
		}
		o, found, err := n.r.Lookup("", "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		got := strconv.FormatInt(o.Counter, 10)
		switch {
		case !found:
			got = "absent"
		case table == "hll":
			got = strconv.FormatUint(o.Size, 10)
		case table == "bounded counter":
			got += fmt.Sprintf(": eu %d, us %d", o.Bounded.Rights(1), o.Bounded.Rights(2))
		}
		if got != cells[2] {
			t.Errorf("region %d holds %q, want %q", i+1, got, cells[2])
		}
	}
}

// tableOps runs operations such as "transfer 4 to us, dec 2 (refused)".
func tableOps(t *testing.T, n *node, ops string, ms int64) (deltas []Delta) {
	t.Helper()
	kinds := map[string]OpKind{
		"inc": OpBoundedInc, "dec": OpBoundedDec, "transfer": OpBoundedTransfer, "raise": OpMax, "lower": OpMin, "add": OpHLLAdd,
		"delete": OpDelete,
	}
	for text := range strings.SplitSeq(ops, ", ") {
		text, wantRefused := strings.CutSuffix(text, " (refused)")
		words := append(strings.Fields(text), "0")
		op := Op{Kind: kinds[words[0]], Key: "k", ToActor: 1}
		if strings.Contains(text, "to us") {
			op.ToActor = 2
		}
		if op.Kind == OpHLLAdd {
			op.Elements, words[1] = [][]byte{[]byte(words[1])}, "0"
		}
		amount, err := strconv.ParseInt(words[1], 10, 64)
		if op.Delta = amount; err != nil || op.Kind == 0 {
			t.Fatalf("%q: %v", text, err)
		}
		_, made, err := n.r.Execute(hlc.At(ms, 0), []Op{op})
		var few *crdt.InsufficientRightsError
		if (errors.As(err, &few) || errors.Is(err, ErrUndeletable)) != wantRefused || err != nil && !wantRefused {
			t.Fatalf("%q: %v", text, err)
		}
		deltas = append(deltas, made...)
	}
	return deltas
}
