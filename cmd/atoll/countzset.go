package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newCountZSet(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "countzset",
		Short: "Sorted sets whose scores add up",
		Long: "Work with a sorted set whose scores are counters: increments made in different regions at once all\n" +
			"count, and survive a removal made elsewhere at once. Scores are whole numbers of at most 2^53.",
		Example: `  atoll countzset incr plays song-1
  atoll countzset range plays --reverse --limit 10
  atoll countzset rem plays song-1`,
	}, newCountZSetAdd(a), newCountZSetIncr(a), newCountZSetRem(a), newCountZSetRange(a), newCountZSetScore(a), newCountZSetRank(a))
}

func newCountZSetAdd(a *app) *cobra.Command {
	var w writes
	c := &cobra.Command{
		Use:   "add KEY MEMBER SCORE",
		Short: "Give a member a score",
		Long: "Give a member a score as the region sees it, and print the score. Increments made elsewhere at once\n" +
			"add to it. Write -- before a negative score.",
		Example: `  atoll countzset add plays song-1 100
  atoll countzset add balance alice -- -5`,
		Args:              wants(3, 3, "KEY, MEMBER and SCORE"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			score, err := wholeNumber(args[2])
			if err != nil {
				return err
			}
			return a.scored(cmd, args, &w, func(z *client.CounterZSet, opts []client.WriteOption) (client.CounterZSetChange, error) {
				return z.Add(cmd.Context(), []byte(args[1]), score, opts...)
			})
		},
	}
	w.flagsOfValue(c)
	return c
}

func newCountZSetIncr(a *app) *cobra.Command {
	var by int64
	var w writes
	c := &cobra.Command{
		Use:   "incr KEY MEMBER [N]",
		Short: "Add to a member's score",
		Long: "Add 1, or N, to a member's score, which begins at 0, and print it. Increments made in different\n" +
			"regions at once all count. An outcome that stays unknown is not repeated by itself: see exit code 5.",
		Example: `  atoll countzset incr plays song-1
  atoll countzset incr plays song-1 10 --region ap
  atoll countzset incr plays song-1 --by -3`,
		Args:              wants(2, 3, "KEY, MEMBER and perhaps N"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 3 {
				if cmd.Flags().Changed("by") {
					return usagef("give N or --by, not both")
				}
				var err error
				if by, err = wholeNumber(args[2]); err != nil {
					return err
				}
			}
			return a.scored(cmd, args, &w, func(z *client.CounterZSet, opts []client.WriteOption) (client.CounterZSetChange, error) {
				return z.Incr(cmd.Context(), []byte(args[1]), by, opts...)
			})
		},
	}
	w.flagsOfValue(c)
	c.Flags().Int64Var(&by, "by", 1, "how much to add; may be negative")
	return c
}

// scored changes the score of the member args[1], and prints it.
func (a *app) scored(cmd *cobra.Command, args []string, w *writes, change func(*client.CounterZSet, []client.WriteOption) (client.CounterZSetChange, error)) error {
	var info client.Info
	kv, opts, err := a.writing(cmd, w, &info)
	if err != nil {
		return err
	}
	done, err := change(kv.CounterZSet(args[0]), opts)
	if err != nil {
		return err
	}
	if w.local() {
		return a.written(args[0], "", info)
	}
	out := map[string]any{
		"key": args[0], "member": textOrBase64([]byte(args[1])), "score": done.Score, "changed": done.Changed, "size": done.Size,
		"region": info.Region, "node": info.Node, "partition": info.Partition,
	}
	return a.result(out, fmt.Sprintf("%d\n", done.Score), append([]field{
		{"key", printable([]byte(args[0]), 200)}, {"member", printable([]byte(args[1]), 200)},
		{"score", strconv.FormatInt(done.Score, 10)}, {"size", fmt.Sprint(done.Size)},
	}, whereFields(info)...))
}

func newCountZSetRem(a *app) *cobra.Command {
	var w writes
	c := &cobra.Command{
		Use:   "rem KEY MEMBER...|-",
		Short: "Remove members",
		Long: "Remove members as the region sees them, and print how many were there. Members may come from stdin,\n" +
			"one per line (-). Increments made elsewhere at once survive. `atoll del` removes a whole sorted set\n" +
			"of up to 10 000 members; remove members of a larger one first.",
		Example: `  atoll countzset rem plays song-1 song-2
  cut -f1 gone.tsv | atoll countzset rem plays -`,
		Args:              wants(2, -1, "KEY and at least one MEMBER"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.writing(cmd, &w, &info)
			if err != nil {
				return err
			}
			var removed, size uint64
			err = a.members(args[1:], func(members [][]byte) error {
				done, err := kv.CounterZSet(args[0]).Remove(cmd.Context(), members, opts...)
				removed, size = removed+done.Changed, done.Size
				return err
			})
			if err != nil {
				return err
			}
			if w.local() {
				return a.written(args[0], "", info)
			}
			out := map[string]any{"key": args[0], "removed": removed, "size": size, "region": info.Region, "node": info.Node, "partition": info.Partition}
			return a.result(out, fmt.Sprintf("%d\n", removed), append([]field{
				{"key", printable([]byte(args[0]), 200)}, {"removed", fmt.Sprint(removed)}, {"size", fmt.Sprint(size)},
			}, whereFields(info)...))
		},
	}
	w.flagsOfValue(c)
	return c
}

func newCountZSetRange(a *app) *cobra.Command {
	var r reads
	var q client.CounterZSetRange
	var low, high int64
	c := &cobra.Command{
		Use:   "range KEY",
		Short: "Print members by score",
		Long: "Print members in order of their score, and then of their bytes: one per line, the score, a tab and\n" +
			"the member; with -o json each line is an object. An absent sorted set has no members.",
		Example: `  atoll countzset range plays --reverse --limit 10
  atoll countzset range plays --min 100 --max 199
  atoll countzset range plays --offset 20 --limit 10 -o json`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := r.options()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("min") {
				q.Min = &low
			}
			if cmd.Flags().Changed("max") {
				q.Max = &high
			}
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			return a.stream(func(out *bufio.Writer, format string) error {
				for m, err := range kv.CounterZSet(args[0]).Range(cmd.Context(), q, opts...) {
					if err != nil {
						return err
					}
					if err := writeCounted(out, m, format); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	r.flags(c)
	f := c.Flags()
	f.Int64Var(&low, "min", 0, "only members with at least this score")
	f.Int64Var(&high, "max", 0, "only members with at most this score")
	f.BoolVar(&q.Reverse, "reverse", false, "begin with the largest score")
	f.Uint32Var(&q.Offset, "offset", 0, "skip this many, at most 10 000: the rank of the first one")
	f.Uint64Var(&q.Limit, "limit", 0, "print at most this many; 0 means all")
	return c
}

// addCounted fills in what an item has of a sorted set with counters.
func (it *item) addCounted(v client.Value) {
	it.Size = &v.Size
	for _, m := range v.Counted {
		it.Scored = append(it.Scored, countedJSON(m))
	}
}

// countedJSON returns a member for JSON.
func countedJSON(m client.CountedMember) scoredItem {
	return scoredItem{textOrBase64(m.Member), m.Score}
}

// shownCounted returns a sorted set for a table.
func shownCounted(v client.Value) string {
	var members []string
	for i, m := range v.Counted {
		if i == 5 {
			members = append(members, "…")
			break
		}
		members = append(members, fmt.Sprintf("%s %d", printable(m.Member, 40), m.Score))
	}
	return fmt.Sprintf("%d members: %s", v.Size, strings.Join(members, ", "))
}

func writeCounted(out *bufio.Writer, m client.CountedMember, format string) error {
	switch format {
	case "json":
		return jsonLine(out, countedJSON(m))
	case "table":
		_, err := fmt.Fprintf(out, "%d\t%s\n", m.Score, printable(m.Member, -1))
		return err
	default:
		_, err := fmt.Fprintf(out, "%d\t%s\n", m.Score, m.Member)
		return err
	}
}

func newCountZSetScore(a *app) *cobra.Command {
	var r reads
	c := &cobra.Command{
		Use:               "score KEY MEMBER",
		Short:             "Print a member's score",
		Long:              "Print a member's score. Exit code 3 if it is not a member.",
		Example:           `  atoll countzset score plays song-1`,
		Args:              wants(2, 2, "KEY and MEMBER"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.position(cmd, args, &r, "score", func(z *client.CounterZSet, opts []client.ReadOption) (int64, bool, error) {
				return z.Score(cmd.Context(), []byte(args[1]), opts...)
			})
		},
	}
	r.flags(c)
	return c
}

func newCountZSetRank(a *app) *cobra.Command {
	var r reads
	var reverse bool
	c := &cobra.Command{
		Use:   "rank KEY MEMBER",
		Short: "Print how many members are before one",
		Long: "Print how many members are before one in order of score: 0 for the first. The server counts them, so\n" +
			"it takes the longer the larger the rank. Exit code 3 if it is not a member.",
		Example: `  atoll countzset rank plays song-1
  atoll countzset rank plays song-1 --reverse`,
		Args:              wants(2, 2, "KEY and MEMBER"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.position(cmd, args, &r, "rank", func(z *client.CounterZSet, opts []client.ReadOption) (int64, bool, error) {
				rank, ok, err := z.Rank(cmd.Context(), []byte(args[1]), reverse, opts...)
				return int64(rank), ok, err
			})
		},
	}
	r.flags(c)
	c.Flags().BoolVar(&reverse, "reverse", false, "count from the largest score")
	return c
}

// position prints what a query says about the member args[1].
func (a *app) position(cmd *cobra.Command, args []string, r *reads, name string, ask func(*client.CounterZSet, []client.ReadOption) (int64, bool, error)) error {
	var info client.Info
	kv, opts, err := a.reading(cmd, r, &info)
	if err != nil {
		return err
	}
	n, ok, err := ask(kv.CounterZSet(args[0]), opts)
	if err != nil {
		return err
	}
	if !ok {
		return &codeError{fmt.Errorf("%s is not a member of %s", printable([]byte(args[1]), 200), printable([]byte(args[0]), 200)), exitNotFound}
	}
	out := map[string]any{"key": args[0], "member": textOrBase64([]byte(args[1])), name: n, "region": info.Region, "node": info.Node, "partition": info.Partition}
	return a.result(out, fmt.Sprintf("%d\n", n), append([]field{
		{"key", printable([]byte(args[0]), 200)}, {"member", printable([]byte(args[1]), 200)}, {name, strconv.FormatInt(n, 10)},
	}, whereFields(info)...))
}
