package region_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// largestBatch is a batch of as many bytes and items as a client may send, in which each operation
// says much more than its item did.
func largestBatch() []replica.Op {
	const items, bytes = 10_000, 4 << 20
	namespace := strings.Repeat("n", replica.MaxNamespaceBytes)
	ops := make([]replica.Op, items)
	for i := range ops {
		ops[i] = put(fmt.Sprintf("%05d", i), strings.Repeat("v", bytes/items-5))
		ops[i].Namespace, ops[i].Expires = namespace, 1<<62
	}
	return ops
}

func TestTheLargestBatchIsWritten(t *testing.T) {
	f := newFixture(t, testEU)
	if _, err := f.Write(t.Context(), "an operation", largestBatch()); err != nil {
		t.Error(err)
	}
}

// Whatever the queue has acknowledged can be submitted: it waits at its head until then.
func TestTheLargestLocalBatchIsAppliedAndALargerOneRefused(t *testing.T) {
	f := newFixture(t, testEU)
	ops := largestBatch()
	var err error
	for i := 0; err == nil && i < 64; i++ {
		err = f.WriteLocal(t.Context(), "an operation", ops)
		ops[0].Value = append(ops[0].Value, make([]byte, 64<<10)...)
	}
	if len(f.queue.writes) == 0 || !errors.Is(err, region.ErrBadCommand) {
		t.Fatalf("after %d writes: %v", len(f.queue.writes), err)
	}
	for i, w := range f.queue.writes {
		position, err := proto.Marshal(&logv1.WriteCommand{Queue: &logv1.QueuePosition{Queue: 9, Seq: uint64(i + 1)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.SubmitQueued(t.Context(), [][]byte{append(w, position...)}); err != nil {
			t.Fatalf("a write of %d bytes: %v", len(w), err)
		}
	}
}
