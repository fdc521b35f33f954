package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newFlag(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "flag",
		Short: "Enable, disable and read a flag",
		Long: "Enable, disable and read a flag. Of an enable and a disable made in different regions at once, the\n" +
			"enable wins. A flag that is not enabled does not exist: atoll get exits with 3 for it.",
		Example: `  atoll flag enable maintenance
  atoll flag get maintenance --region us
  atoll flag disable maintenance`,
	}, newFlagEnable(a), newFlagDisable(a), newFlagGet(a))
}

func newFlagEnable(a *app) *cobra.Command {
	return newTypedWrite(a, &cobra.Command{
		Use:   "enable KEY",
		Short: "Enable a flag",
		Long: "Enable a flag and print its new version. One that is enabled already is enabled anew, and so\n" +
			"survives a disable made in another region meanwhile.",
		Example: `  atoll flag enable maintenance
  atoll flag enable leader/cleanup --if-absent
  atoll flag enable seen/42 --durability local`,
		Args: wants(1, 1, "KEY"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) (string, error) {
		return kv.Flag(args[0]).Enable(cmd.Context(), opts...)
	})
}

func newFlagDisable(a *app) *cobra.Command {
	return newTypedWrite(a, &cobra.Command{
		Use:   "disable KEY",
		Short: "Disable a flag",
		Long: "Disable a flag as the region sees it. An enable made in another region meanwhile survives.\n" +
			"Disabling a flag that is not enabled is no error.",
		Example: `  atoll flag disable maintenance
  atoll flag disable maintenance --if-present`,
		Args: wants(1, 1, "KEY"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) (string, error) {
		return "", kv.Flag(args[0]).Disable(cmd.Context(), opts...)
	})
}

func newFlagGet(a *app) *cobra.Command {
	var r reads
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Print whether a flag is enabled",
		Long:  "Print true if a flag is enabled, and false if it is not.",
		Example: `  atoll flag get maintenance
  [ "$(atoll flag get maintenance)" = true ] && echo closed
  atoll flag get maintenance --consistency eventual -o json`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.reading(cmd, &r, &info)
			if err != nil {
				return err
			}
			enabled, err := kv.Flag(args[0]).Enabled(cmd.Context(), opts...)
			if err != nil {
				return err
			}
			it := item{Key: args[0], Type: client.TypeFlag.String(), Enabled: &enabled}.answeredBy(info)
			return a.result(it, fmt.Sprintln(enabled), append([]field{
				{"key", printable([]byte(args[0]), 200)}, {"enabled", fmt.Sprint(enabled)},
			}, whereFields(info)...))
		},
	}
	r.flags(c)
	return c
}
