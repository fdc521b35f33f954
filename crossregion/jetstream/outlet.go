package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

var errEnded = errors.New("the link has ended")

// outlet is a node's end of its own region's stream.
type outlet struct {
	region topology.RegionID
	conn   *conn
	config jetstream.StreamConfig
	log    *slog.Logger
	// ended is closed when the link ends; pending are publications without an answer.
	ended   chan struct{}
	pending sync.WaitGroup
	// mu is held for reading while a publication begins.
	mu struct {
		sync.RWMutex
		over bool // none begins any more
	}
}

// refuse lets no publication begin from now on. One that began on a connection already closed would
// leave a goroutine of the library behind for good.
func (o *outlet) refuse() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.over = true
}

// end gives up what has no answer, after refuse, and returns when whoever waits has been told.
func (o *outlet) end() {
	close(o.ended)
	o.pending.Wait()
}

// Stream implements crossregion.Outlet. It makes the stream if there is none: no one else would.
func (o *outlet) Stream(ctx context.Context) (protocol.StreamState, error) {
	_, js, err := o.conn.get()
	if err != nil {
		return protocol.StreamState{}, err
	}
	s, err := ensureStream(ctx, js, o.config)
	if err != nil {
		return protocol.StreamState{}, err
	}
	info := s.CachedInfo()
	return protocol.StreamState{Incarnation: incarnation(info), LastSeq: info.State.LastSeq}, nil
}

// LastFrame implements crossregion.Outlet. What a replica that lags answers is older than the truth,
// which costs a few frames published twice.
func (o *outlet) LastFrame(ctx context.Context, p topology.PartitionID) ([]byte, error) {
	_, js, err := o.conn.get()
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, o.config.Name)
	if err != nil {
		return nil, err
	}
	msg, err := s.GetLastMsgForSubject(ctx, deltaSubject(o.region, p))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("last frame of partition %d: %w", p, err)
	}
	return msg.Data, nil
}

// Publish implements crossregion.Outlet. There is no message id: the stream's deduplication would
// drop what is published again after a loss, and receivers know duplicates by themselves. There is no
// retry either: the library's lets later messages pass.
func (o *outlet) Publish(p topology.PartitionID, frame []byte, done func(uint64, error)) {
	future, err := o.publish(p, frame)
	if err != nil {
		done(0, err)
		return
	}
	go func() {
		defer o.pending.Done()
		select {
		case ack := <-future.Ok():
			done(ack.Sequence, nil)
		case err := <-future.Err():
			done(0, err)
		case <-o.ended:
			done(0, errEnded)
		}
	}()
}

// publish begins a publication and counts it as pending. It only fills a buffer, so that the lock is
// held for a moment.
func (o *outlet) publish(p topology.PartitionID, frame []byte) (jetstream.PubAckFuture, error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.mu.over {
		return nil, errEnded
	}
	_, js, err := o.conn.get()
	if err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: deltaSubject(o.region, p), Data: frame}
	future, err := js.PublishMsgAsync(msg, jetstream.WithExpectStream(o.config.Name), jetstream.WithRetryAttempts(0))
	if err == nil {
		o.pending.Add(1)
	}
	return future, err
}

// Broadcast implements crossregion.Outlet.
func (o *outlet) Broadcast(frame []byte) error {
	return o.conn.publish(tickSubject(o.region), frame)
}

// Serve implements crossregion.Outlet.
func (o *outlet) Serve(ctx context.Context, h crossregion.Handler) error {
	nc, _, err := o.conn.get()
	if err != nil {
		return err
	}
	fetch := func(msg *nats.Msg) {
		p, ok := subjectPartition(msg.Subject)
		if !ok {
			return
		}
		if response := h.Fetch(p, msg.Data); response != nil {
			if err := msg.Respond(response); err != nil {
				o.log.Debug("response not sent", slog.Any("partition", p), slog.Any("err", err))
			}
		}
	}
	return each(ctx, nc, map[string]func(*nats.Msg){
		fmt.Sprintf("atoll.fetch.%d.*", o.region): fetch,
		watermarkSubject(o.region):                func(msg *nats.Msg) { h.Report(msg.Data) },
	})
}

// each hands the messages of some subjects on, one goroutine per subject, until ctx is done or the
// connection is closed for good. While it is down, subscriptions wait for it to return.
func each(ctx context.Context, nc *nats.Conn, handlers map[string]func(*nats.Msg)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	for subject, handle := range handlers {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			cancel(err)
			break
		}
		wg.Go(func() {
			defer func() { _ = sub.Unsubscribe() }() // nothing to undo if the connection is gone
			for {
				msg, err := sub.NextMsgWithContext(ctx)
				switch {
				case err == nil:
					handle(msg)
				case ctx.Err() != nil:
					return
				case !errors.Is(err, nats.ErrSlowConsumer): // some were lost, which is allowed
					cancel(fmt.Errorf("subscription to %s: %w", subject, err))
					return
				}
			}
		})
	}
	<-ctx.Done()
	return context.Cause(ctx)
}
