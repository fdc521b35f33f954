package wan

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

const (
	readBytes = 32 << 10
	// maxChunks bounds how many reads one direction holds beside their bytes.
	maxChunks = 8192
)

var errAbandoned = errors.New("the caller hung up before the link healed")

// chunk is what one read brought; no data means that the sender is done.
type chunk struct {
	data []byte
	due  *time.Timer // fires when the chunk has travelled
}

// pipe is one direction of one connection.
type pipe struct {
	link   *Link
	way    Way
	delay  time.Duration
	chunks chan chunk
	room   *semaphore.Weighted // bytes
	// ended is closed when the sender is done.
	ended chan struct{}
}

func (l *Link) newPipe(w Way, delay time.Duration) *pipe {
	return &pipe{
		link:   l,
		way:    w,
		delay:  delay,
		chunks: make(chan chunk, maxChunks),
		room:   semaphore.NewWeighted(int64(l.config.BufferBytes)),
		ended:  make(chan struct{}),
	}
}

// carry joins an accepted connection with the target until both directions have ended, one of them
// fails, or ctx is done.
func (l *Link) carry(ctx context.Context, near net.Conn) {
	there, back := l.newPipe(There, l.config.Delay), l.newPipe(Back, l.config.BackDelay)
	var far net.Conn
	group, ctx := errgroup.WithContext(ctx)
	// Closing is what ends reads and writes that block. The group ends ctx when it is done.
	context.AfterFunc(ctx, func() { near.Close() })
	group.Go(func() error {
		if err := l.handshake(ctx); err != nil {
			return err
		}
		group.Go(func() error { return there.read(ctx, near) })
		var err error
		if far, err = l.dial(ctx, there); err != nil {
			reset(near)
			return err
		}
		context.AfterFunc(ctx, func() { far.Close() })
		group.Go(func() error { return back.read(ctx, far) })
		group.Go(func() error { return there.write(ctx, far) })
		group.Go(func() error { return back.write(ctx, near) })
		return nil
	})
	_ = group.Wait() // both ends have seen it as the end of their connection
	near.Close()
	if far != nil {
		far.Close()
	}
}

// handshake waits as long as opening a connection over the link takes.
func (l *Link) handshake(ctx context.Context) error {
	trip := time.NewTimer(l.config.Delay + l.config.BackDelay)
	defer trip.Stop()
	select {
	case <-trip.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dial connects to the target, but while the link is cut it waits until the link heals or the caller
// hangs up.
func (l *Link) dial(ctx context.Context, there *pipe) (net.Conn, error) {
	if err := l.passable(ctx, There, there.ended); err != nil {
		return nil, err
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", l.config.Target)
}

// read takes what the sender sends until it is done.
func (p *pipe) read(ctx context.Context, from net.Conn) error {
	defer close(p.chunks)
	defer close(p.ended)
	buffer := make([]byte, readBytes)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			// A buffer smaller than one read still lets one read through.
			if err := p.room.Acquire(ctx, p.weight(n)); err != nil {
				return err
			}
			data := append([]byte(nil), buffer[:n]...)
			if err := p.put(ctx, chunk{data, time.NewTimer(p.delay)}); err != nil {
				return err
			}
		}
		if err != nil {
			return p.put(ctx, chunk{nil, time.NewTimer(p.delay)})
		}
	}
}

func (p *pipe) put(ctx context.Context, c chunk) error {
	select {
	case p.chunks <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) weight(n int) int64 { return int64(min(n, p.link.config.BufferBytes)) }

// write delivers what was read, each chunk when it has travelled and the link is not cut.
func (p *pipe) write(ctx context.Context, to net.Conn) error {
	for c := range p.chunks {
		select {
		case <-c.due.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := p.link.passable(ctx, p.way, nil); err != nil {
			return err
		}
		if c.data == nil {
			return closeWrite(to)
		}
		if _, err := to.Write(c.data); err != nil {
			return err
		}
		p.room.Release(p.weight(len(c.data)))
	}
	return nil
}

// closeWrite tells the receiver that nothing more comes, and leaves the other direction open.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(*net.TCPConn); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

// reset closes a connection so that its other end sees an error and not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
