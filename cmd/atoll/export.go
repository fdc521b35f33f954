package main

import (
	"bufio"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/ingest"
)

// exportMembers is how many members of a set go on one line.
const exportMembers = 1000

func newExport(a *app) *cobra.Command {
	var opts client.ScanOptions
	c := &cobra.Command{
		Use:   "export [PREFIX]",
		Short: "Write registers, counters and sets as NDJSON",
		Long: "Write the keys that begin with PREFIX to stdout, one JSON object per line: registers, counters and\n" +
			"sets, a large set on several lines. `atoll import --restore` reads it back. An export is no\n" +
			"snapshot: what is written meanwhile may be in it or not. It breaks off at a key of another type, and\n" +
			"says behind which key to go on.",
		Example: `  atoll export > all.ndjson
  atoll export city/AD/ --region us | wc -l
  atoll export | atoll import --restore - --server 127.0.0.1:9480`,
		Args:              wants(0, 1, "[PREFIX]"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				opts.Prefix = args[0]
			}
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			keys := 0
			err = a.stream(func(out *bufio.Writer, _ string) error {
				for entry, err := range kv.Scan(cmd.Context(), opts) {
					if err != nil {
						return err
					}
					if err := a.exportKey(cmd, kv, out, entry); err != nil {
						return err
					}
					keys++
				}
				return nil
			})
			a.notef("%d keys exported", keys)
			return err
		},
	}
	c.Flags().Uint64Var(&opts.Limit, "limit", 0, "export at most this many keys; 0 means all")
	c.Flags().StringVar(&opts.After, "after", "", "begin behind this key, to go on where an export broke off")
	return c
}

func (a *app) exportKey(cmd *cobra.Command, kv *client.Client, out *bufio.Writer, e client.Entry) error {
	switch {
	case e.Type == client.TypeCounter:
		return jsonLine(out, ingest.NewCounter(e.Key, e.Counter))
	case e.Type == client.TypeSet && uint64(len(e.Members)) >= e.Size:
		return jsonLine(out, ingest.NewSet(e.Key, e.Members))
	case e.Type == client.TypeSet:
		var part [][]byte
		for member, err := range kv.Set(e.Key).Members(cmd.Context()) {
			if err != nil {
				return err
			}
			if part = append(part, member); len(part) == exportMembers {
				if err := jsonLine(out, ingest.NewSet(e.Key, part)); err != nil {
					return err
				}
				part = nil
			}
		}
		if len(part) == 0 {
			return nil
		}
		return jsonLine(out, ingest.NewSet(e.Key, part))
	case e.Type != client.TypeRegister:
		return fmt.Errorf("key %s is a %s, which an export cannot hold yet; go on behind it with --after %q",
			printable([]byte(e.Key), 200), e.Type, e.Key)
	default:
		return jsonLine(out, ingest.NewRegister(e.Key, e.Bytes, e.TTL, a.clock()))
	}
}
