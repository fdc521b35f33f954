// Package members runs the small Raft group across regions that decides their membership
// (crossregion/membership): one voter per region, on its first node, and the witness's if there is one, with timers for
// wide areas, on a port of its own. Nothing of the data path waits for it. What it has decided is on disk (machine.go), so a
// node that starts without a majority serves under the last membership that it knew.
//
// A voter whose region is new, or has come back under a new epoch, has no log, and so is another member
// than any before it: it asks to be taken in, and the leader takes in whoever belongs to a region that the
// membership lets vote. Voters of regions that are given up, or have left, the leader takes out.
package members

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftgroup"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// Group is the number of the group in a node's log, and on its port.
	Group = 1 << 30
	// electionTimeout is that of the first voter: several times the longest round trip between regions.
	// Others wait longer, each by as much more, so that two do not stand at once.
	electionTimeout = 4 * time.Second
	electionStagger = time.Second
	// look is how often the leader looks whether somebody votes who must not.
	look           = 500 * time.Millisecond
	proposeTimeout = 10 * time.Second
	// kindPropose is a command that a voter hands to the leader.
	kindPropose = 60
	// kindState asks for the membership, if it is newer than the asker's, u64. The answer is an encoded state,
	// or nothing.
	kindState = 61
	fileName  = "membership"
	// The cluster's name on this port, so that a connection meant for another is refused.
	handshakeSuffix = "/regions"
)

// What a voter answers to a command that was handed to it, in the first byte.
const (
	answerDone      = 0
	answerRefused   = 1 // code u8, waiting u64, epoch u32, length of the reason u16, reason, what to do
	answerNotLeader = 2
	answerUnknown   = 3
)

// ErrNoMajority means that no majority of the voters could be reached: nothing was decided.
var ErrNoMajority = errors.New("no majority of the regions answers: nothing was decided")

// Config is what a host needs; all fields are required but Incarnation, Alone, Note and ElectionTimeout.
type Config struct {
	Cluster *topology.Cluster
	// Self is the region of this voter, whose first node it runs on; the zero Region is the witness.
	Self *topology.Region
	// Addresses are where the voters of the founding regions are reached.
	Addresses map[topology.RegionID]string
	// Log is the node's, Incarnation how often it was lost.
	Log         *raftlog.Log
	Incarnation uint32
	// Dir takes the file with the membership, Temp snapshots on their way in.
	Dir, Temp string
	Logger    *slog.Logger
	OnFailure func(error)
	// Alone makes this voter the only one, see raftgroup.ForceAlone, and has it declare dead the others: an
	// operator knows that they are. Note says why.
	Alone membership.RegionSet
	Note  string
	// ElectionTimeout is for tests; 0 means one for wide areas.
	ElectionTimeout time.Duration
}

// Host is one region's voter. It is safe for concurrent use.
type Host struct {
	cfg     Config
	view    membership.Published
	machine *machine
	mux     *transport.Mux
	layer   *transport.Layer
	group   *raftgroup.Group
}

// Open opens the voter and its port; Run has it take part.
// Errors: ErrDamaged, *membership.StartError if this region must not start under its epoch, and those of
// the log and of the port.
func Open(cfg Config) (*Host, error) {
	h := &Host{cfg: cfg}
	var err error
	if h.machine, err = openMachine(filepath.Join(cfg.Dir, fileName), &h.view); err != nil {
		return nil, err
	}
	if err := recall(cfg.Dir, &h.view); err != nil {
		return nil, err
	}
	if known, _ := h.view.Current(); cfg.Self.ID != witness {
		if err := known.CheckStart(cfg.Self.ID, cfg.Self.Epoch); err != nil {
			return nil, err
		}
	}
	log, err := cfg.Log.Group(Group)
	if err != nil {
		return nil, err
	}
	if err := h.adopt(log); err != nil {
		return nil, err
	}
	if cfg.Alone != 0 && !h.declared() {
		if err := raftgroup.ForceAlone(log, nodeOf(cfg.Self.ID), h.incarnation(), h.machine); err != nil {
			return nil, err
		}
	}
	h.mux, err = transport.Listen(transport.Config{
		Cluster: cfg.Cluster.Name + handshakeSuffix, Self: nodeOf(cfg.Self.ID), Listen: h.address(cfg.Self.ID),
		Resolve: h.resolve, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	h.layer = h.mux.Group(Group)
	h.group, err = raftgroup.New(raftgroup.Config{
		Group: Group, Self: nodeOf(cfg.Self.ID), Incarnation: h.incarnation(), Members: h.founders(), Admit: h.admit,
		Log: log, Layer: h.layer, Machine: h.machine, Dir: cfg.Temp, Logger: cfg.Logger, OnFailure: cfg.OnFailure,
		ElectionTimeout: h.electionTimeout(),
	})
	if err != nil {
		return nil, errors.Join(err, h.mux.Close())
	}
	return h, nil
}

// adopt has a log that was lost go on from the term of the state, which was not.
func (h *Host) adopt(log *raftlog.Group) error {
	if err := raftgroup.ClaimLog(log, h.incarnation()); err != nil {
		return err
	}
	if term := h.machine.Position().Term; h.cfg.Incarnation > 0 && log.LastIndex() == 0 && term > 0 {
		return raftgroup.AdoptTerm(log, term)
	}
	return nil
}

// witness stands for the witness where its voter is meant. No region has this number.
const witness topology.RegionID = 0

// nodeOf names a voter. Names of nodes are the deployment's business; a region's number is never another's.
func nodeOf(id topology.RegionID) topology.NodeID {
	return topology.NodeID(fmt.Sprintf("region-%d", id))
}

// voterOf is the inverse of nodeOf.
func voterOf(node topology.NodeID) (id topology.RegionID, ok bool) {
	for id := witness; id <= topology.MaxRegionID; id++ {
		if nodeOf(id) == node {
			return id, true
		}
	}
	return 0, false
}

// mayVote reports whether the membership lets a voter vote.
func mayVote(s *membership.State, node topology.NodeID) bool {
	id, ok := voterOf(node)
	if id == witness {
		return ok && s.Witness.Name != ""
	}
	return s.Voters().Has(id)
}

func (h *Host) founders() []topology.NodeID {
	var nodes []topology.NodeID
	for _, r := range h.founding().Regions {
		nodes = append(nodes, nodeOf(r.ID))
	}
	if h.cfg.Cluster.Witness.Name != "" {
		nodes = append(nodes, nodeOf(witness))
	}
	slices.Sort(nodes)
	return nodes
}

// incarnation names the member that this voter is: another one with each epoch that its region comes back
// under, and each time that the node has lost its log. The founders are the first.
func (h *Host) incarnation() uint32 {
	const losses = 12 // bits
	lost := h.cfg.Incarnation & (1<<losses - 1)
	if !h.cfg.Self.Joins {
		return lost
	}
	return (uint32(h.cfg.Self.Epoch)+1)<<losses | lost
}

// founding returns the deployment as it began.
func (h *Host) founding() *topology.Cluster {
	c := *h.cfg.Cluster
	c.Regions = slices.DeleteFunc(slices.Clone(c.Regions), func(r topology.Region) bool { return r.Joins })
	return &c
}

func (h *Host) electionTimeout() time.Duration {
	place := max(0, slices.Index(h.founders(), nodeOf(h.cfg.Self.ID)))
	if h.cfg.Self.ID == witness { // it leads if nobody else can
		place = len(h.founders())
	}
	if h.cfg.ElectionTimeout > 0 {
		return h.cfg.ElectionTimeout * time.Duration(4+place) / 4
	}
	return electionTimeout + electionStagger*time.Duration(place)
}

// address returns where a voter is, by this node's configuration; "" if that does not say.
func (h *Host) address(id topology.RegionID) string {
	if id == witness {
		return h.cfg.Cluster.Witness.Address
	}
	return h.cfg.Addresses[id]
}

// resolve returns where another voter is reached: by this node's configuration, which can be changed, or else
// as the membership was told.
func (h *Host) resolve(node topology.NodeID) (address string, known bool) {
	id, _ := voterOf(node)
	address = h.address(id)
	if s := h.machine.state(); s.Founded() && id == witness {
		known = s.Witness.Name != ""
	} else if s.Founded() {
		r := s.Region(id)
		if known = r != nil; known && address == "" {
			address = r.Address
		}
	} else {
		known = true
	}
	return address, known && address != ""
}

// admit reports whether a voter may be taken in.
func (h *Host) admit(node topology.NodeID) bool {
	s := h.machine.state()
	return s.Founded() && mayVote(s, node)
}

// Current implements membership.View.
func (h *Host) Current() (*membership.State, <-chan struct{}) { return h.view.Current() }

// Addr returns the address that the voter listens on.
func (h *Host) Addr() net.Addr { return h.mux.Addr() }

// Run takes part until ctx ends, and then closes everything.
func (h *Host) Run(ctx context.Context) error {
	loops, ctx := errgroup.WithContext(ctx)
	below, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	muxDone := make(chan error, 1)
	go func() { muxDone <- h.mux.Run(below) }()
	h.layer.Handle(kindPropose, kindPropose, h.serveProposal(ctx, loops))
	h.layer.Handle(kindState, kindState, h.serveState)
	loops.Go(func() error { return h.group.Run(ctx) })
	loops.Go(func() error { h.lead(ctx); return nil })
	loops.Go(func() error { return h.learn(ctx) })
	err := loops.Wait()
	h.layer.Handle(kindPropose, kindState, nil)
	stop()
	return errors.Join(err, <-muxDone)
}

// Close releases everything of a host that is not run.
func (h *Host) Close() error { return errors.Join(h.group.Close(), h.mux.Close()) }

// lead does what a leader has to: it founds the membership, and takes out voters that must not vote.
func (h *Host) lead(ctx context.Context) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if leading, _ := h.group.Leadership(); !leading {
			continue
		}
		if err := h.leadOnce(ctx); err != nil && ctx.Err() == nil {
			h.cfg.Logger.Debug("membership: not done yet", "err", err)
		}
	}
}

func (h *Host) leadOnce(ctx context.Context) error {
	s := h.machine.state()
	if !s.Founded() {
		return h.propose(ctx, membership.FoundCommand(h.founding(), h.cfg.Addresses))
	}
	if h.cfg.Alone != 0 && !h.declared() {
		return h.propose(ctx, membership.DeclareCommand(h.cfg.Alone, h.declaration(), h.cfg.Note))
	}
	for _, node := range h.group.Members() {
		if mayVote(s, node) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
		defer cancel()
		return h.group.RemoveMember(ctx, node) // one at a time
	}
	return nil
}

// Propose has a command decided, by way of whoever leads. A nil error promises that a majority has it, or
// that it was done before.
// Errors: *membership.RefusedError, ErrNoMajority: nothing was done; region.ErrOutcomeUnknown: it may be; the
// same command may be given again. ctx's own.
func (h *Host) Propose(ctx context.Context, c membership.Command) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	leader, _, known := h.group.Leader()
	if !known {
		return ErrNoMajority
	}
	if leader == nodeOf(h.cfg.Self.ID) {
		return h.propose(ctx, c)
	}
	answer, err := h.layer.Call(ctx, leader, transport.Bulk, kindPropose, c.Encode())
	if err != nil {
		return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, err)
	}
	return decodeAnswer(answer)
}

// propose has a command decided, if this voter leads.
func (h *Host) propose(ctx context.Context, c membership.Command) error {
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		return err
	}
	id := binary.BigEndian.Uint64(number[:])
	reply := h.machine.expect(id)
	defer h.machine.forget(id)
	err := h.group.Propose(ctx, append(number[:], c.Encode()...))
	switch {
	case errors.Is(err, region.ErrNotLeader), errors.Is(err, region.ErrShuttingDown), errors.Is(err, region.ErrOverloaded):
		return fmt.Errorf("%w: %w", ErrNoMajority, err)
	case err != nil:
		return err
	}
	select {
	case answer := <-reply:
		return answer
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, ctx.Err())
	}
}

// serveProposal proposes what other voters hand over.
func (h *Host) serveProposal(ctx context.Context, loops *errgroup.Group) transport.Handler {
	places := make(chan struct{}, 16)
	return func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		c, err := membership.DecodeCommand(body)
		if err != nil {
			reply(nil, err)
			return
		}
		answerLater(ctx, loops, places, proposeTimeout, reply, func(ctx context.Context) ([]byte, error) {
			return encodeAnswer(h.propose(ctx, c)), nil
		})
	}
}

// answerLater replies from a loop of its own what answer returns within some time, or at once that there is no place.
func answerLater(
	ctx context.Context, loops *errgroup.Group, places chan struct{}, within time.Duration,
	reply func([]byte, error), answer func(context.Context) ([]byte, error),
) {
	select {
	case places <- struct{}{}:
	default:
		reply(nil, transport.ErrOverloaded)
		return
	}
	loops.Go(func() error {
		defer func() { <-places }()
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		reply(answer(ctx))
		return nil
	})
}
