package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	defaultBufferBytes = 4 << 20
	// maxConnections bounds how many connections one link carries; further ones wait unaccepted.
	maxConnections = 1024
)

// Config describes a link.
type Config struct {
	// Listen is the host:port on which the link accepts; port 0 chooses a free one.
	Listen string
	// Target is the host:port to which it leads.
	Target string
	// Delay is how long a byte takes one way.
	Delay time.Duration
	// BackDelay is how long a byte takes from the target to who dialed, if not Delay.
	BackDelay time.Duration
	// BufferBytes bounds what one direction of one connection holds; 4 MiB if 0. Less than bandwidth
	// times Delay makes the link slower.
	BufferBytes int
}

// Way is one way through a link, or both.
type Way uint8

// The ways through a link: There leads to the target, Back to who dialed.
const (
	There Way = 1 << iota
	Back
	Both = There | Back
)

// Link is one path that can be cut. Its methods are safe for concurrent use.
type Link struct {
	config   Config
	listener net.Listener

	mu struct {
		sync.Mutex
		cut Way
		// healed is closed when a way that was cut heals.
		healed chan struct{}
	}
}

// Listen opens a link. Nothing is accepted before Run, and Run closes it.
func Listen(ctx context.Context, config Config) (*Link, error) {
	if config.BufferBytes <= 0 {
		config.BufferBytes = defaultBufferBytes
	}
	if config.BackDelay <= 0 {
		config.BackDelay = config.Delay
	}
	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("wan link to %s: %w", config.Target, err)
	}
	l := &Link{config: config, listener: listener}
	l.mu.healed = make(chan struct{})
	return l, nil
}

// Addr returns the address on which the link accepts.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Close stops accepting. Only a link that is never run needs it; after Run it does nothing.
func (l *Link) Close() error {
	if err := l.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run carries connections until ctx is done, and then closes them all.
// It returns nil then, or the reason why it can accept no more.
func (l *Link) Run(ctx context.Context) error {
	defer l.listener.Close()
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { l.listener.Close() })()
	places := make(chan struct{}, maxConnections)
	group.Go(func() error {
		for {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			conn, err := l.listener.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				return fmt.Errorf("wan link to %s: %w", l.config.Target, err)
			}
			group.Go(func() error {
				defer func() { <-places }()
				l.carry(ctx, conn)
				return nil
			})
		}
	})
	return group.Wait()
}

// Cut stops delivery both ways and keeps it stopped until Heal. A write to a receiver that has begun
// when Cut is called still arrives, like a packet already on the wire.
func (l *Link) Cut() { l.CutWay(Both) }

// CutWay stops delivery one way. Who dials waits while There is cut.
func (l *Link) CutWay(w Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.cut |= w
}

// Heal lets a cut link deliver again, beginning with what waited.
func (l *Link) Heal() { l.HealWay(Both) }

// HealWay lets a link deliver again one way.
func (l *Link) HealWay(w Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.cut&w != 0 {
		l.mu.cut &^= w
		close(l.mu.healed)
		l.mu.healed = make(chan struct{})
	}
}

// IsCut reports whether the link is cut, be it one way only.
func (l *Link) IsCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.cut != 0
}

// passable waits until a way is not cut. It gives up with errAbandoned when abandoned is closed while
// the way is cut; a nil abandoned never is.
func (l *Link) passable(ctx context.Context, w Way, abandoned <-chan struct{}) error {
	for {
		l.mu.Lock()
		cut, healed := l.mu.cut&w != 0, l.mu.healed
		l.mu.Unlock()
		if !cut {
			return ctx.Err()
		}
		select {
		case <-healed:
		case <-abandoned:
			return errAbandoned
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
