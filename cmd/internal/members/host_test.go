package members

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/loopback"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.RaftLeftovers()...) }

const patience = 30 * time.Second

// voter is one region's host and what it stands on.
type voter struct {
	t    *testing.T
	cfg  Config
	dir  string
	host *Host
	stop func()
}

// founders starts the voters of so many regions.
func founders(t *testing.T, n int) []*voter {
	t.Helper()
	free, err := loopback.Free(n + 1)
	if err != nil {
		t.Fatal(err)
	}
	c := &topology.Cluster{Name: "t", Partitions: 2}
	addresses := map[topology.RegionID]string{}
	for i := range n {
		id := topology.RegionID(i + 1)
		c.Regions = append(c.Regions, topology.Region{ID: id, Name: fmt.Sprint("r", id)})
		addresses[id] = free[i]
	}
	var voters []*voter
	for i := range c.Regions {
		v := &voter{t: t, dir: t.TempDir(), cfg: Config{Cluster: c, Self: &c.Regions[i], Addresses: addresses, ElectionTimeout: 300 * time.Millisecond}}
		v.start()
		voters = append(voters, v)
	}
	v := &voter{t: t, dir: t.TempDir()} // not started: a region to be added
	v.cfg = voters[0].cfg
	own := map[topology.RegionID]string{9: free[n]}
	for id, a := range addresses {
		own[id] = a
	}
	v.cfg.Self, v.cfg.Addresses = &topology.Region{ID: 9, Name: "r9", Joins: true}, own
	return append(voters, v)
}

func (v *voter) open() (*raftlog.Log, error) {
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("region", v.cfg.Self.ID)
	}
	onFailure := func(err error) { v.t.Errorf("region %d: %v", v.cfg.Self.ID, err) }
	log, err := raftlog.Open(filepath.Join(v.dir, "log"), raftlog.Options{Logger: logger, OnFailure: onFailure})
	if err != nil {
		v.t.Fatal(err)
	}
	v.cfg.Log, v.cfg.Dir, v.cfg.Temp, v.cfg.Logger, v.cfg.OnFailure = log, v.dir, v.dir, logger, onFailure
	v.host, err = Open(v.cfg)
	return log, err
}

func (v *voter) start() {
	v.t.Helper()
	log, err := v.open()
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(v.t.Context()))
	done := make(chan error, 1)
	go func() { done <- v.host.Run(ctx) }()
	v.stop = func() {
		cancel()
		if err := errors.Join(<-done, log.Close()); err != nil {
			v.t.Error(err)
		}
		v.stop = func() {}
	}
	v.t.Cleanup(func() { v.stop() })
}

// await waits until a voter knows what is wanted.
func (v *voter) await(what string, is func(*membership.State) bool) *membership.State {
	v.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s, changed := v.host.Current()
		if is(s) {
			return s
		}
		select {
		case <-changed:
		case <-late.C:
			v.t.Fatalf("region %d waits in vain until %s: %+v", v.cfg.Self.ID, what, s)
		}
	}
}

// propose gives a command until a majority has it, or it is refused.
func (v *voter) propose(c membership.Command) error {
	v.t.Helper()
	var err error
	testkit.Eventually(v.t, patience, func() error {
		if err = v.host.Propose(v.t.Context(), c); errors.Is(err, ErrNoMajority) || errors.Is(err, region.ErrOutcomeUnknown) {
			return err
		}
		return nil
	})
	return err
}

// votes waits until a voter knows of so many.
func (v *voter) votes(n int) {
	v.t.Helper()
	testkit.Eventually(v.t, patience, func() error {
		if got := v.host.group.Members(); len(got) != n {
			return fmt.Errorf("%v vote", got)
		}
		return nil
	})
}

func founded(s *membership.State) bool { return s.Founded() }

func TestTheMembershipIsDecidedByMajority(t *testing.T) {
	voters := founders(t, 3)
	for _, v := range voters[:3] {
		v.await("it is founded", founded)
	}
	// By way of any voter, leader or not, with refusals as they are.
	for _, v := range voters[:3] {
		var refused *membership.RefusedError
		if err := v.propose(membership.FenceCommand(7, 0, "")); !errors.As(err, &refused) || refused.Code != membership.UnknownRegion || refused.Do == "" {
			t.Fatalf("region %d: %v", v.cfg.Self.ID, err)
		}
	}
	if err := voters[0].propose(membership.FenceCommand(3, 0, "lost")); err != nil {
		t.Fatal(err)
	}
	fenced := func(s *membership.State) bool { r := s.Region(3); return r != nil && r.State == membership.Fenced }
	for _, v := range voters[:3] { // the one that was given up learns it, too
		v.await("region 3 is fenced", fenced)
	}
	// It may not start again under its epoch.
	voters[2].stop()
	log, err := voters[2].open()
	var start *membership.StartError
	if !errors.As(err, &start) {
		t.Errorf("a fenced region starts: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	// Two are left, and neither decides alone, but serves what it knew at its next start.
	voters[0].votes(2)
	voters[1].stop()
	if err := voters[0].host.Propose(t.Context(), membership.DrainCommand(2, 0)); err == nil {
		t.Error("one of two decides alone")
	}
	voters[0].stop()
	voters[0].start()
	if s, _ := voters[0].host.Current(); !fenced(s) {
		t.Errorf("after a restart without a majority: %+v", s)
	}
}

func TestARegionThatIsAddedVotes(t *testing.T) {
	voters := founders(t, 2)
	voters[0].await("it is founded", founded)
	added := voters[2]
	if err := voters[0].propose(membership.AddCommand(9, 0, "r9", added.cfg.Addresses[9])); err != nil {
		t.Fatal(err)
	}
	added.start()
	added.await("it is in", func(s *membership.State) bool { r := s.Region(9); return r != nil && r.State == membership.Joining })
	voters[0].votes(3)
	// Now two of three are a majority without the second.
	voters[1].stop()
	if err := added.propose(membership.AckCommand(1, 9, 0)); err != nil {
		t.Error(err)
	}
}

func TestOneOfTwoRegionsIsDeclaredDeadByHand(t *testing.T) {
	voters := founders(t, 2)
	for _, v := range voters[:2] {
		v.await("it is founded", founded)
	}
	voters[0].stop()
	voters[1].stop()
	voters[0].cfg.Alone, voters[0].cfg.Note = membership.SetOf(2), "burnt down"
	voters[0].start()
	declared := func(s *membership.State) bool { return len(s.Overrides) == 1 && s.Region(2).State == membership.Fenced }
	first := voters[0].await("region 2 is declared dead", declared)
	// Once is enough, also with the flag left in place.
	voters[0].stop()
	voters[0].start()
	if s := voters[0].await("it is known", declared); s.Lineage != first.Lineage {
		t.Error("it was declared again")
	}
	// The dead one lives, and learns what has become of it.
	voters[1].start()
	voters[1].await("it knows", declared)
}

func TestBothSidesDeclaredDeadDoNotMeet(t *testing.T) {
	voters := founders(t, 2)
	for _, v := range voters[:2] {
		v.await("it is founded", founded)
	}
	voters[0].stop()
	voters[1].stop()
	for i, v := range voters[:2] {
		v.cfg.Alone = membership.SetOf(voters[1-i].cfg.Self.ID)
		v.start()
		v.await("the other is declared dead", func(s *membership.State) bool { return len(s.Overrides) == 1 })
	}
	if err := voters[0].propose(membership.AddCommand(9, 0, "r9", "")); err != nil {
		t.Fatal(err)
	}
	if err := voters[1].host.learnFrom(t.Context(), nodeOf(1)); !errors.Is(err, ErrSplit) {
		t.Errorf("the other side's membership: %v", err)
	}
}

func TestFilesAreCheckedAndAnswersTravelWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileName)
	s := &membership.State{Epoch: 4, Cluster: "t", Partitions: 2}
	data := encodeFile(s, region.Position{Index: 9, Term: 3, ConfigurationIndex: 2, Configuration: []byte("c")})
	if err := writeFile(path, data); err != nil {
		t.Fatal(err)
	}
	var view membership.Published
	m, err := openMachine(path, &view)
	if err != nil || m.Durable().Index != 9 || string(m.Position().Configuration) != "c" || m.state().Epoch != 4 {
		t.Fatalf("read as %+v, %v", m, err)
	}
	for i := range data {
		damaged := append([]byte(nil), data...)
		damaged[i] ^= 1
		if _, _, err := decodeFile(damaged); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, _, err := decodeFile(data[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	refused := &membership.RefusedError{Code: membership.Waiting, Region: 63, Epoch: 7, Waiting: membership.SetOf(1, 63), Why: "why", Do: "do"}
	if got := decodeAnswer(encodeAnswer(fmt.Errorf("wrapped: %w", refused))); !reflect.DeepEqual(got, refused) {
		t.Errorf("a refusal came back as %#v", got)
	}
	for _, want := range []error{nil, ErrNoMajority, region.ErrOutcomeUnknown} {
		if got := decodeAnswer(encodeAnswer(want)); !errors.Is(got, want) {
			t.Errorf("%v came back as %v", want, got)
		}
	}
	if err := decodeAnswer([]byte{answerRefused, 1}); !errors.Is(err, region.ErrOutcomeUnknown) {
		t.Errorf("a short answer: %v", err)
	}
}
