package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newZSet(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "zset",
		Short: "Read and write sorted sets",
		Long: "Read and write sorted sets: members in order of their scores. The last write of a member wins: of\n" +
			"scores or increments given in different regions at once, the later stays and the other is lost.",
		Example: `  atoll zset add board ann 120
  atoll zset incr board ann 5
  atoll zset range board --reverse --limit 10`,
	}, newZSetAdd(a), newZSetIncr(a), newZSetRem(a), newZSetRange(a), newZSetScore(a), newZSetRank(a))
}

func newZSetAdd(a *app) *cobra.Command {
	return newZSetScoring(a, &cobra.Command{
		Use:   "add KEY MEMBER SCORE",
		Short: "Give a member a score",
		Long: "Give a member of a sorted set a score, which is a number, inf or -inf, and print it. Write -- before\n" +
			"a negative one.",
		Example: `  atoll zset add board ann 120
  atoll zset add board bob -- -2.5`,
	}, (*client.ZSet).Add)
}

func newZSetIncr(a *app) *cobra.Command {
	return newZSetScoring(a, &cobra.Command{
		Use:   "incr KEY MEMBER DELTA",
		Short: "Add to a member's score",
		Long: "Add to the score that a member has in the region, 0 if it is absent, and print the sum. Of increments\n" +
			"made in different regions at once only one stays. Write -- before a negative one.",
		Example: `  atoll zset incr board ann 5
  atoll zset incr board ann -o json -- -5`,
	}, (*client.ZSet).Incr)
}

func newZSetScoring(a *app, c *cobra.Command, do func(*client.ZSet, context.Context, []byte, float64, ...client.WriteOption) (client.ZSetChange, error)) *cobra.Command {
	c.Args = wants(3, 3, "KEY, MEMBER and a score")
	return newFieldsWrite(a, c, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error) {
		given, err := parseScore(args[2])
		if err != nil {
			return nil, err
		}
		change, err := do(kv.ZSet(args[0]), cmd.Context(), []byte(args[1]), given, opts...)
		return []column{{"score", score(change.Score)}, {"changed", change.Changed}, {"size", change.Size}}, err
	})
}

func newZSetRem(a *app) *cobra.Command {
	return newFieldsWrite(a, &cobra.Command{
		Use:   "rem KEY MEMBER...",
		Short: "Remove members from a sorted set",
		Long: "Remove members from a sorted set and print how many were there. A remove wins over an earlier score,\n" +
			"also one given in another region at once, and loses to a later one.",
		Example: `  atoll zset rem board ann bob`,
		Args:    wants(2, -1, "KEY and at least one MEMBER"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error) {
		var members [][]byte
		for _, m := range args[1:] {
			members = append(members, []byte(m))
		}
		change, err := kv.ZSet(args[0]).Remove(cmd.Context(), members, opts...)
		return []column{{"removed", change.Changed}, {"size", change.Size}}, err
	})
}

func newZSetRange(a *app) *cobra.Command {
	var low, high string
	var r client.ZSetRange
	c := newFieldsRead(a, &cobra.Command{
		Use:   "range KEY",
		Short: "Print members by score",
		Long: "Print the members of a sorted set in order of score, one per line: the score, a tab, the member; with\n" +
			"-o json each line is {\"member\": ..., \"score\": ...}. An absent set has no members.",
		Example: `  atoll zset range board --reverse --limit 10
  atoll zset range board --min 100 --max 200 -o json
  atoll zset range board --offset 20 --limit 10`,
		Args: wants(1, 1, "KEY"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(fieldsLine) error) error {
		for _, bound := range []struct {
			text string
			to   **float64
		}{{low, &r.Min}, {high, &r.Max}} {
			if bound.text == "" {
				continue
			}
			given, err := parseScore(bound.text)
			if err != nil {
				return err
			}
			*bound.to = &given
		}
		for m, err := range kv.ZSet(args[0]).Range(cmd.Context(), r, opts...) {
			if err != nil {
				return err
			}
			if err := print(scoredLine(m)); err != nil {
				return err
			}
		}
		return nil
	})
	f := c.Flags()
	f.StringVar(&low, "min", "", "the smallest score, included")
	f.StringVar(&high, "max", "", "the largest score, included")
	f.BoolVar(&r.Reverse, "reverse", false, "begin with the largest score")
	f.IntVar(&r.Offset, "offset", 0, "skip this many members, at most 10 000")
	f.IntVar(&r.Limit, "limit", 0, "print at most this many; 0 means all")
	return c
}

func newZSetScore(a *app) *cobra.Command {
	return newFieldsRead(a, &cobra.Command{
		Use:     "score KEY MEMBER",
		Short:   "Print a member's score",
		Long:    "Print the score of a member of a sorted set. Exit code 3 if it is not a member.",
		Example: `  atoll zset score board ann`,
		Args:    wants(2, 2, "KEY and MEMBER"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(fieldsLine) error) error {
		got, ok, err := kv.ZSet(args[0]).Score(cmd.Context(), []byte(args[1]), opts...)
		if err != nil {
			return err
		}
		text := score(got).String()
		return printMember(args, ok, print, fieldsLine{text, text, scoredItemOf(client.ScoredMember{Member: []byte(args[1]), Score: got})})
	})
}

func newZSetRank(a *app) *cobra.Command {
	reverse := false
	c := newFieldsRead(a, &cobra.Command{
		Use:   "rank KEY MEMBER",
		Short: "Print how many members are before one",
		Long: "Print how many members of a sorted set are before one, or after it with --reverse: 0 is the first. It\n" +
			"counts them, so it costs as many steps. Exit code 3 if it is not a member.",
		Example: `  atoll zset rank board ann
  atoll zset rank board ann --reverse`,
		Args: wants(2, 2, "KEY and MEMBER"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(fieldsLine) error) error {
		rank, ok, err := kv.ZSet(args[0]).Rank(cmd.Context(), []byte(args[1]), reverse, opts...)
		if err != nil {
			return err
		}
		text := strconv.FormatUint(rank, 10)
		return printMember(args, ok, print, fieldsLine{text, text, map[string]any{"member": textOrBase64([]byte(args[1])), "rank": rank}})
	})
	c.Flags().BoolVar(&reverse, "reverse", false, "count from the largest score")
	return c
}

func printMember(args []string, ok bool, print func(fieldsLine) error, line fieldsLine) error {
	if !ok {
		return &codeError{fmt.Errorf("sorted set %q has no member %s", args[0], printable([]byte(args[1]), 80)), exitNotFound}
	}
	return print(line)
}
