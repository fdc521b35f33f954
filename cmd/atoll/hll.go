package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newHLL(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "hll",
		Short: "An estimate of how many different elements were added",
		Long: "A HyperLogLog: an estimate of how many different elements were added, in all regions together, with\n" +
			"a standard error of 0.81 %. It does not keep the elements. A delete takes away every add before it\n" +
			"by time, and none after it.",
		Example: `  atoll hll add visitors ann bob
  atoll hll count visitors`,
	}, newHLLAdd(a), newHLLCount(a))
}

func newHLLAdd(a *app) *cobra.Command {
	var w writes
	c := &cobra.Command{
		Use:   "add KEY ELEMENT...|-",
		Short: "Count elements",
		Long: "Add elements and print the estimate in the region. Elements may come from stdin, one per line (-).\n" +
			"An element that was added before, in any region, counts once.",
		Example: `  atoll hll add visitors ann bob
  cut -d' ' -f1 access.log | atoll hll add visitors -
  atoll hll add visitors ann -o json`,
		Args:              wants(2, -1, "KEY and at least one ELEMENT"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.writing(cmd, &w, &info)
			if err != nil {
				return err
			}
			var total client.HLLChange
			sent := false
			err = a.members(args[1:], func(elements [][]byte) error {
				done, err := kv.HLL(args[0]).Add(cmd.Context(), elements, opts...)
				sent = true
				total = client.HLLChange{Count: done.Count, Changed: total.Changed || done.Changed}
				return err
			})
			switch {
			case err != nil:
				return err
			case !sent: // stdin is empty
				total.Count, err = kv.HLL(args[0]).Count(cmd.Context(), client.WithInfo(&info))
			case w.local():
				return a.written(args[0], "", info)
			}
			if err != nil {
				return err
			}
			return a.estimate(args[0], total.Count, &total.Changed, info)
		},
	}
	w.flagsOfValue(c)
	return c
}

func newHLLCount(a *app) *cobra.Command {
	var r reads
	c := &cobra.Command{
		Use:   "count KEY",
		Short: "Print the estimate",
		Long:  "Print the estimate of how many different elements were added; 0 if the key does not exist.",
		Example: `  atoll hll count visitors
  atoll hll count visitors --region us -o json`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.reading(cmd, &r, &info)
			if err != nil {
				return err
			}
			n, err := kv.HLL(args[0]).Count(cmd.Context(), opts...)
			if err != nil {
				return err
			}
			return a.estimate(args[0], n, nil, info)
		},
	}
	r.flags(c)
	return c
}

// estimate prints the estimate of a HyperLogLog, and whether an add may have changed it.
func (a *app) estimate(key string, n uint64, changed *bool, info client.Info) error {
	v := client.Value{Type: client.TypeHLL, Size: n}
	fields := []field{{"key", printable([]byte(key), 200)}, {"value", shown(v, 100)}}
	if changed != nil {
		fields = append(fields, field{"changed", strconv.FormatBool(*changed)})
	}
	it := itemOf(key, v, false).answeredBy(info)
	it.Changed = changed
	return a.result(it, rawValue(v), append(fields, whereFields(info)...))
}
