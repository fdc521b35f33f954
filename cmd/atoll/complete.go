package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// A completion must not make the shell wait, whatever the server does.
const (
	completeWithin = 800 * time.Millisecond
	completeAtMost = 50
)

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeKeys offers keys of the live server for the first n arguments.
func (a *app) completeKeys(n int) completion {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		kv, err := a.client(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var keys []string
		for entry, err := range kv.Scan(ctx, client.ScanOptions{Prefix: prefix, Limit: completeAtMost, KeysOnly: true, Eventual: true}) {
			if err != nil {
				break
			}
			keys = append(keys, cobra.CompletionWithDesc(entry.Key, entry.Type.String()))
		}
		return keys, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// completeRegions offers the regions of the live deployment.
func (a *app) completeRegions(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	c, err := a.dial(a.servers())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	status, err := c.Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, r := range status.GetRegions() {
		names = append(names, r.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
