package api

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

const (
	defaultLosers = 100
	maxLosers     = 1000
	// losersBytes bounds the losers of one page.
	losersBytes = 2 << 20
	// explainedLosers and explainedLosersBytes bound those of one key in an explanation.
	explainedLosers      = 20
	explainedLosersBytes = 256 << 10

	conflictsCursorVersion = 1
	conflictsCursorBytes   = 1 + 4 + 8
)

// Conflicts asks every partition for its counts and whether it has losers, and then those that have, one
// after the other, until the page is full.
func (r *regionsService) Conflicts(ctx context.Context, req *atollv1.ConflictsRequest) (*atollv1.ConflictsResponse, error) {
	s := r.server()
	page, f := s.newConflictsPage(req)
	if f != nil {
		return nil, f
	}
	asked, err := page.survey(ctx)
	if err != nil {
		return nil, err
	}
	return page.res, page.collect(ctx, asked)
}

// conflictsPage is one page of conflicts under way.
type conflictsPage struct {
	server *Server
	res    *atollv1.ConflictsResponse
	// query is what every partition is asked, but for its number, before and limit.
	query *peerv1.PartitionConflictsRequest
	// first is the partition where the page begins, with losers before a number, if that is not 0.
	first  topology.PartitionID
	before uint64
	limit  int
}

func (s *Server) newConflictsPage(req *atollv1.ConflictsRequest) (*conflictsPage, *failure) {
	namespace, f := checkNamespace(req.GetNamespace())
	if f != nil {
		return nil, f
	}
	p := &conflictsPage{server: s, res: &atollv1.ConflictsResponse{Region: s.region.Name}, limit: int(min(cmp.Or(req.GetLimit(), defaultLosers), maxLosers))}
	switch cursor := req.GetCursor(); {
	case req.GetAllNamespaces() && req.GetNamespace() != "":
		return nil, invalid("namespace", "cannot be combined with all_namespaces")
	case req.GetKey() != "" && req.GetPrefix() != "":
		return nil, invalid("prefix", "cannot be combined with key")
	case len(req.GetKey()) > maxKeyBytes || !utf8.ValidString(req.GetKey()):
		return nil, invalid("key", "no key is like that")
	case len(req.GetPrefix()) > maxKeyBytes || !utf8.ValidString(req.GetPrefix()):
		return nil, invalid("prefix", "no key begins like that")
	case len(cursor) == 0:
	case len(cursor) != conflictsCursorBytes || cursor[0] != conflictsCursorVersion || binary.BigEndian.Uint32(cursor[1:]) >= s.cluster.Partitions:
		return nil, invalid("cursor", "is not one of this service; leave it out to begin anew")
	default:
		p.first, p.before = topology.PartitionID(binary.BigEndian.Uint32(cursor[1:])), binary.BigEndian.Uint64(cursor[5:])
	}
	p.query = &peerv1.PartitionConflictsRequest{
		Namespace: namespace, AllNamespaces: req.GetAllNamespaces(), Key: req.GetKey(), Prefix: req.GetPrefix(),
		WithCounts: len(req.GetCursor()) == 0,
	}
	return p, nil
}

// ask asks one partition.
func (p *conflictsPage) ask(ctx context.Context, id topology.PartitionID, limit, maxBytes int) (*peerv1.PartitionConflictsResponse, error) {
	q := &peerv1.PartitionConflictsRequest{
		Partition: uint32(id), Namespace: p.query.GetNamespace(), AllNamespaces: p.query.GetAllNamespaces(),
		Key: p.query.GetKey(), Prefix: p.query.GetPrefix(),
		WithCounts: p.query.GetWithCounts() && limit == 0, Limit: uint32(limit), MaxBytes: uint32(maxBytes),
	}
	if id == p.first {
		q.Before = p.before
	}
	return p.server.partitionConflicts(ctx, q)
}

// survey fills in the counts of the first page, and returns the partitions from the page's first on that
// have losers to show.
func (p *conflictsPage) survey(ctx context.Context) (found []topology.PartitionID, err error) {
	var mu sync.Mutex
	var counts []*atollv1.ConflictCount
	n := int(p.server.cluster.Partitions) - int(p.first)
	err = p.server.eachPartition(n, func(i int) error {
		id := p.first + topology.PartitionID(i)
		res, err := p.ask(ctx, id, 0, 0)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			p.res.Errors = append(p.res.Errors, &atollv1.PartitionError{Partition: uint32(id), Error: failureOf(err).item()})
			return nil
		}
		counts = append(counts, res.GetCounts()...)
		p.res.LetGo += res.GetLetGo()
		p.res.Unsure += res.GetUnsure()
		if res.GetMore() {
			found = append(found, id)
		}
		return nil
	})
	slices.Sort(found)
	slices.SortFunc(p.res.GetErrors(), func(a, b *atollv1.PartitionError) int { return cmp.Compare(a.GetPartition(), b.GetPartition()) })
	p.res.Counts = sumCounts(counts)
	return found, err
}

// sumCounts adds up what several partitions have counted.
func sumCounts(counts []*atollv1.ConflictCount) []*atollv1.ConflictCount {
	slices.SortFunc(counts, compareCounts)
	var sums []*atollv1.ConflictCount
	for _, c := range counts {
		if n := len(sums); n > 0 && compareCounts(sums[n-1], c) == 0 {
			sums[n-1].Count += c.GetCount()
			continue
		}
		sums = append(sums, c)
	}
	return sums
}

func compareCounts(a, b *atollv1.ConflictCount) int {
	return cmp.Or(
		strings.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetType(), b.GetType()),
		strings.Compare(a.GetRegionA(), b.GetRegionA()), cmp.Compare(a.GetEpochA(), b.GetEpochA()),
		strings.Compare(a.GetRegionB(), b.GetRegionB()), cmp.Compare(a.GetEpochB(), b.GetEpochB()),
	)
}

// collect fills the page with losers.
func (p *conflictsPage) collect(ctx context.Context, from []topology.PartitionID) error {
	room := losersBytes
	for i, id := range from {
		res, err := p.ask(ctx, id, p.limit-len(p.res.GetLosers()), max(room, 1))
		if err != nil {
			return err
		}
		for _, l := range res.GetLosers() {
			room -= len(l.GetKey()) + len(l.GetField()) + len(l.GetValue())
			for _, name := range l.GetPath() {
				room -= len(name)
			}
		}
		p.res.Losers = append(p.res.Losers, res.GetLosers()...)
		switch full := len(p.res.GetLosers()) >= p.limit || room <= 0; {
		case res.GetMore():
			last := p.res.GetLosers()[len(p.res.GetLosers())-1]
			p.res.Cursor = conflictsCursor(id, last.GetId())
			return nil
		case full && i+1 < len(from):
			p.res.Cursor = conflictsCursor(from[i+1], 0)
			return nil
		}
	}
	return nil
}

func conflictsCursor(id topology.PartitionID, before uint64) []byte {
	b := binary.BigEndian.AppendUint32([]byte{conflictsCursorVersion}, uint32(id))
	return binary.BigEndian.AppendUint64(b, before)
}

// PartitionConflicts answers another node's part of a page.
func (p *peerService) PartitionConflicts(ctx context.Context, r *peerv1.PartitionConflictsRequest) (*peerv1.PartitionConflictsResponse, error) {
	s := p.server()
	if f := s.checkPartition(r.GetPartition()); f != nil {
		return nil, f
	}
	return s.partitionConflicts(ctx, r)
}

func (s *Server) partitionConflicts(ctx context.Context, r *peerv1.PartitionConflictsRequest) (*peerv1.PartitionConflictsResponse, error) {
	return route(ctx, s, call[*peerv1.PartitionConflictsResponse]{
		partition: topology.PartitionID(r.GetPartition()),
		local: func(ctx context.Context, p Partition) (*peerv1.PartitionConflictsResponse, error) {
			var res *peerv1.PartitionConflictsResponse
			err := s.readFrom(ctx, p, reading{}, &atollv1.ReplyInfo{}, func(rep *replica.Replica, _ hlc.Time) (err error) {
				res, err = s.conflictsOf(rep, r)
				return err
			})
			return res, err
		},
		remote: func(ctx context.Context, p *peer) (*peerv1.PartitionConflictsResponse, error) {
			return p.nodes.PartitionConflicts(ctx, r)
		},
	})
}

// conflictsOf reads one partition's part of a page.
func (s *Server) conflictsOf(rep *replica.Replica, r *peerv1.PartitionConflictsRequest) (*peerv1.PartitionConflictsResponse, error) {
	namespace := &r.Namespace
	if r.GetAllNamespaces() {
		namespace = nil
	}
	res := &peerv1.PartitionConflictsResponse{}
	if r.GetWithCounts() {
		counts, err := rep.ConflictCounts(namespace)
		if err != nil {
			return nil, err
		}
		for i := range counts {
			res.Counts = append(res.Counts, s.conflictCount(&counts[i]))
		}
		res.LetGo, res.Unsure = rep.LosersLetGo(), rep.ConflictsUnsure()
	}
	losers, more, err := rep.Losers(replica.LoserQuery{
		Namespace: namespace, Key: r.GetKey(), Prefix: r.GetPrefix(), Before: r.GetBefore(),
		Limit: int(min(r.GetLimit(), maxLosers)), Bytes: uint64(min(r.GetMaxBytes(), losersBytes)),
	})
	if err != nil {
		return nil, err
	}
	res.More = more
	res.Losers, err = s.losersOf(topology.PartitionID(r.GetPartition()), losers)
	return res, err
}

func (s *Server) conflictCount(c *replica.ConflictCount) *atollv1.ConflictCount {
	out := &atollv1.ConflictCount{Namespace: c.Namespace, Type: atollv1.Type(c.Type), Count: c.Count}
	out.RegionA, out.EpochA = s.actorName(c.A)
	out.RegionB, out.EpochB = s.actorName(c.B)
	if cmp.Or(strings.Compare(out.GetRegionA(), out.GetRegionB()), cmp.Compare(out.GetEpochA(), out.GetEpochB())) > 0 {
		out.RegionA, out.EpochA, out.RegionB, out.EpochB = out.RegionB, out.EpochB, out.RegionA, out.EpochA
	}
	return out
}

func (s *Server) losersOf(id topology.PartitionID, losers []replica.Loser) ([]*atollv1.Loser, error) {
	out := make([]*atollv1.Loser, len(losers))
	for i := range losers {
		var err error
		if out[i], err = s.loser(id, &losers[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Server) loser(id topology.PartitionID, l *replica.Loser) (*atollv1.Loser, error) {
	out := &atollv1.Loser{
		Partition: uint32(id), Id: l.ID, Namespace: l.Namespace, Key: l.Key, Path: l.Path.Names(), Type: atollv1.Type(l.Type), Field: l.Field,
		ExpiresHlc: uint64(l.Expires), Lost: s.event(l.Lost), Won: s.event(l.Won),
	}
	out.Lost.Hlc, out.Won.Hlc = uint64(l.LostAt), uint64(l.WonAt)
	if l.Type != crdt.TypeZSet {
		out.Value = l.Value
		return out, nil
	}
	var err error
	out.Score, err = l.Score()
	return out, err
}

// RestoreLoser has the partition's leader read the loser and write it anew.
func (r *regionsService) RestoreLoser(ctx context.Context, req *atollv1.RestoreLoserRequest) (*atollv1.RestoreLoserResponse, error) {
	s := r.server()
	f := s.checkPartition(req.GetPartition())
	if f == nil {
		f = s.checkWriteOptions(req.GetOptions())
	}
	if f == nil && isLocal(req.GetOptions()) {
		f = invalid("options.durability", "a restored value is written to a quorum")
	}
	if f == nil && len(req.GetIfVersion()) > maxVersionBytes {
		f = tooLong(reasonInvalidArgument, "if_version", maxVersionBytes)
	}
	if f != nil {
		return nil, f
	}
	id, opID := topology.PartitionID(req.GetPartition()), req.GetOptions().GetOpId()
	return route(ctx, s, call[*atollv1.RestoreLoserResponse]{
		partition: id, write: true, opID: opID,
		local: func(ctx context.Context, p Partition) (*atollv1.RestoreLoserResponse, error) {
			res := &atollv1.RestoreLoserResponse{Info: s.infos[id]}
			op, err := s.restored(ctx, p, req, res)
			if err != nil {
				return nil, err
			}
			result, info, err := s.commit(ctx, p, id, req.GetOptions(), []replica.Op{op})
			if err != nil {
				return nil, err
			}
			res.Info = info
			res.Version = result.Outcomes[0].Version
			return res, nil
		},
		remote: func(ctx context.Context, p *peer) (*atollv1.RestoreLoserResponse, error) {
			return p.regions.RestoreLoser(ctx, req)
		},
	})
}

// restored reads the loser that a request names, and returns the operation that writes it again.
func (s *Server) restored(ctx context.Context, p Partition, req *atollv1.RestoreLoserRequest, res *atollv1.RestoreLoserResponse) (op replica.Op, err error) {
	err = s.readFrom(ctx, p, reading{}, &atollv1.ReplyInfo{}, func(rep *replica.Replica, now hlc.Time) error {
		l, ok, err := rep.Loser(req.GetId())
		if err != nil {
			return err
		}
		if !ok {
			return fail(reasonNotPresent, fmt.Sprintf("partition %d keeps no loser %d, or no more", req.GetPartition(), req.GetId()))
		}
		if res.Loser, err = s.loser(topology.PartitionID(req.GetPartition()), &l); err != nil {
			return err
		}
		if l.Expires != 0 && l.Expires <= now {
			return invalid("id", "the value has expired since; put it again yourself if it is still wanted")
		}
		op, err = l.Restore()
		return err
	})
	if version := req.GetIfVersion(); version != "" {
		op.Condition = replica.Condition{Kind: replica.CondVersion, Version: version}
	}
	return op, err
}
