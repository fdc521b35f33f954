package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/config"
	"github.com/atolldb/atoll/cmd/internal/demo"
)

// demoStart bounds how long a demo may take to answer.
const demoStart = 60 * time.Second

type demoFlags struct {
	nodes, port int
	dir, log    string
	story       bool
}

func newDemo(a *app) *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run three regions in this process, and cut and heal the links between them",
		Long: `Run the regions eu, us and ap in one process, with real Raft, NATS and sockets on loopback, and
simulated links between them: 40 ms one way between eu and us, 75 ms us-ap, 90 ms eu-ap.

Ctrl-C ends it and leaves nothing behind, unless --data names a directory to keep. While it runs,
` + "`atoll demo cut`, `atoll demo heal` and `atoll demo status`" + ` act on it from another terminal.`,
		Example: `  atoll demo
  atoll demo --story
  atoll demo --nodes 3 --data ./demo-data
  atoll demo cut eu us && atoll demo heal`,
		Args: wants(0, 0, "none, or one of cut, heal, status"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDemo(cmd.Context(), &f) },
	}
	c.Flags().IntVar(&f.nodes, "nodes", 1, "nodes per region: 1 or 3")
	c.Flags().IntVar(&f.port, "port", demo.DefaultPort, "API port of eu's first node; us begins 10 higher, ap 20 higher")
	c.Flags().StringVar(&f.dir, "data", "", "keep the data in this directory")
	c.Flags().StringVar(&f.log, "log", "", "write the nodes' logs to this file")
	c.Flags().BoolVar(&f.story, "story", false, "play the story (write, cut, write on both sides, heal, same answer) and exit")
	c.AddCommand(
		newDemoControl(a, "cut A B", "Stop everything that passes between two regions", 2),
		newDemoControl(a, "heal", "Undo every cut", 0),
		newDemoControl(a, "status", "Show the running demo's endpoints and links", 0),
	)
	return c
}

func newDemoControl(a *app, use, short string, regions int) *cobra.Command {
	name, _, _ := strings.Cut(use, " ")
	c := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: "  atoll demo " + strings.NewReplacer("A", "eu", "B", "us").Replace(use),
		Args:    wants(regions, regions, "two of "+strings.Join(demo.Regions(), ", ")),
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := demo.Control(cmd.Context(), demo.ControlPath(), name, args...)
			if errors.Is(err, demo.ErrNotRunning) {
				return withHint(&codeError{err, exitUnavailable}, "atoll demo")
			}
			if err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			return a.demoStatus(status)
		},
	}
	if regions == 0 {
		c.Args = wants(0, 0, "none")
	} else {
		c.ValidArgsFunction = cobra.FixedCompletions(demo.Regions(), cobra.ShellCompDirectiveNoFileComp)
	}
	return c
}

func (a *app) demoStatus(s demo.Status) error {
	regions := &grid{header: []string{"region", "endpoints"}}
	for _, r := range demo.Regions() {
		regions.add(r, strings.Join(s.Endpoints[r], " "))
	}
	links := &grid{header: []string{"link", "one way", "state"}}
	for _, l := range s.Links {
		state := "up"
		if l.Cut {
			state = "CUT"
		}
		links.add(l.A+" - "+l.B, fmt.Sprintf("%d ms", l.OneWayMS), state)
	}
	return a.tables(s, regions, links)
}

func (a *app) runDemo(ctx context.Context, f *demoFlags) (err error) {
	runtime.GOMAXPROCS(max(config.MinProcs, runtime.NumCPU()))
	start := a.clock()
	logs := io.Discard
	if f.log != "" {
		file, err := os.Create(f.log)
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		logs = file
	}
	dir := f.dir
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	d, err := demo.Open(ctx, demo.Config{
		Nodes: f.nodes, Port: f.port, Dir: dir, Control: demo.ControlPath(),
		Clock: a.clock, Logger: slog.New(slog.NewTextHandler(logs, nil)),
	})
	if err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := d.Run(ctx)
		stop(err)
		ended <- err
	}()
	err = a.presentDemo(ctx, d, f, start)
	stop(nil)
	return errors.Join(err, <-ended, d.Close())
}

// presentDemo waits until the demo answers, says how to use it, and returns when it is to end.
func (a *app) presentDemo(ctx context.Context, d *demo.Demo, f *demoFlags, start time.Time) error {
	if err := awaitDemo(ctx, d); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Three regions are up after %v (process %d).\n\n",
		a.clock().Sub(start).Round(10*time.Millisecond), os.Getpid())
	for _, r := range demo.Regions() {
		fmt.Fprintf(a.stdout, "  %s   %s\n", r, strings.Join(d.Endpoints()[r], " "))
	}
	if f.story {
		return d.Story(ctx, a.stdout)
	}
	server := ""
	if f.port != demo.DefaultPort {
		server = " --server " + d.Endpoints()["eu"][0]
	}
	fmt.Fprintf(a.stdout, `
Paste into another terminal:

  atoll put greeting hello --region eu%[1]s; sleep 1; atoll get greeting --region ap%[1]s
  atoll demo cut eu us
  atoll incr visits 5 --region eu%[1]s; atoll incr visits 7 --region us%[1]s
  atoll demo heal; sleep 3; atoll explain visits%[1]s

Ctrl-C ends it.
`, server)
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// awaitDemo waits until every region answers a linearizable read.
func awaitDemo(ctx context.Context, d *demo.Demo) error {
	ctx, cancel := context.WithTimeout(ctx, demoStart)
	defer cancel()
	for region, endpoints := range d.Endpoints() {
		c, err := client.New(endpoints, client.WithTimeout(demoStart))
		if err != nil {
			return err
		}
		_, err = c.Digest(ctx)
		_ = c.Close() // only drops idle connections
		if err != nil {
			return fmt.Errorf("region %s does not answer: %w", region, err)
		}
	}
	return nil
}
