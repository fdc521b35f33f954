package main

import (
	"bufio"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newTimeline(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "timeline",
		Short: "Add to a timeline, read and trim it",
		Long: "Add to a timeline, read it by time, and remove what is old. Entries added in different regions\n" +
			"at once are all kept, in the order of their times. An entry cannot be removed by itself: trim\n" +
			"removes all from before an instant, and atoll del all that there are.",
		Example: `  atoll timeline add audit 'ann logged in'
  atoll timeline range audit --from 1h
  atoll timeline trim audit --before 720h`,
	}, newTimelineAdd(a), newTimelineRange(a), newTimelineTrim(a))
}

func newTimelineAdd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "add KEY VALUE|-|@FILE",
		Short: "Add an entry to a timeline",
		Long: "Add VALUE, what stdin holds (-), or what a file holds (@FILE) as an entry, and print how many\n" +
			"entries the region has then. The entry's time is that of the write, by the region's clock.",
		Example: `  atoll timeline add audit 'ann logged in'
  uptime | atoll timeline add load -
  atoll timeline add clicks home --durability local`,
		Args: wants(2, 2, "KEY and VALUE"),
	}
	return newTimelineChange(a, c, "added", func(t *client.Timeline, args []string, opts []client.WriteOption) (client.SetChange, error) {
		value, err := a.value(args[1])
		if err != nil {
			return client.SetChange{}, err
		}
		return t.Add(c.Context(), value, opts...)
	})
}

func newTimelineTrim(a *app) *cobra.Command {
	var before string
	c := &cobra.Command{
		Use:   "trim KEY --before TIME",
		Short: "Remove the old entries of a timeline",
		Long: "Remove the entries from before a time, and print how many entries the region has left. Entries of\n" +
			"other regions from before it that have not arrived yet are removed when they do. TIME is a time\n" +
			"such as 2026-01-31T12:00:00Z, or how long ago: 90m, 720h. It is rounded down to milliseconds.",
		Example: `  atoll timeline trim audit --before 720h
  atoll timeline trim audit --before 2026-01-31T00:00:00Z -o json`,
		Args: wants(1, 1, "KEY"),
	}
	c.Flags().StringVar(&before, "before", "", "keep what is of this time or later (required)")
	noError(c.MarkFlagRequired("before"))
	return newTimelineChange(a, c, "removed", func(t *client.Timeline, _ []string, opts []client.WriteOption) (client.SetChange, error) {
		at, err := a.instant("before", before)
		if err != nil {
			return client.SetChange{}, err
		}
		return t.Trim(c.Context(), at, opts...)
	})
}

type timelineChange func(t *client.Timeline, args []string, opts []client.WriteOption) (client.SetChange, error)

// newTimelineChange completes a command that changes a timeline.
func newTimelineChange(a *app, c *cobra.Command, verb string, change timelineChange) *cobra.Command {
	var w writes
	w.flagsOfValue(c)
	c.ValidArgsFunction = a.completeKeys(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var info client.Info
		kv, opts, err := a.writing(cmd, &w, &info)
		if err != nil {
			return err
		}
		done, err := change(kv.Timeline(args[0]), args, opts)
		if err != nil {
			return err
		}
		if w.local() {
			return a.written(args[0], "", info)
		}
		out := map[string]any{"key": args[0], verb: done.Changed, "size": done.Size, "region": info.Region, "node": info.Node, "partition": info.Partition}
		return a.result(out, fmt.Sprintf("%d\n", done.Size), append([]field{
			{"key", printable([]byte(args[0]), 200)}, {verb, fmt.Sprint(done.Changed)}, {"size", fmt.Sprint(done.Size)},
		}, whereFields(info)...))
	}
	return c
}

func newTimelineRange(a *app) *cobra.Command {
	var from, before string
	var want client.TimelineRange
	var limit int
	var r reads
	c := &cobra.Command{
		Use:   "range KEY",
		Short: "Print entries of a timeline",
		Long: "Print the entries of a timeline, the newest first, one per line with its time; with -o json each\n" +
			"line is an object with time, value (or value_base64 if it is not UTF-8) and id. TIME is a time such\n" +
			"as 2026-01-31T12:00:00Z, or how long ago: 90m, 720h. An absent timeline has no entries.",
		Example: `  atoll timeline range audit --limit 10
  atoll timeline range audit --from 24h --before 1h --oldest-first
  atoll timeline range audit --from 2026-01-31T00:00:00Z -o json`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if want.From, err = a.instant("from", from); err != nil {
				return err
			}
			if want.Before, err = a.instant("before", before); err != nil {
				return err
			}
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
				for entry, err := range kv.Timeline(args[0]).Entries(cmd.Context(), want, opts...) {
					if err != nil {
						return err
					}
					if err := writeTimelineEntry(out, entry, format); err != nil {
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
	f := c.Flags()
	f.StringVar(&from, "from", "", "leave out what is older than this TIME")
	f.StringVar(&before, "before", "", "leave out what is of this TIME or later")
	f.BoolVar(&want.OldestFirst, "oldest-first", false, "begin with the oldest entry")
	f.IntVar(&limit, "limit", 0, "print at most this many; 0 means all")
	return c
}

// instant reads a time, or how long ago it was. An empty text is no time.
func (a *app) instant(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return a.clock().Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, usagef("--%s %q is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 90m", flag, text)
	}
	return at, nil
}

// entryItem is an entry of a timeline as JSON.
type entryItem struct {
	Time        string  `json:"time"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	ID          []byte  `json:"id"`
}

func entryItemOf(e client.TimelineEntry) entryItem {
	it := entryItem{Time: entryTime(e), ID: e.ID}
	if utf8.Valid(e.Value) {
		text := string(e.Value)
		it.Value = &text
	} else {
		it.ValueBase64 = e.Value
	}
	return it
}

func entryTime(e client.TimelineEntry) string { return e.Time.UTC().Format("2006-01-02T15:04:05.000Z") }

func writeTimelineEntry(out *bufio.Writer, e client.TimelineEntry, format string) error {
	switch format {
	case "json":
		return jsonLine(out, entryItemOf(e))
	case "table":
		_, err := fmt.Fprintf(out, "%s  %s\n", entryTime(e), printable(e.Value, -1))
		return err
	default:
		_, err := out.WriteString(rawTimeline([]client.TimelineEntry{e}))
		return err
	}
}

// rawTimeline returns entries for a pipe, one per line: time, tab, value.
func rawTimeline(entries []client.TimelineEntry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s\t%s\n", entryTime(e), e.Value)
	}
	return b.String()
}

// shownTimeline returns a timeline for a table.
func shownTimeline(v client.Value) string {
	var newest []string
	for i, e := range v.Entries {
		if i == 5 {
			newest = append(newest, "…")
			break
		}
		newest = append(newest, printable(e.Value, 40))
	}
	return fmt.Sprintf("%d entries, the newest first: %s", v.Size, strings.Join(newest, ", "))
}
