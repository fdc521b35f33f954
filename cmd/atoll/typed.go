package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// commandOfType makes a command of the commands for one type.
func commandOfType(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &usageError{err: fmt.Errorf("unknown command %q", args[0]), command: cmd.CommandPath()}
		}
		return cmd.Help()
	}
	c.AddCommand(commands...)
	return c
}

// oneType is the flag of a command that works on values of all types under a key, or on one.
type oneType string

func (t *oneType) flag(c *cobra.Command, verb string) {
	c.Flags().StringVar((*string)(t), "type", "", verb+" only this type: register, counter, set, …")
	noError(c.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(typeNames(), cobra.ShellCompDirectiveNoFileComp)))
}

func (t *oneType) options() ([]client.WriteOption, error) {
	if *t == "" {
		return nil, nil
	}
	i := slices.Index(typeNames(), string(*t))
	if i < 0 {
		return nil, usagef("unknown type %q: want one of %s", *t, strings.Join(typeNames(), ", "))
	}
	return []client.WriteOption{client.OfType(client.Types()[i])}, nil
}

// typeNames returns the names of client.Types.
func typeNames() []string {
	var names []string
	for _, t := range client.Types() {
		names = append(names, t.String())
	}
	return names
}

type typedWrite func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) (version string, err error)

// newTypedWrite completes the command of a write that answers a version, and that takes conditions.
func newTypedWrite(a *app, c *cobra.Command, write typedWrite) *cobra.Command {
	var cond conditions
	var w writes
	c.ValidArgsFunction = a.completeKeys(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		opts, err := cond.options(cmd)
		if err != nil {
			return err
		}
		durable, err := w.options()
		if err != nil {
			return err
		}
		kv, err := a.client(cmd.Context())
		if err != nil {
			return err
		}
		var info client.Info
		version, err := write(kv, cmd, args, append(append(opts, durable...), client.WithInfo(&info)))
		if err != nil {
			return err
		}
		return a.written(args[0], version, info)
	}
	w.flagsOfValue(c)
	f := c.Flags()
	f.BoolVar(&cond.absent, "if-absent", false, "only if the key does not exist")
	f.BoolVar(&cond.present, "if-present", false, "only if the key exists")
	f.StringVar(&cond.version, "if-version", "", "only if the key has this version")
	return c
}

// writing returns the client of a command that writes, and the options of its flags and for info.
func (a *app) writing(cmd *cobra.Command, w *writes, info *client.Info) (*client.Client, []client.WriteOption, error) {
	opts, err := w.options()
	if err != nil {
		return nil, nil, err
	}
	kv, err := a.client(cmd.Context())
	return kv, append(opts, client.WithInfo(info)), err
}

// reading returns the client of a command that reads, and the options of its flags and for info.
func (a *app) reading(cmd *cobra.Command, r *reads, info *client.Info) (*client.Client, []client.ReadOption, error) {
	opts, err := r.options()
	if err != nil {
		return nil, nil, err
	}
	kv, err := a.client(cmd.Context())
	return kv, append(opts, client.WithInfo(info)), err
}
