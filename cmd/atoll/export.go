package main

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/ingest"
)

const (
	// exportMembers and exportBytes bound what of a collection goes on one line.
	exportMembers = 1000
	exportBytes   = 1 << 20
	// exportNames is how many of the keys and values that are left out are named.
	exportNames = 10
)

func newExport(a *app) *cobra.Command {
	var opts client.ScanOptions
	var skip bool
	c := &cobra.Command{
		Use:   "export [PREFIX]",
		Short: "Write keys and values as NDJSON",
		Long: "Write the keys that begin with PREFIX to stdout, one JSON object per line, a large collection on\n" +
			"several lines, and an observed-remove map on a line for each of its values. What expires says when.\n" +
			"`atoll import --restore` reads it back. An export is no snapshot: what is written\n" +
			"meanwhile may be in it or not.\n\n" +
			"It holds values, and no history. Of a bounded counter the importing region gets all rights. What no\n" +
			"operation could make again an export cannot hold: HyperLogLogs, because their elements are not kept,\n" +
			"timelines, because an entry's time is that of its add, and multi-value registers with several values, because\n" +
			"these come of puts in several regions at once. At such a value it breaks off and says behind which key to go\n" +
			"on; with --skip it names such values and leaves them out.",
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
	// left is how many keys, or values in observed-remove maps, were left out.
	left int
}

func (x *exporter) run(ctx context.Context, opts client.ScanOptions) (err error) {
	defer func() {
		if x.left > exportNames {
			x.notef("%d more left out", x.left-exportNames)
		}
		x.notef("%d keys exported", x.keys)
	}()
	for entry, err := range x.kv.Scan(ctx, opts) {
		if err != nil {
			return err
		}
		complete, err := x.exportAll(ctx, &entry)
		if err != nil {
			return err
		}
		if complete {
			x.keys++
		}
	}
	return nil
}

// exportAll writes what a key holds, and reports whether it wrote anything.
func (x *exporter) exportAll(ctx context.Context, e *client.Entry) (bool, error) {
	h := heldValue{Value: e.Value, key: e.Key, since: x.clock()}
	if e.Type != client.TypeORMap {
		return x.exportOne(ctx, &h)
	}
	return x.exportLeaves(ctx, &h)
}

// heldValue is what a key holds, or a leaf of the observed-remove map that it holds.
type heldValue struct {
	client.Value
	key  string
	path []string
	// since is when there were TTL left; a leaf has that of its map.
	since time.Time
}

func (h *heldValue) String() string {
	name := "key " + printable([]byte(h.key), 200)
	if len(h.path) > 0 {
		name += " at " + printable([]byte(strings.Join(h.path, "/")), 200)
	}
	return name
}

// exportLeaves writes the leaves below a path of a map, and reports whether it wrote any.
func (x *exporter) exportLeaves(ctx context.Context, h *heldValue) (any bool, err error) {
	for name, err := range x.kv.ORMap(h.key).At(h.path...).Names(ctx) {
		if err != nil {
			return any, err
		}
		at := heldValue{key: h.key, path: append(slices.Clone(h.path), name.Name), since: h.since}
		for _, leaf := range name.Leaves {
			at.Value = leaf
			at.TTL = h.TTL
			wrote, err := x.exportOne(ctx, &at)
			if err != nil {
				return any, err
			}
			any = any || wrote
		}
		if !name.Below {
			continue
		}
		at.TTL = h.TTL
		wrote, err := x.exportLeaves(ctx, &at)
		if err != nil {
			return any, err
		}
		any = any || wrote
	}
	return any, nil
}

// exportOne writes one value, or says that it is left out.
func (x *exporter) exportOne(ctx context.Context, h *heldValue) (wrote bool, err error) {
	reason := unexportable(&h.Value)
	switch {
	case reason == "":
		return true, x.export(ctx, h)
	case x.skip:
		if x.left++; x.left <= exportNames {
			x.notef("left out: %v is %s", h, reason)
		}
		return false, nil
	default:
		return false, withHint(fmt.Errorf("%v is %s, which an export cannot hold; go on behind the key with --after %q", h, reason, h.key),
			"--skip leaves such values out")
	}
}

// unexportable says what a value is that no operations could make again, or "".
func unexportable(v *client.Value) string {
	switch v.Type {
	case client.TypeHLL:
		return "a HyperLogLog, whose elements are not kept"
	case client.TypeTimeline:
		return "a timeline, whose entries have times of their own"
	case client.TypeMVRegister:
		if len(v.Siblings) > 1 {
			return fmt.Sprintf("a multi-value register with %d values", len(v.Siblings))
		}
		return ""
	case client.TypeRegister, client.TypeCounter, client.TypeSet, client.TypeBoundedCounter, client.TypeFlag,
		client.TypeMax, client.TypeMin, client.TypeMap, client.TypeZSet, client.TypeCounterZSet:
		return ""
	default:
		return "a value of type " + v.Type.String()
	}
}

func (x *exporter) export(ctx context.Context, h *heldValue) error {
	switch h.Type {
	case client.TypeCounter:
		return x.line(h, ingest.NewCounter(h.key, h.Counter))
	case client.TypeMVRegister:
		return x.line(h, ingest.NewMVRegister(h.key, h.Bytes))
	case client.TypeBoundedCounter:
		return x.line(h, ingest.NewBounded(h.key, h.Counter))
	case client.TypeFlag:
		return x.line(h, ingest.NewFlag(h.key))
	case client.TypeMax:
		return x.line(h, ingest.NewMax(h.key, h.Counter))
	case client.TypeMin:
		return x.line(h, ingest.NewMin(h.key, h.Counter))
	case client.TypeSet, client.TypeMap, client.TypeZSet, client.TypeCounterZSet:
		return x.exportCollection(ctx, h)
	default:
		return x.line(h, ingest.NewRegister(h.key, h.Bytes))
	}
}

// line writes an entry, with what is left of the time to live of what it is of.
func (x *exporter) line(h *heldValue, entry ingest.Entry) error {
	return jsonLine(x.out, entry.At(h.path).ExpiresAfter(h.TTL, h.since))
}

func (x *exporter) exportCollection(ctx context.Context, h *heldValue) error {
	switch h.Type {
	case client.TypeMap:
		fields := whole(h.Fields, h.Size, func() iter.Seq2[client.MapField, error] { return x.fieldsOf(h).Fields(ctx) })
		return inParts(fields, func(f client.MapField) int { return len(f.Name) + len(f.Value) }, func(part []client.MapField) error {
			entry := ingest.NewMap(h.key)
			for _, f := range part {
				entry.AddField(f.Name, f.Value)
			}
			return x.line(h, entry)
		})
	case client.TypeZSet:
		members := whole(h.Scored, h.Size, func() iter.Seq2[client.ScoredMember, error] {
			return x.zsetOf(h).Range(ctx, client.ZSetRange{})
		})
		return inParts(members, func(m client.ScoredMember) int { return len(m.Member) }, func(part []client.ScoredMember) error {
			scores := make([]ingest.Scored, len(part))
			for i, m := range part {
				scores[i] = ingest.NewScored(m.Member, m.Score)
			}
			return x.line(h, ingest.NewZSet(h.key, scores))
		})
	case client.TypeCounterZSet:
		members := whole(h.Counted, h.Size, func() iter.Seq2[client.CountedMember, error] {
			return x.countedOf(h).Range(ctx, client.CounterZSetRange{})
		})
		return inParts(members, func(m client.CountedMember) int { return len(m.Member) }, func(part []client.CountedMember) error {
			scores := make([]ingest.Scored, len(part))
			for i, m := range part {
				scores[i] = ingest.NewScored(m.Member, float64(m.Score))
			}
			return x.line(h, ingest.NewCounterZSet(h.key, scores))
		})
	default:
		members := whole(h.Members, h.Size, func() iter.Seq2[[]byte, error] { return x.setOf(h).Members(ctx) })
		return inParts(members, func(m []byte) int { return len(m) }, func(part [][]byte) error {
			return x.line(h, ingest.NewSet(h.key, part))
		})
	}
}

func (x *exporter) leaf(h *heldValue) *client.ORMapPath { return x.kv.ORMap(h.key).At(h.path...) }

func (x *exporter) fieldsOf(h *heldValue) *client.Map {
	if len(h.path) > 0 {
		return x.leaf(h).Map()
	}
	return x.kv.Map(h.key)
}

func (x *exporter) zsetOf(h *heldValue) *client.ZSet {
	if len(h.path) > 0 {
		return x.leaf(h).ZSet()
	}
	return x.kv.ZSet(h.key)
}

func (x *exporter) countedOf(h *heldValue) *client.CounterZSet {
	if len(h.path) > 0 {
		return x.leaf(h).CounterZSet()
	}
	return x.kv.CounterZSet(h.key)
}

func (x *exporter) setOf(h *heldValue) *client.Set {
	if len(h.path) > 0 {
		return x.leaf(h).Set()
	}
	return x.kv.Set(h.key)
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
