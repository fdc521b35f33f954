package main

import (
	"bufio"
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/ingest"
)

const (
	// exportMembers and exportBytes bound what of a collection goes on one line.
	exportMembers = 1000
	exportBytes   = 1 << 20
	// exportNames is how many of the keys that are left out are named.
	exportNames = 10
)

func newExport(a *app) *cobra.Command {
	var opts client.ScanOptions
	var skip bool
	c := &cobra.Command{
		Use:   "export [PREFIX]",
		Short: "Write keys and values as NDJSON",
		Long: "Write the keys that begin with PREFIX to stdout, one JSON object per line, a large collection on\n" +
			"several lines. `atoll import --restore` reads it back. An export is no snapshot: what is written\n" +
			"meanwhile may be in it or not.\n\n" +
			"It holds values, and no history. Of a bounded counter the importing region gets all rights. What no\n" +
			"operation could make again an export cannot hold: HyperLogLogs, because their elements are not kept,\n" +
			"timelines, because an entry's time is that of its add, and multi-value registers with several values, because\n" +
			"these come of puts in several regions at once. At such a key it breaks off and says behind which key to go\n" +
			"on; with --skip it names such keys and leaves them out.",
		Example: `  atoll export > all.ndjson
  atoll export city/AD/ --region us | wc -l
  atoll export --skip | atoll import --restore - --server 127.0.0.1:9480`,
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
			return a.stream(func(out *bufio.Writer, _ string) error {
				x := exporter{app: a, kv: kv, out: out, skip: skip}
				return x.run(cmd.Context(), opts)
			})
		},
	}
	c.Flags().Uint64Var(&opts.Limit, "limit", 0, "export at most this many keys; 0 means all")
	c.Flags().StringVar(&opts.After, "after", "", "begin behind this key, to go on where an export broke off")
	c.Flags().BoolVar(&skip, "skip", false, "leave out what an export cannot hold, and name it")
	return c
}

// exporter writes the entries of keys.
type exporter struct {
	*app
	kv   *client.Client
	out  *bufio.Writer
	skip bool
	keys int
	// left is how many keys were left out.
	left int
}

func (x *exporter) run(ctx context.Context, opts client.ScanOptions) (err error) {
	defer func() {
		if x.left > exportNames {
			x.notef("%d more keys left out", x.left-exportNames)
		}
		x.notef("%d keys exported", x.keys)
	}()
	for entry, err := range x.kv.Scan(ctx, opts) {
		if err != nil {
			return err
		}
		reason := unexportable(&entry)
		switch {
		case reason == "":
			if err := x.export(ctx, &entry); err != nil {
				return err
			}
			x.keys++
		case x.skip:
			if x.left++; x.left <= exportNames {
				x.notef("left out: key %s is %s", printable([]byte(entry.Key), 200), reason)
			}
		default:
			return withHint(fmt.Errorf("key %s is %s, which an export cannot hold; go on behind it with --after %q",
				printable([]byte(entry.Key), 200), reason, entry.Key), "--skip leaves such keys out")
		}
	}
	return nil
}

// unexportable says what a key is that no operations could make again, or "".
func unexportable(e *client.Entry) string {
	switch e.Type {
	case client.TypeHLL:
		return "a HyperLogLog, whose elements are not kept"
	case client.TypeTimeline:
		return "a timeline, whose entries have times of their own"
	case client.TypeMVRegister:
		if len(e.Siblings) > 1 {
			return fmt.Sprintf("a multi-value register with %d values", len(e.Siblings))
		}
		return ""
	case client.TypeRegister, client.TypeCounter, client.TypeSet, client.TypeBoundedCounter, client.TypeFlag,
		client.TypeMax, client.TypeMin, client.TypeMap, client.TypeZSet, client.TypeCounterZSet:
		return ""
	default:
		return "a value of type " + e.Type.String()
	}
}

func (x *exporter) export(ctx context.Context, e *client.Entry) error {
	switch e.Type {
	case client.TypeCounter:
		return x.line(e, ingest.NewCounter(e.Key, e.Counter))
	case client.TypeMVRegister:
		return x.line(e, ingest.NewMVRegister(e.Key, e.Bytes))
	case client.TypeBoundedCounter:
		return x.line(e, ingest.NewBounded(e.Key, e.Counter))
	case client.TypeFlag:
		return x.line(e, ingest.NewFlag(e.Key))
	case client.TypeMax:
		return x.line(e, ingest.NewMax(e.Key, e.Counter))
	case client.TypeMin:
		return x.line(e, ingest.NewMin(e.Key, e.Counter))
	case client.TypeSet, client.TypeMap, client.TypeZSet, client.TypeCounterZSet:
		return x.exportCollection(ctx, e)
	default:
		return x.line(e, ingest.NewRegister(e.Key, e.Bytes))
	}
}

// line writes an entry, with what is left of the time to live of what it is of.
func (x *exporter) line(e *client.Entry, entry ingest.Entry) error {
	return jsonLine(x.out, entry.ExpiresAfter(e.TTL, x.clock()))
}

func (x *exporter) exportCollection(ctx context.Context, e *client.Entry) error {
	switch e.Type {
	case client.TypeMap:
		fields := whole(e.Fields, e.Size, func() iter.Seq2[client.MapField, error] { return x.kv.Map(e.Key).Fields(ctx) })
		return inParts(fields, func(f client.MapField) int { return len(f.Name) + len(f.Value) }, func(part []client.MapField) error {
			entry := ingest.NewMap(e.Key)
			for _, f := range part {
				entry.AddField(f.Name, f.Value)
			}
			return x.line(e, entry)
		})
	case client.TypeZSet:
		members := whole(e.Scored, e.Size, func() iter.Seq2[client.ScoredMember, error] {
			return x.kv.ZSet(e.Key).Range(ctx, client.ZSetRange{})
		})
		return inParts(members, func(m client.ScoredMember) int { return len(m.Member) }, func(part []client.ScoredMember) error {
			scores := make([]ingest.Scored, len(part))
			for i, m := range part {
				scores[i] = ingest.NewScored(m.Member, m.Score)
			}
			return x.line(e, ingest.NewZSet(e.Key, scores))
		})
	case client.TypeCounterZSet:
		members := whole(e.Counted, e.Size, func() iter.Seq2[client.CountedMember, error] {
			return x.kv.CounterZSet(e.Key).Range(ctx, client.CounterZSetRange{})
		})
		return inParts(members, func(m client.CountedMember) int { return len(m.Member) }, func(part []client.CountedMember) error {
			scores := make([]ingest.Scored, len(part))
			for i, m := range part {
				scores[i] = ingest.NewScored(m.Member, float64(m.Score))
			}
			return x.line(e, ingest.NewCounterZSet(e.Key, scores))
		})
	default:
		members := whole(e.Members, e.Size, func() iter.Seq2[[]byte, error] { return x.kv.Set(e.Key).Members(ctx) })
		return inParts(members, func(m []byte) int { return len(m) }, func(part [][]byte) error {
			return x.line(e, ingest.NewSet(e.Key, part))
		})
	}
}

// whole yields a collection: what a scan has of it if that is all, else what read yields.
func whole[T any](scanned []T, size uint64, read func() iter.Seq2[T, error]) iter.Seq2[T, error] {
	if uint64(len(scanned)) < size {
		return read()
	}
	return func(yield func(T, error) bool) {
		for _, item := range scanned {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// inParts hands over items in parts that fit on a line.
func inParts[T any](items iter.Seq2[T, error], bytes func(T) int, part func([]T) error) error {
	var gathered []T
	size := 0
	for item, err := range items {
		if err != nil {
			return err
		}
		if len(gathered) == exportMembers || len(gathered) > 0 && size+bytes(item) > exportBytes {
			if err := part(gathered); err != nil {
				return err
			}
			gathered, size = nil, 0
		}
		gathered, size = append(gathered, item), size+bytes(item)
	}
	if len(gathered) == 0 {
		return nil
	}
	return part(gathered)
}
