package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const (
	// watchChunkBytes bounds what of a partition's news is read before it waits to be sent.
	watchChunkBytes = 256 << 10
	// relayHeartbeat is how often another node's part of a watch shows that it lives, and relaySilence
	// for how long it need not.
	relayHeartbeat = time.Second
	relaySilence   = 5 * time.Second
)

// follow posts a partition's news until ctx ends.
func (w *watch) follow(ctx context.Context, id topology.PartitionID, cursor []byte) error {
	part, err := w.server.hosted(id)
	if err != nil {
		return w.followThere(ctx, id, cursor)
	}
	return w.followHere(ctx, id, part, cursor)
}

// followHere follows a partition by this node's replica.
func (w *watch) followHere(ctx context.Context, id topology.PartitionID, part Partition, cursor []byte) error {
	feed, err := part.Watch(cursor)
	if err != nil {
		return err
	}
	defer func() { feed.Close() }()
	if feed.Resync() {
		if err := w.list(ctx, id, part); err != nil {
			return err
		}
	}
	cursor = feed.Cursor()
	if err := w.post(ctx, news{partition: id, cursor: cursor}); err != nil {
		return err
	}
	for {
		changes, err := feed.Next(ctx)
		if errors.Is(err, region.ErrFeedBehind) {
			// It was not the client if the replica has been replaced meanwhile.
			again, openErr := part.Watch(cursor)
			if openErr != nil {
				return openErr
			}
			if again.Resync() {
				again.Close()
				return err
			}
			feed.Close()
			feed = again
			continue
		}
		if err != nil {
			return err
		}
		cursor = feed.Cursor()
		if err := w.postChanges(ctx, id, part, changes, cursor); err != nil {
			return err
		}
	}
}

// postChanges posts what has changed, as it is now.
func (w *watch) postChanges(
	ctx context.Context, id topology.PartitionID, part Partition, changes []region.Change, cursor []byte,
) error {
	matched := changes[:0:0]
	for _, c := range changes {
		if fixed := w.server.namespaces[c.Namespace]; w.matches(c.Namespace, c.Key) && (fixed == 0 || fixed == c.Type) {
			matched = append(matched, c)
		}
	}
	n := news{partition: id}
	for len(matched) > 0 {
		n.messages = nil
		done, size := 0, 0
		_, err := part.Read(ctx, region.ReadOptions{Level: region.Eventual}, func(r *replica.Replica, now hlc.Time) error {
			for done < len(matched) && size < watchChunkBytes {
				event, err := w.event(r, now, &matched[done])
				if err != nil {
					return err
				}
				msg := &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Event{Event: event}}
				n.messages = append(n.messages, msg)
				size += proto.Size(msg)
				done++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if matched = matched[done:]; len(matched) > 0 {
			if err := w.post(ctx, n); err != nil {
				return err
			}
		}
	}
	n.cursor = cursor
	return w.post(ctx, n)
}

// event tells of a change.
func (w *watch) event(r *replica.Replica, now hlc.Time, c *region.Change) (*atollv1.WatchEvent, error) {
	e := &atollv1.WatchEvent{Key: c.Key, Type: atollv1.Type(c.Type), Cause: causeOf(c.Cause)}
	o, found, err := r.LookupType(c.Namespace, c.Key, c.Type, now)
	if err != nil || !found {
		return e, err
	}
	e.Found, e.Version = true, o.Version
	if w.withValue {
		e.Value = o.Value
		e.Typed, err = w.server.typedValue(r, &o)
	}
	return e, err
}

func causeOf(c region.Cause) atollv1.Cause {
	switch c {
	case region.CauseLocal:
		return atollv1.Cause_CAUSE_LOCAL
	case region.CauseRemote:
		return atollv1.Cause_CAUSE_REMOTE
	case region.CauseExpired:
		return atollv1.Cause_CAUSE_EXPIRED
	case region.CauseRestored:
		return atollv1.Cause_CAUSE_RESTORED
	case region.CauseRepaired:
		return atollv1.Cause_CAUSE_REPAIRED
	default:
		return atollv1.Cause_CAUSE_UNSPECIFIED
	}
}

// list posts all watched keys of a partition, as they are now.
func (w *watch) list(ctx context.Context, id topology.PartitionID, part Partition) error {
	mark := func(end bool) *atollv1.WatchResponse {
		return &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Resync{Resync: &atollv1.Resync{Partition: uint32(id), End: end}}}
	}
	if err := w.post(ctx, news{partition: id, messages: []*atollv1.WatchResponse{mark(false)}}); err != nil {
		return err
	}
	req := &peerv1.ScanPartitionRequest{
		Namespace: w.namespace, Start: w.prefix, End: prefixEnd(w.prefix),
		Limit: scanPageEntries, KeysOnly: !w.withValue, MaxBytes: watchChunkBytes,
	}
	if w.key != "" {
		req.Start, req.End = w.key, w.key+"\x00"
	}
	for more := true; more; {
		page := &peerv1.ScanPartitionResponse{}
		_, err := part.Read(ctx, region.ReadOptions{Level: region.Eventual}, func(r *replica.Replica, now hlc.Time) error {
			return w.server.fillPage(r, now, req, page)
		})
		if err != nil {
			return err
		}
		n := news{partition: id}
		for _, e := range page.GetEntries() {
			n.messages = append(n.messages, &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Event{Event: &atollv1.WatchEvent{
				Key: e.GetKey(), Type: e.GetType(), Found: true, Value: e.GetValue(), Typed: e.GetTyped(), Version: e.GetVersion(), State: true,
			}}})
			req.Start = e.GetKey() + "\x00"
		}
		if more = page.GetMore(); !more {
			n.messages = append(n.messages, mark(true))
		}
		if err := w.post(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// followThere follows a partition by another node's replica, and by the next if that one fails.
func (w *watch) followThere(ctx context.Context, id topology.PartitionID, cursor []byte) error {
	s := w.server
	replicas := s.replicas(id)
	waited := time.Duration(0)
	for attempt, tries := 0, 0; ; attempt, tries = attempt+1, tries+1 {
		target, ok := s.peers[replicas[attempt%len(replicas)]]
		if !ok {
			return internalFault(nil) // this node holds no replica, so it is none of them
		}
		last, err := w.followAt(ctx, target, id, cursor)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if last != nil {
			cursor, waited, tries = last, 0, 0
		}
		f := s.failureOfAsking(ctx, target, err, false)
		pause := min(firstRouteWait<<min(tries, 10), maxRouteWait)
		if !f.lacksLeader() && f.reason != reasonShuttingDown || waited >= leaderWait || !wait(ctx, pause) {
			return f
		}
		waited += pause
	}
}

// followAt relays another node's part of a watch. It returns the last cursor; nil if there was none.
func (w *watch) followAt(ctx context.Context, p *peer, id topology.PartitionID, cursor []byte) (last []byte, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(relaySilence, cancel)
	defer silence.Stop()
	stream, err := p.nodes.WatchPartition(hop(ctx), &peerv1.WatchPartitionRequest{Partition: uint32(id), Watch: &atollv1.WatchRequest{
		Namespace: w.namespace, Key: w.key, Prefix: w.prefix, IncludeValue: w.withValue,
		Cursor: cursor, HeartbeatInterval: durationpb.New(relayHeartbeat),
	}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	for {
		res, err := stream.Receive()
		if err != nil {
			return last, err
		}
		silence.Stop() // to wait for this node's client is no silence of the other node
		msg := res.GetWatch()
		n := news{partition: id}
		if len(msg.GetCursor()) > 0 {
			last, n.cursor = msg.GetCursor(), msg.GetCursor()
		}
		if msg.GetHeartbeat() == nil {
			msg.Cursor = nil
			n.messages = []*atollv1.WatchResponse{msg}
		}
		if err := w.post(ctx, n); err != nil {
			return last, err
		}
		silence.Reset(relaySilence)
	}
}
