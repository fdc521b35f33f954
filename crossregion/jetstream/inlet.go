package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/topology"
)

const (
	// A pull asks for at most this much: little enough for the server not to take us for a slow
	// consumer, and more than the largest frame, without which the stream would stand still.
	pullMessages = 2048
	pullBytes    = 12 << 20
	pullExpiry   = 10 * time.Second
	// pullHeartbeat is how often an idle pull gives a sign; after two missed ones it is given up.
	pullHeartbeat = 2 * time.Second
	// consumerIdle is when the server forgets a consumer that no one uses.
	consumerIdle = 30 * time.Second
	// verifyWait is how often the stream is looked at behind a consumer that may wait in vain.
	verifyWait = 30 * time.Second
	// resumeLeast and resumeMost bound the pause before the next attempt to pull.
	resumeLeast, resumeMost = 250 * time.Millisecond, 4 * time.Second
	// A connection without any sign for silentTicks watchTicks is dropped: nodes send ticks
	// every second. A reconnected one gets graceTicks.
	watchTick   = 2 * time.Second
	silentTicks = 3
	graceTicks  = 2
)

var (
	errSkipped  = errors.New("the consumer skipped messages")
	errReplaced = errors.New("the stream is not the one that was read")
)

// inlet is a node's way to another region.
type inlet struct {
	region topology.RegionID
	conn   *conn
	log    *slog.Logger
	// heard counts signs of life.
	heard atomic.Uint64
	// cursor is where to read on. Only the one caller of Subscribe uses it, but verify reads next.
	cursor struct {
		incarnation string
		next        atomic.Uint64
	}
}

// Subscribe implements crossregion.Inlet. It does without the library's ordered consumer, which after
// a loss of the stream waits at its old position for ever, and reads on in another stream of the same
// name as if nothing had happened.
func (i *inlet) Subscribe(ctx context.Context, s crossregion.Subscriber) error {
	nc, js, err := i.conn.get()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { i.pull(ctx, js, s) })
	wg.Go(func() { i.watch(ctx, nc) })
	err = each(ctx, nc, map[string]func(*nats.Msg){
		tickSubject(i.region): func(msg *nats.Msg) {
			i.heard.Add(1)
			s.OnTick(msg.Data)
		},
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watch makes the connection be dialled anew when nothing was heard for long. Pings notice a dead
// connection; this notices one that is alive but of no use.
func (i *inlet) watch(ctx context.Context, nc *nats.Conn) {
	ticker := time.NewTicker(watchTick)
	defer ticker.Stop()
	last, silent := i.heard.Load(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if heard := i.heard.Load(); heard != last || nc.Status() != nats.CONNECTED {
			last, silent = heard, 0
			continue
		}
		if silent++; silent < silentTicks {
			continue
		}
		i.log.Info("nothing heard from another region")
		if err := nc.ForceReconnect(); err != nil {
			i.log.Debug("not reconnected", slog.Any("err", err))
		}
		silent = -graceTicks
	}
}

// pull reads the stream until ctx is done, from where it was last whenever something goes wrong.
// Ticks and fetches do not depend on it.
func (i *inlet) pull(ctx context.Context, js jetstream.JetStream, s crossregion.Subscriber) {
	wait := resumeLeast
	for ctx.Err() == nil {
		before := i.cursor.next.Load()
		err := i.pullOnce(ctx, js, s)
		if ctx.Err() != nil {
			return
		}
		if i.cursor.next.Load() != before {
			wait = resumeLeast
		}
		i.log.Debug("stream of another region not readable", slog.Any("err", err))
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		wait = min(2*wait, resumeMost)
	}
}

// pullOnce reads the stream until anything is not as it should be.
func (i *inlet) pullOnce(ctx context.Context, js jetstream.JetStream, s crossregion.Subscriber) error {
	callCtx, cancelCall := context.WithTimeout(ctx, publishPatience)
	defer cancelCall()
	stream, err := js.Stream(callCtx, streamName(i.region))
	if err != nil {
		return err
	}
	i.position(stream.CachedInfo())
	consumer, err := stream.CreateConsumer(callCtx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: i.cursor.next.Load(),
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: consumerIdle, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer messages.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { cancel(i.verify(ctx, js)) })
	for delivered := uint64(1); ; delivered++ {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if err := i.take(msg, delivered, s); err != nil {
			return err
		}
	}
}

// position moves the cursor to where this stream is to be read from. What is read twice is dropped
// by the receivers, what is skipped they fetch.
func (i *inlet) position(info *jetstream.StreamInfo) {
	c := &i.cursor
	first, end, next := info.State.FirstSeq, info.State.LastSeq+1, c.next.Load()
	switch {
	case c.incarnation == "":
		next = end
	case c.incarnation != incarnation(info), next > end:
		i.log.Info("the stream of another region is another one or lost its end, it is read from its beginning")
		next = first
	default:
		next = max(next, first)
	}
	c.incarnation = incarnation(info)
	c.next.Store(max(next, 1))
}

// take hands on one message if it is the one that the consumer had to deliver next.
func (i *inlet) take(msg jetstream.Msg, delivered uint64, s crossregion.Subscriber) error {
	i.heard.Add(1)
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	if meta.Sequence.Consumer != delivered { // lost while the connection was down
		return fmt.Errorf("%w: delivery %d came as number %d", errSkipped, meta.Sequence.Consumer, delivered)
	}
	i.cursor.next.Store(meta.Sequence.Stream + 1)
	if p, ok := subjectPartition(msg.Subject()); ok {
		s.OnFrame(p, msg.Data())
	}
	return nil
}

// verify returns an error once the stream is not the one that the cursor is about.
func (i *inlet) verify(ctx context.Context, js jetstream.JetStream) error {
	ticker := time.NewTicker(verifyWait)
	defer ticker.Stop()
	reading := i.cursor.incarnation
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		next := i.cursor.next.Load() // before the stream is asked, which only grows
		callCtx, cancel := context.WithTimeout(ctx, apiPatience)
		stream, err := js.Stream(callCtx, streamName(i.region))
		cancel()
		if err != nil {
			continue // a pull that does not work either says so itself
		}
		info := stream.CachedInfo()
		if now := incarnation(info); now != reading || next > info.State.LastSeq+1 {
			return fmt.Errorf("%w: %s up to %d", errReplaced, now, info.State.LastSeq)
		}
	}
}

// Fetch implements crossregion.Inlet.
func (i *inlet) Fetch(ctx context.Context, p topology.PartitionID, request []byte) ([]byte, error) {
	nc, _, err := i.conn.get()
	if err != nil {
		return nil, err
	}
	msg, err := nc.RequestWithContext(ctx, fetchSubject(i.region, p), request)
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

// Report implements crossregion.Inlet.
func (i *inlet) Report(frame []byte) error {
	return i.conn.publish(watermarkSubject(i.region), frame)
}
