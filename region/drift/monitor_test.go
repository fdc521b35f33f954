package drift

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errGone = errors.New("no such node")

// threeMonitors are those of nodes a, b and c, which can ask each other. The clock of c is ten seconds ahead.
func threeMonitors(t *testing.T) map[topology.NodeID]*Monitor {
	t.Helper()
	monitors := map[topology.NodeID]*Monitor{}
	names := []topology.NodeID{"a", "b", "c"}
	for _, name := range names {
		source := hlc.SourceOf(time.Now)
		if name == "c" {
			honest := source
			source = func() hlc.Reading {
				r := honest()
				r.Wall = r.Wall.Add(10 * time.Second)
				return r
			}
		}
		var peers []topology.NodeID
		for _, other := range names {
			if other != name {
				peers = append(peers, other)
			}
		}
		m, err := New(Config{
			Peers: peers, Source: source, Steady: hlc.NewSteady(source, DefaultMaxOffset),
			MaxOffset: DefaultMaxOffset, WarnOffset: DefaultWarnOffset, Logger: slog.New(slog.DiscardHandler),
			Ask: func(_ context.Context, peer topology.NodeID, question []byte) ([]byte, error) {
				if monitors[peer] == nil {
					return nil, errGone
				}
				return monitors[peer].Answer(question)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		monitors[name] = m
	}
	return monitors
}

// TestMonitorsMeasureEachOther runs three, one of which is ten seconds ahead.
func TestMonitorsMeasureEachOther(t *testing.T) {
	monitors := threeMonitors(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, m := range monitors {
		running.Go(func() { _ = m.Run(ctx) })
	}
	testkit.Eventually(t, 30*time.Second, func() error {
		a, b, c := monitors["a"].Verdict(), monitors["b"].Verdict(), monitors["c"].Verdict()
		if a.Unsafe || b.Unsafe || !c.Unsafe || c.Drift.Round(time.Second) != 10*time.Second {
			return errors.New(a.Why + b.Why + c.Why)
		}
		return nil
	})
	offsets := monitors["a"].Offsets()
	if len(offsets) != 2 || offsets[1].Node != "c" || offsets[1].Ahead.Round(time.Second) != 10*time.Second || offsets[1].Uncertainty > time.Second {
		t.Errorf("offsets %+v", offsets)
	}
	cancel()
	running.Wait()
}

func TestConfigIsValidated(t *testing.T) {
	_, err := New(Config{WarnOffset: time.Second, MaxOffset: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "required") || !strings.Contains(err.Error(), "offsets") {
		t.Errorf("%v", err)
	}
}
