package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newBCounter(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "bcounter",
		Short: "A counter that never falls below 0",
		Long: "A counter that never falls below 0. A region may take from it what was added there or given to it,\n" +
			"without asking others; all that different regions do at once counts. It cannot be deleted.",
		Example: `  atoll bcounter inc stock 100 --region eu
  atoll bcounter transfer stock 40 us --region eu
  atoll bcounter dec stock 3 --region us
  atoll bcounter rights stock`,
	},
		newBCounterChange(a, &cobra.Command{
			Use: "inc KEY [N]", Short: "Add to a bounded counter",
			Long: "Add 1, or N, to a bounded counter and print its value in the region, which may take as much more\n" +
				"from it. An outcome that stays unknown is not repeated by itself: see exit code 5.",
			Example: `  atoll bcounter inc stock
  atoll bcounter inc stock 100 --durability local`,
		}, (*client.BoundedCounter).Inc),
		newBCounterChange(a, &cobra.Command{
			Use: "dec KEY [N]", Short: "Take from a bounded counter",
			Long: "Take 1, or N, from a bounded counter and print its value in the region. Exit code 4 if the region\n" +
				"may not take so much; another region can give it the right (atoll bcounter transfer).",
			Example: `  atoll bcounter dec stock
  atoll bcounter dec stock 3 -o json`,
		}, (*client.BoundedCounter).Dec),
		newBCounterTransfer(a), newBCounterRights(a))
}

type bcounterChange func(*client.BoundedCounter, context.Context, int64, ...client.WriteOption) (int64, error)

func newBCounterChange(a *app, c *cobra.Command, change bcounterChange) *cobra.Command {
	var w writes
	c.Args, c.ValidArgsFunction = wants(1, 2, "KEY [N]"), a.completeKeys(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		n := int64(1)
		if len(args) == 2 {
			var err error
			if n, err = wholeNumber(args[1]); err != nil {
				return err
			}
		}
		return a.changeNumber(cmd, &w, args[0], client.TypeBoundedCounter, func(kv *client.Client, opts []client.WriteOption) (int64, error) {
			return change(kv.BoundedCounter(args[0]), cmd.Context(), n, opts...)
		})
	}
	w.flags(c)
	return c
}

func wholeNumber(arg string) (int64, error) {
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		return 0, usagef("%q is not a 64-bit number", arg)
	}
	return n, nil
}

// changeNumber runs a write that answers with a number, and prints it.
func (a *app) changeNumber(
	cmd *cobra.Command, w *writes, key string, t client.Type, change func(*client.Client, []client.WriteOption) (int64, error),
) error {
	var info client.Info
	kv, opts, err := a.writing(cmd, w, &info)
	if err != nil {
		return err
	}
	value, err := change(kv, opts)
	if err != nil {
		return err
	}
	if w.local() {
		return a.written(key, "", info)
	}
	return a.number(key, client.Value{Type: t, Counter: value}, info)
}

// number prints a value that is a number.
func (a *app) number(key string, v client.Value, info client.Info) error {
	fields := []field{{"key", printable([]byte(key), 200)}, {"value", strconv.FormatInt(v.Counter, 10)}}
	return a.result(itemOf(key, v, false).answeredBy(info), rawValue(v), append(fields, whereFields(info)...))
}

func newBCounterTransfer(a *app) *cobra.Command {
	var w writes
	c := &cobra.Command{
		Use:   "transfer KEY N REGION",
		Short: "Give a region rights to a bounded counter",
		Long: "Give another region the right to take N of a bounded counter, which the region that the command\n" +
			"talks to may take so far. The counter's value stays. Exit code 4 if it may not take so much.",
		Example: `  atoll bcounter transfer stock 40 us
  atoll bcounter transfer stock 40 us --region eu`,
		Args:              wants(3, 3, "KEY, N and REGION"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := wholeNumber(args[1])
			if err != nil {
				return err
			}
			var info client.Info
			kv, opts, err := a.writing(cmd, &w, &info)
			if err != nil {
				return err
			}
			if err := kv.BoundedCounter(args[0]).Transfer(cmd.Context(), n, args[2], opts...); err != nil {
				return err
			}
			return a.written(args[0], "", info)
		},
	}
	w.flags(c)
	return c
}

func newBCounterRights(a *app) *cobra.Command {
	var r reads
	c := &cobra.Command{
		Use:   "rights KEY",
		Short: "Print what each region may take of a bounded counter",
		Long: "Print what each region may take of a bounded counter, as the region sees it, one per line. A name\n" +
			"with an epoch, such as eu/1, is of rights that a region had before it was fenced: nobody has them.",
		Example: `  atoll bcounter rights stock
  atoll bcounter rights stock -o json --eventual`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.reading(cmd, &r, &info)
			if err != nil {
				return err
			}
			value, rights, err := kv.BoundedCounter(args[0]).Value(cmd.Context(), opts...)
			if err != nil {
				return err
			}
			var raw strings.Builder
			fields := []field{{"key", printable([]byte(args[0]), 200)}, {"value", strconv.FormatInt(value, 10)}}
			for _, of := range rights {
				fmt.Fprintf(&raw, "%s\t%d\n", of.Region, of.Rights)
				fields = append(fields, field{of.Region + " may take", strconv.FormatInt(of.Rights, 10)})
			}
			v := client.Value{Type: client.TypeBoundedCounter, Counter: value, Rights: rights}
			return a.result(itemOf(args[0], v, false).answeredBy(info), raw.String(), append(fields, whereFields(info)...))
		},
	}
	r.flags(c)
	return c
}
