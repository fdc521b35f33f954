package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/load"
)

// Bounds of a load: what is beyond them is a typing error.
const (
	maxLoadClients = 100_000
	maxLoadKeys    = 100_000_000
)

type benchFlags struct {
	clients, valueBytes, keys int
	duration, warmup          time.Duration
	mix                       string
	unary, noFill             bool
}

func newBench(a *app) *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Put a region under load, and measure",
		Long: `Send requests from many clients at once, each of which waits for its answer before it sends the next,
and print how many were answered and how long they took. The keys are bench/00000000 and so on; they
are written first, and stay. On a terminal the progress is shown each second.

A closed loop shows how fast a region can go, not what happens to requests that come anyway while it
hangs. The clients share this machine's processors with whatever else runs on it: "client CPU" says
how much of them they took.`,
		Example: `  atoll bench
  atoll bench --mix 80/20 --clients 256 --duration 30s
  atoll bench --mix eventual --unary -o json | jq .ops_per_second`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			mix, err := f.check()
			if err != nil {
				return err
			}
			return a.bench(cmd.Context(), &f, mix)
		},
	}
	c.Flags().IntVar(&f.clients, "clients", 64, "how many clients")
	c.Flags().IntVar(&f.valueBytes, "value-size", 128, "bytes of a value")
	c.Flags().IntVar(&f.keys, "keys", 10_000, "how many keys")
	c.Flags().DurationVar(&f.duration, "duration", 10*time.Second, "how long to measure")
	c.Flags().DurationVar(&f.warmup, "warmup", time.Second, "how long to go before measuring")
	c.Flags().StringVar(&f.mix, "mix", "80/20", "put, get, eventual (reads that any replica answers), or shares of reads and writes such as 80/20")
	c.Flags().BoolVar(&f.unary, "unary", false, "send each request by itself, not over streams")
	c.Flags().BoolVar(&f.noFill, "no-fill", false, "do not write the keys first")
	noError(c.RegisterFlagCompletionFunc("mix", cobra.FixedCompletions([]string{"put", "get", "eventual", "80/20"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (f *benchFlags) check() (load.Mix, error) {
	mix, err := load.ParseMix(f.mix)
	switch {
	case err != nil:
		return mix, &usageError{err: err}
	case f.clients < 1 || f.clients > maxLoadClients:
		return mix, usagef("--clients must be from 1 to %d", maxLoadClients)
	case f.keys < 1 || f.keys > maxLoadKeys:
		return mix, usagef("--keys must be from 1 to %d", maxLoadKeys)
	case f.valueBytes < 0 || f.valueBytes >= maxValueBytes:
		return mix, usagef("--value-size must be from 0 to %d", maxValueBytes-1)
	case f.duration <= 0 || f.warmup < 0:
		return mix, usagef("--duration must be positive, and --warmup not negative")
	}
	return mix, nil
}

func (a *app) bench(ctx context.Context, f *benchFlags, mix load.Mix) error {
	var opts []client.Option
	if f.unary {
		opts = append(opts, client.WithUnary())
	}
	kv, err := a.client(ctx, opts...)
	if err != nil {
		return err
	}
	cfg := load.Config{
		Client: kv, Clients: f.clients, ValueBytes: f.valueBytes, Keys: f.keys, Mix: mix,
		Warmup: f.warmup, Duration: f.duration, Clock: a.clock,
	}
	if isTerminal(a.stderr) {
		cfg.Progress = func(p load.Progress) {
			a.notef("%4.0fs  %d ops/s  %d failed", p.Elapsed.Seconds(), p.Done, p.Failed)
		}
	}
	if mix.Gets > 0 && !f.noFill {
		if err := load.Fill(ctx, cfg); err != nil {
			return err
		}
	}
	result := load.Run(ctx, cfg)
	report := reportOf(f, result)
	if report.Ops == 0 && result.LastError != nil {
		return fmt.Errorf("no request succeeded: %w", result.LastError)
	}
	return a.result(report, report.line(), report.fields())
}

// benchReport is what a load measured, as JSON.
type benchReport struct {
	Mix          string           `json:"mix"`
	Clients      int              `json:"clients"`
	ValueBytes   int              `json:"value_bytes"`
	Keys         int              `json:"keys"`
	Unary        bool             `json:"unary"`
	Seconds      float64          `json:"seconds"`
	Ops          int64            `json:"ops"`
	OpsPerSecond float64          `json:"ops_per_second"`
	Latency      quantiles        `json:"latency_ms"`
	Gets         *opReport        `json:"gets,omitempty"`
	Puts         *opReport        `json:"puts,omitempty"`
	Failed       int64            `json:"failed"`
	Failures     map[string]int64 `json:"failures,omitempty"`
	LastError    string           `json:"last_error,omitempty"`
	ClientCPU    float64          `json:"client_cpu_us_per_op"`
}

type opReport struct {
	Ops     int64     `json:"ops"`
	Latency quantiles `json:"latency_ms"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func quantilesOf(l *load.Latencies) quantiles {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return quantiles{ms(l.Quantile(0.5)), ms(l.Quantile(0.95)), ms(l.Quantile(0.99)), ms(l.Max())}
}

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.3f ms, p95 %.3f ms, p99 %.3f ms, max %.3f ms", q.P50, q.P95, q.P99, q.Max)
}

func reportOf(f *benchFlags, r *load.Result) *benchReport {
	all := load.Merge(&r.Gets, &r.Puts)
	out := &benchReport{
		Mix: f.mix, Clients: f.clients, ValueBytes: f.valueBytes, Keys: f.keys, Unary: f.unary,
		Seconds: r.Elapsed.Seconds(), Ops: all.Total(), Latency: quantilesOf(all), Failures: r.Failures,
	}
	if r.Elapsed > 0 {
		out.OpsPerSecond = float64(out.Ops) / r.Elapsed.Seconds()
	}
	if out.Ops > 0 {
		out.ClientCPU = float64(r.CPU.Nanoseconds()) / 1000 / float64(out.Ops)
	}
	for _, n := range r.Failures {
		out.Failed += n
	}
	if r.LastError != nil {
		out.LastError = r.LastError.Error()
	}
	if r.Gets.Total() > 0 {
		out.Gets = &opReport{r.Gets.Total(), quantilesOf(&r.Gets)}
	}
	if r.Puts.Total() > 0 {
		out.Puts = &opReport{r.Puts.Total(), quantilesOf(&r.Puts)}
	}
	return out
}

// line is the report for a pipe: operations, operations per second, p50, p95, p99 and max in
// milliseconds, and failures.
func (r *benchReport) line() string {
	return fmt.Sprintf("%d\t%.0f\t%.3f\t%.3f\t%.3f\t%.3f\t%d\n", r.Ops, r.OpsPerSecond, r.Latency.P50, r.Latency.P95, r.Latency.P99, r.Latency.Max, r.Failed)
}

func (r *benchReport) fields() []field {
	fields := []field{
		{"load", fmt.Sprintf("%s, %d clients, %d keys, %d byte values, %.1f s", r.Mix, r.Clients, r.Keys, r.ValueBytes, r.Seconds)},
		{"throughput", fmt.Sprintf("%.0f ops/s", r.OpsPerSecond)},
		{"latency", r.Latency.String()},
	}
	if r.Gets != nil && r.Puts != nil {
		fields = append(fields, field{"gets", r.Gets.Latency.String()}, field{"puts", r.Puts.Latency.String()})
	}
	fields = append(fields, field{"client CPU", fmt.Sprintf("%.1f us per operation", r.ClientCPU)}, field{"failed", strconv.FormatInt(r.Failed, 10)})
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(r.Failures)) {
		why = append(why, fmt.Sprintf("%d %s", r.Failures[reason], reason))
	}
	if len(why) > 0 {
		fields = append(fields, field{"why", strings.Join(why, ", ")}, field{"last", printable([]byte(r.LastError), 300)})
	}
	return fields
}
