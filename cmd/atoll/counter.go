package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newIncr(a *app) *cobra.Command {
	var by int64
	var w writes
	c := &cobra.Command{
		Use:   "incr KEY [N]",
		Short: "Add to a counter",
		Long: "Add 1, or N, to a counter and print its value in the region. Adds made in different regions at\n" +
			"once all count. An outcome that stays unknown is not repeated by itself: see exit code 5.",
		Example: `  atoll incr visits
  atoll incr visits 10 --region ap
  atoll incr stock --by -3
  atoll incr visits --durability local`,
		Args:              wants(1, 2, "KEY [N]"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				n, err := strconv.ParseInt(args[1], 10, 64)
				if err != nil {
					return usagef("%q is not a 64-bit number", args[1])
				}
				if cmd.Flags().Changed("by") {
					return usagef("give N or --by, not both")
				}
				by = n
			}
			var info client.Info
			kv, opts, err := a.writing(cmd, &w, &info)
			if err != nil {
				return err
			}
			value, err := kv.Counter(args[0]).Add(cmd.Context(), by, opts...)
			if err != nil {
				return err
			}
			if w.local() {
				return a.written(args[0], "", info)
			}
			it := item{Key: args[0], Type: "counter", Counter: &value}.answeredBy(info)
			return a.result(it, strconv.FormatInt(value, 10)+"\n", append([]field{
				{"key", printable([]byte(args[0]), 200)}, {"value", strconv.FormatInt(value, 10)},
			}, whereFields(info)...))
		},
	}
	w.flagsOfValue(c)
	c.Flags().Int64Var(&by, "by", 1, "how much to add; may be negative")
	return c
}
