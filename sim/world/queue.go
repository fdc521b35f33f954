package world

import "time"

// event is something that happens at an instant of the world's clock.
type event struct {
	at     time.Duration
	serial uint64 // among those of one instant, the one that was asked for first comes first
	run    func()
}

// eventQueue is a heap of events, the earliest first.
type eventQueue struct{ events []event }

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.serial < o.serial
}

func (q *eventQueue) push(e event) {
	q.events = append(q.events, e)
	for i := len(q.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.events[i].before(&q.events[up]) {
			return
		}
		q.events[i], q.events[up] = q.events[up], q.events[i]
		i = up
	}
}

func (q *eventQueue) pop() event {
	first, last := q.events[0], len(q.events)-1
	q.events[0] = q.events[last]
	q.events[last] = event{}
	q.events = q.events[:last]
	for i := 0; ; {
		least := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < last && q.events[down].before(&q.events[least]) {
				least = down
			}
		}
		if least == i {
			return first
		}
		q.events[i], q.events[least] = q.events[least], q.events[i]
		i = least
	}
}

// next returns when the earliest event is.
func (q *eventQueue) next() (time.Duration, bool) {
	if len(q.events) == 0 {
		return 0, false
	}
	return q.events[0].at, true
}
