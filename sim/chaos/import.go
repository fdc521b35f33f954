package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// calmTime is how long everything runs before the first kill.
	calmTime = time.Second
	// downTime is how long a killed node stays down.
	downTime = 4 * time.Second
	// settleTime is how long to wait after a node is back before the next is killed.
	settleTime = 2 * time.Second
	// mostRounds bounds the kills if the import takes long.
	mostRounds      = 20
	importPatience  = 20 * time.Minute
	convergeWithin  = 3 * time.Minute
	idleMeasurement = 5 * time.Second
)

// kill is one kill -9 and what came of it.
type kill struct {
	region, node string
	led          int // partitions that it led
	gap          time.Duration
	importing    bool
}

// imports plays the scenario import.
func (s *stage) imports(ctx context.Context) error {
	records, err := loadCities(s.settings.cities, s.settings.records)
	if err != nil {
		return err
	}
	want, err := expectCities(records)
	if err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	lag := startLagWatch(ctx, s.deployment, s.deployment.regions[0])
	imported, err := s.startImport(records)
	if err != nil {
		return err
	}
	began := time.Now()
	finished := make(chan time.Time, 1)
	go func() {
		<-imported.ended
		finished <- time.Now()
	}()
	if err := errors.Join(s.harm(ctx, imported), s.awaitImport(ctx, imported)); err != nil {
		imported.kill()
		return err
	}
	took := (<-finished).Sub(began)
	s.out.figure("import into "+s.deployment.regions[0], "%d records in %.1f s: %.0f records/s", len(records), took.Seconds(), float64(len(records))/took.Seconds())
	lag.finish(s.out)
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.reportKills()
	s.verifyAll(ctx, "import", want)
	for _, r := range s.deployment.regions {
		s.out.check("no city too many in "+r, verifyNoMore(ctx, s.deployment.clients[r], cityPrefix, len(want.registers)))
	}
	return s.end(ctx)
}

// begin starts all nodes and the writers.
func (s *stage) begin(ctx context.Context) error {
	begin := time.Now()
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	s.out.note("%d nodes are ready", len(s.deployment.members))
	s.out.figure("nodes", "%d in %d regions, %d partitions", len(s.deployment.members), len(s.deployment.regions), s.deployment.partitions)
	s.out.figure("start until all are ready", "%s", ms(time.Since(begin)))
	s.writers = startWriters(ctx, s.deployment)
	return nil
}

// startImport runs `atoll import` into the first region.
func (s *stage) startImport(records []json.RawMessage) (*process, error) {
	// Joined by hand: an encoder would change how the records are written.
	text := append([]byte("["), bytes.Join(asBytes(records), []byte(",\n"))...)
	file := filepath.Join(s.deployment.dir, "records.json")
	if err := os.WriteFile(file, append(text, ']'), 0o600); err != nil {
		return nil, err
	}
	var servers []string
	for _, m := range s.deployment.of(s.deployment.regions[0]) {
		servers = append(servers, "http://"+m.api)
	}
	s.out.note("import of %d records into %s begins", len(records), s.deployment.regions[0])
	return start(s.importLog(), s.settings.atoll, "import", file, "--server", strings.Join(servers, ","),
		"--key", cityKey, "--count", countKey, "--collect", collectKey)
}

func asBytes(records []json.RawMessage) [][]byte {
	out := make([][]byte, len(records))
	for i, r := range records {
		out[i] = r
	}
	return out
}

func (s *stage) importLog() string { return filepath.Join(s.deployment.dir, "import.log") }

func (s *stage) awaitImport(ctx context.Context, imported *process) error {
	ctx, cancel := context.WithTimeout(ctx, importPatience)
	defer cancel()
	select {
	case <-imported.ended:
	case <-ctx.Done():
		return fmt.Errorf("the import is not done after %v", importPatience)
	}
	err := imported.err
	if err != nil {
		err = fmt.Errorf("%w%s", err, tail(s.importLog()))
	}
	s.out.check("the import ends well", err)
	return nil
}

// harm kills one node per region in turn until the import is done, but at least once each, and in
// between deletes the JetStream of the second region.
func (s *stage) harm(ctx context.Context, imported *process) error {
	if err := pause(ctx, calmTime); err != nil {
		return err
	}
	for round := range mostRounds {
		for _, r := range s.deployment.regions {
			if err := s.killOne(ctx, r, imported); err != nil {
				return err
			}
		}
		if round == 0 {
			if err := s.deleteJetStream(ctx, s.deployment.regions[1], imported); err != nil {
				return err
			}
		}
		if !imported.running() {
			return nil
		}
	}
	return nil
}

// killOne kills the node of a region that leads most partitions, and starts it again.
func (s *stage) killOne(ctx context.Context, region string, imported *process) error {
	victim, led, err := s.leader(ctx, region)
	if err != nil {
		return err
	}
	at, importing := time.Now(), imported.running()
	victim.crash()
	s.out.note("kill -9 %s, leader of %d partitions", victim.name, led)
	if err := pause(ctx, downTime); err != nil {
		return err
	}
	if err := s.deployment.startAll(ctx, []*member{victim}); err != nil {
		return err
	}
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	gap, partition := s.writers.gap(region, at, time.Now())
	s.out.note("%s is back; writes to partition %d paused %s", victim.name, partition, ms(gap))
	s.kills = append(s.kills, kill{region, victim.name, led, gap, importing})
	return nil
}

// leader returns the node of a region that leads most partitions, and how many.
func (s *stage) leader(ctx context.Context, region string) (*member, int, error) {
	status, err := s.deployment.clients[region].Status(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("status of %s: %w", region, err)
	}
	leads := map[string]int{}
	for _, p := range status.GetPartitions() {
		leads[p.GetLeader()]++
	}
	members := s.deployment.of(region)
	victim := slices.MaxFunc(members, func(a, b *member) int { return leads[a.name] - leads[b.name] })
	return victim, leads[victim.name], nil
}

// deleteJetStream stops a region, deletes what its NATS servers have stored, and starts it again.
func (s *stage) deleteJetStream(ctx context.Context, region string, imported *process) error {
	importing := imported.running()
	members := s.deployment.of(region)
	if err := s.deployment.stop(members); err != nil {
		return err
	}
	for _, m := range members {
		store := filepath.Join(m.config.GetDataDir(), "nats")
		if _, err := os.Stat(store); err != nil {
			return fmt.Errorf("the JetStream to delete: %w", err)
		}
		if err := os.RemoveAll(store); err != nil {
			return err
		}
	}
	s.out.note("%s is stopped and its JetStream deleted (during the import: %v)", region, importing)
	if err := s.deployment.startAll(ctx, members); err != nil {
		return err
	}
	s.out.note("%s is back", region)
	return pause(ctx, settleTime)
}

func (s *stage) reportKills() {
	var gaps []time.Duration
	during, worst := 0, kill{}
	for _, k := range s.kills {
		gaps = append(gaps, k.gap)
		if k.importing {
			during++
		}
		if k.gap > worst.gap {
			worst = k
		}
	}
	slices.Sort(gaps)
	s.out.figure("kill -9", "%d, %d of them during the import", len(gaps), during)
	s.out.figure("writes paused after a kill", "median %s, max %s (%s, leader of %d)", ms(quantile(gaps, 0.5)), ms(worst.gap), worst.node, worst.led)
	var err error
	if worst.gap > s.settings.maxUnavailable {
		err = fmt.Errorf("%s after %s was killed", ms(worst.gap), worst.node)
	}
	if during == 0 {
		s.out.check("at least one kill hits the import", errors.New("it ended too soon: give it more records"))
	}
	s.out.check(fmt.Sprintf("writes resume within %v of every kill", s.settings.maxUnavailable), err)
}

// settle ends the writers and waits until the regions agree.
func (s *stage) settle(ctx context.Context) error {
	s.writers.finish()
	s.out.note("the writers have stopped")
	took, err := s.converge(ctx, convergeWithin)
	s.out.check("all regions have equal vectors and digests", err)
	if err != nil {
		return nil // what is missing is worth knowing, too
	}
	s.out.figure("regions equal after the last write", "%s", ms(took))
	return nil
}

// end checks the writers' own writes, and measures the nodes at rest.
func (s *stage) end(ctx context.Context) error {
	acked, unknown, refused, latencies, refusal := s.writers.totals()
	s.out.figure("probe writes", "%d acknowledged, %d unknown, %d not done", acked, unknown, refused)
	if refusal != nil {
		s.out.figure("last probe write not done", "%v", refusal)
	}
	s.out.figure("probe write latency", "p50 %s, p99 %s, max %s", ms(quantile(latencies, 0.5)), ms(quantile(latencies, 0.99)), ms(quantile(latencies, 1)))
	s.verifyAll(ctx, "probes", s.writers.expectation())
	return s.reportUse(ctx)
}

// reportUse measures what the nodes use at rest, and stops them to see what they have used.
func (s *stage) reportUse(ctx context.Context) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	if err := pause(ctx, idleMeasurement); err != nil {
		return err
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	s.out.figure("idle CPU of all nodes", "%.0f %% of one core", 100*(after-before).Seconds()/idleMeasurement.Seconds())
	s.deployment.stopAll(s.out)
	for _, m := range s.deployment.members {
		s.out.figure("node "+m.name, "peak memory %d MiB, CPU %.1f s", m.used.peakRSS>>20, m.used.cpu.Seconds())
	}
	return nil
}

// cpu returns what all running nodes have used of CPU time.
func (s *stage) cpu() (time.Duration, error) {
	var total time.Duration
	for _, m := range s.deployment.members {
		used, err := m.process.cpuNow()
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}
