package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const digestPoll = 500 * time.Millisecond

func newDigest(a *app) *cobra.Command {
	var patience time.Duration
	c := &cobra.Command{
		Use:   "digest",
		Short: "Compare what the regions hold, partition by partition",
		Long: "Ask every region for a digest of each partition and compare them. Regions that have applied the same\n" +
			"events have equal digests. Exit code 4 if any partition differs, 5 if a region does not answer;\n" +
			"with --wait it asks again until all are equal or the time is over.",
		Example: `  atoll digest
  atoll digest --wait 30s && echo converged
  atoll digest -o json | jq '.partitions[] | select(.equal | not)'`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			clients, err := a.regionClients(cmd.Context())
			if err != nil {
				return err
			}
			d, err := compareUntil(cmd.Context(), clients, a.clock, patience)
			if err != nil {
				return err
			}
			if err := a.tables(d, d.table()); err != nil {
				return err
			}
			return d.verdict()
		},
	}
	c.Flags().DurationVar(&patience, "wait", 0, "wait up to this long for the regions to become equal")
	return c
}

func compareUntil(ctx context.Context, clients []namedClient, clock func() time.Time, patience time.Duration) (*comparison, error) {
	deadline := clock().Add(patience)
	tick := time.NewTicker(digestPoll)
	defer tick.Stop()
	for {
		d := compare(askAll(ctx, clients, func(ctx context.Context, c *client.Client) (*atollv1.DigestResponse, error) {
			return c.Digest(ctx)
		}))
		if d.verdict() == nil || !clock().Before(deadline) {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// comparison is the digests of all regions side by side.
type comparison struct {
	Equal      bool               `json:"equal"`
	Regions    []string           `json:"regions"`
	Partitions []*partitionDigest `json:"partitions"`
	Errors     map[string]string  `json:"errors,omitempty"`
	err        error
}

type partitionDigest struct {
	Partition uint32            `json:"partition"`
	Equal     bool              `json:"equal"`
	Digests   map[string]string `json:"digests"`
	Items     map[string]uint64 `json:"items"`
	Vectors   map[string]string `json:"vectors"`
	Errors    map[string]string `json:"errors,omitempty"`
}

func compare(answers []answer[*atollv1.DigestResponse]) *comparison {
	d := &comparison{Equal: true, Errors: map[string]string{}, err: unanswered(answers)}
	byPartition := map[uint32]*partitionDigest{}
	for _, ans := range answers {
		d.Regions = append(d.Regions, ans.region)
		if ans.err != nil {
			d.Errors[ans.region] = ans.err.Error()
		}
		for _, p := range ans.value.GetPartitions() {
			row := byPartition[p.GetPartition()]
			if row == nil {
				row = &partitionDigest{
					Partition: p.GetPartition(), Digests: map[string]string{}, Items: map[string]uint64{},
					Vectors: map[string]string{}, Errors: map[string]string{},
				}
				byPartition[p.GetPartition()] = row
			}
			if p.GetError() != nil {
				row.Errors[ans.region] = p.GetError().GetMessage()
				continue
			}
			row.Digests[ans.region] = hex.EncodeToString(p.GetDigest())
			row.Items[ans.region] = p.GetItems()
			row.Vectors[ans.region] = vectorText(p.GetVector())
		}
	}
	for _, n := range slices.Sorted(maps.Keys(byPartition)) {
		row := byPartition[n]
		row.Equal = len(row.Digests) == len(answers)
		for _, digest := range row.Digests {
			row.Equal = row.Equal && digest == row.Digests[d.Regions[0]]
		}
		if len(row.Errors) > 0 && d.err == nil {
			d.err = &codeError{fmt.Errorf("partition %d could not be asked everywhere", n), exitUnavailable}
		}
		d.Equal = d.Equal && row.Equal
		d.Partitions = append(d.Partitions, row)
	}
	d.Equal = d.Equal && d.err == nil && len(d.Partitions) > 0
	return d
}

// verdict returns an error with the exit code of the comparison.
func (d *comparison) verdict() error {
	switch {
	case d.err != nil:
		return d.err
	case d.Equal:
		return nil
	default:
		return &codeError{withHint(errors.New("the regions differ"), "atoll digest --wait 30s, or atoll status for the lag"), exitConflict}
	}
}

func (d *comparison) table() *grid {
	t := &grid{header: append(append([]string{"PARTITION"}, d.Regions...), "ITEMS", "EQUAL")}
	equal := 0
	for _, row := range d.Partitions {
		cells := []string{strconv.Itoa(int(row.Partition))}
		items := uint64(0)
		for _, region := range d.Regions {
			cell := "?"
			if digest := row.Digests[region]; digest != "" {
				cell = digest[:min(16, len(digest))]
			}
			cells = append(cells, cell)
			items = max(items, row.Items[region])
		}
		answer := "no"
		if row.Equal {
			answer = "yes"
			equal++
		}
		t.rows = append(t.rows, append(cells, strconv.FormatUint(items, 10), answer))
	}
	t.note = fmt.Sprintf("%d of %d partitions are equal in %d regions", equal, len(d.Partitions), len(d.Regions))
	return t
}
