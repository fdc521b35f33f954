package load

import (
	"math/bits"
	"time"
)

const (
	// Each power of two is cut in so many equal parts: a quantile is wrong by 1.6 % at most.
	partBits = 6
	parts    = 1 << partBits
)

// Latencies counts how long requests took. The zero value has none.
type Latencies struct {
	counts [64 * parts]int64
	total  int64
	max    time.Duration
}

// Note counts one request.
func (l *Latencies) Note(d time.Duration) {
	d = max(d, 0)
	l.counts[bucketOf(uint64(d))]++
	l.total++
	l.max = max(l.max, d)
}

func bucketOf(ns uint64) int {
	if ns < parts {
		return int(ns)
	}
	power := bits.Len64(ns) - 1
	return (power-partBits+1)<<partBits + int(ns>>(power-partBits))&(parts-1)
}

// topOf returns the longest time that a bucket counts.
func topOf(bucket int) time.Duration {
	if bucket < parts {
		return time.Duration(bucket)
	}
	shift := bucket>>partBits - 1
	return time.Duration(uint64(parts+bucket&(parts-1)+1)<<shift - 1)
}

func (l *Latencies) add(other *Latencies) {
	for i, n := range other.counts {
		l.counts[i] += n
	}
	l.total += other.total
	l.max = max(l.max, other.max)
}

// Total returns how many requests were counted.
func (l *Latencies) Total() int64 { return l.total }

// Max returns the longest time.
func (l *Latencies) Max() time.Duration { return l.max }

// Quantile returns the time that a share q of the requests took at most; 0 if there are none.
func (l *Latencies) Quantile(q float64) time.Duration {
	rank := int64(q * float64(l.total))
	seen := int64(0)
	for bucket, n := range l.counts {
		if seen += n; n > 0 && seen > rank {
			return min(topOf(bucket), l.max)
		}
	}
	return l.max
}

// Merge returns both together.
func Merge(a, b *Latencies) *Latencies {
	sum := *a
	sum.add(b)
	return &sum
}
