package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	defaultHeartbeat = 10 * time.Second
	// A watch that hears nothing for so many heartbeats is begun anew.
	silentHeartbeats = 3
)

// WatchOptions selects what to watch. The zero value means all keys of the namespace, from now on.
type WatchOptions struct {
	// Key selects one key. It excludes Prefix, which selects the keys that begin with it.
	Key, Prefix string
	// Cursor is that of the last event of an earlier watch, of this region or another.
	Cursor []byte
	// Values has events carry values, as Get returns them.
	Values bool
	// Heartbeat is how often the server says that nothing changed; 0 means 10 s, the least is 100 ms.
	Heartbeat time.Duration
	// Heartbeats yields those too. Their cursors spare a later watch what it need not see.
	Heartbeats bool
}

// EventKind is what an event tells.
type EventKind int

// What events tell.
const (
	// EventChange: a key changed.
	EventChange EventKind = iota
	// EventResync: the changes of a partition since the cursor are no longer known. What follows, until
	// EventResynced, are all its watched keys as they are; a key that is not among them does not exist.
	EventResync
	// EventState: a key is as the event says; between EventResync and EventResynced.
	EventState
	// EventResynced: the end of a list of keys.
	EventResynced
	// EventHeartbeat: everything up to the cursor was told.
	EventHeartbeat
)

// String returns "change", "resync", "state", "resynced", "heartbeat", or "unknown".
func (k EventKind) String() string {
	switch k {
	case EventChange:
		return "change"
	case EventResync:
		return "resync"
	case EventState:
		return "state"
	case EventResynced:
		return "resynced"
	case EventHeartbeat:
		return "heartbeat"
	default:
		return "unknown"
	}
}

// Cause is why a key changed.
type Cause int32

// Why keys change.
const (
	CauseLocal    = Cause(atollv1.Cause_CAUSE_LOCAL)    // a write in the region
	CauseRemote   = Cause(atollv1.Cause_CAUSE_REMOTE)   // a write in another region
	CauseExpired  = Cause(atollv1.Cause_CAUSE_EXPIRED)  // the value expired
	CauseRestored = Cause(atollv1.Cause_CAUSE_RESTORED) // a backup, or a value that had lost, was restored
	CauseRepaired = Cause(atollv1.Cause_CAUSE_REPAIRED) // replicas were repaired
)

// String returns "local", "remote", "expired", "restored", "repaired", or "unknown".
func (c Cause) String() string {
	switch c {
	case CauseLocal:
		return "local"
	case CauseRemote:
		return "remote"
	case CauseExpired:
		return "expired"
	case CauseRestored:
		return "restored"
	case CauseRepaired:
		return "repaired"
	default:
		return "unknown"
	}
}

// Event is one thing that a watch tells.
type Event struct {
	Kind EventKind
	// Key is the key of an EventChange or EventState. Found says whether it exists; false after a delete
	// or an expiry.
	Key   string
	Found bool
	// Value has the key's type and version when the event was sent, and with WatchOptions.Values the
	// value. It is never older than the change, and newer if the key changed again meanwhile, which then
	// has an event of its own.
	Value
	Cause Cause
	// Partition is that of an EventResync or EventResynced.
	Partition uint32
	// Cursor is where to go on behind this event.
	Cursor []byte
}

// Watch yields the changes of keys, in order for each key, until ctx ends or the watch is refused; the
// last thing it yields is the error. It goes on by itself behind the last event when a connection
// breaks, which may tell of a change twice, and then or at the beginning it may have to list keys
// instead: see EventResync. Changes made while it was not connected yet are not told without a cursor.
//
// Errors: ErrDeadline when ctx ends, ErrInvalidArgument for a cursor that is none, ErrOverloaded if
// every node has as many watchers as it may.
func (c *Client) Watch(ctx context.Context, opts WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := watcher{client: c, opts: opts, cursor: opts.Cursor, yield: yield}
		if err := w.run(ctx); err != nil {
			yield(Event{}, err)
		}
	}
}

// watcher is the state of one Watch between its requests.
type watcher struct {
	client *Client
	opts   WatchOptions
	yield  func(Event, error) bool
	cursor []byte
	heard  bool // whether this request was answered
	ever   bool // whether any was
}

var (
	errStopped = errors.New("the caller has seen enough")
	errSilent  = errors.New("nothing was heard from the server")
)

// run returns nil when the caller has seen enough.
func (w *watcher) run(ctx context.Context) error {
	s := w.client.shared
	var avoid *endpoint
	for n := 1; ; n++ {
		if s.closed.Load() {
			return errors.New("client is closed")
		}
		e := s.anyNode(avoid)
		if w.opts.Key != "" {
			e = s.choose(ctx, s.place(w.client.namespace, w.opts.Key), true, avoid)
		}
		w.heard = false
		err := w.follow(ctx, e)
		if errors.Is(err, errStopped) {
			return nil
		}
		fault, v := judge(ctx, err, false, false)
		if ctx.Err() != nil {
			return conclude(ctx, fault, false, "")
		}
		if w.heard {
			n = 1
		}
		// A node that refuses because it has too many watchers is not the only one.
		again := v == notDone || fault.Reason == ReasonTooManyWatchers
		if !again || (!w.ever || fault.Reason == ReasonTooManyWatchers) && n >= s.cfg.attempts {
			return fault
		}
		avoid = s.learnFrom(ctx, e, nil, fault)
		if !pause(ctx, backoff(n, fault.RetryAfter)) {
			return conclude(ctx, fault, false, "")
		}
	}
}

// follow makes one request, and returns why it ended.
func (w *watcher) follow(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beat := w.opts.Heartbeat
	if beat <= 0 {
		beat = defaultHeartbeat
	}
	silence := time.AfterFunc(silentHeartbeats*beat, func() { cancel(errSilent) })
	defer silence.Stop()
	req := &atollv1.WatchRequest{
		Namespace: w.client.namespace, Key: w.opts.Key, Prefix: w.opts.Prefix, Cursor: w.cursor, IncludeValue: w.opts.Values,
	}
	if w.opts.Heartbeat > 0 {
		req.HeartbeatInterval = durationpb.New(w.opts.Heartbeat)
	}
	w.client.shared.inUse(ctx)
	stream, err := e.kv.Watch(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for {
		msg, err := stream.Receive()
		if err != nil {
			return err
		}
		silence.Stop() // the caller may take its time over an event
		w.client.shared.inUse(ctx)
		w.heard, w.ever = true, true
		e.works()
		if len(msg.GetCursor()) > 0 {
			w.cursor = msg.GetCursor()
		}
		if event, ok := w.event(msg); ok && !w.yield(event, nil) {
			return errStopped
		}
		silence.Reset(silentHeartbeats * beat)
	}
}

// event reports false for what the caller does not want or a newer server has to say.
func (w *watcher) event(msg *atollv1.WatchResponse) (Event, bool) {
	event := Event{Cursor: w.cursor}
	switch m := msg.GetMessage().(type) {
	case *atollv1.WatchResponse_Event:
		if m.Event.GetState() {
			event.Kind = EventState
		}
		event.Key, event.Found, event.Cause = m.Event.GetKey(), m.Event.GetFound(), Cause(m.Event.GetCause())
		event.Value = withTyped(Value{
			Type: Type(m.Event.GetType()), Bytes: m.Event.GetValue(), Version: m.Event.GetVersion(),
		}, m.Event.GetTyped())
	case *atollv1.WatchResponse_Resync:
		event.Kind, event.Partition = EventResync, m.Resync.GetPartition()
		if m.Resync.GetEnd() {
			event.Kind = EventResynced
		}
	case *atollv1.WatchResponse_Heartbeat:
		event.Kind = EventHeartbeat
		return event, w.opts.Heartbeats
	default:
		return event, false
	}
	return event, true
}
