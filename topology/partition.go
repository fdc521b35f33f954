package topology

import (
	"math/bits"

	"github.com/zeebo/xxh3"
)

// PartitionOf returns the partition of a key: the top bits of the xxh3-64 hash of namespace, a zero
// byte, and key. partitions is a power of two.
func PartitionOf(namespace, key string, partitions uint32) PartitionID {
	var h xxh3.Hasher
	_, _ = h.WriteString(namespace)
	_, _ = h.Write([]byte{0})
	_, _ = h.WriteString(key)
	width := bits.TrailingZeros32(partitions)
	return PartitionID(h.Sum64() >> (64 - width))
}

// PartitionOf returns the partition of a key.
func (c *Cluster) PartitionOf(namespace, key string) PartitionID {
	return PartitionOf(namespace, key, c.Partitions)
}
