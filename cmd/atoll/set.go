package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// A request takes 10 000 elements of 1 KiB, and 4 MiB together.
const (
	elementsPerRequest = 2000
	maxElementBytes    = 1 << 10
)

type setChange func(*client.Set, *cobra.Command, [][]byte, []client.WriteOption) (client.SetChange, error)

func newSetAdd(a *app) *cobra.Command {
	return newSetChange(a, &cobra.Command{
		Use:   "set-add KEY MEMBER...|-",
		Short: "Add members to a set",
		Long: "Add members to a set and print how many are new. Members may come from stdin, one per line (-).\n" +
			"Of an add and a removal made in different regions at once, the add wins.",
		Example: `  atoll set-add fruit apple pear
  cut -d, -f1 names.csv | atoll set-add names -
  atoll set-add fruit plum -o json`,
	}, "added", func(s *client.Set, cmd *cobra.Command, members [][]byte, opts []client.WriteOption) (client.SetChange, error) {
		return s.Add(cmd.Context(), members, opts...)
	})
}

func newSetRem(a *app) *cobra.Command {
	return newSetChange(a, &cobra.Command{
		Use:   "set-rem KEY MEMBER...|-",
		Short: "Remove members from a set",
		Long: "Remove members from a set, as the region sees it, and print how many were there. Members may\n" +
			"come from stdin, one per line (-).",
		Example: `  atoll set-rem fruit pear
  atoll set-members old | atoll set-rem fruit -`,
	}, "removed", func(s *client.Set, cmd *cobra.Command, members [][]byte, opts []client.WriteOption) (client.SetChange, error) {
		return s.Remove(cmd.Context(), members, opts...)
	})
}

func newSetChange(a *app, c *cobra.Command, verb string, change setChange) *cobra.Command {
	c.Args = wants(2, -1, "KEY and at least one MEMBER")
	c.ValidArgsFunction = a.completeKeys(1)
	var w writes
	w.flagsOfValue(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var info client.Info
		kv, opts, err := a.writing(cmd, &w, &info)
		if err != nil {
			return err
		}
		var total client.SetChange
		err = a.members(args[1:], func(members [][]byte) error {
			done, err := change(kv.Set(args[0]), cmd, members, opts)
			if err != nil {
				return err
			}
			total = client.SetChange{Size: done.Size, Changed: total.Changed + done.Changed}
			return nil
		})
		if err != nil {
			return err
		}
		if w.local() {
			return a.written(args[0], "", info)
		}
		out := map[string]any{"key": args[0], verb: total.Changed, "size": total.Size, "region": info.Region, "node": info.Node, "partition": info.Partition}
		return a.result(out, fmt.Sprintf("%d\n", total.Changed), append([]field{
			{"key", printable([]byte(args[0]), 200)}, {verb, fmt.Sprint(total.Changed)}, {"size", fmt.Sprint(total.Size)},
		}, whereFields(info)...))
	}
	return c
}

// members calls do with the members named by args, as many at a time as a request takes.
func (a *app) members(args []string, do func([][]byte) error) error {
	var batch [][]byte
	take := func(member []byte) error {
		batch = append(batch, member)
		if len(batch) < elementsPerRequest {
			return nil
		}
		full := batch
		batch = nil
		return do(full)
	}
	if len(args) == 1 && args[0] == "-" {
		lines := bufio.NewScanner(a.stdin)
		lines.Buffer(make([]byte, 0, 4096), maxElementBytes+2)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				continue
			}
			if err := take([]byte(lines.Text())); err != nil {
				return err
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			return usagef("a line of stdin has more than %d bytes, the most that a member may have", maxElementBytes)
		} else if err != nil {
			return fmt.Errorf("read members: %w", err)
		}
	} else {
		for _, m := range args {
			if err := take([]byte(m)); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return do(batch)
}

func newSetMembers(a *app) *cobra.Command {
	var limit int
	var r reads
	c := &cobra.Command{
		Use:   "set-members KEY",
		Short: "Print the members of a set",
		Long: "Print the members of a set in byte order, one per line; with -o json each line is a JSON string,\n" +
			"or {\"base64\": ...} for a member that is not UTF-8. An absent set has no members.",
		Example: `  atoll set-members fruit
  atoll set-members fruit --limit 10 -o json
  atoll set-members fruit --consistency eventual`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := r.options()
			if err != nil {
				return err
			}
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			return a.stream(func(out *bufio.Writer, format string) error {
				n := 0
				for member, err := range kv.Set(args[0]).Members(cmd.Context(), opts...) {
					if err != nil {
						return err
					}
					if err := writeMember(out, member, format); err != nil {
						return err
					}
					if n++; n == limit {
						break
					}
				}
				return nil
			})
		},
	}
	r.flags(c)
	c.Flags().IntVar(&limit, "limit", 0, "print at most this many; 0 means all")
	return c
}

func writeMember(out *bufio.Writer, member []byte, format string) error {
	switch format {
	case "json":
		return jsonLine(out, textOrBase64(member))
	case "table":
		_, err := out.WriteString(printable(member, -1) + "\n")
		return err
	default:
		_, err := out.Write(append(member, '\n'))
		return err
	}
}

// stream runs a command whose output comes bit by bit.
func (a *app) stream(do func(out *bufio.Writer, format string) error) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	var w io.Writer = a.stdout
	if format == "table" {
		w = a.styled()
	}
	out := bufio.NewWriterSize(w, 32<<10)
	err = do(out, format)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return err
}
