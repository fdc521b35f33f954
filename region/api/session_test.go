package api

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/session"
	"github.com/atolldb/atoll/topology"
)

const inSession = atollv1.Consistency_CONSISTENCY_SESSION

var (
	euActor = topology.Actor(1, 0)
	usActor = topology.Actor(2, 0)
)

// askedFor is what a node has asked other regions for.
type askedFor struct {
	partition topology.PartitionID
	region    topology.RegionID
	past      hlc.Time
	seq       uint64
}

// fakeOthers notes what is asked of other regions, and knows how far they are by what the test says.
type fakeOthers struct {
	mu      sync.Mutex
	asked   []askedFor
	reached map[topology.RegionID]uint64
	changed chan struct{}
	foreign bool // another node leads
}

func newFakeOthers() *fakeOthers {
	return &fakeOthers{reached: map[topology.RegionID]uint64{}, changed: make(chan struct{})}
}

func (o *fakeOthers) note(a askedFor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, a)
}

func (o *fakeOthers) AskEvent(p topology.PartitionID, r topology.RegionID, past hlc.Time) {
	o.note(askedFor{partition: p, region: r, past: past})
}

func (o *fakeOthers) AskWatermarks(p topology.PartitionID, seq uint64) {
	o.note(askedFor{partition: p, seq: seq})
}

func (o *fakeOthers) Reached(_ topology.PartitionID, seq uint64) (n int, changed <-chan struct{}, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.reached {
		if at >= seq {
			n++
		}
	}
	return n, o.changed, !o.foreign
}

// reach says that a region has applied so many events.
func (o *fakeOthers) reach(r topology.RegionID, seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reached[r] = seq
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *fakeOthers) all() []askedFor {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// fakeMembership has actors that are closed, in all partitions.
type fakeMembership map[crdt.Actor]hlc.Time

func (m fakeMembership) Closed(_ topology.PartitionID, a crdt.Actor) (hlc.Time, bool) {
	last, closed := m[a]
	return last, closed
}

// sessions is a region of a deployment of three with what its sessions need.
type sessions struct {
	*testRegion
	others     *fakeOthers
	membership fakeMembership
}

func setupSessions(t *testing.T, nodes int, clock func() time.Time) *sessions {
	s := &sessions{others: newFakeOthers(), membership: fakeMembership{}}
	s.testRegion = setup(t, nodes, 1, 0, func(c *Config) {
		c.Others, c.Membership, c.SessionKey, c.Clock = s.others, s.membership, [32]byte{7}, clock
		if len(c.Cluster.Regions) == 2 {
			c.Cluster.Regions = append(c.Cluster.Regions, topology.Region{ID: 3, Name: "ap", Nodes: []topology.Node{{ID: "ap-0"}}})
		}
	})
	return s
}

// token returns a token of the deployment.
func (s *sessions) token(seen map[crdt.Actor]hlc.Time) []byte {
	token := session.NewIssuer("test", [32]byte{7}).New()
	for a, at := range seen {
		noError(s.t, token.Saw(a, at))
	}
	return token.Bytes()
}

// seen returns what a token says of eu and us.
func (s *sessions) seen(token []byte) (eu, us hlc.Time) {
	s.t.Helper()
	opened, err := session.NewIssuer("test", [32]byte{7}).Open(token, testClock().Add(time.Hour))
	noError(s.t, err)
	return opened.Seen(euActor), opened.Seen(usActor)
}

// arrives has a put of us arrive.
func (s *sessions) arrives(at hlc.Time, key string) {
	s.t.Helper()
	g := s.groups[0]
	if g.us == nil {
		us, err := replica.Open(replica.NewMemory(), usActor)
		noError(s.t, err)
		g.us = us
	}
	s.mergeFromUS(at, replica.Op{Kind: replica.OpPut, Namespace: "default", Key: key, Type: crdt.TypeLWWRegister, Value: []byte("of us")})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.appliedLocked()
}

func readIn(token []byte, onStale atollv1.OnStale) *atollv1.ReadOptions {
	return &atollv1.ReadOptions{Consistency: inSession, Session: token, OnStale: onStale}
}

// both gets a key by the unary RPC and over a stream, which must agree.
func (s *sessions) both(ctx context.Context, node topology.NodeID, key string, o *atollv1.ReadOptions) (*atollv1.GetResponse, error) {
	s.t.Helper()
	req := &atollv1.GetRequest{Key: key, Options: o}
	res, err := s.kv(node).Get(ctx, req)
	stream := s.pipeline(ctx, node)
	noError(s.t, stream.Send(&atollv1.PipelineRequest{Id: 1, Request: &atollv1.PipelineRequest_Get{Get: req}}))
	piped := answers(s.t, stream, 1)[1]
	if err != nil {
		want := verdict(s.t, err)
		if e := piped.GetError(); e.GetReason() != string(want.reason) || (e.GetRetryAfter() != nil) != (want.retry > 0) {
			s.t.Errorf("the stream answers %v, the RPC %v", e, err)
		}
		return nil, err
	}
	equal(s.t, "value over the stream", string(piped.GetGet().GetValue()), string(res.GetValue()))
	equal(s.t, "token over the stream", string(piped.GetGet().GetInfo().GetSession()), string(res.GetInfo().GetSession()))
	return res, nil
}

func TestOnlyWhoAsksGetsAToken(t *testing.T) {
	s := setupSessions(t, 1, testClock)
	ctx, kv := testContext(t), s.kv("eu-0")
	for _, c := range []struct {
		name  string
		asked bool
		read  *atollv1.ReadOptions
		write *atollv1.WriteOptions
	}{
		{"nothing", false, nil, nil},
		{"wanted", true, &atollv1.ReadOptions{WantSession: true}, &atollv1.WriteOptions{WantSession: true}},
		{"with a token", true, &atollv1.ReadOptions{Session: s.token(nil)}, &atollv1.WriteOptions{Session: s.token(nil)}},
	} {
		put, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k", Value: []byte("v"), Options: c.write})
		noError(t, err)
		equal(t, c.name+": put has a token", len(put.GetInfo().GetSession()) > 0, c.asked)
		got, err := s.both(ctx, "eu-0", "k", c.read)
		noError(t, err)
		equal(t, c.name+": get has a token", len(got.GetInfo().GetSession()) > 0, c.asked)
		multi, err := kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: []*atollv1.GetRequest{{Key: "k"}}, Options: c.read})
		noError(t, err)
		equal(t, c.name+": batch has a token", len(multi.GetItems()[0].GetResponse().GetInfo().GetSession()) > 0, c.asked)
		stream, err := kv.Scan(ctx, &atollv1.ScanRequest{Options: c.read})
		noError(t, err)
		last, err := stream.Receive()
		noError(t, err)
		equal(t, c.name+": scan has a token", len(last.GetSession()) > 0, c.asked)
		_ = stream.Close()
	}
}

// TestTokensSayWhatWasSeen: a put that tells nothing adds its own region only, and everything else all that its
// answer may depend on.
func TestTokensSayWhatWasSeen(t *testing.T) {
	s := setupSessions(t, 1, testClock)
	ctx, kv := testContext(t), s.kv("eu-0")
	theirs := testNow() + 5<<16
	s.arrives(theirs, "k")
	want := &atollv1.WriteOptions{WantSession: true}
	put, err := kv.Put(ctx, &atollv1.PutRequest{Key: "p", Options: want})
	noError(t, err)
	eu, us := s.seen(put.GetInfo().GetSession())
	if eu == 0 || us != 0 {
		t.Errorf("a put has seen %v and %v", eu, us)
	}
	conditional, err := kv.Put(ctx, &atollv1.PutRequest{Key: "p", Options: want, Condition: ifVersion(put.GetVersion())})
	noError(t, err)
	if _, us = s.seen(conditional.GetInfo().GetSession()); us != theirs {
		t.Errorf("a conditional put has seen %v", us)
	}
	add, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "c", Op: counterAdd(1), Options: want})
	noError(t, err)
	if _, us = s.seen(add.GetInfo().GetSession()); us != theirs {
		t.Errorf("an addition has seen %v", us)
	}
	batch, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Options: want, Items: []*atollv1.Write{
		{Write: &atollv1.Write_Put{Put: &atollv1.PutRequest{Key: "p"}}},
	}})
	noError(t, err)
	if eu, us = s.seen(batch.GetGroups()[0].GetInfo().GetSession()); eu == 0 || us != 0 {
		t.Errorf("a batch of puts has seen %v and %v", eu, us)
	}
	got, err := s.both(ctx, "eu-0", "absent", &atollv1.ReadOptions{Consistency: eventual, WantSession: true})
	noError(t, err)
	if eu, us = s.seen(got.GetInfo().GetSession()); eu == 0 || us != theirs {
		t.Errorf("a read has seen %v and %v", eu, us)
	}
}

func TestWritesOfASessionComeAfterWhatItHasSeen(t *testing.T) {
	s := setupSessions(t, 2, testClock)
	ctx := testContext(t)
	for i, write := range []func(o *atollv1.WriteOptions) (*atollv1.ReplyInfo, error){
		func(o *atollv1.WriteOptions) (*atollv1.ReplyInfo, error) {
			res, err := s.kv("eu-1").Put(ctx, &atollv1.PutRequest{Key: "k", Options: o})
			return res.GetInfo(), err
		},
		func(o *atollv1.WriteOptions) (*atollv1.ReplyInfo, error) {
			stream := s.pipeline(ctx, "eu-0")
			put := &atollv1.PutRequest{Key: "k", Options: o}
			noError(t, stream.Send(&atollv1.PipelineRequest{Id: 1, Request: &atollv1.PipelineRequest_Put{Put: put}}))
			return answers(t, stream, 1)[1].GetPut().GetInfo(), nil
		},
	} {
		seen := testNow() + hlc.Time(i+3)<<26
		info, err := write(&atollv1.WriteOptions{Session: s.token(map[crdt.Actor]hlc.Time{usActor: seen})})
		noError(t, err)
		if eu, us := s.seen(info.GetSession()); eu <= seen || us != seen {
			t.Errorf("after %v the token has %v and %v", seen, eu, us)
		}
	}
	refused := wantReason(t, func() error {
		_, err := s.kv("eu-0").Put(ctx, &atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{
			Session: s.token(map[crdt.Actor]hlc.Time{usActor: hlc.At(testClock().Add(11*time.Second).UnixMilli(), 0)}),
		}})
		return err
	}(), reasonInvalidArgument)
	equal(t, "field", refused.metadata["field"], "options.session")
	local := &atollv1.WriteOptions{Durability: atollv1.Durability_DURABILITY_LOCAL, WantSession: true}
	_, err := s.kv("eu-0").Put(ctx, &atollv1.PutRequest{Key: "k", Options: local})
	equal(t, "local write", wantReason(t, err, reasonInvalidArgument).metadata["field"], "options.durability")
}

func TestReadsBehindTheirSession(t *testing.T) {
	s := setupSessions(t, 2, testClock)
	ctx := testContext(t)
	s.arrives(testNow()-2<<16*500, "k")
	seen := testNow() + 7<<16
	token := s.token(map[crdt.Actor]hlc.Time{usActor: seen})
	for _, policy := range []atollv1.OnStale{atollv1.OnStale_ON_STALE_FAIL, atollv1.OnStale_ON_STALE_REDIRECT} {
		_, err := s.both(ctx, "eu-1", "k", readIn(token, policy))
		f := wantReason(t, err, reasonStale)
		equal(t, "lag", f.metadata["lag_ms"], "1000")
		equal(t, "regions", f.metadata["regions"], "us")
		equal(t, "region to use", f.metadata["region_to_use"], "us")
		equal(t, "retry", f.retry, 0)
	}
	_, err := s.both(ctx, "eu-0", "k", readIn(s.token(map[crdt.Actor]hlc.Time{topology.Actor(3, 0): seen, usActor: seen}), atollv1.OnStale_ON_STALE_FAIL))
	f := wantReason(t, err, reasonStale)
	equal(t, "lag of a region never heard of", f.metadata["lag_ms"], "unknown")
	equal(t, "regions", f.metadata["regions"], "ap,us")
	got, err := s.both(ctx, "eu-0", "k", readIn(token, atollv1.OnStale_ON_STALE_SERVE))
	noError(t, err)
	equal(t, "value", string(got.GetValue()), "of us")
	equal(t, "stale", got.GetInfo().GetStale(), true)
	equal(t, "staleness", got.GetInfo().GetStaleness().AsDuration(), time.Second)
	if _, us := s.seen(got.GetInfo().GetSession()); us != seen {
		t.Errorf("after a stale answer the token has %v, not %v: it forgets", us, seen)
	}
	// A linearizable read with a token promises both.
	linear := &atollv1.ReadOptions{Session: token, OnStale: atollv1.OnStale_ON_STALE_FAIL}
	_, err = s.both(ctx, "eu-0", "k", linear)
	wantReason(t, err, reasonStale)
	if wanted := (askedFor{region: 2, past: seen}); !slices.Contains(s.others.all(), wanted) {
		t.Errorf("asked for %v, want %v", s.others.all(), wanted)
	}
}

func TestReadsWaitForTheirSession(t *testing.T) {
	s := setupSessions(t, 1, time.Now)
	seen := testNow()
	if ahead := time.Until(testClock()); ahead > 0 {
		seen = hlc.At(time.Now().UnixMilli(), 0)
	}
	token := s.token(map[crdt.Actor]hlc.Time{usActor: seen})
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.kv("eu-0").Get(short, &atollv1.GetRequest{Key: "k", Options: readIn(token, 0)})
	if f := wantReason(t, err, reasonStale); f.retry == 0 || f.metadata["region_to_use"] != "us" {
		t.Errorf("at the deadline: %+v", f)
	}
	done := make(chan error, 1)
	go func() {
		res, err := s.kv("eu-0").Get(testContext(t), &atollv1.GetRequest{Key: "k", Options: readIn(token, 0)})
		if err == nil {
			equal(t, "value", string(res.GetValue()), "of us")
			equal(t, "served", res.GetInfo().GetServed(), inSession)
		}
		done <- err
	}()
	before := len(s.others.all())
	testkit.Eventually(t, 5*time.Second, func() error {
		if len(s.others.all()) == before {
			return errNotYet
		}
		return nil
	})
	s.arrives(seen-1, "other")
	select {
	case err := <-done:
		t.Fatalf("answered too early: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.arrives(seen, "k")
	noError(t, <-done)
}

// TestOwnEventsNeedAProofOrTheirInstant: what the session did in this region may have been in another partition,
// so an instant that is not reached here is for a proof to settle; one that is needs none.
func TestOwnEventsNeedAProofOrTheirInstant(t *testing.T) {
	s := setupSessions(t, 2, testClock)
	ctx, kv := testContext(t), s.kv("eu-0")
	put, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k", Value: []byte("v"), Options: &atollv1.WriteOptions{WantSession: true}})
	noError(t, err)
	token := put.GetInfo().GetSession()
	g := s.groups[0]
	g.lead("")
	g.mu.Lock()
	g.noQuorum = true
	g.mu.Unlock()
	got, err := s.both(ctx, "eu-1", "k", readIn(token, 0))
	noError(t, err)
	equal(t, "value", string(got.GetValue()), "v")
	equal(t, "served", got.GetInfo().GetServed(), inSession)
	eu, _ := s.seen(token)
	elsewhere := readIn(s.token(map[crdt.Actor]hlc.Time{euActor: eu + 1}), 0)
	_, err = s.kv("eu-1").Get(ctx, &atollv1.GetRequest{Key: "k", Options: elsewhere})
	wantReason(t, err, reasonNoQuorum)
	g.mu.Lock()
	g.noQuorum = false
	g.mu.Unlock()
	g.lead("eu-0")
	_, err = s.both(ctx, "eu-1", "k", elsewhere)
	noError(t, err)
}

func TestSessionsThatAreLost(t *testing.T) {
	s := setupSessions(t, 1, testClock)
	ctx, kv := testContext(t), s.kv("eu-0")
	last := testNow() - 100<<16
	s.arrives(last, "k")
	s.membership[usActor] = last
	_, err := s.both(ctx, "eu-0", "k", readIn(s.token(map[crdt.Actor]hlc.Time{usActor: last + 1}), 0))
	f := wantReason(t, err, reasonSessionLost)
	equal(t, "region", f.metadata["region"], "us")
	equal(t, "epoch", f.metadata["epoch"], "0")
	_, err = s.both(ctx, "eu-0", "k", readIn(s.token(map[crdt.Actor]hlc.Time{usActor: last}), 0))
	noError(t, err)
	// A session that begins now is not told of a loss in partitions that ended earlier.
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k", Options: readIn(nil, 0)})
	noError(t, err)
	token := got.GetInfo().GetSession()
	if _, us := s.seen(token); us != 0 {
		t.Errorf("a new session has seen the lost region up to %v", us)
	}
	s.membership[usActor] = last - 1<<16
	_, err = s.both(ctx, "eu-0", "k", readIn(token, 0))
	noError(t, err)
	s.membership[usActor] = last + 1<<16 // here some of what it left is still to come
	_, err = s.both(ctx, "eu-0", "k", readIn(token, atollv1.OnStale_ON_STALE_FAIL))
	wantReason(t, err, reasonStale)
}

func TestWritesWaitForOtherRegions(t *testing.T) {
	s := setupSessions(t, 2, time.Now)
	put := func(ctx context.Context, node topology.NodeID, regions uint32, opID string) error {
		_, err := s.kv(node).Put(ctx, &atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{Regions: regions, OpId: opID}})
		return err
	}
	f := wantReason(t, put(testContext(t), "eu-0", 3, ""), reasonInvalidArgument)
	equal(t, "field", f.metadata["field"], "options.regions")
	equal(t, "limit", f.metadata["limit"], "2")
	equal(t, "writes", s.groups[0].writes, 0)

	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s.others.reach(2, 1)
	f = wantReason(t, put(short, "eu-0", 2, "op"), reasonOutcomeUnknown)
	equal(t, "done in", f.metadata["done_in"], "eu")
	equal(t, "reached", f.metadata["regions_reached"], "1")
	equal(t, "wanted", f.metadata["regions_wanted"], "2")
	equal(t, "op_id", f.metadata["op_id"], "op")
	noError(t, put(testContext(t), "eu-1", 1, "op")) // the same write: it is there already
	if !slices.Contains(s.others.all(), askedFor{seq: 1}) {
		t.Errorf("asked for %v", s.others.all())
	}

	done := make(chan error, 2)
	stream := s.pipeline(testContext(t), "eu-0")
	noError(t, stream.Send(&atollv1.PipelineRequest{Id: 9, Request: &atollv1.PipelineRequest_Put{
		Put: &atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{Regions: 2}},
	}}))
	go func() { done <- put(testContext(t), "eu-1", 2, "") }()
	testkit.Eventually(t, 5*time.Second, func() error {
		if !slices.Contains(s.others.all(), askedFor{seq: 3}) {
			return errNotYet
		}
		return nil
	})
	s.others.reach(2, 3)
	select {
	case err := <-done:
		t.Fatalf("acknowledged with one region too few: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.others.reach(3, 3)
	noError(t, <-done)
	if a := answers(t, stream, 1)[9]; a.GetError() != nil {
		t.Errorf("over the stream: %v", a.GetError())
	}
	s.others.foreign = true // the leader changed meanwhile: this node cannot tell
	f = wantReason(t, put(testContext(t), "eu-0", 1, ""), reasonOutcomeUnknown)
	equal(t, "done in", f.metadata["done_in"], "eu")
}

func TestAScansTokenHasAllPartitions(t *testing.T) {
	others := newFakeOthers()
	r := setup(t, 2, 4, 0, func(c *Config) { c.Others, c.SessionKey = others, [32]byte{7} })
	s := &sessions{testRegion: r, others: others}
	var latest hlc.Time
	for i := range 20 {
		put, err := r.kv("eu-0").Put(testContext(t), &atollv1.PutRequest{Key: strconv.Itoa(i), Options: &atollv1.WriteOptions{WantSession: true}})
		noError(t, err)
		eu, _ := s.seen(put.GetInfo().GetSession())
		latest = max(latest, eu)
	}
	stream, err := r.kv("eu-1").Scan(testContext(t), &atollv1.ScanRequest{Options: readIn(nil, 0)})
	noError(t, err)
	defer func() { _ = stream.Close() }()
	msg, err := stream.Receive()
	noError(t, err)
	if eu, _ := s.seen(msg.GetSession()); eu != latest {
		t.Errorf("the scan has seen %v, want %v", eu, latest)
	}
}
