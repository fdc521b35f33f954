package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newGet(a *app) *cobra.Command {
	var r reads
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Print a key's value",
		Long: "Print a key's value, whatever its type. On a pipe a register's bytes come out exactly as\n" +
			"they went in, of a multi-value register the latest, a set line by line. Exit code 3 if the key does\n" +
			"not exist.",
		Example: `  atoll get greeting
  atoll get greeting --region us -o json
  atoll get greeting --max-staleness 500ms
  atoll get greeting --consistency eventual
  atoll get picture > picture.png`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.reading(cmd, &r, &info)
			if err != nil {
				return err
			}
			v, err := kv.Get(cmd.Context(), args[0], opts...)
			if err != nil {
				return err
			}
			if rest := v.Size - uint64(len(v.Members)); v.Type == client.TypeSet && rest > 0 {
				a.notef("%d more members: atoll set-members %q prints all", rest, args[0])
			}
			if n := len(v.Siblings); n > 1 {
				a.notef("the latest of %d concurrent values: atoll mvregister get %q prints all", n, args[0])
			}
			if rest := v.Size - uint64(len(v.Entries)); v.Type == client.TypeTimeline && rest > 0 {
				a.notef("%d more entries: atoll timeline range %q prints all", rest, args[0])
			}
			a.noteMoreFields(args[0], v)
			if rest := v.Size - uint64(len(v.Counted)); v.Type == client.TypeCounterZSet && rest > 0 {
				a.notef("%d more members: atoll countzset range %q prints all", rest, args[0])
			}
			if v.Type == client.TypeORMap {
				a.notef("%d values: atoll ormap get %q prints them", v.Size, args[0])
			}
			it := itemOf(args[0], v, false).answeredBy(info)
			return a.result(it, rawValue(v), append([]field{
				{"key", printable([]byte(args[0]), 200)}, {"type", it.Type}, {"value", shown(v, 4000)}, {"ttl", it.TTL}, {"version", it.Version},
			}, whereFields(info)...))
		},
	}
	r.flags(c)
	return c
}

// written prints the outcome of a write that made a version. One of local durability has none yet.
func (a *app) written(key, version string, info client.Info) error {
	it := item{Key: key, Version: version}.answeredBy(info)
	raw := ""
	if version != "" {
		raw = version + "\n"
	}
	return a.result(it, raw, append([]field{
		{"key", printable([]byte(key), 200)}, {"version", version},
	}, whereFields(info)...))
}

// conditions are the flags of conditional writes.
type conditions struct {
	absent, present bool
	version, value  string
}

func (c *conditions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&c.present, "if-present", false, "only if the key exists")
	f.StringVar(&c.version, "if-version", "", "only if the key has this version")
	f.StringVar(&c.value, "if-value", "", "only if the register holds this value")
}

func (c *conditions) options(cmd *cobra.Command) ([]client.WriteOption, error) {
	var opts []client.WriteOption
	for name, opt := range map[string]client.WriteOption{
		"if-absent": client.IfAbsent(), "if-present": client.IfPresent(),
		"if-version": client.IfVersion(c.version), "if-value": client.IfValue([]byte(c.value)),
	} {
		if cmd.Flags().Changed(name) {
			opts = append(opts, opt)
		}
	}
	if len(opts) > 1 {
		return nil, usagef("a write takes one condition")
	}
	return opts, nil
}

func newPut(a *app) *cobra.Command {
	var cond conditions
	var w writes
	c := &cobra.Command{
		Use:   "put KEY VALUE|-|@FILE",
		Short: "Set a register",
		Long: "Set a register to VALUE, to what stdin holds (-), or to what a file holds (@FILE), and print\n" +
			"its new version. When it returns, the value is on disk on a majority of its replicas in the region.",
		Example: `  atoll put greeting 'hello world'
  atoll put picture @picture.png
  date | atoll put now - --ttl 1h
  atoll put reading 21.5 --durability local
  atoll put lock me --if-absent`,
		Args:              wants(2, 2, "KEY and VALUE"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := cond.options(cmd)
			if err != nil {
				return err
			}
			durable, err := w.options()
			if err != nil {
				return err
			}
			opts = append(opts, durable...)
			value, err := a.value(args[1])
			if err != nil {
				return err
			}
			return a.put(cmd, args[0], value, opts)
		},
	}
	cond.flags(c)
	w.flagsOfValue(c)
	c.Flags().BoolVar(&cond.absent, "if-absent", false, "only if the key does not exist")
	return c
}

func (a *app) put(cmd *cobra.Command, key string, value []byte, opts []client.WriteOption) error {
	kv, err := a.client(cmd.Context())
	if err != nil {
		return err
	}
	var info client.Info
	version, err := kv.Put(cmd.Context(), key, value, append(opts, client.WithInfo(&info))...)
	if err != nil {
		return err
	}
	return a.written(key, version, info)
}

func newCAS(a *app) *cobra.Command {
	var version string
	var w writes
	c := &cobra.Command{
		Use:   "cas KEY OLD NEW",
		Short: "Set a register if it still holds what you think",
		Long: "Set a register to NEW if it holds exactly OLD, or has exactly the given version. Exit code 4 if\n" +
			"not. The check is linearizable in the region; another region may write at the same time.",
		Example: `  atoll cas config '{"v":1}' '{"v":2}'
  atoll cas config @new.json --version "$(atoll get config -o json | jq -r .version)"`,
		Args:              wants(2, 3, "KEY OLD NEW, or KEY NEW with --version"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			byVersion := cmd.Flags().Changed("version")
			if byVersion == (len(args) == 3) {
				return &usageError{err: fmt.Errorf("give either OLD or --version"), command: cmd.CommandPath()}
			}
			value, err := a.value(args[len(args)-1])
			if err != nil {
				return err
			}
			condition := client.IfVersion(version)
			if !byVersion {
				old, err := a.value(args[1])
				if err != nil {
					return err
				}
				condition = client.IfValue(old)
			}
			opts, err := w.options()
			if err != nil {
				return err
			}
			return a.put(cmd, args[0], value, append(opts, condition))
		},
	}
	w.durability = "quorum"
	c.Flags().DurationVar(&w.ttl, "ttl", 0, "let the value expire after this time; without it the value stays")
	c.Flags().StringVar(&version, "version", "", "the version that the key must have, instead of OLD")
	return c
}

func newDel(a *app) *cobra.Command {
	var cond conditions
	var w writes
	var typ oneType
	c := &cobra.Command{
		Use:   "del KEY",
		Short: "Remove a key",
		Long:  "Remove a key, with its values of all types unless --type names one. Removing what is absent is no\nerror.",
		Example: `  atoll del greeting
  atoll del greeting --if-version 018f3a
  atoll del visits --type counter -o json`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := cond.options(cmd)
			if err != nil {
				return err
			}
			durable, err := w.options()
			if err != nil {
				return err
			}
			opts = append(opts, durable...)
			of, err := typ.options()
			if err != nil {
				return err
			}
			opts = append(opts, of...)
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			var info client.Info
			existed, err := kv.Delete(cmd.Context(), args[0], append(opts, client.WithInfo(&info))...)
			if err != nil {
				return err
			}
			if w.local() {
				return a.written(args[0], "", info)
			}
			out := struct {
				item
				Existed bool `json:"existed"`
			}{item{Key: args[0]}.answeredBy(info), existed}
			return a.result(out, fmt.Sprintf("%t\n", existed), append([]field{
				{"key", printable([]byte(args[0]), 200)}, {"existed", fmt.Sprint(existed)},
			}, whereFields(info)...))
		},
	}
	cond.flags(c)
	w.flags(c)
	typ.flag(c, "remove")
	return c
}
