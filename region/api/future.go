package api

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const (
	defaultFutureValues = 100
	maxFutureValues     = 1000
	// maxFutureAhead bounds what is not the future yet.
	maxFutureAhead = 24 * 365 * time.Hour

	futureCursorVersion = 1
	futureCursorHead    = 1 + 4
	maxFutureCursor     = 64 << 10
)

// FutureValues asks partitions one after the other, until one has more than a page holds.
func (r *regionsService) FutureValues(ctx context.Context, req *atollv1.FutureValuesRequest) (*atollv1.FutureValuesResponse, error) {
	s := r.server()
	page, f := s.newFuturePage(req)
	if f != nil {
		return nil, f
	}
	return page.res, page.collect(ctx)
}

// futurePage is one page under way.
type futurePage struct {
	server *Server
	res    *atollv1.FutureValuesResponse
	// left are the partitions that are still to be asked, of the first of them what comes after cursor.
	left   []uint32
	cursor []byte
	// ask is what every partition is asked, but for its number, cursor and limit.
	ask   *atollv1.FutureValuesRequest
	limit int
}

func (s *Server) newFuturePage(req *atollv1.FutureValuesRequest) (*futurePage, *failure) {
	wanted, f := s.wantedPartitions(req.GetPartitions())
	if f != nil {
		return nil, f
	}
	ahead := s.maxAhead
	if req.GetAhead() != nil {
		ahead = req.GetAhead().AsDuration()
	}
	if req.GetAhead().CheckValid() != nil && req.GetAhead() != nil || ahead < 0 || ahead > maxFutureAhead {
		return nil, invalid("ahead", "must be from 0 to %v", maxFutureAhead)
	}
	const lastMillis = 1 << 47 // some 4000 years
	if req.GetPresentMs() > lastMillis {
		return nil, invalid("present_ms", "is not a time of this age")
	}
	p := &futurePage{server: s, left: wanted, limit: int(min(cmp.Or(req.GetLimit(), defaultFutureValues), maxFutureValues))}
	if cursor := req.GetCursor(); len(cursor) > 0 {
		at := -1
		if len(cursor) >= futureCursorHead && len(cursor) <= maxFutureCursor && cursor[0] == futureCursorVersion {
			at = slices.Index(wanted, binary.BigEndian.Uint32(cursor[1:]))
		}
		if at < 0 {
			return nil, invalid("cursor", "is not one of this service, or of other partitions; leave it out to begin anew")
		}
		p.left, p.cursor = wanted[at:], cursor[futureCursorHead:]
	}
	clocks := s.knownClocks()
	own := uint64(max(s.clock().UnixMilli(), 0))
	present := cmp.Or(req.GetPresentMs(), uint64(max(int64(own)+middleClock(clocks).Milliseconds(), 0)))
	p.ask = &atollv1.FutureValuesRequest{Ahead: durationpb.New(ahead), PresentMs: present, WithValues: req.GetWithValues()}
	p.res = &atollv1.FutureValuesResponse{
		Region: s.region.Name, PresentMs: present, Ahead: p.ask.GetAhead(),
		ClockAhead: durationpb.New(time.Duration(int64(own)-int64(present)) * time.Millisecond), Clocks: uint32(len(clocks)),
	}
	return p, nil
}

// knownClocks returns of each other region of which a clock is known how far that is ahead of this node's: the middle one
// of its nodes' clocks.
func (s *Server) knownClocks() map[topology.RegionID]time.Duration {
	if s.clocks == nil {
		return nil
	}
	all := map[topology.RegionID][]time.Duration{}
	for _, o := range s.clocks().Offsets {
		if o.Region != s.region.ID {
			all[o.Region] = append(all[o.Region], o.Ahead)
		}
	}
	known := map[topology.RegionID]time.Duration{}
	for id, offsets := range all {
		known[id] = middle(offsets)
	}
	return known
}

// middleClock returns how far the middle one of the regions' clocks is ahead of this node's.
func middleClock(others map[topology.RegionID]time.Duration) time.Duration {
	offsets := []time.Duration{0}
	for _, ahead := range others {
		offsets = append(offsets, ahead)
	}
	return middle(offsets)
}

// middle returns the median, of two in the middle the lower one.
func middle(offsets []time.Duration) time.Duration {
	slices.Sort(offsets)
	return offsets[(len(offsets)-1)/2]
}

// collect fills the page.
func (p *futurePage) collect(ctx context.Context) error {
	for ; len(p.left) > 0; p.left, p.cursor = p.left[1:], nil {
		id := p.left[0]
		p.ask.Partitions, p.ask.Limit = []uint32{id}, uint32(p.limit-len(p.res.GetValues()))
		p.ask.Cursor = nil
		if len(p.cursor) > 0 {
			p.ask.Cursor = futureCursor(id, p.cursor)
		}
		res, err := p.server.futurePart(ctx, topology.PartitionID(id), p.ask, p.cursor)
		switch {
		case err != nil && wasForwarded(ctx):
			return err // who sent it on may know another node
		case err != nil:
			p.res.Errors = append(p.res.Errors, &atollv1.PartitionError{Partition: id, Error: failureOf(err).item()})
			continue
		}
		p.res.Values = append(p.res.Values, res.GetValues()...)
		p.res.Undated += res.GetUndated()
		if p.res.Cursor = res.GetCursor(); len(p.res.GetCursor()) > 0 {
			return nil
		}
		if len(p.left) > 1 && len(p.res.GetValues()) >= p.limit {
			p.res.Cursor = futureCursor(p.left[1], nil)
			return nil
		}
	}
	return nil
}

func futureCursor(id uint32, rest []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{futureCursorVersion}, id), rest...)
}

// futurePart asks a partition's leader for its part of a page.
func (s *Server) futurePart(
	ctx context.Context, id topology.PartitionID, req *atollv1.FutureValuesRequest, cursor []byte,
) (*atollv1.FutureValuesResponse, error) {
	return route(ctx, s, call[*atollv1.FutureValuesResponse]{
		partition: id,
		patience:  leaderPatience, // others are to be asked, too
		local: func(ctx context.Context, p Partition) (*atollv1.FutureValuesResponse, error) {
			after := hlc.At(int64(req.GetPresentMs())+req.GetAhead().AsDuration().Milliseconds(), 1<<16-1)
			found, err := p.Future(ctx, region.FutureQuery{After: after, Cursor: cursor, Limit: int(req.GetLimit())})
			if err != nil {
				return nil, err
			}
			res := &atollv1.FutureValuesResponse{Undated: found.Undated}
			for i := range found.Values {
				v := s.futureValue(&found.Values[i], found.Now, req)
				v.Partition = uint32(id)
				res.Values = append(res.Values, v)
			}
			if len(found.Cursor) > 0 {
				res.Cursor = futureCursor(uint32(id), found.Cursor)
			}
			return res, nil
		},
		remote: func(ctx context.Context, p *peer) (*atollv1.FutureValuesResponse, error) {
			return p.regions.FutureValues(ctx, req)
		},
	})
}

func (s *Server) futureValue(v *region.FutureValue, now hlc.Time, req *atollv1.FutureValuesRequest) *atollv1.FutureValue {
	out := &atollv1.FutureValue{
		Namespace: v.Namespace, Key: v.Key, Type: atollv1.Type(v.Type), Event: s.event(v.Dot),
		Ahead:    durationpb.New(time.Duration(v.At.Millis()-int64(req.GetPresentMs())) * time.Millisecond),
		OnlyHere: v.OnlyHere, Home: s.homes.has(v.Namespace),
	}
	out.Event.Hlc = uint64(v.At)
	for _, r := range v.Lacking {
		out.Lacking = append(out.Lacking, s.regionName(r))
	}
	reg := v.Register
	if reg == nil {
		return out
	}
	out.Home = out.Home || reg.Home != 0
	out.Register = &atollv1.FutureRegister{
		Version: reg.Version(), Deleted: reg.Deleted, Expired: !reg.Deleted && !reg.Live(now),
		Seen: s.vector(v.Seen, func(crdt.Actor) hlc.Time { return 0 }),
	}
	if reg.Expires != 0 {
		out.Register.Ttl = durationpb.New(max(reg.Expires.Wall().Sub(now.Wall()), 0))
	}
	if req.GetWithValues() {
		out.Register.Value = reg.Value
	}
	return out
}
