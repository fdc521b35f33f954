package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// homeHeader marks a request that another region sent to a namespace's home. It is not sent on to a third one.
const homeHeader = "Atoll-Home"

// homes are the namespaces that have a home, and how to get there.
type homes struct {
	first map[string]topology.RegionID        // by configuration, until one moves
	nodes map[topology.RegionID][]*peer       // of the other regions
	names map[topology.RegionID]string        // of all regions
	last  map[topology.RegionID]*atomic.Int32 // the node that answered last
}

// newHomes returns the homes that a cluster's configuration names, and what closes the connections to them.
func newHomes(c *topology.Cluster, self topology.RegionID, transport http.RoundTripper) (*homes, func()) {
	h := &homes{
		first: map[string]topology.RegionID{}, nodes: map[topology.RegionID][]*peer{},
		names: map[topology.RegionID]string{}, last: map[topology.RegionID]*atomic.Int32{},
	}
	var closers []func()
	for _, n := range c.Namespaces {
		if n.Home != 0 {
			h.first[n.Name] = n.Home
		}
	}
	for i := range c.Regions {
		r := &c.Regions[i]
		h.names[r.ID], h.last[r.ID] = r.Name, &atomic.Int32{}
		if len(h.first) == 0 || r.ID == self {
			continue
		}
		peers, closeIdle := newPeers(r, "", transport)
		closers = append(closers, closeIdle)
		for _, p := range peers {
			p.trunk = nil // its stream could not tell requests to a home from others
			h.nodes[r.ID] = append(h.nodes[r.ID], p)
		}
		slices.SortFunc(h.nodes[r.ID], func(a, b *peer) int { return strings.Compare(string(a.id), string(b.id)) })
	}
	return h, func() {
		for _, closeIdle := range closers {
			closeIdle()
		}
	}
}

// has reports whether a namespace has a home.
func (h *homes) has(namespace string) bool { return h.first[namespace] != 0 }

// homeCall is a request that belongs to the home of a namespace: how to serve it here, and how to ask there.
type homeCall[T any] struct {
	namespace string
	partition topology.PartitionID
	here      func(context.Context) (T, error)
	there     func(context.Context, *peer) (T, error)
	write     bool
	opID      string
}

// atHome serves a request at the home of its namespace. What nobody did is tried again for a while: the home may be
// moving, or looking for a leader.
func atHome[T any](ctx context.Context, s *Server, c homeCall[T]) (T, error) {
	var zero T
	if wasForwarded(ctx) || fromAbroad(ctx) {
		return c.here(ctx)
	}
	home := s.homeOf(c.namespace, c.partition)
	maybeDone := false
	var waited time.Duration
	for attempt := 0; ; attempt++ {
		reply, f := tryHome(ctx, s, &c, home, attempt)
		if f == nil {
			return reply, nil
		}
		maybeDone = maybeDone || c.write && rowOf(f.reason).outcome == unknown
		pause := min(firstRouteWait<<min(attempt, 10), maxRouteWait)
		again := f.reason == reasonNotHome || home != s.region.ID && canTryAgain(f, c.opID)
		if !again || waited >= leaderWait || !wait(ctx, pause) {
			return zero, s.conclude(ctx, f, c.opID, maybeDone)
		}
		waited += max(pause, f.spent)
		home = s.nextHome(f, home, c.partition)
	}
}

// nextHome returns the region to try after a failure.
func (s *Server) nextHome(f *failure, home topology.RegionID, p topology.PartitionID) topology.RegionID {
	said, ok := s.regionNamed(f.metadata["region_to_use"])
	switch {
	case f.reason == reasonNotHome && ok:
		return said
	case f.reason == reasonNoLeader && !s.hosts(p):
		return s.region.ID // this node knows the configuration; those that have a replica know where the home went
	}
	return home
}

// tryHome tries a request once in the region that is believed to be the home.
func tryHome[T any](ctx context.Context, s *Server, c *homeCall[T], home topology.RegionID, attempt int) (T, *failure) {
	var zero T
	if home == s.region.ID {
		reply, err := c.here(ctx)
		if err != nil {
			return zero, failureOf(err)
		}
		return reply, nil
	}
	nodes, last := s.homes.nodes[home], s.homes.last[home]
	if len(nodes) == 0 {
		return zero, fail(reasonNoLeader, "the namespace's home is a region that is not in this node's configuration")
	}
	i := (int(last.Load()) + attempt) % len(nodes)
	began := s.clock()
	reply, sent, err := askAbroad(ctx, nodes[i], c.there)
	if err == nil {
		last.Store(int32(i))
		return reply, nil
	}
	f := s.failureOfAsking(ctx, nodes[i], err, c.write && sent).clone()
	f.peer, f.spent = nodes[i].id, s.clock().Sub(began)
	if f.reason == reasonNoLeader {
		f = s.lostHome(f.with("region_to_use", s.homes.names[home]), s.homes.names[home])
	}
	return zero, f
}

// lostHome says in a failure what to do if the home does not answer because it was given up.
func (s *Server) lostHome(f *failure, home string) *failure {
	switch state := s.memberState(home); state {
	case "FENCED", "CLOSED", "REMOVED":
		f.message += "; the namespace's home, region " + home + ", is " + state + ": name the region that takes it over (atoll region heir " + home +
			" --to REGION), or have it rejoin"
	}
	return f
}

// askAbroad is ask for another region, whose nodes route the request among themselves.
func askAbroad[T any](ctx context.Context, p *peer, do func(context.Context, *peer) (T, error)) (reply T, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	ctx, info := connect.NewClientContext(ctx)
	info.RequestHeader().Set(homeHeader, "1")
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	reply, err = do(ctx, p)
	return reply, connected.Load(), err
}

// fromAbroad reports whether another region sent the request to this one.
func fromAbroad(ctx context.Context) bool {
	info, ok := connect.CallInfoForServerContext(ctx)
	return ok && info.RequestHeader().Has(homeHeader)
}

// homeOf returns the region that is a namespace's home as far as this node knows.
func (s *Server) homeOf(namespace string, p topology.PartitionID) topology.RegionID {
	var known topology.RegionID
	first := s.homes.first[namespace]
	if hosted, err := s.hosted(p); err == nil {
		view := hosted.View()
		known, _, _ = view.Home(namespace)
		first = view.FirstHome(first)
	}
	return cmp.Or(known, first)
}

// hosts reports whether this node has a replica of a partition.
func (s *Server) hosts(p topology.PartitionID) bool {
	_, err := s.hosted(p)
	return err == nil
}

func (s *Server) regionNamed(name string) (topology.RegionID, bool) {
	for id, n := range s.homes.names {
		if n == name {
			return id, true
		}
	}
	return 0, false
}

// isFirstHome reports whether this region is a namespace's home as long as there was no other.
func (s *Server) isFirstHome(namespace string) bool { return s.homes.first[namespace] == s.region.ID }

// writeAt has a partition run operations, at the home if their namespace has one.
func (s *Server) writeAt(ctx context.Context, p Partition, opID string, ops []replica.Op) (region.WriteResult, error) {
	if s.homes.has(ops[0].Namespace) {
		return p.WriteHome(ctx, opID, ops, s.isFirstHome(ops[0].Namespace))
	}
	return p.Write(ctx, opID, ops)
}

// checkHomeBatch refuses a batch that mixes a namespace that has a home with others: it could not be done in one place.
func (s *Server) checkHomeBatch(ops []replica.Op) *failure {
	for i := range ops {
		if ops[i].Namespace != ops[0].Namespace && (s.homes.has(ops[i].Namespace) || s.homes.has(ops[0].Namespace)) {
			return inItem(i, invalid("namespace", "a batch that writes to a namespace with a home cannot write to others"))
		}
	}
	return nil
}

// checkLocal refuses to have one node acknowledge what its region may not decide.
func (s *Server) checkLocal(namespace string, local bool) *failure {
	if local && s.homes.has(namespace) {
		return invalid("options.durability", "the namespace has a home, where writes are judged; one node cannot acknowledge them")
	}
	return nil
}

// HomeLease is a node's lease, by which its region may act as a home.
type HomeLease struct {
	Held bool
	// Left is how long it is good for without another answer of a majority, if it is held; else Without is for how long it has not been.
	Left, Without time.Duration
}

// homeLeaseState shows it; nil if the node asks for none.
func (s *Server) homeLeaseState() *atollv1.HomeLease {
	if s.homeLease == nil {
		return nil
	}
	l, asked := s.homeLease()
	switch {
	case !asked:
		return nil
	case l.Held:
		return &atollv1.HomeLease{Held: true, Left: durationpb.New(l.Left)}
	}
	return &atollv1.HomeLease{Without: durationpb.New(l.Without)}
}

// notHome names the home by its number; the server makes a name of it.
func notHome(err error) *failure {
	if e, ok := errors.AsType[*region.NotHomeError](err); ok && e.Former != 0 {
		return fail(reasonNotHome, "the namespace's home was given up, and its heir has not taken over yet: have it (atoll namespace move-home, to region_to_use)",
			"home", strconv.Itoa(int(e.Home)), "epoch", strconv.FormatUint(e.Epoch, 10), "heir_of", strconv.Itoa(int(e.Former)))
	} else if ok && e.Home != 0 {
		return fail(reasonNotHome, "the namespace's home is another region, or is moving; try again there",
			"home", strconv.Itoa(int(e.Home)), "epoch", strconv.FormatUint(e.Epoch, 10))
	}
	return fail(reasonNotHome, "the namespace's home is not known here yet; try again")
}

// named says in a failure which region to use.
func (s *Server) named(f *failure) *failure {
	id, err := strconv.Atoi(f.metadata["home"])
	if f.reason != reasonNotHome || err != nil || f.metadata["region_to_use"] != "" {
		return f
	}
	return f.clone().with("region_to_use", s.homes.names[topology.RegionID(id)])
}
