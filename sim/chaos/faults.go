package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/atolldb/atoll/internal/wan"
)

const (
	leastFault  = 300 * time.Millisecond
	mostFault   = 4 * time.Second
	leastSettle = 500 * time.Millisecond
	mostSettle  = 2 * time.Second
)

// fault is one kind of harm to one node, and how it is undone.
type fault struct {
	name string
	do   func(*deployment, *member) error
	undo func(context.Context, *deployment, *member) error
}

func faultsInside() []fault {
	heal := func(_ context.Context, d *deployment, _ *member) error { d.heal(); return nil }
	return []fault{
		{
			name: "kill -9",
			do:   func(_ *deployment, m *member) error { m.crash(); return nil },
			undo: func(ctx context.Context, d *deployment, m *member) error {
				return d.startAll(ctx, []*member{m})
			},
		},
		{
			name: "stop",
			do:   func(_ *deployment, m *member) error { return m.process.signal(syscall.SIGSTOP) },
			undo: func(_ context.Context, _ *deployment, m *member) error { return m.process.signal(syscall.SIGCONT) },
		},
		{
			name: "isolate",
			do:   func(d *deployment, m *member) error { d.cut(m.name); return nil },
			undo: heal,
		},
		{
			name: "deafen",
			do:   func(d *deployment, m *member) error { d.towards(m.name); return nil },
			undo: heal,
		},
		{
			name: "mute",
			do:   func(d *deployment, m *member) error { d.awayFrom(m.name); return nil },
			undo: heal,
		},
		{
			name: "cut one pair",
			do: func(d *deployment, m *member) error {
				for _, other := range d.members {
					if other.name != m.name {
						d.way(m.name, other.name, wan.Both, true)
						d.way(other.name, m.name, wan.Both, true)
						break
					}
				}
				return nil
			},
			undo: heal,
		},
	}
}

// towards stops all that other nodes send to one, requests and answers.
func (d *deployment) towards(name string) {
	for _, l := range d.links {
		switch name {
		case l.to:
			l.CutWay(wan.There)
		case l.from:
			l.CutWay(wan.Back)
		}
	}
}

// awayFrom stops all that a node sends to others.
func (d *deployment) awayFrom(name string) {
	for _, l := range d.links {
		switch name {
		case l.to:
			l.CutWay(wan.Back)
		case l.from:
			l.CutWay(wan.There)
		}
	}
}

// harmInside does one kind of harm after another to one node of the region at a time until stop is
// closed, and returns how often it did each.
func (s *stage) harmInside(ctx context.Context, stop <-chan struct{}) (map[string]int, error) {
	done := map[string]int{}
	kinds := faultsInside()
	for {
		if stopped, err := pauseUnless(ctx, stop, between(s.random, leastSettle, mostSettle)); stopped || err != nil {
			return done, err
		}
		f := kinds[s.random.IntN(len(kinds))]
		m := s.deployment.members[s.random.IntN(len(s.deployment.members))]
		lasts := between(s.random, leastFault, mostFault)
		if err := f.do(s.deployment, m); err != nil {
			return done, fmt.Errorf("%s %s: %w", f.name, m.name, err)
		}
		_, err := pauseUnless(ctx, stop, lasts)
		if undoErr := f.undo(ctx, s.deployment, m); undoErr != nil {
			return done, fmt.Errorf("undo %s of %s: %w", f.name, m.name, undoErr)
		}
		if err != nil {
			return done, err
		}
		done[f.name]++
	}
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// pauseUnless waits, but not longer than until stop is closed.
func pauseUnless(ctx context.Context, stop <-chan struct{}, d time.Duration) (stopped bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-stop:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
