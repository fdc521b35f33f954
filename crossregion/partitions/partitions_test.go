package partitions

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var errOther = errors.New("a disk is full")

// A partition in the middle of a transfer has a part of what the donor had: it cannot tell what it has of an actor that is
// being closed.
func TestAPartitionTellsWhatItHas(t *testing.T) {
	view := &region.MachineView{Facts: region.Facts{Epoch: 3, Facts: []region.Fact{{Region: 1, Actor: 1, State: region.ActorFenced}, {Region: 2, Actor: 2, State: region.ActorOpen}}}}
	view.Vector.Set(1, 5)
	for _, c := range []struct {
		actor crdt.Actor
		ahead uint64
		known bool
	}{{1, 5, true}, {1, 6, false}, {2, 6, true}} {
		view.Ahead = view.Vector.Clone()
		view.Ahead.Set(c.actor, c.ahead)
		led, known := Led(4, view)
		if known != c.known || known && (led.Partition != 4 || led.Taken != 3 || len(led.Applied) != 1 || led.Applied[0].Seq != 5) {
			t.Errorf("%+v: %+v, %v", c, led, known)
		}
	}
}

// Receivers and resyncers do different things after different errors: what can never succeed must not look like what may.
func TestErrorsAreToldApart(t *testing.T) {
	ahead := &region.ClockAheadError{Ahead: time.Hour}
	bad, damaged, closed := &replica.BadDeltaError{Reason: "gap"}, &crdt.DecodeError{}, &region.ClosedError{}
	for _, c := range []struct {
		err         error
		merge, step func(error) bool
	}{
		{ahead, is[*protocol.ClockAheadError], kind(protocol.ErrTransferRefused)},
		{bad, is[*protocol.BadBatchError], kind(protocol.ErrTransferRefused)},
		{damaged, is[*protocol.BadBatchError], kind(protocol.ErrTransferRefused)},
		{closed, is[*protocol.BadBatchError], kind(protocol.ErrTransferRefused)},
		{replica.ErrRangeDiffers, same(replica.ErrRangeDiffers), kind(protocol.ErrRangeDiffers)},
		{replica.ErrNoResync, same(replica.ErrNoResync), kind(protocol.ErrNoTransfer)},
		{replica.ErrResyncNotNeeded, same(replica.ErrResyncNotNeeded), kind(protocol.ErrNothingNew)},
		{replica.ErrTooManyResyncs, same(replica.ErrTooManyResyncs), kind(protocol.ErrTransferRefused)},
		{replica.ErrLostEvents, same(replica.ErrLostEvents), kind(protocol.ErrTransferRefused)},
		{region.ErrBadCommand, same(region.ErrBadCommand), kind(protocol.ErrTransferRefused)},
		{errOther, same(errOther), same(errOther)},
		{nil, same(nil), same(nil)},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("node 3: %w", err)
		}
		if got := MergeError(err); !c.merge(got) {
			t.Errorf("a merge that ended with %v ends with %T %v", err, got, got)
		}
		if got := StepError(err); !c.step(got) {
			t.Errorf("a step that ended with %v ends with %T %v", err, got, got)
		}
	}
	if ahead, ok := MergeError(ahead).(*protocol.ClockAheadError); !ok || ahead.Ahead != time.Hour {
		t.Errorf("how far a clock is ahead is lost: %v", ahead)
	}
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// kind matches errors that are of a kind of the protocol's and say the cause, too.
func kind(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) && err.Error() != want.Error() }
}

// same matches errors that were passed on as they were.
func same(want error) func(error) bool {
	return func(err error) bool {
		return errors.Is(err, want) && !is[*protocol.BadBatchError](err) && !errors.Is(err, protocol.ErrTransferRefused)
	}
}

// alone is a group of which nothing is asked.
type alone struct{ region.Group }

func TestViewsThatAreGoneAreSaidToBe(t *testing.T) {
	p := region.NewPartition(region.PartitionConfig{Group: alone{}, Wall: time.Now, Logger: slog.New(slog.DiscardHandler)})
	for _, want := range []protocol.ResyncRequest{
		{Want: protocol.WantRanges, View: 1, Items: 1, Ranges: 1}, {Want: protocol.WantChunk, View: 1, MaxBytes: 1},
		{Want: protocol.WantHidden, View: 1, MaxBytes: 1}, {Want: protocol.WantWrites, View: 1, MaxBytes: 1},
	} {
		want.From, want.To = replica.EncodePosition(replica.Position{}), replica.EncodePosition(replica.Position{End: true})
		if _, err := ReadView(p, want); !errors.Is(err, protocol.ErrNoView) {
			t.Errorf("%+v ends with %v", want, err)
		}
	}
	want := protocol.ResyncRequest{Want: protocol.WantChunk, From: []byte("not a position")}
	if _, err := ReadView(p, want); err == nil || errors.Is(err, protocol.ErrNoView) {
		t.Errorf("what is no position ends with %v", err)
	}
}

// Runs of an outbox may be folded again: they stand for all their events, not only for the last.
func TestFoldTakesRunsForWhatTheyStandFor(t *testing.T) {
	record := func(seq uint64) protocol.Record {
		d := replica.Delta{Dot: crdt.Dot{Actor: 1, Seq: seq}, Time: hlc.At(int64(seq), 0)}
		return protocol.Record{Seq: seq, Data: replica.EncodeDelta(d)}
	}
	run, err := Fold([]protocol.Record{record(3), record(4)})
	if err != nil || run.First != 3 || run.Seq != 4 {
		t.Fatalf("%+v, %v", run, err)
	}
	if run, err = Fold([]protocol.Record{run, record(5)}); err != nil || run.First != 3 || run.Seq != 5 {
		t.Fatalf("%+v, %v", run, err)
	}
	if o, err := replica.ReadOutline(run.Data); err != nil || o.From != 3 || o.To != 5 {
		t.Errorf("the run stands for %+v, %v", o, err)
	}
	if _, err := Fold([]protocol.Record{{Seq: 1, Data: []byte("x")}, record(2)}); err == nil {
		t.Error("what is no delta can be folded")
	}
}
