package main

import (
	"strings"
	"testing"
)

// A mutant that no longer fits the source would be found only when all are run, which takes minutes.
func TestEveryMutantFits(t *testing.T) {
	names := map[string]bool{}
	mutants := all()
	for i := range mutants {
		m := &mutants[i]
		if _, err := plant("../..", t.TempDir(), m); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] || m.old == m.new || m.class == "" || m.harm == "" || len(m.tests) == 0 && !m.simulated() {
			t.Errorf("%s: says too little, or is there twice", m.name)
		}
		names[m.name] = true
	}
	for name := range alsoSimulated {
		if !names[name] {
			t.Errorf("no mutant is called %q", name)
		}
	}
	m := mutants[0]
	m.old = "no file has this text"
	if _, err := plant("../..", t.TempDir(), &m); err == nil {
		t.Error("a mutant that does not fit is planted")
	}
}

func TestJudge(t *testing.T) {
	const failed = `--- FAIL: TestA (0.01s)
    --- FAIL: TestA/one (0.00s)
        a_test.go:3: no
--- FAIL: TestB (0.00s)
FAIL
FAIL	example.com/x	0.020s
`
	for _, c := range []struct{ output, killer, fault string }{
		{failed, "TestA/one", ""},
		{"panic: runtime error\n\ngoroutine 1\nFAIL\texample.com/x\t0.020s\n", "the process ended", ""},
		{"# example.com/x\nx.go:1: undefined: y\nFAIL\texample.com/x [build failed]\n", "", "does not compile"},
		{"go: no such tool\n", "", "could not be run"},
	} {
		killer, err := judge(c.output)
		if killer != c.killer || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%q: %q, %v", c.output, killer, err)
		}
	}
}
