package region_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// One command expires a bounded number of registers; the leader proposes as many as it takes.
func TestAllThatIsDueExpiresAtOnce(t *testing.T) {
	f := newFixture(t, testEU)
	const registers = 2500
	ops := make([]replica.Op, registers)
	for i := range ops {
		ops[i] = put(fmt.Sprint(i), "v")
		ops[i].Expires = hlc.At(f.clock.wall().Add(time.Minute).UnixMilli(), 0)
	}
	f.mustWrite(t, "", ops...)
	if err := f.ExpireDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Hour)
	if err := f.ExpireDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := f.machine.Read(func(r *replica.Replica) error {
		if due, err := r.Due(replica.Expiry{Now: hlc.At(f.clock.wall().UnixMilli(), 0)}); due || err != nil {
			t.Errorf("more is due: %v, %v", due, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(f.group.log); got < 4 {
		t.Errorf("%d entries: one expires at most a thousand", got)
	}
}

// A set with a time to live is told of in every region when it expires, its region deletes it, and its word of
// that deletes it elsewhere; behind the cut nothing is left.
func TestExpiredValuesAreDeletedByTheirRegion(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	op := replica.Op{Kind: replica.OpSetAdd, Key: "s", Elements: [][]byte{[]byte("a")}}
	op.Expires = hlc.At(eu.clock.wall().Add(time.Minute).UnixMilli(), 0)
	eu.mustWrite(t, "", op)
	us.mustMerge(t, eu, 1)
	euFeed, usFeed := watch(t, eu, nil), watch(t, us, nil)
	for _, f := range []*fixture{eu, us} {
		f.clock.advance(61 * time.Second)
		if err := f.ExpireDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expired := region.Change{Key: "s", Type: crdt.TypeAWSet, Cause: region.CauseExpired}
	for _, feed := range []*region.Feed{euFeed, usFeed} {
		if got, err := feed.Next(t.Context()); err != nil || !slices.Equal(got, []region.Change{expired}) {
			t.Errorf("told of %+v, %v", got, err)
		}
	}
	if euBox, _ := eu.Outbox(); euBox.Head != 2 {
		t.Errorf("eu's outbox is %+v, want the delete too", euBox)
	}
	if usBox, _ := us.Outbox(); usBox.Head != 0 {
		t.Errorf("us deleted what is eu's to delete: %+v", usBox)
	}
	us.mustMerge(t, eu, 2)
	remote := region.Change{Key: "s", Type: crdt.TypeAWSet, Cause: region.CauseRemote}
	if got, err := usFeed.Next(t.Context()); err != nil || !slices.Equal(got, []region.Change{remote}) {
		t.Errorf("told of %+v, %v", got, err)
	}
	us.mustWrite(t, "", put("k", "v"))
	eu.mustMerge(t, us, 1)
	eu.mustWrite(t, "", put("k", "v"))
	us.mustMerge(t, eu, 3)
	for _, f := range []*fixture{eu, us} {
		if err := f.ExpireDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state := dump(t, f.machine); strings.Contains(state, fmt.Sprintf("%x", "K\x00\x01s")) {
			t.Errorf("something of it is left:\n%s", state)
		}
	}
}

// Where nothing is heard of the region that set the deadline, another one deletes after a while.
func TestOthersDeleteWhatTheirRegionDoesNot(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	op := replica.Op{Kind: replica.OpFlagEnable, Key: "f"}
	op.Expires = hlc.At(eu.clock.wall().Add(time.Second).UnixMilli(), 0)
	eu.mustWrite(t, "", op)
	us.mustMerge(t, eu, 1)
	for _, step := range []struct {
		wait time.Duration
		head uint64
	}{{30 * time.Second, 0}, {40 * time.Second, 1}} {
		us.clock.advance(step.wait)
		if err := us.ExpireDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if box, _ := us.Outbox(); box.Head != step.head {
			t.Errorf("after %v more the outbox is %+v, want %d", step.wait, box, step.head)
		}
	}
}

// Additions with a time to live are not made one with those that have none.
func TestAdditionsKeepTheirTimeToLive(t *testing.T) {
	f := newFixture(t, testEU)
	lasting, passing := add("n", 1), add("n", 2)
	passing.Expires = hlc.At(f.clock.wall().Add(time.Minute).UnixMilli(), 0)
	commands := &logv1.LogEntry{Hlc: uint64(hlc.At(f.clock.wall().UnixMilli(), 0))}
	for _, op := range []replica.Op{lasting, passing, lasting} {
		commands.Commands = append(commands.Commands, region.WriteCommand("", []replica.Op{op}))
	}
	data, err := proto.Marshal(commands)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.machine.Apply([]region.Entry{{Index: 1, Term: 1, Data: data}}); err != nil {
		t.Fatal(err)
	}
	err = f.machine.Read(func(r *replica.Replica) error {
		o, found, err := r.LookupType("default", "n", crdt.TypeCounter, 0)
		if !found || o.Counter != 4 || o.Expires != passing.Expires {
			t.Errorf("%+v, %v", o, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mustMerge merges another region's deltas from a sequence number on.
func (f *fixture) mustMerge(t *testing.T, from *fixture, seq uint64) {
	t.Helper()
	if _, err := f.Merge(t.Context(), from.View().Outbox.Actor, deltas(t, from, seq)); err != nil {
		t.Fatal(err)
	}
}
