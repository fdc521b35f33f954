package raftgroup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/topology"
)

// fetch gives a machine that has lost its state that of another node.
func (c *cluster) fetch(n *node, group uint32, m *testMachine, log *raftlog.Group) {
	c.t.Helper()
	peers := slices.DeleteFunc(c.members(), func(id topology.NodeID) bool { return id == n.id })
	f, err := FetchState(c.t.Context(), n.mux.Group(group), peers, filepath.Join(n.dir, "tmp"), max(log.FirstIndex(), 1)-1)
	c.must(err)
	c.must(m.Install(f.Path))
	if p := m.Position(); p.Index != f.Index || p.Term != f.Term {
		c.t.Errorf("fetched %+v, which holds %+v", f, p)
	}
	c.must(AdoptTerm(log, f.Term))
}

// A node that has lost its state, but not its log, is the same member when it has fetched another's.
// Its log stays, unless all of it is in the state.
func TestStateIsFetchedFromAnotherMember(t *testing.T) {
	for name, away := range map[string]uint64{"nothing happened meanwhile": 0, "the others went on": 5} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 1)
			for i := range 60 {
				c.propose(0, fmt.Sprint(i))
			}
			c.converge(0, 60)
			n := c.nodes[0]
			c.cut(n.groups[0], 20)
			before := n.groups[0].log.Stats()
			if before.First < 30 {
				t.Fatalf("the log begins at %d", before.First)
			}
			c.stopNode(n)
			for i := range away {
				c.propose(0, fmt.Sprint("away", i))
			}
			c.must(os.Remove(filepath.Join(n.dir, "state-0.db")))
			n.lost = true
			c.start(n)
			if after := n.groups[0].log.Stats(); away == 0 && (after.First != before.First || after.Last < before.Last) {
				t.Errorf("the log held %d..%d and holds %d..%d", before.First, before.Last, after.First, after.Last)
			}
			c.converge(0, 60+away)
			if got := n.machines[0].installs.Load(); got != 1 {
				t.Errorf("%d snapshots installed, want the one that was fetched", got)
			}
			c.propose(0, "afterwards")
			c.converge(0, 61+away)
			c.healthy()
		})
	}
}

// Without a log that says how far the state was, only one that has everything committed will do.
func TestFetchedStateIsFarEnough(t *testing.T) {
	c := led(t)
	leader, lost, behind := c.nodes[0], c.nodes[1], c.nodes[2]
	c.isolate(behind, true)
	c.must(leader.groups[0].Propose(t.Context(), []byte("second")))
	c.link(behind, lost).Heal()
	c.link(lost, behind).Heal()
	for _, least := range []uint64{0, leader.machines[0].Position().Index} {
		short, stop := context.WithTimeout(t.Context(), 5*time.Second)
		f, err := FetchState(short, lost.groups[0].layer, []topology.NodeID{behind.id}, t.TempDir(), least)
		stop()
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errRefused) {
			t.Errorf("least %d: got %+v from a member that is behind: %v", least, f, err)
		}
		f, err = FetchState(t.Context(), lost.groups[0].layer, []topology.NodeID{behind.id, leader.id}, t.TempDir(), least)
		if err != nil || f.Index < leader.machines[0].Position().Index {
			t.Errorf("least %d: got %+v, %v", least, f, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := FetchState(ctx, lost.groups[0].layer, nil, "", 0); !errors.Is(err, errNoPeers) {
		t.Errorf("from nobody: %v", err)
	}
	absurd := leader.groups[0].raft().LastIndex() + 1000
	if _, err := FetchState(ctx, lost.groups[0].layer, []topology.NodeID{leader.id}, t.TempDir(), absurd); !errors.Is(err, errRefused) {
		t.Errorf("from the future: %v", err)
	}
}

// receive reads what a member sends whose state is at entry 7 of term 3.
func receive(b []byte) ([]byte, error) {
	r, got, fetched := bytes.NewReader(b), bytes.Buffer{}, Fetched{}
	size, err := readStateHeader(r, &fetched)
	if err == nil {
		err = receiveState(&got, r, size)
	}
	if err == nil && (fetched.Index != 7 || fetched.Term != 3) {
		err = fmt.Errorf("received %+v", fetched)
	}
	return got.Bytes(), err
}

func TestDamagedTransferOfAStateIsNoticed(t *testing.T) {
	f := newLogFixture(t, 1, region.Position{Index: 7, Term: 3})
	s := &snapshotStore{machine: f.machine, budget: NewBudget(0)}
	state, err := s.openOutgoing()
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	if err := errors.Join(sendState(&sent, state, state), state.Close()); err != nil {
		t.Fatal(err)
	}
	whole := sent.Bytes()
	got, err := receive(whole)
	if err != nil || !bytes.Equal(got, whole[1+stateHeader:len(whole)-4]) {
		t.Fatalf("%d of %d bytes: %v", len(got), len(whole), err)
	}
	for _, at := range []int{1 + stateHeader, len(whole) / 2, len(whole) - 1} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 4
		if _, err := receive(damaged); !errors.Is(err, errChecksum) {
			t.Errorf("damage at %d: %v", at, err)
		}
		if _, err := receive(whole[:at]); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	for _, at := range []int{1, 9, 17} { // index, term, size
		damaged := bytes.Clone(whole)
		binary.BigEndian.PutUint64(damaged[at:], 1<<63)
		if _, err := receive(damaged); !errors.Is(err, errAbsurd) {
			t.Errorf("absurd number at %d: %v", at, err)
		}
	}
	var refusal bytes.Buffer
	if err := writeRefusal(&refusal, errBehind); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(refusal.Bytes()); !errors.Is(err, errRefused) {
		t.Errorf("refusal: %v", err)
	}
}
