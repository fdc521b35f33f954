package region_test

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// BenchmarkBacklog applies entries of 100 writes to hot keys while other regions acknowledge them, and while they
// are away, with folding and without. What making runs takes the leader, beside applying, is in the last case. The figure
// is per write.
func BenchmarkBacklog(b *testing.B) {
	const entry = 100
	acknowledge := func(l *backlog) {
		if err := l.apply(acknowledgeCommand(testUS, l.machine.View().Outbox.Head, l.machine.View().Outbox.Head)); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		after func(l *backlog)
	}{
		{"acknowledged", acknowledge}, {"away", func(*backlog) {}}, {"folded", (*backlog).fold},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := newBacklog(b)
			i := 0
			for b.Loop() {
				b.StopTimer()
				commands := make([]*logv1.Command, entry)
				for j := range commands {
					commands[j] = region.WriteCommand("", []replica.Op{hotOp(i)})
					i++
				}
				l.now = l.now.Add(10 * time.Millisecond)
				b.StartTimer()
				_ = l.apply(commands...)
				if i%(100*entry) == 0 {
					c.after(l)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entry), "ns/write")
			b.ReportMetric(float64(l.machine.View().Outbox.Bytes)/(1<<20), "MiB-kept")
		})
	}
}
