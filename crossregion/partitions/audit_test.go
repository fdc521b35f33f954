package partitions

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
)

func at(object string) replica.Position { return replica.Position{Object: object} }

// Ranges end where states do, or are followed by more; one that does not go forward would be compared for ever.
func TestRangesGoForward(t *testing.T) {
	between := func(from, to replica.Position) replica.RangeFingerprint {
		return replica.RangeFingerprint{From: from, To: to}
	}
	end := replica.Position{End: true}
	for _, c := range []struct {
		ranges []replica.RangeFingerprint
		atEnd  bool
		err    error
	}{
		{[]replica.RangeFingerprint{between(at(""), at("a")), between(at("a"), at("b"))}, false, nil},
		{[]replica.RangeFingerprint{between(at(""), at("a")), between(at("a"), end)}, true, nil},
		{[]replica.RangeFingerprint{between(at(""), at("a")), between(at("a"), at("a"))}, false, errOrder},
		{[]replica.RangeFingerprint{between(end, end)}, false, errOrder},
	} {
		if atEnd, err := forward(c.ranges); atEnd != c.atEnd || !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, %v", c.ranges, atEnd, err)
		}
	}
}

// Items that are not where they were asked for, or not in order, would be named although they do not differ.
func TestItemsOutOfOrderAreRefused(t *testing.T) {
	p := region.NewPartition(region.PartitionConfig{Group: alone{}, Wall: time.Now, Logger: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		items []string
		err   error
	}{
		{[]string{"b", "c"}, protocol.ErrNoView}, {[]string{"c", "b"}, errOrder}, {[]string{"b", "b"}, errOrder},
		{[]string{"a"}, errOrder}, {[]string{"d"}, errOrder},
	} {
		w := protocol.ItemWindow{From: replica.EncodePosition(at("b")), To: replica.EncodePosition(at("d"))}
		for _, i := range c.items {
			w.Items = append(w.Items, protocol.StateItem{Position: replica.EncodePosition(at(i))})
		}
		if _, _, err := CompareItems(p, 1, w); !errors.Is(err, c.err) {
			t.Errorf("%q: %v", c.items, err)
		}
	}
	first := []protocol.StateRange{{To: replica.EncodePosition(at("b"))}} // from the beginning
	if _, _, err := CompareRanges(p, 1, first); !errors.Is(err, protocol.ErrNoView) {
		t.Error(err)
	}
	want := protocol.ResyncRequest{Want: protocol.WantItems, View: 1, To: replica.EncodePosition(replica.Position{End: true}), MaxBytes: 1}
	if _, err := ReadView(p, want); !errors.Is(err, protocol.ErrNoView) {
		t.Error(err)
	}
}
