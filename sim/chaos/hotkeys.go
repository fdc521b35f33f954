package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// hotKeys are the few keys that are in use at once. What a judge must try out grows fast with the
// operations on one key that are under way at once, and those of unknown outcome are for ever: so
// only a few may be, and a key gives way to a new one when it has seen much, or anything unknown.
type hotKeys struct {
	prefix           string
	mostOps, mostNow int

	mu struct {
		sync.Mutex
		keys []*hotKey
		made int
	}
}

// hotKey is one key in use.
type hotKey struct {
	name      string
	slot      int
	ops, busy int
}

func newHotKeys(prefix string, keys, mostOps, mostNow int) *hotKeys {
	h := &hotKeys{prefix: prefix, mostOps: mostOps, mostNow: mostNow}
	for i := range keys {
		h.mu.keys = append(h.mu.keys, h.newKeyLocked(i))
	}
	return h
}

func (h *hotKeys) newKeyLocked(slot int) *hotKey {
	h.mu.made++
	return &hotKey{name: fmt.Sprintf("%s%d", h.prefix, h.mu.made), slot: slot}
}

// take returns a random key for one operation, or nil if all are busy. The caller gives it back.
func (h *hotKeys) take(random *rand.Rand) *hotKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := random.IntN(len(h.mu.keys))
	for i := range h.mu.keys {
		k := h.mu.keys[(first+i)%len(h.mu.keys)]
		if k.busy < h.mostNow {
			k.busy++
			k.ops++
			return k
		}
	}
	return nil
}

// giveBack ends an operation.
func (h *hotKeys) giveBack(k *hotKey, unknown bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.busy--
	if (unknown || k.ops >= h.mostOps) && h.mu.keys[k.slot] == k {
		h.mu.keys[k.slot] = h.newKeyLocked(k.slot)
	}
}
