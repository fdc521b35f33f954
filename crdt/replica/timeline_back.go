package replica

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/hlc"
)

// backScan finds the newest entries of a timeline over a KV, which scans forward only. It looks at
// windows of time from the newest on: one with few entries is taken whole and the next is made wider,
// one with too many is made narrower. So what it visits depends on what it returns, not on how many
// entries there are, however they are spread.
type backScan struct {
	kv  reader
	kid uint64
	// What is left to look at is from an instant on and before end; before is that of end or later.
	from, before hlc.Time
	end          []byte
	width        hlc.Time
}

const (
	firstWindow  = hlc.Time(1000 << 16) // one second
	widestWindow = hlc.Time(1 << 60)
	widening     = 4
	// Narrowing is by more: a window that is too wide costs more than one that is too narrow.
	narrowing = 16
)

// startAt continues before the entry with an id.
func (b *backScan) startAt(id []byte) {
	b.width = firstWindow
	if len(id) == 0 {
		return
	}
	if end := append(elementKey(b.kid, nil), id...); bytes.Compare(end, b.end) < 0 {
		b.end, b.before = end, timeOf(end).Next()
	}
}

// fill fills a page, newest first.
func (b *backScan) fill(p *timelinePage) error {
	for !p.more {
		if found, err := b.skipGap(); err != nil || !found {
			return err
		}
		keys, whole, err := b.window(p)
		if err != nil {
			return err
		}
		if !whole {
			b.width = max(1, (b.before-b.start())/narrowing)
			continue
		}
		b.before = b.start()
		b.end = timeKey(b.kid, b.before)
		b.width = min(b.width*widening, widestWindow)
		for i := len(keys) - 1; i >= 0 && !p.more; i-- {
			v, _, err := b.kv.Get(keys[i])
			if err != nil {
				return err
			}
			if _, err := p.take(keys[i], v); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipGap moves the end to right after the newest instant that has an entry, unless the next window
// has one anyway, and reports whether there is any.
func (b *backScan) skipGap() (bool, error) {
	if _, found, err := b.first(b.start()); err != nil || found {
		return found, err
	}
	low, found, err := b.first(b.from)
	if err != nil || !found {
		return false, err
	}
	for high := b.start(); high-low > 1; { // entries at low, none from high on
		middle := low + (high-low)/2
		at, found, err := b.first(middle)
		switch {
		case err != nil:
			return false, err
		case found:
			low = at
		default:
			high = middle
		}
	}
	b.before = low + 1
	b.end = timeKey(b.kid, b.before)
	return true, nil
}

// start returns where the next window begins.
func (b *backScan) start() hlc.Time {
	return max(b.from, b.before-min(b.before, b.width))
}

// first returns the instant of the first entry from an instant on.
func (b *backScan) first(from hlc.Time) (at hlc.Time, found bool, err error) {
	err = b.kv.Scan(timeKey(b.kid, from), b.end, func(k, _ []byte) (bool, error) {
		at, found = timeOf(k), true
		return false, nil
	})
	return at, found, err
}

// window returns the keys of the next window in order, and whether it was read to its end: not if
// there are many more than the page takes.
func (b *backScan) window(p *timelinePage) (keys [][]byte, whole bool, err error) {
	room, size := 2*(p.limit-len(p.entries))+64, 4*p.maxBytes
	start := b.start()
	// The entries of one instant are of different actors, so they are few, and cannot be divided.
	instant := b.before-start == 1
	whole = true
	err = b.kv.Scan(timeKey(b.kid, start), b.end, func(k, v []byte) (bool, error) {
		// Values are passed over, and read once it is known that they are wanted.
		keys = append(keys, slices.Clone(k))
		size -= len(v)
		whole = instant || len(keys) <= room && size > 0
		return whole, nil
	})
	return keys, whole, err
}

// timeOf returns the instant of the entry that a key of table E is of.
func timeOf(key []byte) hlc.Time { return hlc.Time(binary.BigEndian.Uint64(elementOf(key))) }
