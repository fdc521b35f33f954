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
	// BufferBytes bounds what one direction of one connection holds; 4 MiB if 0. Less than bandwidth
	// times Delay makes the link slower.
	BufferBytes int
}

// Link is one path that can be cut. Its methods are safe for concurrent use.
type Link struct {
	config   Config
	listener net.Listener

	mu struct {
		sync.Mutex
		cut bool
		// healed is closed when a cut link heals.
		healed chan struct{}
	}
}

// Listen opens a link. Nothing is accepted before Run, and Run closes it.
func Listen(ctx context.Context, config Config) (*Link, error) {
	if config.BufferBytes <= 0 {
		config.BufferBytes = defaultBufferBytes
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
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.cut = true
}

// Heal lets a cut link deliver again, beginning with what waited.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.cut {
		l.mu.cut = false
		close(l.mu.healed)
		l.mu.healed = make(chan struct{})
	}
}

// IsCut reports whether the link is cut.
func (l *Link) IsCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.cut
}

// passable waits until the link is not cut. It gives up with errAbandoned when abandoned is closed
// while the link is cut; a nil abandoned never is.
func (l *Link) passable(ctx context.Context, abandoned <-chan struct{}) error {
	for {
		l.mu.Lock()
		cut, healed := l.mu.cut, l.mu.healed
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
