package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	auditPoll = 200 * time.Millisecond
	// auditStarts is how often an audit is begun of a partition whose leader changes.
	auditStarts = 5
	// auditRetries is how often a partition may not answer in a row.
	auditRetries = 50
)

func newRegionAudit(a *app) *cobra.Command {
	var partitions []uint
	c := &cobra.Command{
		Use:   "audit REGION",
		Short: "Find out in which keys two regions differ",
		Long: "Compare what the asked region holds with what REGION does, and name the keys that are not the same although\n" +
			"both have applied the same operations: at most 64 per partition. Nothing is changed. Each region pins a view of\n" +
			"its state; they can be compared only if no operation is on its way between the two, so a partition that is\n" +
			"written all the time cannot be. docs/regions.md says what to do about keys that differ.\n" +
			"Exit code 4 if anything differs, 5 if nothing does and a partition could not be compared.",
		Example: `  atoll region audit us
  atoll region audit us --partition 3 -o json | jq '.partitions[].values[].key'
  atoll --region eu region audit us`,
		Args:              wants(1, 1, "REGION"),
		ValidArgsFunction: a.completeRegions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			var wanted []uint32
			for _, p := range partitions {
				wanted = append(wanted, uint32(min(p, 1<<31)))
			}
			watch := auditWatch{app: a, client: c, region: args[0]}
			view, err := watch.run(cmd.Context(), wanted)
			if err != nil {
				return err
			}
			if err := a.tables(view, view.table(), view.values()); err != nil {
				return err
			}
			return view.verdict()
		},
	}
	c.Flags().UintSliceVar(&partitions, "partition", nil, "only this partition; may be repeated (default all)")
	return c
}

// auditWatch begins audits, and waits for them.
type auditWatch struct {
	app    *app
	client *client.Client
	region string
	// numbers are the audits that were begun, by partition, and starts how often.
	numbers map[uint32]uint64
	starts  map[uint32]int
	silent  map[uint32]int
}

// run returns the audits once all have ended.
func (w *auditWatch) run(ctx context.Context, partitions []uint32) (*auditView, error) {
	w.numbers, w.starts, w.silent = map[uint32]uint64{}, map[uint32]int{}, map[uint32]int{}
	ended := map[uint32]*atollv1.PartitionAudit{}
	tick := time.NewTicker(auditPoll)
	defer tick.Stop()
	said := w.app.clock()
	for start := true; ; start = false {
		res, err := w.client.Audit(ctx, w.region, start, partitions...)
		if err != nil {
			return nil, err
		}
		if start {
			partitions = nil
		}
		for _, p := range res.GetPartitions() {
			if start {
				partitions = append(partitions, p.GetPartition())
			}
			if p = w.take(ctx, p, start); p != nil {
				ended[p.GetPartition()] = p
			}
		}
		if len(ended) == len(partitions) {
			return newAuditView(res.GetRegion(), w.region, partitions, ended), nil
		}
		if now := w.app.clock(); now.Sub(said) >= plainEvery {
			said = now
			w.progress(res, len(ended), len(partitions))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// take returns an audit if it is the result. One that its partition's leader does not know is begun anew.
func (w *auditWatch) take(ctx context.Context, p *atollv1.PartitionAudit, started bool) *atollv1.PartitionAudit {
	id := p.GetPartition()
	if p.GetError() != nil {
		if w.silent[id]++; started || w.silent[id] >= auditRetries {
			return p
		}
		return nil
	}
	w.silent[id] = 0
	switch {
	case started:
		w.numbers[id], w.starts[id] = p.GetNumber(), 1
	case p.GetNumber() >= w.numbers[id] && p.GetState() > atollv1.AuditState_AUDIT_STATE_RUNNING:
		return p
	case p.GetNumber() == 0 || p.GetNumber()>>32 != w.numbers[id]>>32:
		return w.startAgain(ctx, p)
	}
	return nil
}

// startAgain begins a partition's audit anew, whose leader has changed.
func (w *auditWatch) startAgain(ctx context.Context, p *atollv1.PartitionAudit) *atollv1.PartitionAudit {
	id := p.GetPartition()
	if w.starts[id]++; w.starts[id] > auditStarts {
		p.State, p.Why = atollv1.AuditState_AUDIT_STATE_FAILED, "its leader changes all the time"
		return p
	}
	res, err := w.client.Audit(ctx, w.region, true, id)
	if err == nil && len(res.GetPartitions()) == 1 && res.GetPartitions()[0].GetError() == nil {
		w.numbers[id] = res.GetPartitions()[0].GetNumber()
	}
	return nil
}

func (w *auditWatch) progress(res *atollv1.AuditResponse, ended, all int) {
	var items uint64
	why := ""
	for _, p := range res.GetPartitions() {
		items += p.GetItems()
		if p.GetState() == atollv1.AuditState_AUDIT_STATE_RUNNING && p.GetWhy() != "" {
			why = fmt.Sprintf("; partition %d: %s", p.GetPartition(), p.GetWhy())
		}
	}
	w.app.notef("%d of %d partitions compared, %d items%s", ended, all, items, why)
}

// auditView is what audits have found, as JSON.
type auditView struct {
	Region     string             `json:"region"`
	Against    string             `json:"against"`
	Equal      bool               `json:"equal"`
	Partitions []auditedPartition `json:"partitions"`
}

type auditedPartition struct {
	Partition uint32          `json:"partition"`
	State     string          `json:"state"`
	Ranges    uint64          `json:"ranges"`
	Differing uint64          `json:"differing_ranges"`
	Items     uint64          `json:"items"`
	Bytes     uint64          `json:"bytes"`
	Vector    string          `json:"vector,omitempty"`
	Values    []differingView `json:"values,omitempty"`
	More      bool            `json:"more,omitempty"`
	Why       string          `json:"why,omitempty"`
}

type differingView struct {
	Partition uint32 `json:"partition"`
	Namespace string `json:"namespace"`
	Key       string `json:"key"`
	Type      string `json:"type"`
	OnlyHere  uint64 `json:"only_here"`
	OnlyThere uint64 `json:"only_there"`
	Changed   uint64 `json:"changed"`
}

const (
	auditEqual     = "EQUAL"
	auditDifferent = "DIFFERENT"
	auditFailed    = "NOT COMPARED"
)

func newAuditView(here, there string, partitions []uint32, audits map[uint32]*atollv1.PartitionAudit) *auditView {
	v := &auditView{Region: here, Against: there, Equal: true}
	for _, id := range partitions {
		a := audits[id]
		p := auditedPartition{
			Partition: id, State: auditFailed, Ranges: a.GetRanges(), Differing: a.GetDifferingRanges(), Items: a.GetItems(),
			Bytes: a.GetBytes(), Vector: vectorText(a.GetVector()), Values: differingValues(a), More: a.GetMore(), Why: a.GetWhy(),
		}
		switch {
		case a.GetError() != nil:
			p.Why = a.GetError().GetMessage()
		case a.GetState() == atollv1.AuditState_AUDIT_STATE_EQUAL:
			p.State = auditEqual
		case a.GetState() == atollv1.AuditState_AUDIT_STATE_DIFFERENT:
			p.State = auditDifferent
		}
		v.Equal = v.Equal && p.State == auditEqual
		v.Partitions = append(v.Partitions, p)
	}
	return v
}

func differingValues(a *atollv1.PartitionAudit) (values []differingView) {
	for _, d := range a.GetValues() {
		values = append(values, differingView{
			a.GetPartition(), d.GetNamespace(), d.GetKey(), client.Type(d.GetType()).String(), d.GetOnlyHere(), d.GetOnlyThere(), d.GetChanged(),
		})
	}
	return values
}

func (v *auditView) table() *grid {
	t := &grid{
		title:  fmt.Sprintf("what %s holds, compared with %s", v.Region, v.Against),
		header: []string{"PARTITION", "RESULT", "ITEMS", "RANGES", "DIFFERENT", "BYTES", "WHY"},
	}
	equal := 0
	for _, p := range v.Partitions {
		why := "-"
		if p.Why != "" {
			why = printable([]byte(p.Why), 200)
		}
		if p.State == auditEqual {
			equal++
		}
		t.add(strconv.Itoa(int(p.Partition)), p.State, strconv.FormatUint(p.Items, 10), strconv.FormatUint(p.Ranges, 10),
			strconv.FormatUint(p.Differing, 10), strconv.FormatUint(p.Bytes, 10), why)
	}
	t.note = fmt.Sprintf("%d of %d partitions are the same in %s and %s", equal, len(v.Partitions), v.Region, v.Against)
	return t
}

func (v *auditView) values() *grid {
	t := &grid{
		title:  "values that differ",
		header: []string{"PARTITION", "NAMESPACE", "KEY", "TYPE", "ONLY IN " + v.Region, "ONLY IN " + v.Against, "NOT THE SAME"},
	}
	for _, p := range v.Partitions {
		for _, d := range p.Values {
			t.add(strconv.Itoa(int(p.Partition)), printable([]byte(d.Namespace), 80), printable([]byte(d.Key), 200), d.Type,
				strconv.FormatUint(d.OnlyHere, 10), strconv.FormatUint(d.OnlyThere, 10), strconv.FormatUint(d.Changed, 10))
		}
		if p.More {
			t.note += fmt.Sprintf("there are more in partition %d: %d of %d ranges differ\n", p.Partition, p.Differing, p.Ranges)
		}
	}
	if len(t.rows) == 0 {
		t.note = "none\n"
	}
	return t
}

// verdict returns an error with the exit code of the audits.
func (v *auditView) verdict() error {
	var failed error
	for _, p := range v.Partitions {
		switch p.State {
		case auditDifferent:
			return &codeError{withHint(errors.New("the regions differ"), "docs/regions.md, \"Two regions differ\"; atoll explain KEY shows both"), exitConflict}
		case auditFailed:
			failed = &codeError{fmt.Errorf("partition %d could not be compared: %s", p.Partition, p.Why), exitUnavailable}
		}
	}
	return failed
}
