package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func newConflicts(a *app) *cobra.Command {
	var query client.ConflictsQuery
	c := &cobra.Command{
		Use:   "conflicts",
		Short: "Show what was decided between concurrent writes",
		Long: "Ask every region how often it had to decide between writes that had not seen each other, and which\n" +
			"values lost lately, the newest first. A value that lost is written REGION/PARTITION.NUMBER, and can be\n" +
			"written anew with atoll conflicts restore. Behind its key are its path in an observed-remove map, and its\n" +
			"field or member. Every region counts the merges that it does itself, and\n" +
			"keeps the last 4096 values that lost in a partition, at most 4 MiB of them. Lines of counts have five\n" +
			"cells, those of values seven. Exit code 5 if a region does not answer.",
		Example: `  atoll conflicts
  atoll conflicts --key greeting
  atoll conflicts --all-namespaces -o json | jq '.regions[].counts'
  atoll conflicts restore eu/3.17`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			answers, err := askRegions(cmd.Context(), a, func(ctx context.Context, c *client.Client) (*atollv1.ConflictsResponse, error) {
				return c.Conflicts(ctx, query)
			})
			if err != nil {
				return err
			}
			if err := a.showConflicts(answers); err != nil {
				return err
			}
			return unanswered(answers)
		},
	}
	f := c.Flags()
	f.StringVar(&query.Key, "key", "", "only values of this key that lost")
	f.StringVar(&query.Prefix, "prefix", "", "only values that lost of keys that begin with this")
	f.BoolVar(&query.AllNamespaces, "all-namespaces", false, "of all namespaces")
	f.Uint32Var(&query.Limit, "limit", 0, "at most so many values of each region (default 100, at most 1000)")
	c.MarkFlagsMutuallyExclusive("key", "prefix")
	c.MarkFlagsMutuallyExclusive("all-namespaces", "key")
	c.AddCommand(newConflictsRestore(a))
	return c
}

// conflictsView is what the regions know of conflicts, as JSON.
type conflictsView struct {
	Regions map[string]json.RawMessage `json:"regions"`
	Errors  map[string]string          `json:"errors,omitempty"`
}

func (a *app) showConflicts(answers []answer[*atollv1.ConflictsResponse]) error {
	out := conflictsView{Regions: map[string]json.RawMessage{}, Errors: map[string]string{}}
	counts := &grid{title: "decisions", header: []string{"REGION", "NAMESPACE", "TYPE", "BETWEEN", "COUNT"}}
	losers := &grid{title: "values that lost", header: []string{"ID", "NAMESPACE", "KEY", "VALUE", "MADE BY", "AT", "LOST TO"}}
	var notes []string
	for _, ans := range answers {
		if ans.err != nil {
			out.Errors[ans.region] = ans.err.Error()
			counts.add(ans.region, "?", "?", printable([]byte(ans.err.Error()), 80), "?")
			continue
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(ans.value)
		if err != nil {
			return err
		}
		out.Regions[ans.region] = text
		for _, c := range ans.value.GetCounts() {
			counts.add(ans.region, c.GetNamespace(), client.Type(c.GetType()).String(),
				regionEpoch(c.GetRegionA(), c.GetEpochA())+" "+regionEpoch(c.GetRegionB(), c.GetEpochB()), strconv.FormatUint(c.GetCount(), 10))
		}
		for _, l := range ans.value.GetLosers() {
			losers.add(loserID(ans.region, l), l.GetNamespace(), loserPlace(l), loserValue(l), event(l.GetLost()), hlcTime(l.GetLost().GetHlc()), event(l.GetWon()))
		}
		notes = append(notes, conflictNotes(ans.region, ans.value)...)
	}
	losers.note = strings.Join(notes, "\n")
	return a.tables(out, counts, losers)
}

// conflictNotes says what the tables do not show.
func conflictNotes(region string, r *atollv1.ConflictsResponse) (notes []string) {
	if n := r.GetLetGo(); n > 0 {
		notes = append(notes, fmt.Sprintf("%s keeps %d more values that lost no longer", region, n))
	}
	if r.GetUnsure() > 0 {
		notes = append(notes, fmt.Sprintf("%s may have counted too many: a region was cut off for too long", region))
	}
	if len(r.GetCursor()) > 0 {
		notes = append(notes, region+" has more values that lost: see --limit, --key and --prefix")
	}
	for _, e := range r.GetErrors() {
		notes = append(notes, fmt.Sprintf("%s could not ask partition %d: %s", region, e.GetPartition(), e.GetError().GetMessage()))
	}
	return notes
}

func regionEpoch(region string, epoch uint32) string {
	return strings.TrimSuffix(eventName(region, epoch, 0), "#0")
}

// loserID names a loser among those of all regions.
func loserID(region string, l *atollv1.Loser) string {
	return fmt.Sprintf("%s/%d.%d", region, l.GetPartition(), l.GetId())
}

// loserPlace says where a loser was written: its key, and where under it.
func loserPlace(l *atollv1.Loser) string {
	return strings.Join(append([]string{printable([]byte(l.GetKey()), 60)}, loserParts(l)...), " ")
}

// loserParts are the path in a map and the field of a loser, as far as it has them.
func loserParts(l *atollv1.Loser) (parts []string) {
	if len(l.GetPath()) > 0 {
		parts = append(parts, printable([]byte(strings.Join(l.GetPath(), "/")), 120))
	}
	if len(l.GetField()) > 0 {
		parts = append(parts, printable(l.GetField(), 60))
	}
	return parts
}

func loserValue(l *atollv1.Loser) string {
	if l.GetType() == atollv1.Type_TYPE_ZSET {
		return strconv.FormatFloat(l.GetScore(), 'g', -1, 64)
	}
	value := printable(l.GetValue(), 60)
	if l.GetExpiresHlc() > 0 {
		value += " (expires " + hlcTime(l.GetExpiresHlc()) + ")"
	}
	return value
}

// loserRows are the lines of an explanation about a key's losers.
func loserRows(region string, losers []*atollv1.Loser) [][]string {
	var rows [][]string
	for _, l := range losers {
		text := loserValue(l)
		if parts := loserParts(l); len(parts) > 0 {
			text = strings.Join(parts, " ") + ": " + text
		}
		text = fmt.Sprintf("  lost: %s (atoll conflicts restore %s)", text, loserID(region, l))
		rows = append(rows, []string{"", "", text, event(l.GetLost()), hlcText(l.GetLost().GetHlc())})
	}
	return rows
}

func newConflictsRestore(a *app) *cobra.Command {
	var version string
	c := &cobra.Command{
		Use:   "restore REGION/PARTITION.NUMBER",
		Short: "Write a value that lost once more",
		Long: "Write a value that lost, as atoll conflicts and atoll explain name it, once more in the region that\n" +
			"keeps it: an ordinary new write, which takes the place of what is there now in all regions. Print the\n" +
			"new version of the key, or of the value in an observed-remove map. Exit code 4 if the region keeps the value no longer, or a condition does not hold.",
		Example: `  atoll conflicts restore eu/3.17
  atoll conflicts restore us/0.4 --if-version 0192f3a4c5d6000000000002`,
		Args: wants(1, 1, "REGION/PARTITION.NUMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			region, partition, id, err := parseLoserID(args[0])
			if err != nil {
				return err
			}
			if cmp.Or(a.flags.region, region) != region {
				return usagef("%s is of region %s, not %s", args[0], region, a.flags.region)
			}
			a.flags.region = region
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			var info client.Info
			opts := []client.WriteOption{client.WithInfo(&info)}
			if version != "" {
				opts = append(opts, client.IfVersion(version))
			}
			made, loser, err := kv.RestoreLoser(cmd.Context(), partition, id, opts...)
			if err != nil {
				return err
			}
			return a.written(loser.GetKey(), made, info)
		},
	}
	c.Flags().StringVar(&version, "if-version", "", "only if the key, or the value in an observed-remove map, has this version")
	return c
}

func parseLoserID(text string) (region string, partition uint32, id uint64, err error) {
	slash := strings.LastIndexByte(text, '/')
	first, second, ok := strings.Cut(text[slash+1:], ".")
	p, err := strconv.ParseUint(first, 10, 32)
	n, err2 := strconv.ParseUint(second, 10, 64)
	if slash <= 0 || !ok || slices.ContainsFunc([]error{err, err2}, func(err error) bool { return err != nil }) {
		return "", 0, 0, usagef("%s is not REGION/PARTITION.NUMBER", printable([]byte(text), 80))
	}
	return text[:slash], uint32(p), n, nil
}
