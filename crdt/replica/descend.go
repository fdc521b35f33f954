package replica

import (
	"bytes"
	"slices"
)

// descend reads a few keys at first, because most callers want few, and then more at a time.
const (
	firstDescendWindow = 16
	maxDescendWindow   = 256
)

// descend visits the keys in [start, end) from the last to the first, until visit returns more=false or
// an error, which descend returns. A KV scans forward only, and a second index that runs backward would
// double what every change of a score writes. So it looks for a window of keys that ends where the rest
// does, by halving the distance between a key and the end as if both were numbers. A window costs about
// as many seeks as there are bits in which keys differ, and each no more visits than the window has keys.
func descend(kv reader, start, end []byte, visit func(key []byte) (more bool, err error)) error {
	for window := firstDescendWindow; ; window = min(2*window, maxDescendWindow) {
		keys, err := lastKeys(kv, start, end, window)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, key := range slices.Backward(keys) {
			if more, err := visit(key); err != nil || !more {
				return err
			}
		}
		end = keys[0]
	}
}

// lastKeys returns one to limit keys in ascending order, the last of those in [start, end); none if there
// is none.
func lastKeys(kv reader, start, end []byte, limit int) ([][]byte, error) {
	low, high := start, end // no key is in [high, end)
	n, last, err := tally(kv, low, high, limit+1)
	for err == nil && n > limit {
		low = last
		if mid := midway(low, high); bytes.Compare(mid, high) < 0 {
			if n, last, err = tally(kv, mid, high, limit+1); err == nil && n > 0 {
				low = mid
				continue
			}
			high = mid
		}
		if err == nil {
			n, last, err = tally(kv, low, high, limit+1)
		}
	}
	if err != nil || n == 0 {
		return nil, err
	}
	return collectRange(kv, low, high, limit)
}

// tally counts the keys in [start, end) up to limit, and returns the last one if it came so far.
func tally(kv reader, start, end []byte, limit int) (n int, last []byte, err error) {
	err = kv.Scan(start, end, func(k, _ []byte) (bool, error) {
		if n++; n == limit {
			last = slices.Clone(k)
		}
		return n < limit, nil
	})
	return n, last, err
}

// midway returns a key half-way between low and high, which is after it, if both are fractions in base
// 256. It is not before low, but may be after high if the two differ in zeros at the end only.
func midway(low, high []byte) []byte {
	digit := func(b []byte, i int) int {
		if i < len(b) {
			return int(b[i])
		}
		return 0
	}
	mid := make([]byte, max(len(low), len(high))+1)
	carry := 0
	for i := len(mid) - 1; i >= 0; i-- {
		sum := digit(low, i) + digit(high, i) + carry
		mid[i], carry = byte(sum), sum>>8
	}
	for i := range mid {
		twice := int(mid[i]) + carry<<8
		mid[i], carry = byte(twice>>1), twice&1
	}
	return mid
}
