package main

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
)

func TestInParts(t *testing.T) {
	broken := errors.New("broken")
	many := func(n, bytes int, end error) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for range n {
				if !yield(strings.Repeat("x", bytes), nil) {
					return
				}
			}
			if end != nil {
				yield("", end)
			}
		}
	}
	for _, c := range []struct {
		n, bytes int
		end      error
		want     []int
	}{
		{0, 1, nil, nil},
		{1, 2 << 20, nil, []int{1}},
		{3, exportBytes / 2, nil, []int{2, 1}},
		{3, exportBytes/2 + 1, nil, []int{1, 1, 1}},
		{2*exportMembers + 1, 1, nil, []int{exportMembers, exportMembers, 1}},
		{exportMembers, 1, nil, []int{exportMembers}},
		{exportMembers + 1, 1, broken, []int{exportMembers}},
	} {
		var got []int
		err := inParts(many(c.n, c.bytes, c.end), func(s string) int { return len(s) }, func(part []string) error {
			got = append(got, len(part))
			return nil
		})
		if !errors.Is(err, c.end) || len(got) != len(c.want) {
			t.Fatalf("%d of %d: %v, %v", c.n, c.bytes, got, err)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%d of %d: parts of %v, want %v", c.n, c.bytes, got, c.want)
			}
		}
	}
	if err := inParts(many(1, 1, nil), func(string) int { return 1 }, func([]string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestUnexportable: every type is exported or refused with a reason.
func TestUnexportable(t *testing.T) {
	held := []client.Type{
		client.TypeRegister, client.TypeCounter, client.TypeSet, client.TypeMVRegister, client.TypeBoundedCounter, client.TypeFlag,
		client.TypeMax, client.TypeMin, client.TypeMap, client.TypeZSet, client.TypeCounterZSet,
	}
	for _, typ := range client.Types() {
		e := client.Entry{Value: client.Value{Type: typ, Siblings: make([]client.Sibling, 1)}}
		if reason := unexportable(&e.Value); (reason == "") != slices.Contains(held, typ) {
			t.Errorf("%s: %q", typ, reason)
		}
	}
	e := client.Entry{Value: client.Value{Type: client.TypeMVRegister, Siblings: make([]client.Sibling, 2)}}
	if reason := unexportable(&e.Value); reason != "a multi-value register with 2 values" {
		t.Errorf("siblings: %q", reason)
	}
	e.Type = 99
	if reason := unexportable(&e.Value); reason == "" {
		t.Error("a type of the future is exported")
	}
}
