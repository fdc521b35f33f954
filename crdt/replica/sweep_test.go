package replica

import (
	"fmt"
	"testing"
)

// keeping is a KV that goes past what was deleted when it is read, as storage does that keeps deletes in
// memory for a while.
type keeping struct {
	KV
	dead   map[string]bool
	passed int
}

func (k *keeping) Delete(key []byte) error {
	k.dead[string(key)] = true
	return k.KV.Delete(key)
}

func (k *keeping) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	for key := range k.dead {
		if key >= string(start) && (end == nil || key < string(end)) {
			k.passed++
		}
	}
	return k.KV.Scan(start, end, visit)
}

// Sweeping a large set must not pass by all that was swept before, at every call.
func TestSweepGoesOnWhereItStopped(t *testing.T) {
	kv := &keeping{KV: NewMemory(), dead: map[string]bool{}}
	r := open(t, kv, 1)
	for i := range 4 {
		op := Op{Kind: OpSetAdd, Key: "s"}
		for j := range MaxOperationElements {
			op.Elements = append(op.Elements, fmt.Appendf(nil, "%d/%05d", i, j))
		}
		do(t, r, op)
	}
	do(t, r, Op{Kind: OpSetClear, Key: "s"})
	calls := 0
	for ; r.meta.garbage > 0; calls++ {
		kv.passed = 0
		do(t, r, Op{Kind: OpPut, Key: fmt.Sprint(calls)})
		if kv.passed > 2*sweepBudget {
			t.Fatalf("call %d passes %d deleted pairs", calls, kv.passed)
		}
	}
	if want := 4 * MaxOperationElements / sweepBudget; calls < want-1 || calls > want+2 || len(kv.dead) < 4*MaxOperationElements {
		t.Errorf("%d calls sweep %d pairs", calls, len(kv.dead))
	}
}
