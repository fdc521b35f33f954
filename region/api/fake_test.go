package api

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// fakeGroup is one partition of a region, shared by its replicas: a replica in memory and a leader
// that the test chooses.
type fakeGroup struct {
	evicted   *region.Eviction // of us
	mu        sync.Mutex
	log       []region.Change // what feeds tell
	floor     int             // how much of it is forgotten
	behind    int             // how many feeds are to fall behind
	changed   chan struct{}   // closed at the next change
	applied   chan struct{}   // closed when something is applied; nil if nobody waits
	observed  hlc.Time        // what later writes must come after
	memory    *replica.Memory
	us        *replica.Replica // another region's replica, once a test has made one
	actor     crdt.Actor
	leader    topology.NodeID
	known     map[string][]replica.Outcome
	lies      map[topology.NodeID]topology.NodeID // what a node wrongly takes for the leader
	onWrite   func(context.Context) error         // runs before a write is done
	afterDo   func() error                        // runs after a write was done
	onRead    func() error
	age       map[topology.NodeID]time.Duration // how old a node's replica may be
	noQuorum  bool
	cutOff    bool                        // the leader reaches nobody
	onLocal   func(context.Context) error // instead of a local write
	locals    []string                    // op_ids of local writes
	submitted [][]byte
	writes    int // writes that reached the leader
	reads     int // reads served
	tried     int // reads asked for
}

// readsFail sets what happens to reads from now on, also while a request is still under way.
func (g *fakeGroup) readsFail(how func() error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onRead = how
}

// aged makes a node's replica as old as that.
func (g *fakeGroup) aged(id topology.NodeID, age time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.age[id] = age
}

func (g *fakeGroup) readsTried() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tried
}

// errNotYet is what a test waits to go away.
var errNotYet = errors.New("not yet")

// elsewhere begins the op_ids of writes that another region has executed.
const elsewhere = "elsewhere"

// fakeReplica is one node's replica of a fakeGroup.
type fakeReplica struct {
	*fakeGroup
	self topology.NodeID
}

func (r *fakeReplica) Leader() (topology.NodeID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leaderLocked(), r.leaderLocked() != ""
}

func (r *fakeReplica) Term() uint64 { return 7 }

func (r *fakeReplica) leaderLocked() topology.NodeID {
	if lie, ok := r.lies[r.self]; ok {
		return lie
	}
	return r.leader
}

// Garbage says that region 2 holds back three deletions, since a minute ago.
func (r *fakeReplica) Garbage() (region.Garbage, error) {
	return region.Garbage{Region: 2, Since: hlc.At(testClock().Add(-time.Minute).UnixMilli(), 0), Count: 3, Bytes: 90}, nil
}

func (r *fakeReplica) View() *region.MachineView {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep, err := replica.Open(r.memory, r.actor)
	if err != nil {
		panic(err)
	}
	times := map[crdt.Actor]hlc.Time{r.actor: rep.LastHLC()}
	for _, dot := range rep.Vector().Entries() {
		times[dot.Actor] = rep.HLCOf(dot.Actor)
	}
	return &region.MachineView{
		Vector: rep.Vector(),
		HLCs:   times,
		Outbox: region.OutboxState{Actor: r.actor, First: 1, Head: rep.Seq(), Bytes: 100},
	}
}

// Destinations says that us lacks everything.
func (r *fakeReplica) Destinations() ([]region.OutboxDestination, error) {
	head := r.View().Outbox.Head
	r.mu.Lock()
	defer r.mu.Unlock()
	return []region.OutboxDestination{{Region: 2, Events: head, Bytes: 100, Eviction: r.evicted}}, nil
}

func (r *fakeReplica) Applied() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.applied == nil {
		r.applied = make(chan struct{})
	}
	return r.applied
}

func (r *fakeReplica) Observe(t hlc.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observed = max(r.observed, t)
}

// appliedLocked wakes who waits for something to be applied.
func (g *fakeGroup) appliedLocked() {
	if g.applied != nil {
		close(g.applied)
		g.applied = nil
	}
}

func (r *fakeReplica) WriteHome(ctx context.Context, opID string, ops []replica.Op, _ bool) (region.WriteResult, error) {
	return r.Write(ctx, opID, ops)
}

func (*fakeReplica) AtHome(*replica.Replica, string, bool) error { return nil }

func (*fakeReplica) Home(context.Context, string, bool) (region.HomeState, error) {
	return region.HomeState{}, nil
}

func (*fakeReplica) TakeHome(context.Context, string, topology.RegionID) error { return nil }

func (*fakeReplica) MoveHome(context.Context, string, topology.RegionID, bool) error { return nil }

func (r *fakeReplica) Write(ctx context.Context, opID string, ops []replica.Op) (region.WriteResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if leader := r.leaderLocked(); leader != r.self {
		return region.WriteResult{}, &region.NotLeaderError{Leader: leader}
	}
	r.writes++
	if r.onWrite != nil {
		if err := r.onWrite(ctx); err != nil {
			return region.WriteResult{}, err
		}
	}
	if outcomes, ok := r.known[opID]; ok && opID != "" {
		return region.WriteResult{Outcomes: outcomes, Repeated: true}, nil
	}
	if strings.HasPrefix(opID, elsewhere) {
		outcomes := make([]replica.Outcome, len(ops))
		for i := range outcomes {
			outcomes[i].Version = "7.1"
		}
		return region.WriteResult{Outcomes: outcomes, Repeated: true, Elsewhere: true}, nil
	}
	next := r.memory.Clone()
	rep, err := replica.Open(next, r.actor)
	if err != nil {
		return region.WriteResult{}, err
	}
	outcomes, _, err := rep.Execute(max(testNow(), r.observed.Next()), ops)
	if err != nil {
		return region.WriteResult{}, err
	}
	if err := rep.Flush(); err != nil {
		return region.WriteResult{}, err
	}
	r.memory, r.known[opID] = next, outcomes
	r.appliedLocked()
	for i := range ops {
		t := ops[i].Type
		if t == 0 {
			t = crdt.TypeLWWRegister
		}
		r.changeLocked(region.Change{Namespace: ops[i].Namespace, Key: ops[i].Key, Type: t, Cause: region.CauseLocal})
	}
	if r.afterDo != nil {
		return region.WriteResult{}, r.afterDo()
	}
	return region.WriteResult{Outcomes: outcomes}, nil
}

// WriteAsync never blocks, whatever the test has writes do.
func (r *fakeReplica) WriteAsync(ctx context.Context, opID string, ops []replica.Op, done func(region.WriteResult, error)) {
	go func() { done(r.Write(ctx, opID, ops)) }()
}

// WriteLocal does what it acknowledges at once, whoever leads.
func (r *fakeReplica) WriteLocal(ctx context.Context, opID string, ops []replica.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.onLocal != nil {
		return r.onLocal(ctx)
	}
	r.locals = append(r.locals, opID)
	rep, err := replica.Open(r.memory, r.actor)
	if err != nil {
		return err
	}
	for i := range ops {
		ops[i].AnyType = true // as a partition does with what was acknowledged
	}
	if _, _, err := rep.Execute(testNow(), ops); err != nil {
		return err
	}
	return rep.Flush()
}

func (r *fakeReplica) SubmitQueued(_ context.Context, writes [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if leader := r.leaderLocked(); leader != r.self {
		return &region.NotLeaderError{Leader: leader}
	}
	r.submitted = append(r.submitted, writes...)
	return nil
}

func (r *fakeReplica) Read(
	_ context.Context, o region.ReadOptions, fn func(*replica.Replica, hlc.Time) error,
) (region.ReadInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried++
	info, err := r.promiseLocked(o)
	if err != nil {
		return info, err
	}
	r.reads++
	if r.onRead != nil {
		if err := r.onRead(); err != nil {
			return region.ReadInfo{}, err
		}
	}
	rep, err := replica.Open(r.memory, r.actor)
	if err != nil {
		return region.ReadInfo{}, err
	}
	return info, fn(rep, testNow())
}

func (r *fakeReplica) promiseLocked(o region.ReadOptions) (region.ReadInfo, error) {
	info := region.ReadInfo{Served: o.Level, Strategy: o.Strategy, Known: true}
	leader := r.leaderLocked()
	switch {
	case o.Level == region.Eventual:
		info.Known = false
	case o.Level == region.Confirmed && o.Strategy == region.StrategyAuto && leader != r.self:
		if info.Strategy = region.StrategyFollower; r.noQuorum || leader == "" {
			return info, region.ErrNoQuorum
		}
	case o.Level == region.Bounded:
		info.Staleness = r.age[r.self]
		if info.Staleness > o.MaxStaleness {
			return info, &region.StaleError{Age: info.Staleness, Known: true, Err: region.ErrNoQuorum}
		}
	case o.Strategy == region.StrategyMajority:
		if r.noQuorum {
			return info, region.ErrNoQuorum
		}
	case o.Strategy == region.StrategyFollower:
		if leader == "" {
			return info, &region.NotLeaderError{}
		}
	default:
		info.Strategy = region.StrategyLeader
		if leader != r.self {
			return info, &region.NotLeaderError{Leader: leader}
		}
		if r.cutOff {
			return info, region.ErrNoQuorum
		}
	}
	return info, nil
}

func (g *fakeGroup) changeLocked(c region.Change) {
	g.log = append(g.log, c)
	g.stirLocked()
}

func (g *fakeGroup) stirLocked() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// forget makes the changes so far unknown, and the given number of feeds fall behind. With lost, they
// have not told all of them.
func (g *fakeGroup) forget(behind int, lost bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.floor, g.behind = len(g.log), behind
	if lost {
		g.floor++
	}
	g.stirLocked()
}

// fakeFeed tells of the changes of a fakeGroup. Its cursor is how many it has told.
type fakeFeed struct {
	*fakeGroup
	next   int
	resync bool
}

func (r *fakeReplica) Watch(cursor []byte) (Feed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &fakeFeed{fakeGroup: r.fakeGroup, next: len(r.log)}
	if len(cursor) > 0 {
		at, err := strconv.Atoi(string(cursor))
		if err != nil {
			return nil, region.ErrBadCursor
		}
		if f.resync = at < r.floor; !f.resync {
			f.next = at
		}
	}
	return f, nil
}

func (f *fakeFeed) Resync() bool { return f.resync }

func (f *fakeFeed) Cursor() []byte { return strconv.AppendInt(nil, int64(f.next), 10) }

func (f *fakeFeed) Close() {}

func (f *fakeFeed) Next(ctx context.Context) ([]region.Change, error) {
	for {
		f.mu.Lock()
		if f.behind > 0 {
			f.behind--
			f.mu.Unlock()
			return nil, region.ErrFeedBehind
		}
		if f.next < len(f.log) {
			found := f.log[f.next:len(f.log):len(f.log)]
			f.next = len(f.log)
			f.mu.Unlock()
			return found, nil
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}
