package client

import (
	"context"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// lookEvery is how often the learner looks whether the client is still used.
	lookEvery = 30 * time.Second
	// refreshEvery is how often the topology is asked for at most, however many calls go astray.
	refreshEvery = 250 * time.Millisecond
	// unlearnedFor is how long a region is taken not to tell its topology.
	unlearnedFor = time.Minute

	maxPartitions = 1 << 16
)

// inUse notes a call, and sees to it that the topology is learned while there are any.
func (s *shared) inUse(ctx context.Context) {
	if !s.used.Load() {
		s.used.Store(true)
	}
	if !s.learned.Load() && s.learned.CompareAndSwap(false, true) {
		s.start(ctx, s.learn, nil)
	}
}

// wantTopology asks the learner to look again.
func (s *shared) wantTopology() {
	select {
	case s.refresh <- struct{}{}:
	default:
	}
}

// learn follows the topology until ctx ends or the client is not used for a while.
func (s *shared) learn(ctx context.Context) {
	defer s.learned.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer cancel()
		s.answerWants(ctx)
	}()
	for n := 0; ctx.Err() == nil; n++ {
		told := false
		err := followTopology(ctx, s.teacher(n), func(t *atollv1.Topology) bool {
			told = true
			s.install(t)
			return true
		})
		wait := backoff(n+1, 0)
		switch {
		case told:
			wait = backoff(1, 0)
		case connect.CodeOf(err) == connect.CodeUnimplemented, connect.CodeOf(err) == connect.CodeNotFound:
			wait = unlearnedFor
		}
		pause(ctx, wait)
	}
	<-watched
}

// teacher returns the nth endpoint to learn from, in turn, and rather one that does not rest.
func (s *shared) teacher(n int) *endpoint {
	all := s.seeds
	if d := s.directory.Load(); d != nil {
		all = slices.Clone(all)
		for _, name := range slices.Sorted(maps.Keys(d.nodes)) {
			all = append(all, d.nodes[name].endpoint)
		}
	}
	for i := range all {
		if e := all[(n+i)%len(all)]; !e.resting.Load() {
			return e
		}
	}
	return all[n%len(all)]
}

// answerWants fetches the topology when a call went astray, until nobody uses the client or ctx ends.
func (s *shared) answerWants(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if !s.used.Swap(false) {
				return
			}
		case <-s.refresh:
			s.fetchTopology(ctx, s.teacher(n))
			pause(ctx, refreshEvery)
		}
	}
}

// followTopology hands on what one node tells until its stream ends, which it returns the reason of, or
// nil if the caller wants no more.
func followTopology(ctx context.Context, e *endpoint, each func(*atollv1.Topology) bool) error {
	stream, err := e.cluster.WatchTopology(ctx, &atollv1.WatchTopologyRequest{})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for {
		msg, err := stream.Receive()
		if err != nil {
			return err
		}
		if !each(msg.GetTopology()) {
			return nil
		}
	}
}

// fetchTopology asks a node once, and notes whether it answers.
func (s *shared) fetchTopology(ctx context.Context, e *endpoint) {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	res, err := e.cluster.Topology(ctx, &atollv1.TopologyRequest{})
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		if err != nil {
			e.failed()
			return
		}
	}
	e.works()
	if err == nil {
		s.install(res.GetTopology())
	}
}

// install makes a topology the directory, unless it is older or makes no sense.
func (s *shared) install(t *atollv1.Topology) {
	s.installing.Lock()
	defer s.installing.Unlock()
	old := s.directory.Load()
	if old != nil && t.GetEpoch() < old.epoch {
		return
	}
	d := s.directoryOf(t)
	if d == nil {
		return
	}
	for i, p := range d.places {
		if old == nil || len(old.places) != len(d.places) {
			break
		}
		// What a reply said of the leader counts until a node knows of a later one.
		before := old.places[i]
		if l := before.leader.Load(); l != nil && before.term >= p.term {
			p.term = before.term
			p.leader.Store(d.nodes[l.name])
		}
	}
	s.directory.Store(d)
	if old != nil {
		s.retireMissing(old, d)
	}
}

// directoryOf returns nil for a topology that makes no sense.
func (s *shared) directoryOf(t *atollv1.Topology) *directory {
	count := len(t.GetPartitions())
	if count == 0 || count > maxPartitions || bits.OnesCount(uint(count)) != 1 {
		return nil
	}
	d := &directory{epoch: t.GetEpoch(), nodes: map[string]*node{}, places: make([]*place, count)}
	scheme, _, _ := strings.Cut(s.seeds[0].address, "://")
	for _, n := range t.GetNodes() {
		if base, err := baseURL(scheme + "://" + n.GetAddress()); err == nil && n.GetName() != "" {
			d.nodes[n.GetName()] = &node{name: n.GetName(), endpoint: s.endpoint(base)}
		}
	}
	for i, told := range t.GetPartitions() {
		if told.GetPartition() != uint32(i) {
			return nil
		}
		p := &place{directory: d, term: told.GetTerm()}
		for _, name := range told.GetReplicas() {
			if n := d.nodes[name]; n != nil {
				p.replicas = append(p.replicas, n)
			}
		}
		// The same order for all partitions, so that a node's turn is the same in all.
		slices.SortFunc(p.replicas, func(a, b *node) int { return strings.Compare(a.name, b.name) })
		if l := d.nodes[told.GetLeader()]; l != nil {
			p.leader.Store(l)
		}
		d.places[i] = p
	}
	return d
}

// retireMissing lets go of the addresses that only the old directory names.
func (s *shared) retireMissing(old, now *directory) {
	keep := map[*endpoint]bool{}
	for _, e := range s.seeds {
		keep[e] = true
	}
	for _, n := range now.nodes {
		keep[n.endpoint] = true
	}
	for _, n := range old.nodes {
		if keep[n.endpoint] {
			continue
		}
		s.mu.Lock()
		delete(s.mu.endpoints, n.address)
		s.mu.Unlock()
		n.stopTimers()
		if p := n.pipe.Load(); p != nil && p.retire() {
			p.end(errPipeEnded)
		}
	}
}
