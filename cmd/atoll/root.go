package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/internal/invariant"
)

const defaultServer = "http://127.0.0.1:7480"

// The groups of commands in the help.
const (
	groupData    = "data"
	groupBulk    = "bulk"
	groupRegions = "regions"
	groupCluster = "cluster"
	groupServe   = "serve"
)

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "atoll",
		Short: "A multi-region, active-active key-value store",
		Long: "Atoll is a multi-region, active-active key-value store. Writes are durable on a quorum of\n" +
			"their region at once; other regions merge them without losing updates.\n\n" +
			"Commands talk to the server named by --server, by the variable ATOLL_SERVER, or to\n" + defaultServer + ".",
		Example: `  atoll put greeting 'hello world'
  atoll get greeting --region us
  atoll incr visits && atoll explain visits`,
		Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if f := c.Flags().Lookup("consistency"); f != nil && f.Value.String() == "session" && a.sessionFile() == "" {
				return usagef("--consistency session needs --session FILE")
			}
			_, err := a.format() // before anything is written
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.AddGroup(
		&cobra.Group{ID: groupServe, Title: "Run"},
		&cobra.Group{ID: groupData, Title: "Read and write"},
		&cobra.Group{ID: groupBulk, Title: "Move data"},
		&cobra.Group{ID: groupRegions, Title: "Compare regions"},
		&cobra.Group{ID: groupCluster, Title: "Look into a region"},
	)
	f := root.PersistentFlags()
	f.StringSliceVarP(&a.flags.servers, "server", "s", nil, "address of a node; repeat or separate by commas for several of one region (env ATOLL_SERVER, default "+defaultServer+")")
	f.StringVarP(&a.flags.region, "region", "r", "", "talk to this region instead; --server tells its addresses")
	f.StringVarP(&a.flags.namespace, "namespace", "n", "", "namespace of keys (default \"default\")")
	f.DurationVar(&a.flags.timeout, "timeout", 10*time.Second, "longest time for one request")
	f.StringVar(&a.flags.session, "session", "", "file with a session: reads see all that its commands wrote and read, in any region (env ATOLL_SESSION; made if absent)")
	f.StringVarP(&a.flags.output, "output", "o", "", "table, json or raw (default table on a terminal, else raw)")
	noError(root.RegisterFlagCompletionFunc("region", a.completeRegions))
	noError(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "raw"}, cobra.ShellCompDirectiveNoFileComp)))
	noError(root.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions))

	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupServe, newServer(a), newDemo(a))
	add(groupData, newGet(a), newPut(a), newDel(a), newCAS(a), newIncr(a), newSetAdd(a), newSetRem(a), newSetMembers(a),
		newBCounter(a), newMax(a), newMin(a), newFlag(a), newMVRegister(a), newMap(a), newZSet(a), newCountZSet(a), newHLL(a), newTimeline(a), newORMap(a), newLs(a),
		newExpire(a), newPersist(a), newWatch(a))
	add(groupBulk, newImport(a), newExport(a))
	add(groupRegions, newStatus(a), newRegion(a), newNamespace(a), newRepair(a), newExplain(a), newConflicts(a), newDigest(a))
	add(groupCluster, newTopology(a), newBench(a), newSim(a))
	root.AddCommand(newVersion(a), newExitCodes())
	a.noteStart(root)
	return root
}

// noteStart makes every command note that it began. What fails before is a mistake in the call: cobra's
// own errors about flags and arguments have no type to tell.
func (a *app) noteStart(c *cobra.Command) {
	if do := c.RunE; do != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.began = true
			return do(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		a.noteStart(sub)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q", name)
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		return withHint(&usageError{err: err, command: cmd.CommandPath()}, "atoll %s", strings.Join(like, ", atoll "))
	}
	return &usageError{err: err, command: cmd.CommandPath()}
}

// wants checks the number of arguments, and says which they are.
func wants(least, most int, names string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || (most >= 0 && len(args) > most) {
			return fmt.Errorf("%d arguments given, want %s", len(args), names)
		}
		return nil
	}
}

// noError is for what only a mistake in this program can make fail.
func noError(err error) { invariant.Check(err == nil, "command line: %v", err) }

func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of atoll:

  0  ok
  1  error: damaged data, a bug, a bad record in an import, an interrupt
  2  usage: an argument, flag, key or value that cannot be right
  3  not found: the key does not exist
  4  conflict: a condition does not hold, the key has another type, regions differ (digest), values
     from the future need care (repair), or a change of the regions or of a home is refused (region, namespace)
  5  unavailable or timed out; for writes the message says whether the outcome is unknown
  6  denied: the credentials are missing or do not allow it`,
	}
}
