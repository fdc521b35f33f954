package membership

import (
	"sync"
)

// View is how others follow the membership: the present state, as far as it is known here, and a channel
// that is closed when there is a newer one. It is safe for concurrent use. What it returns may be behind
// what a majority has decided, by as long as this region is cut off; it never goes back.
type View interface {
	Current() (s *State, changed <-chan struct{})
}

// Published is a View that is told of states. Its zero value has the state of epoch 0, in which nothing
// is founded.
type Published struct {
	mu      sync.Mutex
	state   *State
	changed chan struct{}
}

var _ View = (*Published)(nil)

// Current returns the newest state told, and a channel that is closed at the next.
func (p *Published) Current() (*State, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.init()
	return p.state, p.changed
}

func (p *Published) init() {
	if p.state == nil {
		p.state, p.changed = &State{}, make(chan struct{})
	}
}

// Publish tells of a state. One that is not newer than what was told is ignored.
func (p *Published) Publish(s *State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.init()
	if s.Epoch <= p.state.Epoch {
		return
	}
	p.state = s
	close(p.changed)
	p.changed = make(chan struct{})
}
