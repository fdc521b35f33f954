package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/session"
	"github.com/atolldb/atoll/topology"
)

// Others is what a node knows of other regions, and asks of them. All of it returns at once.
type Others interface {
	// AskEvent asks a region's leader of a partition for an event at or after an instant. The request may
	// be lost.
	AskEvent(p topology.PartitionID, r topology.RegionID, past hlc.Time)
	// AskWatermarks asks the other regions to tell as soon as they have applied this region's events of a
	// partition up to seq.
	AskWatermarks(p topology.PartitionID, seq uint64)
	// Reached returns how many other regions are known to have applied this region's events of a partition
	// up to seq, and a channel that is closed when that may have changed. Only who leads the partition
	// knows; known is false elsewhere.
	Reached(p topology.PartitionID, seq uint64) (regions int, changed <-chan struct{}, known bool)
}

// Membership tells which actors have come to an end.
type Membership interface {
	// Closed returns the instant of the last event that an actor has issued in a partition and that is not
	// lost, if no further one will ever be applied.
	Closed(p topology.PartitionID, actor crdt.Actor) (last hlc.Time, closed bool)
}

const (
	// askAgain is how often a read that waits asks again for what it waits for: requests can be lost, and
	// leaders change.
	askAgain = 200 * time.Millisecond
	// patienceShare is what part of the time that is left goes to the answer: who waits until the deadline
	// cannot say what was missing. Deadlines of pipelines end up to an eighth later than the client's.
	patienceShare = 5
)

// state is a replica of a partition as tokens see it.
type state struct {
	server    *Server
	partition topology.PartitionID
	times     func(crdt.Actor) hlc.Time
}

// Applied implements session.State.
func (v state) Applied(a crdt.Actor) hlc.Time { return v.times(a) }

// Closed implements session.State.
func (v state) Closed(a crdt.Actor) (hlc.Time, bool) {
	if v.server.membership == nil {
		return 0, false
	}
	return v.server.membership.Closed(v.partition, a)
}

func timesOf(view *region.MachineView) func(crdt.Actor) hlc.Time {
	return func(a crdt.Actor) hlc.Time { return view.HLCs[a] }
}

// saw adds to a token what a replica shows of all actors.
func (v state) saw(token *session.Token, actors []crdt.Dot) error {
	for _, a := range actors {
		at := v.times(a.Actor)
		err := error(nil)
		if last, closed := v.Closed(a.Actor); closed && at >= last {
			err = token.SawAll(a.Actor)
		} else {
			err = token.Saw(a.Actor, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openToken checks a session token.
func (s *Server) openToken(encoded string) (*session.Token, error) {
	token, err := s.sessions.Open([]byte(encoded), s.clock())
	if err != nil {
		return nil, failureOf(err) // so that it is a refusal of writes as well
	}
	return token, nil
}

// sessionRead is a read that carries a token.
type sessionRead struct {
	token *session.Token
	// options is how the read can be served now.
	options region.ReadOptions
	// stale says that it is served though the replica is behind: by late, if that is known.
	stale bool
	late  *durationpb.Duration
}

// beginSession waits until the replica has what a read's session has seen, or does what the read says of
// replicas that have not.
func (s *Server) beginSession(ctx context.Context, p Partition, id topology.PartitionID, how reading) (*sessionRead, error) {
	token, err := s.openToken(how.session)
	if err != nil {
		return nil, err
	}
	r := &sessionRead{token: token, options: how.ReadOptions}
	if how.Level != region.Confirmed && how.Level != region.Linearizable {
		return r, nil
	}
	missing, err := s.awaitToken(ctx, p, id, how, token)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		r.stale, r.options = true, region.ReadOptions{Level: region.Eventual}
		if have := slices.MinFunc(missing, byHave).Have; have != 0 {
			r.late = durationpb.New(max(0, s.clock().Sub(have.Wall())))
		}
	} else if self := s.region.Actor(); how.Level == region.Confirmed && p.View().HLCs[self] >= token.Seen(self) {
		r.options = region.ReadOptions{Level: region.Eventual} // what was acknowledged here since is not asked for
	}
	return r, nil
}

// reading has the token note what fn sees.
func (r *sessionRead) reading(
	s *Server, id topology.PartitionID, fn func(*replica.Replica, hlc.Time) error,
) func(*replica.Replica, hlc.Time) error {
	return func(rep *replica.Replica, now hlc.Time) error {
		vector := rep.Vector()
		if err := (state{s, id, rep.HLCOf}).saw(r.token, vector.Entries()); err != nil {
			return err
		}
		return fn(rep, now)
	}
}

// missing returns what other regions' events this replica lacks of what a token says. What it lacks of this
// region's own is for a proof to tell: the token's instant may be of another partition.
func (s *Server) missing(p Partition, id topology.PartitionID, token *session.Token) []session.Lack {
	self := s.region.Actor()
	return slices.DeleteFunc(token.Missing(state{s, id, timesOf(p.View())}), func(l session.Lack) bool { return l.Actor == self && !l.Lost })
}

// awaitToken returns what the replica lacks: nothing, unless that is to be served.
func (s *Server) awaitToken(ctx context.Context, p Partition, id topology.PartitionID, how reading, token *session.Token) ([]session.Lack, error) {
	applied := p.Applied()
	missing := s.missing(p, id, token)
	if len(missing) == 0 {
		return nil, nil
	}
	patience, cancel := s.patienceOf(ctx)
	defer cancel()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	s.askFor(id, missing)
	for len(missing) > 0 {
		if f := s.lost(missing); f != nil {
			return nil, f
		}
		switch how.onStale {
		case atollv1.OnStale_ON_STALE_SERVE:
			return missing, nil
		case atollv1.OnStale_ON_STALE_FAIL, atollv1.OnStale_ON_STALE_REDIRECT:
			f := s.behind(id, missing)
			f.retry = 0 // the caller has said what it does instead of waiting
			return nil, f
		}
		select {
		case <-patience.Done():
			return nil, s.behind(id, missing)
		case <-again.C:
			s.askFor(id, missing)
		case <-applied:
		}
		applied = p.Applied()
		missing = s.missing(p, id, token)
	}
	return nil, nil
}

// patienceOf returns a context that ends while there is time left to say why nothing came.
func (s *Server) patienceOf(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return context.WithTimeout(ctx, defaultTimeout)
	}
	left := deadline.Sub(s.clock())
	return context.WithTimeout(ctx, left-left/patienceShare)
}

// askFor asks the regions whose events are missing for one that says that there are no more.
func (s *Server) askFor(id topology.PartitionID, missing []session.Lack) {
	if s.others == nil {
		return
	}
	for _, l := range missing {
		of, _ := topology.ActorRegion(l.Actor)
		if r, ok := s.cluster.Region(of); ok && r.Actor() == l.Actor && of != s.region.ID && !l.Lost {
			s.others.AskEvent(id, of, l.Want)
		}
	}
}

// lost returns the failure of a session some of whose events are lost; nil if none is.
func (s *Server) lost(missing []session.Lack) *failure {
	for _, l := range missing {
		if l.Lost {
			name, epoch := s.actorName(l.Actor)
			return fail(reasonSessionLost, "region "+name+" was closed before all that the session has seen of it had reached the others; begin another session",
				"region", name, "epoch", strconv.FormatUint(uint64(epoch), 10))
		}
	}
	return nil
}

// behind returns the failure of a read at a replica that lacks some of what its session has seen.
func (s *Server) behind(id topology.PartitionID, missing []session.Lack) *failure {
	var names []string
	unknown := false
	for _, l := range missing {
		name, _ := s.actorName(l.Actor)
		names = append(names, name)
		unknown = unknown || l.Have == 0 || s.silent(id, l.Actor)
	}
	slices.Sort(names)
	farthest := slices.MinFunc(missing, byHave)
	lag := strconv.FormatInt(max(0, s.clock().Sub(farthest.Have.Wall()).Milliseconds()), 10)
	if unknown {
		lag = "unknown"
	}
	where, _ := s.actorName(farthest.Actor)
	return fail(reasonStale, "this region has not applied all that the session has seen in "+where+"; try again, or there",
		"lag_ms", lag, "regions", strings.Join(slices.Compact(names), ","), "region_to_use", where)
}

// silent reports whether an actor's region was not heard of for so long that nobody knows how far it is.
func (s *Server) silent(id topology.PartitionID, actor crdt.Actor) bool {
	if s.replication == nil {
		return false
	}
	of, _ := topology.ActorRegion(actor)
	for _, f := range s.replication.Flows(id) {
		if f.Source == of && f.Destination == s.region.ID {
			return f.Unknown
		}
	}
	return false
}

func byHave(a, b session.Lack) int { return cmp.Compare(a.Have, b.Have) }

// beginWrite checks a write's token, which is nil if the write neither has nor wants one, and has this node
// stamp later what it proposes.
func (s *Server) beginWrite(p Partition, o *atollv1.WriteOptions) (*session.Token, error) {
	if len(o.GetSession()) == 0 && !o.GetWantSession() {
		return nil, nil
	}
	token, err := s.openToken(string(o.GetSession()))
	if err != nil {
		return nil, err
	}
	p.Observe(token.Max())
	return token, nil
}

// writtenInfo is what the answer to a write says of who answers. The token, if there is one, gets what the
// session knows from now on: its own write, and, unless the write tells nothing of what was there before, all
// that it was judged by.
func (s *Server) writtenInfo(
	p Partition, id topology.PartitionID, token *session.Token, ops []replica.Op, result *region.WriteResult,
) (*atollv1.ReplyInfo, error) {
	info := s.infoOfWrite(id, result)
	if token == nil {
		return info, nil
	}
	view := p.View() // it has the write: who is answered is so after the write is visible
	known := view.Vector.Entries()
	if !slices.ContainsFunc(ops, tells) && !result.Elsewhere {
		known = slices.DeleteFunc(slices.Clone(known), func(d crdt.Dot) bool { return d.Actor != s.region.Actor() })
	}
	if err := (state{s, id, timesOf(view)}).saw(token, known); err != nil {
		return nil, err
	}
	info = proto.CloneOf(info)
	info.Session = token.Bytes()
	return info, nil
}

// tells reports whether the answer to an operation depends on what was there before.
func tells(op replica.Op) bool {
	return op.Kind != replica.OpPut || op.Condition.Kind != replica.CondNone
}
