package crdt

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// zsetScores are the scores that are drawn; 0 and -0 are the same.
var zsetScores = []float64{math.Inf(-1), -2.5, math.Copysign(0, -1), 0, 1, math.Inf(1)}

func TestZSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []mapEvent[float64]
		operate := func(z *ZSet, at hlc.Time, d Dot) ZSet {
			e := drawMapEvent(t, at, d, rapid.SampledFrom(zsetScores))
			events = append(events, e)
			switch {
			case e.puts:
				delta, err := z.Add(at, d, e.field, e.value)
				if err != nil {
					t.Fatal(err)
				}
				return delta
			case e.field != "":
				return z.Remove(at, d, e.field)
			default:
				return z.Delete(at, d)
			}
		}
		check := func(z *ZSet, seen map[Dot]bool) { checkZSet(t, z, mapSpec(events, seen)) }
		runTimed(t, DecodeZSet, operate, check)
	})
}

// checkZSet compares all that a set can be asked with its scores.
func checkZSet(t *rapid.T, z *ZSet, scores map[string]float64) {
	var want []ZSetMember
	for _, score := range []float64{math.Inf(-1), -2.5, 0, 1, math.Inf(1)} {
		for _, member := range mapFields {
			if s, ok := scores[member]; ok && s == score {
				want = append(want, ZSetMember{member, score})
			}
		}
	}
	if got := z.Range(0, math.MaxInt); !slices.Equal(got, want) || z.Len() != len(want) {
		t.Fatalf("members %v, want %v", got, want)
	}
	for _, member := range mapFields {
		score, ok := z.Score(member)
		rank, ranked := z.Rank(member)
		i := slices.IndexFunc(want, func(m ZSetMember) bool { return m.Member == member })
		if ok != (i >= 0) || ranked != ok || ok && (rank != i || score != want[i].Score || math.Signbit(score) != (score < 0)) {
			t.Fatalf("%s has score %v, %v and rank %d, %v in %v", member, score, ok, rank, ranked, want)
		}
	}
	checkByScore(t, z, want)
}

// checkByScore compares a range of scores with the members that are in it.
func checkByScore(t *rapid.T, z *ZSet, members []ZSetMember) {
	low, high := rapid.SampledFrom(zsetScores).Draw(t, "low"), rapid.SampledFrom(zsetScores).Draw(t, "high")
	var within []ZSetMember
	for _, m := range members {
		if low <= m.Score && m.Score <= high {
			within = append(within, m)
		}
	}
	if got := z.ByScore(low, high); !slices.Equal(got, within) {
		t.Fatalf("scores %v to %v: %v, want %v", low, high, got, within)
	}
}

func TestZSetRange(t *testing.T) {
	var z ZSet
	for i, member := range []string{"c", "a", "b"} {
		if _, err := z.Add(1, Dot{1, uint64(i + 1)}, member, 7); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		from, to int
		want     string
	}{{0, 3, "abc"}, {1, 2, "b"}, {-5, 1, "a"}, {2, 99, "c"}, {2, 1, ""}, {3, 4, ""}, {9, 10, ""}, {-2, -1, ""}} {
		var got string
		for _, m := range z.Range(c.from, c.to) {
			got += m.Member
		}
		if got != c.want {
			t.Errorf("ranks %d to %d: %q, want %q", c.from, c.to, got, c.want)
		}
	}
	if got := z.ByScore(math.Nextafter(7, 8), 9); len(got) != 0 {
		t.Errorf("above 7: %v", got)
	}
	if got := z.ByScore(math.NaN(), 9); len(got) != 0 {
		t.Errorf("from NaN: %v", got)
	}
}

func TestZSetRefusesNaN(t *testing.T) {
	var z ZSet
	if _, err := z.Add(1, Dot{1, 1}, "m", math.NaN()); !errors.Is(err, ErrScoreNotANumber) || !z.Equal(ZSet{}) {
		t.Fatalf("%v, %+v", err, z)
	}
	if _, err := z.Add(1, Dot{1, 1}, "m", 2); err != nil || z.Register("m").Dot() != (Dot{1, 1}) || z.Deleted().Seq != 0 {
		t.Fatalf("%v, %+v", err, z)
	}
}
