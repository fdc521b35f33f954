package region_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/store"
)

// BenchmarkApply applies entries of puts with an op_id each to random keys; the figure is per put.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprint("entry=", size), func(b *testing.B) { benchmarkApply(b, size) })
	}
}

func benchmarkApply(b *testing.B, size int) {
	s, err := store.Open(filepath.Join(b.TempDir(), "p.db"), store.Options{Buffer: true, MaxBuffered: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	clock := hlc.NewClock(time.Now)
	m, err := region.NewMachine(actorOf(testEU), partitionStore{s}, clock)
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 256)
	index, id := uint64(0), 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		entry := &logv1.LogEntry{Hlc: uint64(clock.Now()), ShipsNowhere: true}
		for range size {
			id++
			entry.Commands = append(entry.Commands, &logv1.Command{Command: &logv1.Command_Write{Write: &logv1.WriteCommand{
				OpId: fmt.Sprintf("%032x", id),
				Operations: []*logv1.Operation{{
					Kind: uint32(replica.OpPut), Namespace: "default", Key: fmt.Sprintf("key-%06d", random.IntN(100_000)), Value: value,
				}},
			}}})
		}
		data, err := proto.Marshal(entry)
		if err != nil {
			b.Fatal(err)
		}
		index++
		b.StartTimer()
		if err := m.Apply([]region.Entry{{Index: index, Term: 1, Data: data}}); err != nil {
			b.Fatal(err)
		}
		if index%uint64(1+20000/size) == 0 {
			b.StopTimer()
			if err := m.Flush(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/put")
}
