package api

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	"github.com/atolldb/atoll/proto/atoll/peer/v1/peerv1connect"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

const (
	defaultHeartbeat = 10 * time.Second
	minHeartbeat     = 100 * time.Millisecond
	maxHeartbeat     = time.Hour

	defaultWatchers = 1000
	// maxFollowed bounds how many partitions all watches of a node together follow.
	maxFollowed = 1 << 16
	// watchQueue is how many batches of changes a watch holds for its client. What comes when it is full
	// waits in the partitions' feeds, and one that falls behind there is cut off.
	watchQueue = 4
	// cursorBytes is how much of a cursor a message may carry on average: large ones are left out of
	// some.
	cursorBytes = 4 << 10
)

// Watch streams changes of keys from a cursor on.
func (k *kvService) Watch(ctx context.Context, r *atollv1.WatchRequest, stream atollv1connect.KVWatchServerStream) error {
	s := k.server()
	w, f := s.newWatch(r)
	if f != nil {
		return f
	}
	if f := w.from(r.GetCursor()); f != nil {
		return f
	}
	if !s.watching.enter(s.maxWatchers, len(w.partitions)) {
		return fail(reasonTooManyWatchers, "the node has as many watchers as it may; watch at another node, or watch fewer and wider prefixes",
			"limit", strconv.Itoa(s.maxWatchers))
	}
	defer s.watching.leave(1, len(w.partitions))
	w.encode = func() []byte { return encodeWatchCursor(w.cursors) }
	return w.run(ctx, stream.Send)
}

// WatchPartition streams changes of one partition that this node holds a replica of.
func (p *peerService) WatchPartition(
	ctx context.Context, r *peerv1.WatchPartitionRequest, stream peerv1connect.PeerWatchPartitionServerStream,
) error {
	s := p.server()
	if f := s.checkPartition(r.GetPartition()); f != nil {
		return f
	}
	w, f := s.newWatch(r.GetWatch())
	if f != nil {
		return f
	}
	id := topology.PartitionID(r.GetPartition())
	if _, err := s.hosted(id); err != nil {
		return failureOf(err).with("node", string(s.replicas(id)[0]))
	}
	w.partitions = []topology.PartitionID{id}
	if cursor := r.GetWatch().GetCursor(); len(cursor) > 0 {
		w.cursors[id] = cursor
	}
	if !s.watching.enter(0, 1) {
		return fail(reasonTooManyWatchers, "the node follows as many partitions for watchers as it may; ask another")
	}
	defer s.watching.leave(0, 1)
	w.encode = func() []byte { return w.cursors[id] }
	return w.run(ctx, func(res *atollv1.WatchResponse) error {
		return stream.Send(&peerv1.WatchPartitionResponse{Watch: res})
	})
}

// watching counts a node's watches and the partitions that they follow.
type watching struct {
	mu                  sync.Mutex
	watches, partitions int
}

// enter counts another watch. limit 0 is for those of other nodes, which are counted there.
func (w *watching) enter(limit, partitions int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if limit > 0 && w.watches >= limit || w.partitions+partitions > maxFollowed {
		return false
	}
	if limit > 0 {
		w.watches++
	}
	w.partitions += partitions
	return true
}

func (w *watching) leave(watches, partitions int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watches -= watches
	w.partitions -= partitions
}

// watch is one watch under way.
type watch struct {
	server     *Server
	namespace  string
	key        string // the only one; empty means those with the prefix
	prefix     string
	withValue  bool
	heartbeat  time.Duration
	partitions []topology.PartitionID
	news       chan news
	encode     func() []byte

	// Of the sending goroutine:
	cursors  map[topology.PartitionID][]byte
	encoded  []byte // the cursors; nil if they have changed
	messages int    // sent
}

// news is what a partition has to tell.
type news struct {
	partition topology.PartitionID
	messages  []*atollv1.WatchResponse
	// cursor is behind the messages; nil if it is not known there.
	cursor []byte
}

func (s *Server) newWatch(r *atollv1.WatchRequest) (*watch, *failure) {
	w := &watch{
		server: s, key: r.GetKey(), prefix: r.GetPrefix(), withValue: r.GetIncludeValue(), heartbeat: defaultHeartbeat,
		news: make(chan news, watchQueue), cursors: map[topology.PartitionID][]byte{},
	}
	var f *failure
	if w.namespace, f = checkNamespace(r.GetNamespace()); f != nil {
		return nil, f
	}
	switch {
	case w.key != "" && w.prefix != "":
		return nil, invalid("prefix", "cannot be combined with key")
	case w.key != "":
		if f := checkKey(w.key); f != nil {
			return nil, f
		}
		w.partitions = []topology.PartitionID{s.cluster.PartitionOf(w.namespace, w.key)}
	case w.prefix != "":
		if f := checkKey(w.prefix); f != nil {
			return nil, invalid("prefix", "must be UTF-8 of at most %d bytes", maxKeyBytes)
		}
	}
	if w.key == "" {
		for i := range s.cluster.Partitions {
			w.partitions = append(w.partitions, topology.PartitionID(i))
		}
	}
	if h := r.GetHeartbeatInterval(); h != nil && h.AsDuration() != 0 {
		if w.heartbeat = h.AsDuration(); w.heartbeat < minHeartbeat || w.heartbeat > maxHeartbeat {
			return nil, invalid("heartbeat_interval", "must be from %v to %v", minHeartbeat, maxHeartbeat)
		}
	}
	return w, nil
}

// from has the watch begin where an earlier one ended.
func (w *watch) from(cursor []byte) *failure {
	if len(cursor) == 0 {
		return nil
	}
	places, err := decodeWatchCursor(cursor, w.server.cluster.Partitions)
	if err != nil {
		return failureOf(err)
	}
	for _, id := range w.partitions {
		place, ok := places[id]
		if !ok {
			return invalid("cursor", "is of a watch of other keys; leave it out to begin from now")
		}
		w.cursors[id] = place
	}
	return nil
}

// matches reports whether the watch is of a key.
func (w *watch) matches(namespace, key string) bool {
	if namespace != w.namespace {
		return false
	}
	return w.key == "" && strings.HasPrefix(key, w.prefix) || w.key != "" && key == w.key
}

// run follows the partitions and sends what they tell, until ctx ends or a partition cannot be
// followed.
func (w *watch) run(ctx context.Context, send func(*atollv1.WatchResponse) error) error {
	following, cancel := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	failed := make(chan error, len(w.partitions))
	for _, id := range w.partitions {
		cursor := w.cursors[id]
		followers.Go(func() {
			failed <- w.server.protect(func() error { return w.follow(following, id, cursor) })
		})
	}
	err := w.relay(ctx, failed, send)
	var f *failure
	if ctx.Err() == nil && errors.As(err, &f) {
		if cursor := w.cursor(); cursor != nil {
			return f.clone().with("cursor", base64.StdEncoding.EncodeToString(cursor))
		}
	}
	return err
}

func (w *watch) relay(ctx context.Context, failed <-chan error, send func(*atollv1.WatchResponse) error) error {
	tick := time.NewTicker(w.heartbeat)
	defer tick.Stop()
	greeted, following := false, map[topology.PartitionID]bool{}
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.server.draining:
			return fail(reasonShuttingDown, "this node is shutting down; go on at another from the last cursor")
		case err := <-failed:
			return failureOf(err)
		case n := <-w.news:
			if err := w.tell(n, send); err != nil {
				return err
			}
			following[n.partition] = true
			if greeted || len(following) < len(w.partitions) || len(w.cursors) < len(w.partitions) {
				continue
			}
			greeted = true // the first heartbeat says that every partition is followed
		case <-tick.C:
			if w.messages > sent {
				sent = w.messages
				continue
			}
		}
		heartbeat := &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Heartbeat{Heartbeat: &atollv1.Heartbeat{}}}
		heartbeat.Cursor = w.cursor()
		if err := send(heartbeat); err != nil {
			return err
		}
		w.messages++
		sent = w.messages
	}
}

// tell sends a partition's news.
func (w *watch) tell(n news, send func(*atollv1.WatchResponse) error) error {
	for i, msg := range n.messages {
		if i == len(n.messages)-1 {
			w.moved(n)
		}
		if cursor := w.cursor(); w.messages%(1+len(cursor)/cursorBytes) == 0 {
			msg.Cursor = cursor
		}
		if err := send(msg); err != nil {
			return err
		}
		w.messages++
	}
	if len(n.messages) == 0 {
		w.moved(n)
	}
	return nil
}

func (w *watch) moved(n news) {
	if n.cursor != nil {
		w.cursors[n.partition], w.encoded = n.cursor, nil
	}
}

// cursor returns where the watch is; nil if it is not known for every partition yet.
func (w *watch) cursor() []byte {
	if w.encoded == nil && len(w.cursors) == len(w.partitions) {
		w.encoded = w.encode()
	}
	return w.encoded
}

// post hands news to the sending goroutine.
func (w *watch) post(ctx context.Context, n news) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w.news <- n:
		return nil
	}
}
