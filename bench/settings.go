package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atolldb/atoll/bench/figures"
)

// settings are what the command line says.
type settings struct {
	rows       []figures.Row
	contenders []string
	rounds     int
	warmup     time.Duration
	measure    time.Duration
	keys       int

	procs      int
	partitions int
	// etcdClients and natsConns are how many client objects the workers share.
	etcdClients, natsConns int

	dir, out, profile string
	repository, atoll string
	keep              bool
}

// switching is about how long it takes to let one system rest and wake the next.
const switching = 2500 * time.Millisecond

// minProcs is the least GOMAXPROCS of all processes: a thread that waits for fsync is not handed over
// at once, so fewer leave cores idle.
const minProcs = 8

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	var works, sizes, clients, systems string
	var full bool
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&works, "work", "", "put, get, eventual, mix: a comma-separated choice, crossed with -size and -clients")
	flags.StringVar(&sizes, "size", "", "bytes of a value: 256, 4096, 65536, 1048576")
	flags.StringVar(&clients, "clients", "", "how many closed-loop clients: 1, 16, 64, 256, 1024")
	flags.BoolVar(&full, "full", false, "every work, size and number of clients (hours)")
	flags.StringVar(&systems, "systems", "atoll,unary,etcd,nats", "who takes part; unary is Atoll by plain Connect calls")
	flags.IntVar(&s.rounds, "rounds", 3, "rounds; the median counts")
	flags.DurationVar(&s.warmup, "warmup", 2*time.Second, "load before each measurement")
	flags.DurationVar(&s.measure, "measure", 5*time.Second, "length of one measurement")
	flags.IntVar(&s.keys, "keys", 100_000, "keys, fewer for values so large that all would exceed 256 MiB")
	flags.IntVar(&s.procs, "procs", max(minProcs, runtime.NumCPU()), "GOMAXPROCS of every server and of the client")
	flags.IntVar(&s.partitions, "partitions", 16, "Atoll's partitions")
	flags.IntVar(&s.etcdClients, "etcd-clients", 1, "etcd client objects that the clients share")
	flags.IntVar(&s.natsConns, "nats-conns", 1, "NATS connections that the clients share")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "where the servers' data goes, in a directory that is removed at the end")
	flags.StringVar(&s.out, "out", "results", "directory for report, figures and plot")
	flags.StringVar(&s.profile, "profile", "", "directory for CPU profiles of servers and client (slows them a little)")
	flags.StringVar(&s.repository, "repository", "..", "the tree to build Atoll from")
	flags.StringVar(&s.atoll, "atoll", "", "an atoll program to measure instead")
	flags.BoolVar(&s.keep, "keep", false, "keep the servers' data and logs")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	if s.contenders, err = contenders(systems); err != nil {
		return nil, err
	}
	if s.rows, err = rows(full, works, sizes, clients); err != nil {
		return nil, err
	}
	return s, s.check()
}

func (s *settings) check() error {
	if s.rounds < 1 || s.measure <= 0 || s.warmup < 0 || s.keys < 1 || s.procs < 1 || s.etcdClients < 1 || s.natsConns < 1 {
		return errors.New("rounds, times, keys, procs and connections must be positive")
	}
	return nil
}

// contenders translates -systems.
func contenders(list string) ([]string, error) {
	names := map[string]string{"atoll": figures.Atoll, "unary": figures.AtollUnary, "etcd": figures.Etcd, "nats": figures.NATS}
	var chosen []string
	for _, name := range strings.Split(list, ",") {
		c, ok := names[strings.TrimSpace(name)]
		if !ok || slices.Contains(chosen, c) {
			return nil, fmt.Errorf("systems: %q is not one of atoll, unary, etcd, nats, or is there twice", name)
		}
		chosen = append(chosen, c)
	}
	return chosen, nil
}

// rows translates the choice of work. Without one, the rows are those that have targets.
func rows(full bool, works, sizes, clients string) ([]figures.Row, error) {
	if !full && works+sizes+clients == "" {
		return targetRows(), nil
	}
	if full {
		works = byDefault(works, "put,get,eventual,mix")
		sizes = byDefault(sizes, "256,4096,65536,1048576")
		clients = byDefault(clients, "1,16,64,256,1024")
	}
	kinds := map[string]figures.Work{"put": figures.Put, "get": figures.Get, "eventual": figures.Eventual, "mix": figures.Mix}
	var chosen []figures.Row
	for _, name := range strings.Split(byDefault(works, "put"), ",") {
		work, ok := kinds[strings.TrimSpace(name)]
		if !ok {
			return nil, fmt.Errorf("work: %q is not one of put, get, eventual, mix", name)
		}
		bytes, err := numbers(byDefault(sizes, "256"), headerBytes, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("size: %w", err)
		}
		counts, err := numbers(byDefault(clients, "256"), 1, 4096)
		if err != nil {
			return nil, fmt.Errorf("clients: %w", err)
		}
		for _, b := range bytes {
			for _, n := range counts {
				chosen = append(chosen, figures.Row{Work: work, Bytes: b, Clients: n})
			}
		}
	}
	return chosen, nil
}

func targetRows() []figures.Row {
	var chosen []figures.Row
	for _, t := range figures.Targets() {
		if !slices.Contains(chosen, t.Row) {
			chosen = append(chosen, t.Row)
		}
	}
	slices.SortFunc(chosen, figures.Row.Compare)
	return chosen
}

func byDefault(given, otherwise string) string {
	if given == "" {
		return otherwise
	}
	return given
}

func numbers(list string, lowest, highest int) ([]int, error) {
	var all []int
	for _, field := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < lowest || n > highest {
			return nil, fmt.Errorf("%q is not a number from %d to %d", field, lowest, highest)
		}
		all = append(all, n)
	}
	return all, nil
}

// takesPart reports whether a contender can do a row at all. NATS KV has no linearizable read. The
// unary client is there for one target; it is left out elsewhere unless the row is asked for.
func (s *settings) takesPart(contender string, row figures.Row) bool {
	if !slices.Contains(s.contenders, contender) {
		return false
	}
	switch contender {
	case figures.NATS:
		return row.Work != figures.Get
	case figures.AtollUnary:
		return !slices.Equal(s.rows, targetRows()) || (row.Work == figures.Put && row.Clients == 256)
	default:
		return true
	}
}

// duration estimates how long the run takes.
func (s *settings) duration() time.Duration {
	runs := 0
	for _, row := range s.rows {
		for _, c := range s.contenders {
			if s.takesPart(c, row) {
				runs++
			}
		}
	}
	return time.Minute + time.Duration(runs*s.rounds)*(s.warmup+s.measure+switching)
}
