package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var errNotConnected = errors.New("not connected to NATS")

const (
	// apiPatience bounds one call of JetStream's API: without a leader, or without the right, a call
	// is not answered at all.
	apiPatience = 2 * time.Second
	// publishPatience bounds how long an acknowledgement may take.
	publishPatience = 5 * time.Second
	redialWait      = time.Second
	dialPatience    = 5 * time.Second
)

// conn keeps one connection to a region's NATS for as long as run runs.
type conn struct {
	urls string
	opts []nats.Option
	log  *slog.Logger
	// up is false from when the library dials until it is connected. It has its connection locked all that time,
	// seconds if a server accepts and says nothing, so that even asking for its status waits.
	up atomic.Bool
	// why is why the last attempt failed; nil if none has.
	why atomic.Pointer[error]
	mu  struct {
		sync.Mutex
		nc *nats.Conn
		js jetstream.JetStream
	}
}

func newConn(region, node, urls, password string, log *slog.Logger) *conn {
	c := &conn{urls: urls, log: log.With(slog.String("peer", region))}
	c.opts = []nats.Option{
		nats.Name(node),
		nats.UserInfo(user, password),
		nats.CustomInboxPrefix("_INBOX_" + user),
		// For ever: two refusals of the same kind would otherwise end it for good.
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.Timeout(dialPatience), nats.SetCustomDialer(c),
		// A link that died silently is noticed after 4 to 6 seconds, not after as many minutes.
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		// Only the configured addresses can be reached from here, and only failing at once is in order.
		nats.IgnoreDiscoveredServers(), nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // not our own closing
				c.why.Store(&err)
				c.log.Info("disconnected from NATS", slog.Any("err", err))
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.why.Store(&err) }),
		nats.ConnectHandler(func(*nats.Conn) { c.up.Store(true) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.up.Store(true)
			c.log.Info("connected to NATS again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.log.Debug("nats client", slog.Any("err", err))
		}),
	}
	return c
}

// Dial implements nats.CustomDialer.
func (c *conn) Dial(network, address string) (net.Conn, error) {
	c.up.Store(false)
	dialer := net.Dialer{Timeout: dialPatience}
	return dialer.Dial(network, address)
}

// run keeps the connection until ctx is done. It dials anew should the library ever give up.
func (c *conn) run(ctx context.Context) {
	for ctx.Err() == nil {
		closed := make(chan struct{})
		onClosed := sync.OnceFunc(func() { close(closed) })
		if err := c.dial(onClosed); err != nil {
			c.log.Warn("cannot connect to NATS", slog.Any("err", err))
			onClosed()
		}
		select {
		case <-ctx.Done():
		case <-closed:
		}
		c.drop()
		<-closed
		pause := time.NewTimer(redialWait)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (c *conn) dial(onClosed func()) error {
	closed := nats.ClosedHandler(func(*nats.Conn) { onClosed() })
	nc, err := nats.Connect(c.urls, append(c.opts[:len(c.opts):len(c.opts)], closed)...)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiPatience), jetstream.WithPublishAsyncTimeout(publishPatience))
	if err != nil {
		nc.Close()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.nc, c.mu.js = nc, js
	return nil
}

func (c *conn) drop() {
	c.mu.Lock()
	nc := c.mu.nc
	c.mu.nc, c.mu.js = nil, nil
	c.mu.Unlock()
	if nc != nil {
		nc.Close()
	}
}

// get returns the connection if it is up. It does not wait for one that is not.
func (c *conn) get() (*nats.Conn, jetstream.JetStream, error) {
	if !c.up.Load() {
		if why := c.why.Load(); why != nil {
			return nil, nil, fmt.Errorf("%w: %w", errNotConnected, *why)
		}
		return nil, nil, errNotConnected
	}
	c.mu.Lock()
	nc, js := c.mu.nc, c.mu.js
	c.mu.Unlock()
	if nc == nil {
		return nil, nil, errNotConnected
	}
	if status := nc.Status(); status != nats.CONNECTED {
		return nil, nil, fmt.Errorf("%w: %w", errNotConnected, cmp.Or(nc.LastError(), errors.New(status.String())))
	}
	return nc, js, nil
}

// publish sends a message that no one acknowledges.
func (c *conn) publish(subject string, data []byte) error {
	nc, _, err := c.get()
	if err != nil {
		return err
	}
	return nc.Publish(subject, data)
}
