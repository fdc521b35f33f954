package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crossregion/jetstream"
	"github.com/atolldb/atoll/topology"
)

const (
	// noticeWithin is how long a region may take to find out that another's stream has lost something: what
	// is written there afterwards must be seen by then.
	noticeWithin = 5 * time.Second
	// seenPatience is how long to look for such a write at all.
	seenPatience = time.Minute
	seenEvery    = 20 * time.Millisecond
	// flips is how many bits of a node's stream are turned over at once.
	flips     = 16
	streamKey = "probe/stream/"
)

// streamHarm is one way in which a region's JetStream loses what it has acknowledged.
type streamHarm struct {
	name string
	// whileStopped does the harm to what one stopped node has stored, after what comes before that; alive does
	// it to the running region, instead.
	after        func(*streamRun, context.Context, []*member) error
	whileStopped func(*streamRun, *member) error
	alive        func(*streamRun, context.Context, string) error
}

func streamHarms() []streamHarm {
	return []streamHarm{
		{name: "wiped", whileStopped: func(_ *streamRun, m *member) error { return os.RemoveAll(m.streamStore()) }},
		{name: "recreated", alive: (*streamRun).recreate},
		{name: "bit-flipped", whileStopped: (*streamRun).flipBits},
		{name: "rolled back", after: (*streamRun).goOn, whileStopped: (*streamRun).rollBack},
	}
}

// streamRun harms the JetStream of one region after the other, while all regions are written to.
type streamRun struct {
	*stage
	seen    []time.Duration
	late    faults
	done    map[string]int
	flipped int
}

// jetStream plays the scenario of the same name.
func (s *stage) jetStream(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	r := &streamRun{stage: s, done: map[string]int{}}
	if err := pause(ctx, togetherTime); err != nil {
		return err
	}
	harms := streamHarms()
	for n := range s.settings.cycles {
		region := s.deployment.regions[s.random.IntN(len(s.deployment.regions))]
		if err := r.once(ctx, n, region, harms[n%len(harms)]); err != nil {
			return fmt.Errorf("harm %d: %w", n+1, err)
		}
	}
	for _, h := range harms {
		s.out.figure("JetStream "+h.name, "%d times", r.done[h.name])
	}
	s.out.figure("bits turned over", "%d", r.flipped)
	slices.Sort(r.seen)
	s.out.figure("written after the harm, seen everywhere", "median %s, max %s", ms(quantile(r.seen, 0.5)), ms(quantile(r.seen, 1)))
	s.out.check(fmt.Sprintf("what is written after the harm is everywhere within %v", noticeWithin), r.late.err())
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.end(ctx)
}

// once does one kind of harm to a region, and looks how long the next write there takes to be seen.
func (r *streamRun) once(ctx context.Context, n int, region string, h streamHarm) error {
	var err error
	if h.alive != nil {
		err = h.alive(r, ctx, region)
	} else {
		err = r.restarted(ctx, region, h)
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", h.name, region, err)
	}
	took, err := r.spread(ctx, region, fmt.Sprintf("%s%d", streamKey, n))
	if err != nil {
		return err
	}
	r.done[h.name]++
	r.seen = append(r.seen, took)
	r.out.note("JetStream of %s %s; the next write there was everywhere after %s", region, h.name, ms(took))
	if took > noticeWithin {
		r.late.add("%s of %s: %s", h.name, region, ms(took))
	}
	return pause(ctx, settleTime)
}

// restarted stops a region, harms what its nodes have stored, and starts it again.
func (r *streamRun) restarted(ctx context.Context, region string, h streamHarm) error {
	members := r.deployment.of(region)
	if err := r.deployment.stop(members); err != nil {
		return err
	}
	if h.after != nil {
		if err := h.after(r, ctx, members); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := h.whileStopped(r, m); err != nil {
			return err
		}
	}
	return r.deployment.startAll(ctx, members)
}

// recreate deletes the stream of a running region, which has to make a new one.
func (r *streamRun) recreate(ctx context.Context, region string) error {
	m := r.deployment.of(region)[0]
	for _, c := range m.config.GetCluster().GetRegions() {
		if c.GetName() != region {
			continue
		}
		for _, n := range c.GetNodes() {
			if n.GetName() == m.name {
				return deleteStream(ctx, "nats://"+n.GetNats(), topology.RegionID(c.GetId()))
			}
		}
	}
	return fmt.Errorf("%s is not in its own configuration", m.name)
}

// deleteWait is how long a region's JetStream may be without a leader after the harm before.
const deleteWait = time.Minute

// deleteStream deletes a region's stream, once its JetStream answers.
func deleteStream(ctx context.Context, url string, region topology.RegionID) error {
	ctx, cancel := context.WithTimeout(ctx, deleteWait)
	defer cancel()
	for {
		err := jetstream.DeleteStream(ctx, url, region)
		if err == nil {
			return nil
		}
		if waited := pause(ctx, time.Second); waited != nil {
			return errors.Join(waited, err)
		}
	}
}

// flipBits turns over bits in what a node's stream has stored.
func (r *streamRun) flipBits(m *member) error {
	var blocks []string
	err := filepath.WalkDir(m.streamStore(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".blk") && strings.Contains(path, "atoll-deltas") {
			blocks = append(blocks, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		return errors.New("there is no stream to damage")
	}
	for range flips {
		path := blocks[r.random.IntN(len(blocks))]
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(content) == 0 {
			continue
		}
		content[r.random.IntN(len(content))] ^= 1 << r.random.IntN(8)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		r.flipped++
	}
	return nil
}

// goOn keeps what stopped nodes have stored, and has them store more.
func (r *streamRun) goOn(ctx context.Context, members []*member) error {
	for _, m := range members {
		if err := os.RemoveAll(m.keptStream()); err != nil {
			return err
		}
		if err := os.CopyFS(m.keptStream(), os.DirFS(m.streamStore())); err != nil {
			return err
		}
	}
	if err := r.deployment.startAll(ctx, members); err != nil {
		return err
	}
	if err := pause(ctx, togetherTime); err != nil {
		return err
	}
	return r.deployment.stop(members)
}

// rollBack gives a node the stream that goOn kept.
func (r *streamRun) rollBack(m *member) error {
	if err := os.RemoveAll(m.streamStore()); err != nil {
		return err
	}
	return os.CopyFS(m.streamStore(), os.DirFS(m.keptStream()))
}

// streamStore is where a node's NATS server stores what it has.
func (m *member) streamStore() string { return filepath.Join(m.config.GetDataDir(), "nats") }

func (m *member) keptStream() string { return m.config.GetDataDir() + "-nats-kept" }

// spread writes a key in a region and returns how long it takes until all regions have it.
func (r *streamRun) spread(ctx context.Context, region, key string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, seenPatience)
	defer cancel()
	if _, err := r.deployment.clients[region].Put(ctx, key, []byte(region)); err != nil {
		return 0, fmt.Errorf("write in %s: %w", region, err)
	}
	begin := time.Now()
	for _, other := range r.deployment.regions {
		err := until(ctx, seenEvery, func(ctx context.Context) (bool, error) {
			value, err := r.deployment.clients[other].Get(ctx, key, client.Eventual())
			return err == nil && string(value.Bytes) == region, nil
		})
		if err != nil {
			return 0, fmt.Errorf("look for %s in %s: %w", key, other, err)
		}
	}
	return time.Since(begin), nil
}
