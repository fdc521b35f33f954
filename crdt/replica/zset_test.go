package replica

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// TestZSetMeetsTheSpecification runs random histories over three regions.
func TestZSetMeetsTheSpecification(t *testing.T) {
	t.Parallel()
	runFields(t, fieldsSubject{of: crdt.TypeZSet, op: randomZSetOp, read: readZSet, check: checkZSetReads})
}

// scoreText is a score in the specification, where all values are text.
func scoreText(score float64) string { return strconv.FormatFloat(score, 'g', -1, 64) }

func randomZSetOp(rng *rand.Rand, have map[string]string) (Op, *fieldsEvent) {
	e := &fieldsEvent{put: map[string]string{}, removed: map[string]bool{}}
	op := Op{Kind: []OpKind{OpZSetAdd, OpZSetAdd, OpZSetIncr, OpZSetRemove}[rng.IntN(4)], Type: crdt.TypeZSet}
	if op.Kind == OpZSetRemove {
		for range rng.IntN(3) {
			name := string('a' + byte(rng.IntN(6)))
			op.Elements = append(op.Elements, []byte(name))
			if _, ok := have[name]; ok {
				e.removed[name] = true
			}
		}
		return op, e
	}
	name := string('a' + byte(rng.IntN(6)))
	op.Elements = [][]byte{[]byte(name)}
	op.Score = []float64{-2.5, -1, math.Copysign(0, -1), 0, 1, 1, 3e10}[rng.IntN(7)]
	sum := op.Score
	if was, ok := have[name]; ok && op.Kind == OpZSetIncr {
		before, _ := strconv.ParseFloat(was, 64)
		sum += before
	}
	if sum == 0 {
		sum = 0
	}
	e.put[name] = scoreText(sum)
	return op, e
}

var allScores = ZSetRange{Low: math.Inf(-1), High: math.Inf(1), Limit: 1000, MaxBytes: 1 << 20}

func readZSet(r *Replica, key string) (map[string]string, error) {
	got := map[string]string{}
	members, more, err := r.ZSetRange("", key, allScores)
	if more || !slices.IsSortedFunc(members, crdt.ZSetMember.Compare) {
		return nil, fmt.Errorf("more %v, or out of order: %v", more, members)
	}
	for _, m := range members {
		got[m.Member] = scoreText(m.Score)
	}
	return got, err
}

func checkZSetReads(r *Replica, rng *rand.Rand, key string, want map[string]string) error {
	var sorted []crdt.ZSetMember
	for member, text := range want {
		score, _ := strconv.ParseFloat(text, 64)
		sorted = append(sorted, crdt.ZSetMember{Member: member, Score: score})
	}
	slices.SortFunc(sorted, crdt.ZSetMember.Compare)
	name := string('a' + byte(rng.IntN(6)))
	at := slices.IndexFunc(sorted, func(m crdt.ZSetMember) bool { return m.Member == name })
	for _, reverse := range []bool{false, true} {
		_, rank, ok, err := r.ZSetRank("", key, []byte(name), reverse)
		before := at
		if reverse {
			before = len(sorted) - 1 - at
		}
		if err != nil || ok != (at >= 0) || ok && int(rank) != before {
			return fmt.Errorf("rank of %q is %d, %v, %w; of %v", name, rank, ok, err, sorted)
		}
	}
	score, ok, err := r.ZSetScore("", key, []byte(name))
	if err != nil || ok != (at >= 0) || ok && score != sorted[at].Score {
		return fmt.Errorf("score of %q is %v, %v, %w; of %v", name, score, ok, err, sorted)
	}
	q := ZSetRange{Low: float64(rng.IntN(4) - 3), High: float64(rng.IntN(3)), Reverse: rng.IntN(2) == 0, Offset: rng.IntN(3), Limit: 1 + rng.IntN(3), MaxBytes: 1 << 20}
	return compareRange(r, key, q, sorted)
}

// compareRange pages through a range and compares it with that of all members in order.
func compareRange(r *Replica, key string, q ZSetRange, sorted []crdt.ZSetMember) error {
	want := slices.DeleteFunc(slices.Clone(sorted), func(m crdt.ZSetMember) bool { return m.Score < q.Low || m.Score > q.High })
	if q.Reverse {
		slices.Reverse(want)
	}
	want = want[min(q.Offset, len(want)):]
	asked := q
	var got []crdt.ZSetMember
	for {
		page, more, err := r.ZSetRange("", key, q)
		got = append(got, page...)
		if err != nil || len(page) > q.Limit || more && len(page) == 0 {
			return fmt.Errorf("page %v, more %v, %w", page, more, err)
		}
		if !more {
			break
		}
		q.Offset, q.After = 0, &page[len(page)-1]
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("range %+v is %v, want %v", asked, got, want)
	}
	return nil
}

func zset(kind OpKind, key, member string, score float64) Op {
	return Op{Kind: kind, Key: key, Type: crdt.TypeZSet, Elements: [][]byte{[]byte(member)}, Score: score}
}

// TestZSetRangesOfManyMembers: ranges in both directions, over gaps, ties and long common prefixes.
func TestZSetRangesOfManyMembers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := open(t, NewMemory(), 1)
	var sorted []crdt.ZSetMember
	var ops []Op
	for i := range 2000 {
		m := crdt.ZSetMember{Member: fmt.Sprintf("a-rather-long-common-prefix-%d", i)}
		switch {
		case i < 1000: // all tied
			m.Score = 7
		case i < 1500:
			m.Score = math.Ldexp(rng.NormFloat64(), rng.IntN(200)-100)
		default:
			m.Score = float64(rng.IntN(20))
		}
		sorted = append(sorted, m)
		ops = append(ops, zset(OpZSetAdd, "z", m.Member, m.Score))
	}
	for _, edge := range []float64{math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64} {
		m := crdt.ZSetMember{Member: "\x00", Score: edge}
		m.Member += scoreText(edge)
		sorted = append(sorted, m)
		ops = append(ops, zset(OpZSetAdd, "z", m.Member, edge))
	}
	if _, _, err := r.Execute(noon, ops); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(sorted, crdt.ZSetMember.Compare)
	for _, reverse := range []bool{false, true} {
		for _, limit := range []int{1000, 77, 3000} {
			q := ZSetRange{Low: math.Inf(-1), High: math.Inf(1), Reverse: reverse, Limit: limit, MaxBytes: 1 << 20}
			if err := compareRange(r, "z", q, sorted); err != nil {
				t.Error(err)
			}
		}
		for range 20 {
			low, high := float64(rng.IntN(12)-2), float64(rng.IntN(15))
			if err := compareRange(r, "z", ZSetRange{Low: low, High: high, Reverse: reverse, Offset: rng.IntN(50), Limit: 500, MaxBytes: 9000}, sorted); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestCostDoesNotGrowWithTheZSet: an operation, a score and the first of either end cost the same in a
// large set.
func TestCostDoesNotGrowWithTheZSet(t *testing.T) {
	n := newNode(1)
	var ops []Op
	for i, name := range numbered(5000) {
		ops = append(ops, zset(OpZSetAdd, "z", string(name), float64(i)))
	}
	if _, _, err := n.r.Execute(noon, ops); err != nil {
		t.Fatal(err)
	}
	if err := n.r.Flush(); err != nil {
		t.Fatal(err)
	}
	kv := &counting{KV: n.kv}
	r := open(t, kv, 1)
	for _, op := range []Op{zset(OpZSetAdd, "z", "element-000001", 5), zset(OpZSetIncr, "z", "element-000002", 5), zset(OpZSetRemove, "z", "element-000003", 0)} {
		*kv = counting{KV: n.kv}
		if do(t, r, op); kv.gets+kv.writes+kv.visits > 9 {
			t.Errorf("operation %d: %+v", op.Kind, kv)
		}
	}
	for _, reverse := range []bool{false, true} {
		*kv = counting{KV: n.kv}
		q := allScores
		q.Reverse, q.Limit = reverse, 10
		if got, more, err := r.ZSetRange("", "z", q); err != nil || !more || len(got) != 10 || kv.visits > 2000 {
			t.Errorf("ten of the end: %d, %+v, %v", len(got), kv.visits, err)
		}
	}
	*kv = counting{KV: n.kv}
	if do(t, r, Op{Kind: OpDelete, Key: "z"}); kv.writes > 2*sweepBudget {
		t.Errorf("delete: %d writes", kv.writes)
	}
}

func TestZSetRefuses(t *testing.T) {
	nan := refusedCleanly(t, zset(OpZSetAdd, "z", "m", math.NaN()))
	if !errors.Is(nan, crdt.ErrScoreNotANumber) {
		t.Errorf("NaN: %v", nan)
	}
	two := Op{Kind: OpZSetAdd, Key: "z", Type: crdt.TypeZSet, Elements: [][]byte{[]byte("a"), []byte("b")}}
	for name, op := range map[string]Op{
		"two members":       two,
		"no member":         {Kind: OpZSetIncr, Key: "z", Type: crdt.TypeZSet},
		"empty member":      zset(OpZSetAdd, "z", "", 1),
		"no type":           {Kind: OpZSetIncr, Key: "z", Elements: [][]byte{[]byte("a")}},
		"removed of no set": {Kind: OpZSetRemove, Key: "z", Type: crdt.TypeLWWMap, Elements: [][]byte{[]byte("a")}},
	} {
		if err := refusedCleanly(t, op); !errors.Is(err, ErrInvalidOperation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := newNode(1)
	do(t, n.r, zset(OpZSetAdd, "z", "m", math.Inf(1)))
	before := fingerprint(n)
	_, _, err := n.r.Execute(noon, []Op{zset(OpZSetIncr, "z", "m", math.Inf(-1))})
	if !errors.Is(err, crdt.ErrScoreNotANumber) || fingerprint(n) != before {
		t.Errorf("infinity less infinity: %v", err)
	}
}

// goldenZSet are the deltas of a sorted set's operations.
func goldenZSet(t testing.TB) (names []string, deltas []Delta) {
	r := open(t, NewMemory(), 3)
	for _, op := range []Op{zset(OpZSetAdd, "z", "m", 1.5), zset(OpZSetIncr, "z", "m", -4), zset(OpZSetRemove, "z", "m", 0), zset(OpZSetAdd, "z", "n", math.Copysign(0, -1)), {Kind: OpDelete, Key: "z"}} {
		_, d := do(t, r, op)
		deltas = append(deltas, d...)
	}
	return []string{"zset add", "zset incr", "zset remove", "zset add -0", "zset delete"}, deltas
}

func TestBadZSetDeltasAreRefused(t *testing.T) {
	for _, value := range [][]byte{nil, make([]byte, 7), scoreValue(math.NaN()), {0x80, 0, 0, 0, 0, 0, 0, 0}} {
		c := FieldsChange{Fields: []FieldChange{{[]byte("m"), value}}}
		refuseDelta(t, "score is none", Effect{Key: "k", Type: crdt.TypeZSet, Change: &ZSetChange{c}})
	}
	refuseDelta(t, "fields effect without effect", Effect{Key: "k", Type: crdt.TypeZSet, Change: &ZSetChange{}})
	one := FieldsChange{Fields: []FieldChange{{[]byte("m"), scoreValue(1)}}}
	refuseDelta(t, "without its change", Effect{Key: "k", Type: crdt.TypeZSet, Change: &MapChange{one}})
	refuseDelta(t, "without its change", Effect{Key: "k", Type: crdt.TypeLWWMap, Change: &ZSetChange{one}})
}

func TestOrderedScoresSortLikeScores(t *testing.T) {
	scores := []float64{math.Inf(-1), -math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 0.1, 1, 1e300, math.Inf(1)}
	if !slices.IsSortedFunc(scores, func(a, b float64) int { return cmp.Compare(orderedScore(a), orderedScore(b)) }) {
		t.Error("out of order")
	}
	for _, s := range scores {
		if scoreFrom(orderedScore(s)) != s {
			t.Errorf("%v comes back as %v", s, scoreFrom(orderedScore(s)))
		}
	}
	if orderedScore(math.Copysign(0, -1)) != orderedScore(0) {
		t.Error("-0 is not 0")
	}
}
