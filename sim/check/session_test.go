package check

import (
	"slices"
	"testing"
)

func wrote(session int, value string) SessionOp {
	return SessionOp{Session: session, Region: "eu", Key: "k", Value: value, Write: true}
}

func read(session int, value string) SessionOp {
	return SessionOp{Session: session, Region: "us", Key: "k", Value: value}
}

func perhaps(op SessionOp) SessionOp {
	op.Unknown = true
	return op
}

func TestSessionsFindEachAnomaly(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   []SessionOp
		final string
		want  []Guarantee
	}{
		{"nothing wrong", []SessionOp{wrote(1, "a"), read(2, "a"), wrote(2, "b"), read(1, "a"), read(1, "b")}, "b", nil},
		{"own write not read", []SessionOp{wrote(1, "a"), read(1, "")}, "a", []Guarantee{ReadYourWrites}},
		{"older than the own write", []SessionOp{wrote(2, "a"), read(1, "a"), wrote(1, "b"), read(1, "a")}, "b", []Guarantee{WritesFollowReads, ReadYourWrites}},
		{"read backwards", []SessionOp{wrote(1, "a"), read(2, "a"), read(2, "")}, "a", []Guarantee{MonotonicReads}},
		{"two read in two orders", []SessionOp{
			wrote(1, "a"), wrote(2, "b"), read(3, "a"), read(3, "b"), read(4, "b"), read(4, "a"),
		}, "b", []Guarantee{MonotonicReads}},
		{"own writes in the wrong order", []SessionOp{wrote(1, "a"), wrote(1, "b")}, "a", []Guarantee{MonotonicWrites}},
		{"write before what was read", []SessionOp{wrote(2, "a"), read(1, "a"), wrote(1, "b")}, "a", []Guarantee{WritesFollowReads}},
		{"other keys do not matter", []SessionOp{wrote(1, "a"), {Session: 1, Key: "other", Region: "us"}}, "a", nil},
		{"perhaps written, not read", []SessionOp{perhaps(wrote(1, "a")), read(1, "")}, "", nil},
		{"perhaps written, and seen later", []SessionOp{perhaps(wrote(1, "a")), wrote(1, "b"), read(1, "b"), read(2, "a")}, "a", nil},
		{"perhaps written, before what was read", []SessionOp{wrote(2, "a"), read(1, "a"), perhaps(wrote(1, "b")), read(3, "b")}, "a", []Guarantee{WritesFollowReads}},
		{"lost in the end", []SessionOp{wrote(1, "a")}, "", nil},
	} {
		broken := Sessions(c.ops, map[string]string{"k": c.final})
		if c.name == "lost in the end" { // no session's guarantee, but an order that cannot be
			if len(broken) != 1 {
				t.Errorf("%s: %v", c.name, broken)
			}
			continue
		}
		if (len(broken) == 0) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, broken, c.want)
			continue
		}
		for _, g := range c.want {
			if len(broken) > 0 && !slices.Contains(c.want, broken[0].Guarantees[0]) {
				t.Errorf("%s: %v, want %v of it", c.name, broken[0], g)
			}
		}
	}
}
