package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newExpire(a *app) *cobra.Command {
	var w writes
	var typ oneType
	c := &cobra.Command{
		Use:   "expire KEY TTL",
		Short: "Let what a key has expire after a time",
		Long: "Let what a key has expire after TTL in every region, of whatever type it is. It stays until then. A\n" +
			"key that does not exist stays absent, which is no error. A bounded counter cannot expire.",
		Example: `  atoll expire session/42 30m
  atoll expire session/42 1h30m --region us
  atoll expire visits 1h --type counter`,
		Args:              wants(2, 2, "KEY and TTL"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ttl, err := time.ParseDuration(args[1])
			if err != nil || ttl <= 0 {
				return usagef("%q is no time to live: want a positive duration such as 90s or 1h30m", args[1])
			}
			return a.changeExpiry(cmd, args[0], &w, &typ, func(kv *client.Client, opts []client.WriteOption) (string, error) {
				return kv.Expire(cmd.Context(), args[0], ttl, opts...)
			})
		},
	}
	w.flags(c)
	typ.flag(c, "expire")
	return c
}

func newPersist(a *app) *cobra.Command {
	var w writes
	var typ oneType
	c := &cobra.Command{
		Use:   "persist KEY",
		Short: "Let what a key has not expire",
		Long:  "Take the time to live of what a key has away. A key that does not exist stays absent, which is no\nerror.",
		Example: `  atoll persist session/42
  atoll put note hello --ttl 1h && atoll persist note`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeExpiry(cmd, args[0], &w, &typ, func(kv *client.Client, opts []client.WriteOption) (string, error) {
				return kv.Persist(cmd.Context(), args[0], opts...)
			})
		},
	}
	w.flags(c)
	typ.flag(c, "persist")
	return c
}

type expiryChange func(*client.Client, []client.WriteOption) (string, error)

func (a *app) changeExpiry(cmd *cobra.Command, key string, w *writes, typ *oneType, change expiryChange) error {
	of, err := typ.options()
	if err != nil {
		return err
	}
	var info client.Info
	kv, opts, err := a.writing(cmd, w, &info)
	if err != nil {
		return err
	}
	version, err := change(kv, append(opts, of...))
	if err != nil {
		return err
	}
	return a.written(key, version, info)
}
