package main

import (
	"slices"
	"sync"
	"time"
)

// ackClock keeps when each partition acknowledged writes. It is safe for concurrent use.
type ackClock struct {
	begin      time.Time
	partitions []ackTimes
}

type ackTimes struct {
	sync.Mutex
	at []time.Duration // since begin, in order
}

func newAckClock(partitions int) *ackClock {
	return &ackClock{begin: time.Now(), partitions: make([]ackTimes, partitions)}
}

// ack notes an acknowledgement now.
func (c *ackClock) ack(partition int) {
	p := &c.partitions[partition]
	p.Lock()
	defer p.Unlock()
	p.at = append(p.at, time.Since(c.begin))
}

// gap returns the longest time without an acknowledgement in a partition between begin and end, both
// included as if one came then.
func (c *ackClock) gap(partition int, begin, end time.Time) time.Duration {
	from, to := begin.Sub(c.begin), end.Sub(c.begin)
	p := &c.partitions[partition]
	p.Lock()
	defer p.Unlock()
	first, _ := slices.BinarySearch(p.at, from)
	previous, longest := from, time.Duration(0)
	for _, at := range p.at[first:] {
		if at > to {
			break
		}
		longest = max(longest, at-previous)
		previous = at
	}
	return max(longest, to-previous)
}

// worst returns the longest gap in any partition, and the partition.
func (c *ackClock) worst(begin, end time.Time) (longest time.Duration, partition int) {
	for p := range c.partitions {
		if g := c.gap(p, begin, end); g > longest {
			longest, partition = g, p
		}
	}
	return longest, partition
}

// counts returns how many acknowledgements each partition has had.
func (c *ackClock) counts() []int {
	counts := make([]int, len(c.partitions))
	for i := range c.partitions {
		p := &c.partitions[i]
		p.Lock()
		counts[i] = len(p.at)
		p.Unlock()
	}
	return counts
}

// total returns how many there were in all.
func (c *ackClock) total() int {
	total := 0
	for _, n := range c.counts() {
		total += n
	}
	return total
}
