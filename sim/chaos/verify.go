package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// mostFaults bounds how many faults of one kind are named.
const mostFaults = 5

// tellEvery is how often a long wait says what it waits for.
const tellEvery = 15 * time.Second

// faults collects what is wrong, and names the first of them.
type faults struct {
	count int
	named []error
}

func (f *faults) add(format string, args ...any) {
	if f.count++; f.count <= mostFaults {
		f.named = append(f.named, fmt.Errorf(format, args...))
	}
}

func (f *faults) err() error {
	if f.count > mostFaults {
		f.named = append(f.named[:mostFaults], fmt.Errorf("and %d more", f.count-mostFaults))
	}
	return errors.Join(f.named...)
}

// verifyAll checks each region against what it must hold.
func (s *stage) verifyAll(ctx context.Context, what string, e *expectation) {
	for _, r := range s.deployment.regions {
		c := s.deployment.clients[r]
		s.out.check(fmt.Sprintf("%s: %s has %d registers, %d counters, %d sets as they must be", what, r, len(e.registers), len(e.counters), len(e.sets)),
			errors.Join(verifyRegisters(ctx, c, e.registers), verifyCounters(ctx, c, e.counters), verifySets(ctx, c, e.sets)))
	}
}

func verifyRegisters(ctx context.Context, c *client.Client, want map[string][]string) error {
	var f faults
	for keys := range slices.Chunk(names(want), 1000) {
		results, err := c.GetMany(ctx, keys)
		if err != nil {
			return err
		}
		for _, r := range results {
			switch values := want[r.Key]; {
			case r.Err != nil:
				f.add("%w", r.Err)
			case !slices.Contains(values, string(r.Value.Bytes)):
				f.add("%s is %q, want %q", r.Key, r.Value.Bytes, values)
			}
		}
	}
	return f.err()
}

func verifyCounters(ctx context.Context, c *client.Client, want map[string]bounds) error {
	var f faults
	for _, key := range names(want) {
		value, err := c.Counter(key).Value(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if b := want[key]; value < b.least || value > b.most {
			f.add("%s is %d, want %d to %d", key, value, b.least, b.most)
		}
	}
	return f.err()
}

func verifySets(ctx context.Context, c *client.Client, want map[string]members) error {
	var f faults
	for _, key := range names(want) {
		found := members{}
		for element, err := range c.Set(key).Members(ctx) {
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			found[string(element)] = true
		}
		compareSets(&f, key, found, want[key])
	}
	return f.err()
}

func compareSets(f *faults, key string, found, want members) {
	for _, element := range names(want) {
		if want[element] && !found[element] {
			f.add("%s lacks %q", key, element)
		}
	}
	for _, element := range names(found) {
		if _, known := want[element]; !known {
			f.add("%s has %q, which nobody added", key, element)
		}
	}
}

// verifyNoMore checks that a region has as many keys under a prefix as it must have.
func verifyNoMore(ctx context.Context, c *client.Client, prefix string, want int) error {
	n := 0
	for _, err := range c.Scan(ctx, client.ScanOptions{Prefix: prefix, KeysOnly: true}) {
		if err != nil {
			return err
		}
		n++
	}
	if n != want {
		return fmt.Errorf("a scan of %s finds %d keys, want %d", prefix, n, want)
	}
	return nil
}

// converge waits until the regions have equal vectors and digests in every partition.
func (s *stage) converge(ctx context.Context, within time.Duration) (time.Duration, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var differ error
	told := begin
	err := until(ctx, 250*time.Millisecond, func(ctx context.Context) (bool, error) {
		now, err := s.compareDigests(ctx)
		if ctx.Err() != nil {
			return false, nil // what was seen last is worth more than that there was no more time
		}
		differ = errors.Join(now, err)
		if differ != nil && time.Since(told) >= tellEvery {
			told = time.Now()
			s.out.note("the regions differ still: %v", differ)
		}
		return differ == nil, nil
	})
	if err != nil {
		return 0, fmt.Errorf("the regions differ after %v: %w", within, differ)
	}
	return time.Since(begin), nil
}

// compareDigests returns in what the regions differ.
func (s *stage) compareDigests(ctx context.Context) (differ, err error) {
	replies := map[string]*atollv1.DigestResponse{}
	for _, r := range s.deployment.regions {
		if replies[r], err = s.deployment.clients[r].Digest(ctx); err != nil {
			return nil, fmt.Errorf("digest of %s: %w", r, err)
		}
	}
	return compareDigests(s.deployment.regions, int(s.deployment.partitions), replies), nil
}

func compareDigests(regions []string, partitions int, replies map[string]*atollv1.DigestResponse) error {
	var f faults
	first := regions[0]
	for _, r := range regions {
		if n := len(replies[r].GetPartitions()); n != partitions {
			return fmt.Errorf("%s answers with %d digests, not %d", r, n, partitions)
		}
	}
	for p := range partitions {
		a := replies[first].GetPartitions()[p]
		for _, r := range regions {
			b := replies[r].GetPartitions()[p]
			switch va, vb := vectorText(a.GetVector()), vectorText(b.GetVector()); {
			case b.GetError() != nil:
				f.add("partition %d of %s: %s", p, r, b.GetError().GetMessage())
			case len(b.GetDigest()) != 16:
				f.add("partition %d of %s has a digest of %d bytes", p, r, len(b.GetDigest()))
			case va != vb:
				f.add("partition %d: %s is at %s, %s at %s", p, first, va, r, vb)
			case string(a.GetDigest()) != string(b.GetDigest()):
				f.add("partition %d: equal vectors %s, but digest %x in %s and %x in %s", p, va, a.GetDigest(), first, b.GetDigest(), r)
			}
		}
	}
	return f.err()
}

// vectorText writes a version vector without its clocks, in order.
func vectorText(entries []*atollv1.VectorEntry) string {
	var parts []string
	for _, e := range entries {
		if e.GetSeq() > 0 {
			parts = append(parts, fmt.Sprintf("%s/%d:%d", e.GetRegion(), e.GetEpoch(), e.GetSeq()))
		}
	}
	slices.Sort(parts)
	return fmt.Sprint(parts)
}
