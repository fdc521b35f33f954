package replica

import (
	"fmt"
	"testing"
)

// BenchmarkRuns folds a thousand encoded deltas into an encoded run, as an origin does, and merges them as a
// destination does, from deltas and from the run. An op is one event.
func BenchmarkRuns(b *testing.B) {
	const events = 1000
	for _, c := range []struct {
		name string
		op   func(i int) Op
	}{
		{"hot counter", func(int) Op { return Op{Kind: OpCounterAdd, Key: "hits", Delta: 1} }},
		{"counters", func(i int) Op { return Op{Kind: OpCounterAdd, Key: fmt.Sprintf("hits of%9d", i), Delta: 1} }},
		{"set adds", func(i int) Op { return setOp(OpSetAdd, fmt.Sprintf("member%10d", i)) }},
		{"puts", func(i int) Op { return Op{Kind: OpPut, Key: fmt.Sprintf("user/%011d", i), Value: make([]byte, 100)} }},
	} {
		r := open(b, NewMemory(), 1)
		var encoded [][]byte
		for i := range events {
			for _, d := range deltasOf(b, r, c.op(i)) {
				encoded = append(encoded, EncodeDelta(d))
			}
		}
		var run []byte
		each := func(name string, f func()) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				for i := 0; i < b.N; i += events {
					f()
				}
			})
		}
		each("fold", func() { run = EncodeRun(foldAll(b, decodeEach(b, encoded))) })
		each("merge deltas", func() {
			if _, err := open(b, NewMemory(), 2).Merge(1, decodeEach(b, encoded)); err != nil {
				b.Fatal(err)
			}
		})
		each("merge run", func() {
			decoded, err := DecodeRun(run)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := open(b, NewMemory(), 2).MergeRun(decoded); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func decodeEach(b testing.TB, encoded [][]byte) []Delta {
	b.Helper()
	deltas := make([]Delta, len(encoded))
	for i := range encoded {
		var err error
		if deltas[i], err = DecodeDelta(encoded[i]); err != nil {
			b.Fatal(err)
		}
	}
	return deltas
}
