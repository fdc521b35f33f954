package protocol

import (
	"sync"
	"time"
)

// Budget bounds how many bytes a second all of a node's state transfers take. It is safe for concurrent use.
type Budget struct {
	rate int
	mu   struct {
		sync.Mutex
		paid time.Time // until when what was spent is paid for
	}
}

// NewBudget returns a budget of some bytes a second.
func NewBudget(rate int) *Budget { return &Budget{rate: max(rate, 1)} }

// Spend spends bytes, and returns from when on more may be asked for.
func (b *Budget) Spend(bytes int, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.paid = later(b.mu.paid, now).Add(time.Duration(float64(bytes) / float64(b.rate) * float64(time.Second)))
	return b.mu.paid
}
