package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// reads are the flags of reads.
type reads struct {
	eventual     bool
	consistency  string
	maxStaleness time.Duration
	strategy     string
	onStale      string
}

func (r *reads) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&r.eventual, "eventual", false, "short for --consistency eventual")
	f.StringVar(&r.consistency, "consistency", "", "linearizable (the default), session (the default with --session), bounded (see --max-staleness), or eventual: any replica's answer, which may be old; works without a quorum")
	f.DurationVar(&r.maxStaleness, "max-staleness", 0, "how old a bounded read may be; implies --consistency bounded")
	f.StringVar(&r.strategy, "strategy", "", "how a linearizable or bounded read is confirmed: auto, leader, follower or majority (needs no leader)")
	noError(c.RegisterFlagCompletionFunc("consistency", cobra.FixedCompletions([]string{"linearizable", "session", "bounded", "eventual"}, cobra.ShellCompDirectiveNoFileComp)))
	f.StringVar(&r.onStale, "on-stale", "", "what a session or bounded read does where it is ahead: wait (the default), redirect, serve (what is there) or fail")
	noError(c.RegisterFlagCompletionFunc("on-stale", cobra.FixedCompletions([]string{"wait", "redirect", "serve", "fail"}, cobra.ShellCompDirectiveNoFileComp)))
	noError(c.RegisterFlagCompletionFunc("strategy", cobra.FixedCompletions([]string{"auto", "leader", "follower", "majority"}, cobra.ShellCompDirectiveNoFileComp)))
}

// options returns the read options that the flags ask for.
func (r *reads) options() ([]client.ReadOption, error) {
	level := r.consistency
	if level == "" && r.maxStaleness != 0 {
		level = "bounded"
	}
	if r.eventual {
		if level != "" && level != "eventual" {
			return nil, usagef("--eventual and --consistency %s contradict each other", level)
		}
		level = "eventual"
	}
	var opts []client.ReadOption
	switch level {
	case "", "session":
	case "linearizable":
		opts = append(opts, client.Linearizable())
	case "bounded":
		if r.maxStaleness <= 0 {
			return nil, usagef("a bounded read needs a positive --max-staleness")
		}
		opts = append(opts, client.ReadBounded(r.maxStaleness))
	case "eventual":
		opts = append(opts, client.Eventual())
	default:
		return nil, usagef("unknown consistency %q: want linearizable, session, bounded or eventual", level)
	}
	if level != "bounded" && r.maxStaleness != 0 {
		return nil, usagef("--max-staleness is for bounded reads")
	}
	strategy, err := r.confirmedBy()
	if err != nil {
		return nil, err
	}
	stale, err := r.staleness()
	if err != nil {
		return nil, err
	}
	return append(opts, client.WithStrategy(strategy), client.WithOnStale(stale)), nil
}

func (r *reads) staleness() (client.OnStale, error) {
	switch r.onStale {
	case "", "wait":
		return client.OnStaleWait, nil
	case "redirect":
		return client.OnStaleRedirect, nil
	case "serve":
		return client.OnStaleServe, nil
	case "fail":
		return client.OnStaleFail, nil
	default:
		return 0, usagef("unknown --on-stale %q: want wait, redirect, serve or fail", r.onStale)
	}
}

func (r *reads) confirmedBy() (client.Strategy, error) {
	switch r.strategy {
	case "", "auto":
		return client.StrategyAuto, nil
	case "leader":
		return client.StrategyLeader, nil
	case "follower":
		return client.StrategyFollower, nil
	case "majority":
		return client.StrategyMajority, nil
	default:
		return 0, usagef("unknown strategy %q: want auto, leader, follower or majority", r.strategy)
	}
}

// writes are the flags of writes.
type writes struct {
	durability string
	ttl        time.Duration
	regions    uint32
}

// flagsOfValue are the flags of a command that writes what can expire.
func (w *writes) flagsOfValue(c *cobra.Command) {
	w.flags(c)
	c.Flags().DurationVar(&w.ttl, "ttl", 0, "let the value expire after this time")
}

func (w *writes) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.durability, "durability", "quorum", "quorum: on disk on a majority of replicas when acknowledged; local: on one node's disk, without a result, works without a quorum")
	c.Flags().Uint32Var(&w.regions, "regions", 0, "how many other regions must have the write when it is acknowledged")
	noError(c.RegisterFlagCompletionFunc("durability", cobra.FixedCompletions([]string{"quorum", "local"}, cobra.ShellCompDirectiveNoFileComp)))
}

func (w *writes) local() bool { return w.durability == "local" }

func (w *writes) options() ([]client.WriteOption, error) {
	var opts []client.WriteOption
	switch {
	case w.ttl < 0:
		return nil, usagef("--ttl must be positive")
	case w.ttl > 0:
		opts = append(opts, client.WithTTL(w.ttl))
	}
	if w.regions > 0 {
		opts = append(opts, client.WithRegions(w.regions))
	}
	switch w.durability {
	case "quorum":
		return opts, nil
	case "local":
		return append(opts, client.WithLocalDurability()), nil
	default:
		return nil, usagef("unknown durability %q: want quorum or local", w.durability)
	}
}
