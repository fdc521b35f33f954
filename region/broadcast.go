package region

import "sync"

// broadcast wakes whoever waits for the next change of something. It is safe for concurrent use.
type broadcast struct {
	mu struct {
		sync.Mutex
		next chan struct{} // nil if nobody has asked for it
	}
}

func newBroadcast() *broadcast { return &broadcast{} }

// changed returns a channel that is closed at the next notify. Take it before looking at what may
// change, or the change between the two goes unnoticed.
func (b *broadcast) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.next == nil {
		b.mu.next = make(chan struct{})
	}
	return b.mu.next
}

func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.next != nil {
		close(b.mu.next)
		b.mu.next = nil
	}
}
