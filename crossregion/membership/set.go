package membership

import (
	"iter"
	"math/bits"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/topology"
)

// RegionSet is a set of regions: bit n is region n. Region 0 is none.
type RegionSet uint64

// SetOf returns the set of the given regions.
func SetOf(ids ...topology.RegionID) RegionSet {
	var s RegionSet
	for _, id := range ids {
		s |= bit(id)
	}
	return s
}

func bit(id topology.RegionID) RegionSet { return 1 << id & ^RegionSet(1) }

// Has reports whether a region is in the set.
func (s RegionSet) Has(id topology.RegionID) bool { return s&bit(id) != 0 }

// Len is how many regions are in the set.
func (s RegionSet) Len() int { return bits.OnesCount64(uint64(s)) }

// Minus returns the regions that are in s and not in o.
func (s RegionSet) Minus(o RegionSet) RegionSet { return s &^ o }

// All yields the regions in ascending order.
func (s RegionSet) All() iter.Seq[topology.RegionID] {
	return func(yield func(topology.RegionID) bool) {
		for rest := uint64(s); rest != 0; rest &= rest - 1 {
			if !yield(topology.RegionID(bits.TrailingZeros64(rest))) {
				return
			}
		}
	}
}

// String lists the regions' numbers.
func (s RegionSet) String() string {
	var parts []string
	for id := range s.All() {
		parts = append(parts, strconv.Itoa(int(id)))
	}
	return "{" + strings.Join(parts, " ") + "}"
}
