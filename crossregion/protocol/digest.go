package protocol

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// DigestPlan says when the digests of a node's partitions are computed: of those that have been quiet, since others
// will hardly have the vector of one that is being written, not too often, and for a small part of one CPU. It is a
// step function.
type DigestPlan struct {
	tuning     Tuning
	partitions map[topology.PartitionID]*planned
	// pausedUntil is when the last digest is paid for.
	pausedUntil time.Time
}

type planned struct {
	vector crdt.VersionVector
	since  time.Time // the vector is the same
	// computed is the vector of the last digest, at when that was.
	computed crdt.VersionVector
	at       time.Time
}

// NewDigestPlan returns a plan without partitions.
func NewDigestPlan(t Tuning) *DigestPlan {
	return &DigestPlan{tuning: t, partitions: map[topology.PartitionID]*planned{}}
}

// Note tells how far the state of a led partition is.
func (d *DigestPlan) Note(p topology.PartitionID, vector crdt.VersionVector, now time.Time) {
	known := d.partitions[p]
	if known == nil {
		d.partitions[p] = &planned{vector: vector, since: now}
	} else if !known.vector.Equal(vector) {
		known.vector, known.since = vector, now
	}
}

// Forget tells that a partition is not led any more.
func (d *DigestPlan) Forget(p topology.PartitionID) { delete(d.partitions, p) }

// Due returns the partition to compute a digest of now, if there is one: that whose last is the oldest.
func (d *DigestPlan) Due(now time.Time) (p topology.PartitionID, due bool) {
	if now.Before(d.pausedUntil) {
		return 0, false
	}
	var oldest time.Time
	for _, candidate := range slices.Sorted(maps.Keys(d.partitions)) {
		known := d.partitions[candidate]
		wait := d.tuning.DigestEvery
		if known.computed.Equal(known.vector) {
			wait = d.tuning.DigestAgain
		}
		switch {
		case known.vector.Len() == 0, now.Sub(known.since) < d.tuning.DigestQuiet:
		case !known.at.IsZero() && now.Sub(known.at) < wait:
		case due && !known.at.Before(oldest):
		default:
			p, oldest, due = candidate, known.at, true
		}
	}
	return p, due
}

// Computed tells of which state a partition's digest is, and how long it took.
func (d *DigestPlan) Computed(p topology.PartitionID, vector crdt.VersionVector, took time.Duration, now time.Time) {
	d.pausedUntil = now.Add(took * time.Duration(max(d.tuning.DigestShare, 1)-1))
	if known := d.partitions[p]; known != nil {
		known.computed, known.at = vector, now
	}
}

// Comparison holds one partition's last digests of all regions, and finds those that differ although their states have
// applied the same events. The zero value is ready; it is not safe for concurrent use.
type Comparison struct {
	own      Digest
	others   map[topology.RegionID]Digest
	diverged map[topology.RegionID]string
}

// Own tells this region's digest, and returns the regions whose states turned out to differ, or not to differ any more.
func (c *Comparison) Own(d Digest) (changed []topology.RegionID) {
	c.own = d
	for _, region := range slices.Sorted(maps.Keys(c.others)) {
		if c.compare(region) {
			changed = append(changed, region)
		}
	}
	return changed
}

// Of tells another region's digest, and reports whether its state turned out to differ, or not to differ any more.
func (c *Comparison) Of(region topology.RegionID, d Digest) (changed bool) {
	if c.others == nil {
		c.others, c.diverged = map[topology.RegionID]Digest{}, map[topology.RegionID]string{}
	}
	c.others[region] = d
	return c.compare(region)
}

// Diverged says how the other region's state differs; empty if that was not seen. It stays until digests of equal
// vectors are equal.
func (c *Comparison) Diverged(region topology.RegionID) string { return c.diverged[region] }

func (c *Comparison) compare(region topology.RegionID) (changed bool) {
	other := c.others[region]
	if c.own.Vector.Len() == 0 || !c.own.Vector.Equal(other.Vector) {
		return false // says nothing
	}
	before := c.diverged[region]
	if c.own.Sum == other.Sum {
		delete(c.diverged, region)
		return before != ""
	}
	c.diverged[region] = fmt.Sprintf("both regions have applied the same events %v and their states differ: digest %x here, %x there",
		c.own.Vector.Entries(), c.own.Sum[:8], other.Sum[:8])
	return before == ""
}
