package api

import (
	"cmp"
	"context"
	"errors"
	"slices"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Homes returns which region the home of each partition of a namespace is, as this region's leaders know.
func (n *namespacesService) Homes(ctx context.Context, r *atollv1.HomesRequest) (*atollv1.HomesResponse, error) {
	s := n.server()
	ids, f := s.homePartitions(r.GetNamespace(), r.GetPartitions())
	if f != nil {
		return nil, f
	}
	res := &atollv1.HomesResponse{Region: s.region.Name, Partitions: make([]*atollv1.PartitionHome, len(ids))}
	if (wasForwarded(ctx) || fromAbroad(ctx)) && len(ids) == 1 { // who asks wants the one failure
		home, err := s.homeHere(ctx, r.GetNamespace(), ids[0])
		res.Partitions[0] = home
		return res, err
	}
	err := s.eachPartition(len(ids), func(i int) error {
		home, err := s.homeHere(ctx, r.GetNamespace(), ids[i])
		if err != nil {
			home = &atollv1.PartitionHome{Partition: uint32(ids[i]), Error: failureOf(err).item()}
		}
		res.Partitions[i] = home
		return nil
	})
	return res, err
}

// homePartitions checks which partitions of which namespace a request is about.
func (s *Server) homePartitions(namespace string, asked []uint32) ([]topology.PartitionID, *failure) {
	if !s.homes.has(namespace) {
		return nil, invalid("namespace", "it has no home in this node's configuration")
	}
	if len(asked) > int(s.cluster.Partitions) {
		return nil, invalid("partitions", "there are only %d", s.cluster.Partitions)
	}
	var ids []topology.PartitionID
	for _, id := range asked {
		if f := s.checkPartition(id); f != nil {
			return nil, f
		}
		ids = append(ids, topology.PartitionID(id))
	}
	for i := 0; len(asked) == 0 && i < int(s.cluster.Partitions); i++ {
		ids = append(ids, topology.PartitionID(i))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// homeHere asks this region's leader of a partition.
func (s *Server) homeHere(ctx context.Context, namespace string, id topology.PartitionID) (*atollv1.PartitionHome, error) {
	return route(ctx, s, call[*atollv1.PartitionHome]{
		partition: id,
		local: func(ctx context.Context, p Partition) (*atollv1.PartitionHome, error) {
			state, err := p.Home(ctx, namespace, s.isFirstHome(namespace))
			if err != nil {
				return nil, err
			}
			if state.Home == 0 {
				state.Home = s.homes.first[namespace]
				if heir := p.View().FirstHome(state.Home); heir != state.Home {
					state.Heir = heir
				}
			}
			return &atollv1.PartitionHome{
				Partition: uint32(id), Region: s.homes.names[state.Home], Epoch: state.Epoch, Serving: state.Serving, Waiting: s.regionNames(state.Waiting),
				Heir: s.homes.names[state.Heir],
			}, nil
		},
		remote: func(ctx context.Context, p *peer) (*atollv1.PartitionHome, error) { return p.home(ctx, namespace, id) },
	})
}

// home asks another node for the home of one partition.
func (p *peer) home(ctx context.Context, namespace string, id topology.PartitionID) (*atollv1.PartitionHome, error) {
	res, err := p.namespaces.Homes(ctx, &atollv1.HomesRequest{Namespace: namespace, Partitions: []uint32{uint32(id)}})
	if err != nil {
		return nil, err
	}
	if len(res.GetPartitions()) != 1 {
		return nil, errShortAnswer
	}
	return res.GetPartitions()[0], nil
}

var errShortAnswer = errors.New("the answer is not about the partition that was asked for")

func (s *Server) regionNames(ids []topology.RegionID) []string {
	var names []string
	for _, id := range ids {
		names = append(names, s.homes.names[id])
	}
	return names
}

// homeIn asks a region what it knows of the home of a partition.
func (s *Server) homeIn(ctx context.Context, r topology.RegionID, namespace string, id topology.PartitionID) (*atollv1.PartitionHome, *failure) {
	return inRegion(ctx, s, r, &homeCall[*atollv1.PartitionHome]{
		namespace: namespace, partition: id,
		here:  func(ctx context.Context) (*atollv1.PartitionHome, error) { return s.homeHere(ctx, namespace, id) },
		there: func(ctx context.Context, p *peer) (*atollv1.PartitionHome, error) { return p.home(ctx, namespace, id) },
	})
}

// inRegion does a call in a region, by whichever of its nodes answers.
func inRegion[T any](ctx context.Context, s *Server, r topology.RegionID, c *homeCall[T]) (T, *failure) {
	for attempt := 0; ; attempt++ {
		reply, f := tryHome(ctx, s, c, r, attempt)
		if f == nil || f.reason != reasonNoLeader || attempt+1 >= len(s.homes.nodes[r]) || ctx.Err() != nil {
			return reply, f
		}
	}
}

// MoveHome does in each partition what can be done now.
func (n *namespacesService) MoveHome(ctx context.Context, r *atollv1.MoveHomeRequest) (*atollv1.MoveHomeResponse, error) {
	s := n.server()
	ids, f := s.homePartitions(r.GetNamespace(), r.GetPartitions())
	if f != nil {
		return nil, f
	}
	to, known := s.regionNamed(r.GetRegion())
	if !known {
		return nil, invalid("region", "there is no such region in this node's configuration")
	}
	m := &homeMove{server: s, namespace: r.GetNamespace(), to: to, dry: r.GetDryRun()}
	res := &atollv1.MoveHomeResponse{Done: true, Moves: make([]*atollv1.HomeMove, len(ids))}
	if wasForwarded(ctx) || fromAbroad(ctx) { // only what this region has to do
		if len(ids) != 1 {
			return nil, invalid("partitions", "a request that was sent on is about one")
		}
		move, err := m.giveUpHere(ctx, ids[0])
		res.Moves[0] = move
		return res, err
	}
	if f := s.checkHomeTarget(r.GetRegion()); f != nil {
		return nil, f
	}
	err := s.eachPartition(len(ids), func(i int) error {
		res.Moves[i] = m.step(ctx, ids[i])
		return nil
	})
	for _, move := range res.GetMoves() {
		res.Done = res.GetDone() && move.GetState() == atollv1.HomeMoveState_HOME_MOVE_STATE_SERVING
	}
	return res, err
}

// checkHomeTarget refuses to move a home to a region that takes no writes, as far as this node knows.
func (s *Server) checkHomeTarget(name string) *failure {
	if state := s.memberState(name); state != "" && state != "ACTIVE" {
		return fail(reasonRegionRefused, "region "+name+" is "+state+" and takes no writes; choose one that is ACTIVE", "code", "WRONG_STATE")
	}
	return nil
}

// homeMove is a move of a namespace's home. It keeps nothing: each step asks the regions how far it is.
type homeMove struct {
	server    *Server
	namespace string
	to        topology.RegionID
	dry       bool
}

// step does what can be done now in a partition. The new home is asked first and last: only it can say that it serves.
func (m *homeMove) step(ctx context.Context, id topology.PartitionID) *atollv1.HomeMove {
	move, from, f := m.arrived(ctx, id)
	if f == nil && move == nil {
		move, f = m.change(ctx, id, from)
		if f == nil && move.GetState() == atollv1.HomeMoveState_HOME_MOVE_STATE_MOVING {
			if now, _, f := m.arrived(ctx, id); f == nil && now != nil {
				now.From = move.GetFrom()
				move = now
			}
		}
	}
	if f != nil {
		return &atollv1.HomeMove{Partition: uint32(id), State: atollv1.HomeMoveState_HOME_MOVE_STATE_FAILED, Error: f.item()}
	}
	return move
}

// change has the present home give up, or, if that is closed for good, the new one take over. from is the home as far as the
// new one knows.
func (m *homeMove) change(ctx context.Context, id topology.PartitionID, from *atollv1.PartitionHome) (*atollv1.HomeMove, *failure) {
	s := m.server
	if state := s.memberState(from.GetRegion()); state != "CLOSED" && state != "REMOVED" && from.GetHeir() == "" {
		move, f := m.leave(ctx, id)
		if f != nil && f.reason == reasonNoLeader {
			f = fail(reasonNoLeader, "the home, region "+from.GetRegion()+", does not answer; if it is lost, fence it first (atoll region fence "+from.GetRegion()+"), and, if others are left, name its heir (atoll region heir)",
				"region_to_use", from.GetRegion()).because(f)
		}
		return move, f
	}
	f := s.checkTakes(from, s.homes.names[m.to])
	if f != nil && (m.dry || f.metadata["code"] == codeHeirNamed) { // that does not change any more
		return nil, f
	}
	if m.dry {
		return &atollv1.HomeMove{
			Partition: uint32(id), State: atollv1.HomeMoveState_HOME_MOVE_STATE_READY, From: from.GetRegion(), Epoch: from.GetEpoch(),
		}, nil
	}
	return m.at(ctx, m.to, id)
}

// member returns what the membership says of a region, as far as this node knows; nothing if that is nothing.
func (s *Server) member(name string) *atollv1.Member {
	if s.votes != nil {
		for _, m := range s.votes.Members().GetMembers() {
			if m.GetRegion() == name {
				return m
			}
		}
	}
	return nil
}

// memberState returns the state of a region, as far as this node knows; "" if nothing.
func (s *Server) memberState(name string) string { return s.member(name).GetState() }

// codeHeirNamed is the code of a refusal because another region is the heir.
const codeHeirNamed = "HEIR_NAMED"

// checkTakes refuses to have a region take over a home if it is neither its heir nor the only one left, as far as this node
// knows.
func (s *Server) checkTakes(from *atollv1.PartitionHome, to string) *failure {
	home := s.member(from.GetRegion())
	switch heir := cmp.Or(from.GetHeir(), home.GetHeir()); {
	case heir == to && home.GetState() == "FENCED":
		return failureOf(&region.HomeNotClosedError{}).clone().with("waiting", from.GetRegion())
	case heir == to:
		return nil
	case heir != "":
		return fail(reasonRegionRefused, "the heir of the home is region "+heir+"; have that take over first (atoll namespace move-home --to "+heir+"), and move the home on from there",
			"code", codeHeirNamed, "waiting", heir)
	}
	for _, m := range s.votes.Members().GetMembers() {
		if m.GetRegion() != to && m.GetState() != "CLOSED" && m.GetState() != "REMOVED" {
			return failureOf(&region.HomeNotClosedError{}).clone().with("waiting", m.GetRegion())
		}
	}
	return nil
}

// arrived asks the new home. It returns what that says of another one if it knows of one.
func (m *homeMove) arrived(ctx context.Context, id topology.PartitionID) (move *atollv1.HomeMove, from *atollv1.PartitionHome, f *failure) {
	s := m.server
	there, f := s.homeIn(ctx, m.to, m.namespace, id)
	if f != nil || there.GetRegion() != s.homes.names[m.to] || there.GetHeir() != "" {
		return nil, there, f
	}
	move = &atollv1.HomeMove{Partition: uint32(id), State: atollv1.HomeMoveState_HOME_MOVE_STATE_MOVING, Epoch: there.GetEpoch()}
	if there.GetServing() {
		move.State = atollv1.HomeMoveState_HOME_MOVE_STATE_SERVING
	}
	return move, there, nil
}

// leave has the present home give up.
func (m *homeMove) leave(ctx context.Context, id topology.PartitionID) (*atollv1.HomeMove, *failure) {
	s := m.server
	present, home, f := s.presentHome(ctx, m.namespace, id)
	if f != nil {
		return nil, f
	}
	if present == m.to { // it gave up since it was asked
		return &atollv1.HomeMove{Partition: uint32(id), State: atollv1.HomeMoveState_HOME_MOVE_STATE_MOVING, Epoch: home.GetEpoch()}, nil
	}
	if m.dry {
		move := &atollv1.HomeMove{
			Partition: uint32(id), State: atollv1.HomeMoveState_HOME_MOVE_STATE_READY,
			From: home.GetRegion(), Epoch: home.GetEpoch(), Waiting: home.GetWaiting(),
		}
		if len(move.GetWaiting()) > 0 || !home.GetServing() {
			move.State = atollv1.HomeMoveState_HOME_MOVE_STATE_WAITING
		}
		return move, nil
	}
	return m.at(ctx, present, id)
}

// at has a region do its part: the present home gives up, and the new one takes over.
func (m *homeMove) at(ctx context.Context, r topology.RegionID, id topology.PartitionID) (*atollv1.HomeMove, *failure) {
	return inRegion(ctx, m.server, r, &homeCall[*atollv1.HomeMove]{
		namespace: m.namespace, partition: id, write: true,
		here:  func(ctx context.Context) (*atollv1.HomeMove, error) { return m.giveUpHere(ctx, id) },
		there: func(ctx context.Context, p *peer) (*atollv1.HomeMove, error) { return m.giveUpAt(ctx, p, id) },
	})
}

// presentHome finds the region that says of itself that it is the home, and what it says.
func (s *Server) presentHome(ctx context.Context, namespace string, id topology.PartitionID) (topology.RegionID, *atollv1.PartitionHome, *failure) {
	at := s.homeOf(namespace, id)
	for range len(s.cluster.Regions) + 1 {
		home, f := s.homeIn(ctx, at, namespace, id)
		if f != nil && f.reason == reasonNoLeader && at != s.region.ID && !s.hosts(id) {
			home, f = s.homeIn(ctx, s.region.ID, namespace, id) // which may know that it moved
		}
		if f != nil {
			return 0, nil, f
		}
		said, ok := s.regionNamed(home.GetRegion())
		if !ok || said == at {
			return at, home, nil
		}
		at = said
	}
	return 0, nil, fail(reasonNotHome, "the regions do not agree yet on the namespace's home; try again")
}

// giveUpHere has the partition's leader in this region give up the home, or take over if it is to be the new one.
func (m *homeMove) giveUpHere(ctx context.Context, id topology.PartitionID) (*atollv1.HomeMove, error) {
	s := m.server
	return route(ctx, s, call[*atollv1.HomeMove]{
		partition: id, write: true,
		local:  func(ctx context.Context, p Partition) (*atollv1.HomeMove, error) { return m.giveUp(ctx, p, id) },
		remote: func(ctx context.Context, p *peer) (*atollv1.HomeMove, error) { return m.giveUpAt(ctx, p, id) },
	})
}

// giveUpAt has another node do so.
func (m *homeMove) giveUpAt(ctx context.Context, p *peer, id topology.PartitionID) (*atollv1.HomeMove, error) {
	res, err := p.namespaces.MoveHome(ctx, &atollv1.MoveHomeRequest{
		Namespace: m.namespace, Region: m.server.homes.names[m.to], Partitions: []uint32{uint32(id)},
	})
	if err != nil {
		return nil, err
	}
	if len(res.GetMoves()) != 1 {
		return nil, errShortAnswer
	}
	return res.GetMoves()[0], nil
}

func (m *homeMove) giveUp(ctx context.Context, p Partition, id topology.PartitionID) (*atollv1.HomeMove, error) {
	s := m.server
	first := s.isFirstHome(m.namespace)
	var err error
	if m.to == s.region.ID {
		err = p.TakeHome(ctx, m.namespace, s.homes.first[m.namespace])
	} else {
		err = p.MoveHome(ctx, m.namespace, m.to, first)
	}
	home, known := p.Home(ctx, m.namespace, first)
	// The membership may be ahead of what the partition knows of it.
	closing := as[*region.HomeNotClosedError](err) && s.votes != nil && known == nil &&
		s.checkTakes(&atollv1.PartitionHome{Region: s.homes.names[home.Home], Heir: s.homes.names[home.Heir]}, s.region.Name) == nil
	leased, ofFormer := errors.AsType[*region.HomeLeasedError](err)
	if err != nil && !closing && !ofFormer && !errors.Is(err, region.ErrHomeUnsettled) {
		return nil, err
	}
	move := &atollv1.HomeMove{Partition: uint32(id), From: s.region.Name, State: atollv1.HomeMoveState_HOME_MOVE_STATE_MOVING}
	if known != nil {
		return move, err // given up, or to be tried again
	}
	move.Epoch = home.Epoch
	if err != nil {
		move.State, move.Waiting = atollv1.HomeMoveState_HOME_MOVE_STATE_WAITING, s.regionNames(home.Waiting)
	}
	if ofFormer {
		move.Waiting = s.regionNames([]topology.RegionID{leased.Home})
	}
	return move, nil
}
