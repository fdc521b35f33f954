package drift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

const (
	// lookEvery is the interval of measurements, and eager that of a node that has none yet.
	lookEvery = time.Second
	eager     = 100 * time.Millisecond
	// askTimeout bounds one measurement. A longer round trip tells nothing.
	askTimeout = 900 * time.Millisecond
)

// DefaultMaxOffset is how far clocks of a region's nodes may be apart, DefaultWarnOffset from where on that is told.
const (
	DefaultMaxOffset  = 500 * time.Millisecond
	DefaultWarnOffset = 100 * time.Millisecond
)

// Config is what a Monitor needs; all fields but Witnesses and OnVerdict are required.
type Config struct {
	// Peers are the region's other nodes.
	Peers []topology.NodeID
	// Ask sends a message to another node's monitor, and returns what its Answer returned.
	Ask func(ctx context.Context, peer topology.NodeID, question []byte) (answer []byte, err error)
	// Source reads the node's clocks, and Steady is built on it.
	Source hlc.Source
	Steady *hlc.Steady
	// MaxOffset is how far clocks may be apart, WarnOffset from where on that is told.
	MaxOffset, WarnOffset time.Duration
	Logger                *slog.Logger
	// Witnesses returns what is known of the clocks of other regions' nodes; nil means nothing.
	Witnesses func() []Offset
	// OnVerdict is called with every verdict, by Run.
	OnVerdict func(Verdict)
}

// Validate returns every fault of the configuration, joined.
func (c *Config) Validate() error {
	var faults []error
	if c.Ask == nil || c.Source == nil || c.Steady == nil || c.Logger == nil {
		faults = append(faults, errors.New("ask, source, steady and logger are required"))
	}
	if c.MaxOffset <= 0 || c.WarnOffset <= 0 || c.WarnOffset > c.MaxOffset {
		faults = append(faults, fmt.Errorf("offsets %v and %v: must be positive, and the first not larger", c.WarnOffset, c.MaxOffset))
	}
	return errors.Join(faults...)
}

// Monitor compares a node's clock with others'. It is safe for concurrent use.
type Monitor struct {
	cfg Config
	mu  struct {
		sync.Mutex
		judge  *judge
		warned bool
	}
}

// New returns a monitor that measures nothing until Run.
func New(cfg Config) (*Monitor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("clock monitor: %w", err)
	}
	m := &Monitor{cfg: cfg}
	m.mu.judge = newJudge(cfg.MaxOffset, len(cfg.Peers), cfg.Source())
	return m, nil
}

// Answer returns what to answer to another node's question.
func (m *Monitor) Answer(question []byte) ([]byte, error) {
	if err := checkQuestion(question); err != nil {
		return nil, err
	}
	return encodeAnswer(m.cfg.Source().Wall), nil
}

// Verdict says whether the node's clock can be trusted now. It looks at the clock anew, so that a jump is noticed
// before anybody acts on it.
func (m *Monitor) Verdict() Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.decideLocked()
}

// Offsets returns what is known of the other nodes' clocks, in the order of their names.
func (m *Monitor) Offsets() []Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.judge.offsets(m.cfg.Source())
}

// Run measures until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	ticker := time.NewTicker(eager)
	defer ticker.Stop()
	calm := false
	for {
		m.measure(ctx)
		if known := len(m.Offsets()) == len(m.cfg.Peers); known && !calm {
			calm = true
			ticker.Reset(lookEvery)
		}
		if v := m.Verdict(); m.cfg.OnVerdict != nil {
			m.cfg.OnVerdict(v)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// measure asks all other nodes at once.
func (m *Monitor) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var asking sync.WaitGroup
	for _, peer := range m.cfg.Peers {
		asking.Go(func() {
			before := m.cfg.Source()
			answer, err := m.cfg.Ask(ctx, peer, question())
			after := m.cfg.Source()
			if err != nil {
				return // unknown, and too frequent to be told; the connection's end is
			}
			wall, err := decodeAnswer(answer)
			if err != nil {
				m.cfg.Logger.Warn("message refused", "peer", peer, "err", err)
				return
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.mu.judge.measured(peer, wall, after.Elapsed-before.Elapsed, after)
		})
	}
	asking.Wait()
}

// decideLocked judges, believes a jump that others confirm, and tells of changes.
func (m *Monitor) decideLocked() Verdict {
	j := m.mu.judge
	was := j.last
	jump := m.cfg.Steady.Jump()
	var witnesses []Offset
	if jump > 0 && m.cfg.Witnesses != nil {
		witnesses = m.cfg.Witnesses()
	}
	v := j.decide(m.cfg.Source(), jump, witnesses)
	if jump > 0 && v.confirmed {
		m.cfg.Logger.Warn("the wall clock was set forward, and other nodes agree with it", "jump", jump)
		m.cfg.Steady.Accept()
	}
	switch {
	case v.Unsafe && !v.Unmeasured && (!was.Unsafe || was.Unmeasured):
		m.cfg.Logger.Error("the clock is not safe: this node takes no writes and leads no partition until it is right again",
			"reason", v.Why, "drift", v.Drift)
	case !v.Unsafe && was.Unsafe && !was.Unmeasured:
		m.cfg.Logger.Info("the clock is right again", "drift", v.Drift)
	}
	off := !v.Unsafe && max(v.Drift, -v.Drift) > m.cfg.WarnOffset
	if off && !m.mu.warned {
		m.cfg.Logger.Warn("the clock drifts away from the other nodes': check the time synchronisation", "drift", v.Drift)
	}
	m.mu.warned = off
	return v
}
