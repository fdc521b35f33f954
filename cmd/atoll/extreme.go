package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newMax(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "max",
		Short: "A number that writes only raise",
		Long: "A number that writes only raise: of those made in different regions at once the largest is the value.\n" +
			"A delete takes away every write before it by time, and none after it.",
		Example: `  atoll max raise highscore 4200
  atoll max get highscore`,
	}, newExtremeWrite(a, &cobra.Command{
		Use: "raise KEY N", Short: "Raise a maximum",
		Long: "Make a maximum N unless it is as large already, and print the maximum in the region.",
		Example: `  atoll max raise highscore 4200
  atoll max raise temperature -- -5`,
	}, client.TypeMax, func(ctx context.Context, kv *client.Client, key string, n int64, opts []client.WriteOption) (int64, error) {
		return kv.Max(key).Raise(ctx, n, opts...)
	}), newExtremeGet(a, client.TypeMax, func(ctx context.Context, kv *client.Client, key string, opts []client.ReadOption) (int64, bool, error) {
		return kv.Max(key).Value(ctx, opts...)
	}))
}

func newMin(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "min",
		Short: "A number that writes only lower",
		Long: "A number that writes only lower: of those made in different regions at once the smallest is the value.\n" +
			"A delete takes away every write before it by time, and none after it.",
		Example: `  atoll min lower price 1999
  atoll min get price`,
	}, newExtremeWrite(a, &cobra.Command{
		Use: "lower KEY N", Short: "Lower a minimum",
		Long: "Make a minimum N unless it is as small already, and print the minimum in the region.",
		Example: `  atoll min lower price 1999
  atoll min lower temperature -- -5`,
	}, client.TypeMin, func(ctx context.Context, kv *client.Client, key string, n int64, opts []client.WriteOption) (int64, error) {
		return kv.Min(key).Lower(ctx, n, opts...)
	}), newExtremeGet(a, client.TypeMin, func(ctx context.Context, kv *client.Client, key string, opts []client.ReadOption) (int64, bool, error) {
		return kv.Min(key).Value(ctx, opts...)
	}))
}

func newExtremeWrite(
	a *app, c *cobra.Command, t client.Type, write func(context.Context, *client.Client, string, int64, []client.WriteOption) (int64, error),
) *cobra.Command {
	var w writes
	c.Args, c.ValidArgsFunction = wants(2, 2, "KEY and N (a negative one behind --)"), a.completeKeys(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := wholeNumber(args[1])
		if err != nil {
			return err
		}
		return a.changeNumber(cmd, &w, args[0], t, func(kv *client.Client, opts []client.WriteOption) (int64, error) {
			return write(cmd.Context(), kv, args[0], n, opts)
		})
	}
	w.flagsOfValue(c)
	return c
}

func newExtremeGet(
	a *app, t client.Type, read func(context.Context, *client.Client, string, []client.ReadOption) (int64, bool, error),
) *cobra.Command {
	name := map[client.Type]string{client.TypeMax: "maximum", client.TypeMin: "minimum"}[t]
	var r reads
	c := &cobra.Command{
		Use:               "get KEY",
		Short:             fmt.Sprintf("Print a %s", name),
		Long:              fmt.Sprintf("Print a %s. Exit code 3 if the key does not exist, 4 if it holds another type.", name),
		Example:           fmt.Sprintf("  atoll %v get highscore\n  atoll %v get highscore --region us -o json", t, t),
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.reading(cmd, &r, &info)
			if err != nil {
				return err
			}
			n, found, err := read(cmd.Context(), kv, args[0], opts)
			switch {
			case err != nil:
				return err
			case !found:
				return &codeError{fmt.Errorf("there is no %s under the key %q", name, args[0]), exitNotFound}
			default:
				return a.number(args[0], client.Value{Type: t, Counter: n}, info)
			}
		},
	}
	r.flags(c)
	return c
}
