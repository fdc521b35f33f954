package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newLs(a *app) *cobra.Command {
	var opts client.ScanOptions
	c := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List keys",
		Long: "List the keys that begin with PREFIX, in byte order, as they arrive. On a pipe only the keys are\n" +
			"printed, one per line; -o json prints one object per line, with the value unless --keys-only.",
		Example: `  atoll ls city/AD/ --limit 20
  atoll ls city/ | wc -l
  atoll ls user: -o json | jq -r .value`,
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
			return a.stream(func(out *bufio.Writer, format string) error {
				l := &lister{out: out, format: format, keysOnly: opts.KeysOnly}
				scan := opts
				scan.KeysOnly = opts.KeysOnly || format == "raw"
				for entry, err := range kv.Scan(cmd.Context(), scan) {
					if err != nil {
						return err
					}
					if err := l.add(entry); err != nil {
						return err
					}
				}
				return l.flush()
			})
		},
	}
	c.Flags().Uint64Var(&opts.Limit, "limit", 0, "list at most this many; 0 means all")
	c.Flags().BoolVar(&opts.KeysOnly, "keys-only", false, "leave values out")
	c.Flags().StringVar(&opts.After, "after", "", "begin behind this key")
	c.Flags().BoolVar(&opts.Eventual, "eventual", false, "take any replica's answer, which may be old; works without a quorum")
	return c
}

// lister prints entries as they come. The width of a table's columns is that of the first page; a
// longer key later pushes its line out instead of holding the output up.
type lister struct {
	out      *bufio.Writer
	format   string
	keysOnly bool
	page     []client.Entry
	width    int
}

const listPage = 100

func (l *lister) add(e client.Entry) error {
	switch l.format {
	case "raw":
		_, err := l.out.WriteString(e.Key + "\n")
		return err
	case "json":
		return jsonLine(l.out, itemOf(e.Key, e.Value, l.keysOnly))
	}
	if l.page = append(l.page, e); len(l.page) < listPage {
		return nil
	}
	return l.flush()
}

func (l *lister) flush() error {
	if l.width == 0 && len(l.page) > 0 {
		for _, e := range l.page {
			l.width = min(60, max(l.width, 3, lipgloss.Width(printable([]byte(e.Key), 200))))
		}
		head := fmt.Sprintf("%-*s  %-8s  %s", l.width, "KEY", "TYPE", "VALUE")
		if _, err := fmt.Fprintln(l.out, lipgloss.NewStyle().Faint(true).Render(head)); err != nil {
			return err
		}
	}
	for _, e := range l.page {
		key := printable([]byte(e.Key), 200)
		pad := max(0, l.width-lipgloss.Width(key))
		value := ""
		if !l.keysOnly {
			value = shown(e.Value, 100)
		}
		if _, err := fmt.Fprintf(l.out, "%s%*s  %-8s  %s\n", key, pad, "", e.Type, value); err != nil {
			return err
		}
	}
	l.page = l.page[:0]
	return l.out.Flush()
}

func jsonLine(out *bufio.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func textOrBase64(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return map[string][]byte{"base64": b}
}
