package lint

import (
	"maps"
	"strings"
	"testing"
)

func TestOversizedFindsLongAndBranchedFunctionsAndLongFiles(t *testing.T) {
	long := "package p\nfunc (t *T[K]) Long() {\n" + strings.Repeat("\n", maxFunctionLines-1) + "}\n" +
		"func Fits() {\n" + strings.Repeat("\n", maxFunctionLines-2) + "}\n"
	branched := "package p\nfunc Branched() {\n" + strings.Repeat("if a && b {}\n", 7) + "for {}\n}\n" +
		"func Straight() {\n" + strings.Repeat("if a && b {}\n", 7) + "switch { default: }\n}\n"
	file := "package p\n" + strings.Repeat("\n", maxFileLines)
	got := Oversized([]*File{parse(t, "a.go", long), parse(t, "b.go", branched), parse(t, "c.go", file)})
	want := Sizes{
		"a.go T.Long lines":        maxFunctionLines + 1,
		"b.go Branched cyclomatic": maxCyclomatic + 1,
		"c.go lines":               maxFileLines + 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRatchet(t *testing.T) {
	debt, err := ParseDebt("# comment\n\na.go lines 700\nb.go F lines 90\nc.go F lines 80\nd.go G cyclomatic 20\n")
	if err != nil {
		t.Fatal(err)
	}
	faults := Ratchet(Sizes{"a.go lines": 700, "b.go F lines": 91, "c.go F lines": 79, "e.go lines": 601}, debt)
	want := []string{"b.go F lines: grew", "c.go F lines: shrank", "e.go lines: 601 is over", "d.go G cyclomatic: within"}
	if len(faults) != len(want) {
		t.Fatalf("faults: %q", faults)
	}
	for i := range want {
		if !strings.HasPrefix(faults[i], want[i]) {
			t.Errorf("fault %d is %q, want %q", i, faults[i], want[i])
		}
	}
}

func TestParseDebtRefusesALineWithoutANumber(t *testing.T) {
	for _, line := range []string{"a.go lines", "a.go"} {
		if _, err := ParseDebt(line); err == nil {
			t.Errorf("%q passed", line)
		}
	}
}
