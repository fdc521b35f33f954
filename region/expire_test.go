package region_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
)

// One command expires a bounded number of registers; the leader proposes as many as it takes.
func TestAllThatIsDueExpiresAtOnce(t *testing.T) {
	f := newFixture(t, testEU)
	const registers = 2500
	ops := make([]replica.Op, registers)
	for i := range ops {
		ops[i] = put(fmt.Sprint(i), "v")
		ops[i].Expires = hlc.At(f.clock.wall().Add(time.Minute).UnixMilli(), 0)
	}
	f.mustWrite(t, "", ops...)
	if err := f.ExpireDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Hour)
	if err := f.ExpireDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := f.machine.Read(func(r *replica.Replica) error {
		if due, err := r.Due(hlc.At(f.clock.wall().UnixMilli(), 0), 0); due || err != nil {
			t.Errorf("more is due: %v, %v", due, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(f.group.log); got < 4 {
		t.Errorf("%d entries: one expires at most a thousand", got)
	}
}
