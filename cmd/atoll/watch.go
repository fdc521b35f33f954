package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

type watchFlags struct {
	prefix, cursor       string
	keysOnly, heartbeats bool
	limit                int
}

func newWatch(a *app) *cobra.Command {
	var f watchFlags
	c := &cobra.Command{
		Use:   "watch KEY|--prefix PREFIX",
		Short: "Print changes as they happen",
		Long: `Print the changes of a key, or of the keys that begin with a prefix, from now on or from where an
earlier watch ended (--cursor), until interrupted. It goes on by itself when a node fails.

Each line is: what, why, key, value. "change" tells of a change; why is local, remote, expired, restored
or repaired. "resync" says that the changes of a partition since the cursor are no longer known: then its
keys follow as they are ("state") until "resynced", and a key that is not among them does not exist.
With -o json each line is an object, with the cursor behind it.`,
		Example: `  atoll watch greeting
  atoll watch --prefix user/ -o json | jq -r 'select(.event == "change") | .key'
  atoll watch --prefix '' --keys-only
  atoll watch --prefix user/ --cursor "$(cat last-cursor)" -o json`,
		Args:              wants(0, 1, "KEY, or --prefix"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == cmd.Flags().Changed("prefix") {
				return &usageError{err: errors.New("give either KEY or --prefix; --prefix '' means all keys"), command: cmd.CommandPath()}
			}
			opts := client.WatchOptions{Prefix: f.prefix, Values: !f.keysOnly, Heartbeats: true}
			if len(args) == 1 {
				opts.Key = args[0]
			}
			var err error
			if opts.Cursor, err = base64.StdEncoding.DecodeString(f.cursor); err != nil {
				return usagef("--cursor is not one that a watch printed")
			}
			return a.watch(cmd.Context(), opts, &f)
		},
	}
	c.Flags().StringVar(&f.prefix, "prefix", "", "watch the keys that begin with this; '' means all")
	c.Flags().StringVar(&f.cursor, "cursor", "", "go on behind the event that had this cursor, in this region or another")
	c.Flags().BoolVar(&f.keysOnly, "keys-only", false, "leave values out")
	c.Flags().BoolVar(&f.heartbeats, "heartbeats", false, "print when nothing changed for a while, too")
	c.Flags().IntVar(&f.limit, "limit", 0, "end after so many lines; 0 means none")
	return c
}

func (a *app) watch(ctx context.Context, opts client.WatchOptions, f *watchFlags) error {
	kv, err := a.client(ctx)
	if err != nil {
		return err
	}
	var cursor []byte
	err = a.stream(func(out *bufio.Writer, format string) error {
		n := 0
		for event, err := range kv.Watch(ctx, opts) {
			if err != nil {
				return err
			}
			cursor = event.Cursor
			if event.Kind == client.EventHeartbeat && !f.heartbeats {
				continue
			}
			if err := writeEvent(out, event, format, f.keysOnly); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
			if n++; n == f.limit {
				return nil
			}
		}
		return nil
	})
	if len(cursor) > 0 && isTerminal(a.stderr) {
		a.notef("--cursor %s goes on behind this", base64.StdEncoding.EncodeToString(cursor))
	}
	if errors.Is(err, context.Canceled) {
		return nil // an interrupt is how a watch ends
	}
	return err
}

// watchLine is an event as JSON.
type watchLine struct {
	Event string `json:"event"`
	Cause string `json:"cause,omitempty"`
	Found *bool  `json:"found,omitempty"`
	*item
	Partition *uint32 `json:"partition,omitempty"`
	Cursor    []byte  `json:"cursor,omitempty"`
}

func writeEvent(out *bufio.Writer, e client.Event, format string, keysOnly bool) error {
	about := e.Kind == client.EventChange || e.Kind == client.EventState
	if format == "json" {
		line := watchLine{Event: e.Kind.String(), Cursor: e.Cursor}
		switch {
		case about:
			it := itemOf(e.Key, e.Value, keysOnly || !e.Found)
			line.item, line.Found = &it, &e.Found
			if e.Kind == client.EventChange {
				line.Cause = e.Cause.String()
			}
		case e.Kind != client.EventHeartbeat:
			line.Partition = &e.Partition
		}
		return jsonLine(out, line)
	}
	cause, key, value := "-", fmt.Sprint("partition ", e.Partition), ""
	if e.Kind == client.EventHeartbeat {
		key = "-"
	}
	if about {
		key = printable([]byte(e.Key), -1)
		switch {
		case !e.Found:
			value = "(gone)"
		case !keysOnly:
			value = shown(e.Value, 100)
		}
		if e.Kind == client.EventChange {
			cause = e.Cause.String()
		}
	}
	if format == "table" {
		_, err := fmt.Fprintf(out, "%-8s  %-8s  %s  %s\n", e.Kind, cause, key, value)
		return err
	}
	_, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", e.Kind, cause, key, value)
	return err
}
