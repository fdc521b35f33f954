package api

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const (
	watchCursorVersion = 1
	// maxWatchCursor bounds a cursor, which says for each partition what has been seen of every region.
	maxWatchCursor = 1 << 20
)

// encodeWatchCursor writes version 1 | number of places | per place partition, length, bytes. Numbers
// are varints, and partitions rise.
func encodeWatchCursor(places map[topology.PartitionID][]byte) []byte {
	b := binary.AppendUvarint([]byte{watchCursorVersion}, uint64(len(places)))
	for _, id := range slices.Sorted(maps.Keys(places)) {
		b = binary.AppendUvarint(b, uint64(id))
		b = binary.AppendUvarint(b, uint64(len(places[id])))
		b = append(b, places[id]...)
	}
	return b
}

// decodeWatchCursor reads a cursor. The error matches region.ErrBadCursor.
func decodeWatchCursor(b []byte, partitions uint32) (map[topology.PartitionID][]byte, error) {
	if len(b) > maxWatchCursor || len(b) == 0 || b[0] != watchCursorVersion {
		return nil, fmt.Errorf("%w: %d bytes", region.ErrBadCursor, len(b))
	}
	b = b[1:]
	next := func(limit uint64) (uint64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	count, ok := next(uint64(partitions))
	if !ok {
		return nil, fmt.Errorf("%w: number of places", region.ErrBadCursor)
	}
	places := make(map[topology.PartitionID][]byte, count)
	for last := -1; count > 0; count-- {
		id, ok := next(uint64(partitions) - 1)
		if !ok || int(id) <= last {
			return nil, fmt.Errorf("%w: partition", region.ErrBadCursor)
		}
		size, ok := next(maxWatchCursor)
		if !ok || size > uint64(len(b)) {
			return nil, fmt.Errorf("%w: place", region.ErrBadCursor)
		}
		places[topology.PartitionID(id)], b, last = b[:size:size], b[size:], int(id)
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes are left", region.ErrBadCursor, len(b))
	}
	return places, nil
}
