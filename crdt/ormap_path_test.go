package crdt

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("n", MaxNameBytes)
	for _, p := range []Path{{}, mustPath("a"), mustPath("a", "\x00", "b"), mustPath(long, long, long, long), mustPath(strings.Repeat("n", 127), strings.Repeat("n", 128))} {
		back, err := ParsePath([]byte(p.Encoded()))
		if err != nil || back != p || back.IsRoot() != (len(p.Names()) == 0) {
			t.Errorf("%q comes back as %q, %v", p.Names(), back.Names(), err)
		}
	}
	for _, bad := range []string{"\x00", "\x01", "\x02a", "\x01a\x00", "\x81\x00a", "\x80\x02" + long + "n", "\x01a\x01b\x01c\x01d\x01e", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a"} {
		if p, err := ParsePath([]byte(bad)); !errors.Is(err, ErrBadPath) {
			t.Errorf("%q is read as %q, %v", bad, p.Names(), err)
		}
	}
}

func TestComparePaths(t *testing.T) {
	ascending := []Path{{}, mustPath("a"), mustPath("a", "a"), mustPath("a", "b"), mustPath("a\x00"), mustPath("ab"), mustPath("ab", "a"), mustPath("b"), mustPath(strings.Repeat("c", 200)), mustPath("d")}
	shuffled := slices.Clone(ascending)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, Path.Compare)
	if !slices.Equal(shuffled, ascending) {
		t.Errorf("%v", shuffled)
	}
}
