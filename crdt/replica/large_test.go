package replica

import (
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// counting is a KV that counts calls and the bytes written.
type counting struct {
	KV
	gets, writes, bytes, visits int
}

func (c *counting) Get(key []byte) ([]byte, bool, error) {
	c.gets++
	return c.KV.Get(key)
}

func (c *counting) Put(key, value []byte) error {
	c.writes++
	c.bytes += len(key) + len(value)
	return c.KV.Put(key, value)
}

func (c *counting) Delete(key []byte) error {
	c.writes++
	return c.KV.Delete(key)
}

func (c *counting) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	return c.KV.Scan(start, end, func(k, v []byte) (bool, error) {
		c.visits++
		return visit(k, v)
	})
}

func numbered(n int) [][]byte {
	elements := make([][]byte, n)
	for i := range elements {
		elements[i] = fmt.Appendf(nil, "element-%06d", i)
	}
	return elements
}

// TestCostDoesNotGrowWithTheSet: what an operation reads and writes depends on its own elements, not
// on those of the set, and clearing is spread over later calls.
func TestCostDoesNotGrowWithTheSet(t *testing.T) {
	n := newNode(1)
	const size = 5000
	do(t, n.r, Op{Kind: OpSetAdd, Key: "s", Elements: numbered(size)})
	if err := n.r.Flush(); err != nil {
		t.Fatal(err)
	}
	kv := &counting{KV: n.kv}
	n.r = open(t, kv, 1)
	for _, op := range []Op{setOp(OpSetAdd, "new"), setOp(OpSetAdd, "new"), setOp(OpSetRemove, "new", "absent")} {
		*kv = counting{KV: n.kv}
		do(t, n.r, op)
		if err := n.r.Flush(); err != nil {
			t.Fatal(err)
		}
		if kv.gets > 4 || kv.visits > 2 || kv.writes > 3 || kv.bytes > 200 {
			t.Errorf("%+v: %+v", op, kv)
		}
	}
	*kv = counting{KV: n.kv}
	outcome, deltas := do(t, n.r, setOp(OpSetClear))
	if outcome.Changed != size || len(EncodeDelta(deltas[0])) > 40 || kv.writes > sweepBudget+3 || kv.visits > sweepBudget+3 {
		t.Errorf("clear: %+v, %+v", outcome, kv)
	}
	sweepAll(t, n, kv, size)
}

// sweepAll sweeps what a clear of size elements left, and checks what each call costs.
func sweepAll(t *testing.T, n *node, kv *counting, size int) {
	t.Helper()
	calls := 0
	for ; n.r.meta.garbage > 0; calls++ {
		*kv = counting{KV: n.kv}
		do(t, n.r, Op{Kind: OpDelete, Key: "absent"})
		if kv.writes > sweepBudget+1 {
			t.Errorf("sweep: %+v", kv)
		}
		if err := audit(n); err != nil {
			t.Fatal(err)
		}
	}
	if want := size / sweepBudget; calls < want || calls > want+1 {
		t.Errorf("swept in %d calls, want about %d", calls, want)
	}
	if n.kv.Len() > 1 {
		t.Errorf("%d pairs are left", n.kv.Len())
	}
}

// TestRemoteClearOfALargeSet: a clear of another region removes what that region had seen, whether
// that is most of the set or little of it.
func TestRemoteClearOfALargeSet(t *testing.T) {
	for _, seen := range []int{0, 1, 250, 500, 750, 999, 1000} {
		t.Run(fmt.Sprint(seen), func(t *testing.T) {
			a, b := newNode(1), newNode(2)
			elements := numbered(1000)
			_, first := do(t, a.r, Op{Kind: OpSetAdd, Key: "s", Elements: elements[:seen]})
			if seen > 0 {
				merge(t, b.r, first...)
			}
			do(t, b.r, setOp(OpSetAdd, "b's own"))
			_, clearing := do(t, b.r, setOp(OpSetClear))
			if seen < len(elements) {
				do(t, a.r, Op{Kind: OpSetAdd, Key: "s", Elements: elements[seen:]})
			}
			// Concurrent with the clear, one element is added by another region, too: its dot goes or
			// stays apart from a's.
			c := newNode(3)
			_, also := do(t, c.r, Op{Kind: OpSetAdd, Key: "s", Elements: [][]byte{elements[0], elements[999]}})
			merge(t, a.r, also...)
			merge(t, a.r, Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: noon - 1})
			merge(t, a.r, clearing...)
			want := texts(elements[seen:])
			if seen > 0 {
				want = append([]string{string(elements[0])}, want...)
			}
			if seen == len(elements) {
				want = append(want, string(elements[999]))
			}
			if got := members(t, a.r); !slices.Equal(got, want) {
				t.Errorf("%d members, want %d", len(got), len(want))
			}
			if err := audit(a); err != nil {
				t.Error(err)
			}
		})
	}
}

// BenchmarkExecutePut is a batch of 1000 puts of 256 bytes to new keys.
func BenchmarkExecutePut(b *testing.B) {
	kv := NewMemory()
	r := open(b, kv, 1)
	ops := make([]Op, 1000)
	value := make([]byte, 256)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range ops {
			ops[j] = Op{Kind: OpPut, Key: fmt.Sprintf("key-%d-%d", i%50, j), Value: value}
		}
		if _, _, err := r.Execute(noon, ops); err != nil {
			b.Fatal(err)
		}
		if err := r.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/put")
}

// BenchmarkExecuteSetAdd adds one element at a time to a large set.
func BenchmarkExecuteSetAdd(b *testing.B) {
	r := open(b, NewMemory(), 1)
	elements := numbered(500_000)
	for chunk := range slices.Chunk(elements, MaxOperationElements) {
		do(b, r, Op{Kind: OpSetAdd, Key: "s", Elements: chunk})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		do(b, r, setOp(OpSetAdd, string(elements[(i*7919)%len(elements)])))
	}
}

// BenchmarkMerge merges batches of 1000 encoded puts.
func BenchmarkMerge(b *testing.B) {
	source, target := open(b, NewMemory(), 1), open(b, NewMemory(), 2)
	ops := make([]Op, 1000)
	for j := range ops {
		ops[j] = Op{Kind: OpPut, Key: fmt.Sprintf("key-%d", j), Value: make([]byte, 256)}
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		_, made, err := source.Execute(noon, ops)
		if err != nil {
			b.Fatal(err)
		}
		mergeEncoded(b, target, made)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/delta")
}

// BenchmarkMergeSetAdds merges batches of 1000 encoded adds of one element each to a set of 100 000 and more.
func BenchmarkMergeSetAdds(b *testing.B) {
	source, target := open(b, NewMemory(), 1), open(b, NewMemory(), 2)
	for chunk := range slices.Chunk(numbered(100_000), MaxOperationElements) {
		do(b, target, Op{Kind: OpSetAdd, Key: "s", Elements: chunk})
	}
	ops := make([]Op, 1000)
	next := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for j := range ops {
			next++
			ops[j] = setOp(OpSetAdd, fmt.Sprintf("%016x", next%800_000*0x9E3779B97F4A7C15))
		}
		_, made, err := source.Execute(noon, ops)
		if err != nil {
			b.Fatal(err)
		}
		mergeEncoded(b, target, made)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/delta")
}

// mergeEncoded encodes deltas with the timer stopped, and decodes and merges them with the timer running.
func mergeEncoded(b *testing.B, target *Replica, made []Delta) {
	b.Helper()
	encoded := make([][]byte, len(made))
	for i := range made {
		encoded[i] = EncodeDelta(made[i])
	}
	b.StartTimer()
	deltas := make([]Delta, len(encoded))
	for i := range encoded {
		var err error
		if deltas[i], err = DecodeDelta(encoded[i]); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := target.Merge(1, deltas); err != nil {
		b.Fatal(err)
	}
}
