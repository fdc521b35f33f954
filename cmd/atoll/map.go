package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newMap(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "map",
		Short: "Read and write maps of fields",
		Long: "Read and write maps. Each field is last-writer-wins by itself: writes to different fields never\n" +
			"disturb each other, and of writes to one field made in different regions at once the later stays.",
		Example: `  atoll map put user:7 name=Ann city=Oslo
  atoll map get user:7 name
  atoll map all user:7`,
	}, newMapPut(a), newMapRem(a), newMapGet(a), newMapAll(a))
}

func newMapPut(a *app) *cobra.Command {
	return newFieldsWrite(a, &cobra.Command{
		Use:   "put KEY FIELD=VALUE...",
		Short: "Set fields of a map",
		Long: "Set fields of a map in one event and print how many of them are new or got another value. A field's\n" +
			"name ends at the first =.",
		Example: `  atoll map put user:7 name=Ann city=Oslo
  atoll map put user:7 motto='a=b' -o json`,
		Args: wants(2, -1, "KEY and at least one FIELD=VALUE"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error) {
		fields := map[string][]byte{}
		for _, arg := range args[1:] {
			name, value, ok := strings.Cut(arg, "=")
			if !ok || name == "" || !utf8.ValidString(name) {
				return nil, usagef("%s is not FIELD=VALUE", printable([]byte(arg), 80))
			}
			fields[name] = []byte(value)
		}
		change, err := kv.Map(args[0]).Put(cmd.Context(), fields, opts...)
		return []column{{"changed", change.Changed}, {"size", change.Size}}, err
	})
}

func newMapRem(a *app) *cobra.Command {
	return newFieldsWrite(a, &cobra.Command{
		Use:   "rem KEY FIELD...",
		Short: "Remove fields of a map",
		Long: "Remove fields of a map and print how many were there. A remove wins over an earlier put, also one\n" +
			"made in another region at once, and loses to a later one. atoll del removes the whole map.",
		Example: `  atoll map rem user:7 city
  atoll map rem user:7 city motto --durability local`,
		Args: wants(2, -1, "KEY and at least one FIELD"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error) {
		change, err := kv.Map(args[0]).Remove(cmd.Context(), args[1:], opts...)
		return []column{{"removed", change.Changed}, {"size", change.Size}}, err
	})
}

func newMapGet(a *app) *cobra.Command {
	return newFieldsRead(a, &cobra.Command{
		Use:   "get KEY FIELD...",
		Short: "Print fields of a map",
		Long: "Print the value of one field, or FIELD=VALUE lines of several, leaving out those that are absent;\n" +
			"with -o json each line is {\"field\": ..., \"value\": ...}. Exit code 3 if none of them is there.",
		Example: `  atoll map get user:7 name
  atoll map get user:7 name city -o json
  atoll map get user:7 name --consistency eventual`,
		Args: wants(2, -1, "KEY and at least one FIELD"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(fieldsLine) error) error {
		found, err := kv.Map(args[0]).Get(cmd.Context(), args[1:], opts...)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return &codeError{fmt.Errorf("map %q has none of these fields", args[0]), exitNotFound}
		}
		seen := map[string]bool{}
		for _, name := range args[1:] {
			value, ok := found[name]
			if !ok || seen[name] {
				continue
			}
			seen[name] = true
			line := fieldLine(client.MapField{Name: name, Value: value})
			if len(args) == 2 {
				line.raw, line.shown = string(value), printable(value, -1)
			}
			if err := print(line); err != nil {
				return err
			}
		}
		return nil
	})
}

func newMapAll(a *app) *cobra.Command {
	limit := 0
	c := newFieldsRead(a, &cobra.Command{
		Use:   "all KEY",
		Short: "Print all fields of a map",
		Long: "Print the fields of a map in byte order, one FIELD=VALUE per line; with -o json each line is\n" +
			"{\"field\": ..., \"value\": ...}. An absent map has no fields.",
		Example: `  atoll map all user:7
  atoll map all user:7 --limit 10 -o json`,
		Args: wants(1, 1, "KEY"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(fieldsLine) error) error {
		n := 0
		for f, err := range kv.Map(args[0]).Fields(cmd.Context(), opts...) {
			if err != nil {
				return err
			}
			if err := print(fieldLine(f)); err != nil {
				return err
			}
			if n++; n == limit {
				break
			}
		}
		return nil
	})
	c.Flags().IntVar(&limit, "limit", 0, "print at most this many; 0 means all")
	return c
}
