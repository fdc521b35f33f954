package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/atolldb/atoll/bench/figures"
)

// noisy is the share of the machine's CPU time that others may take before the report says so.
const noisy = 0.1

// report prints the Markdown and writes it, the figures and the plot to the output directory.
func report(s *settings, m *machine, results figures.Results, stdout io.Writer) error {
	text := m.markdown(s, results) + "\n" + results.Markdown(figures.Targets())
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(struct {
		Machine   *machine          `json:"machine"`
		Summaries []figures.Summary `json:"summaries"`
		Ratios    []figures.Ratios  `json:"ratios"`
		Samples   figures.Results   `json:"samples"`
	}{m, results.Summaries(), results.Compare(figures.Ours), results}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(s.out, "results.md"), []byte(text), 0o644),
		os.WriteFile(filepath.Join(s.out, "results.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(s.out, "results.svg"), []byte(figures.Plot(results)), 0o644),
	)
}

// markdown says what was measured where, and what to know before comparing.
func (m *machine) markdown(s *settings, results figures.Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Atoll %s against etcd %s and NATS %s\n\n", byDefault(m.Commit, "(unknown commit)"),
		m.Peers[modules[0]], m.Peers[modules[2]])
	fmt.Fprintf(&b, "- %s, `%s`, %s\n", m.Date.Format("2006-01-02 15:04 MST"), m.Command, m.Took)
	fmt.Fprintf(&b, "- %s, %d cores, %d GiB; Linux %s; load before: %s\n", m.CPU, m.Cores, m.MemoryGiB, m.Kernel, m.Load)
	fmt.Fprintf(&b, "- data on %s, where appending 4 KiB and syncing takes %s ms (%s–%s); %s\n", m.FileSystem,
		figures.Digits(m.SyncMillis.Median), figures.Digits(m.SyncMillis.Min), figures.Digits(m.SyncMillis.Max), m.Go)
	fmt.Fprintf(&b, "- GOMAXPROCS %d in every process: three servers of each system, one client. The systems take turns, rounds: %d, of %v after %v of warm-up; those not measured are frozen (SIGSTOP)\n",
		m.Procs, s.rounds, s.measure, s.warmup)
	fmt.Fprintf(&b, "- Atoll: one region, RF 3, %d partitions, one SDK client; unary: plain Connect over HTTP/1.1, a worker talks to one node. etcd: defaults, client objects: %d, all members. NATS: KV bucket, file storage, R3, sync_interval always, connections: %d; its gets are direct gets, which any replica answers\n",
		m.Partitions, s.etcdClients, s.natsConns)
	fmt.Fprintf(&b, "- random values, %d keys at most; every value read is verified\n", s.keys)
	var seconds, others float64
	for _, sample := range results {
		seconds += sample.Seconds
		others += sample.OtherCPU
	}
	if share := others / (seconds * float64(m.Cores)); share > noisy {
		fmt.Fprintf(&b, "- **noisy**: other processes took %.0f %% of the machine's CPU time during the measurements\n", 100*share)
	}
	return b.String()
}
