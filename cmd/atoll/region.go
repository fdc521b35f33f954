package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func newRegion(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "region",
		Short: "Show which regions there are, and change that",
		Long: "Show which regions the deployment has, and add, drain, fence, remove them, name their heirs and have them\n" +
			"come back. A majority of the regions decides; ask in a region that has one. Every change says before what\n" +
			"follows, and with --dry-run only that. docs/regions.md has each of them step by step.",
		Example: `  atoll region list
  atoll region audit us
  atoll region fence us --dry-run
  atoll region rejoin us`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	c.AddCommand(newRegionList(a), newRegionStatus(a), newRegionAudit(a), newRegionAdd(a), newRegionRejoin(a),
		a.regionChange("drain", "Have a region leave, without losing anything",
			"Have a region stop writing, and leave once all others have what it wrote. It serves reads meanwhile.",
			func(ctx context.Context, c *client.Client, r client.RegionChange) (*atollv1.RegionPlan, error) {
				return c.DrainRegion(ctx, r)
			}),
		newRegionFence(a), newRegionHeir(a),
		a.regionChange("remove", "Strike a closed region off",
			"Say that a region that was drained or fenced, and is closed, is not expected back. Its name and id stay taken.",
			func(ctx context.Context, c *client.Client, r client.RegionChange) (*atollv1.RegionPlan, error) {
				return c.RemoveRegion(ctx, r)
			}))
	return c
}

func newRegionList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show which regions there are",
		Long: "Show which regions there are, as far as the asked node knows: under which epoch each writes, whether it\n" +
			"joins, is active, drains, is fenced, closed or removed, and who has to do what for it to go on.",
		Example: `  atoll region list
  atoll region list -o json | jq '.members[] | select(.state != "ACTIVE")'`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, view, err := a.membership(cmd.Context())
			if err != nil {
				return err
			}
			return a.tables(view, view.table())
		},
	}
}

func newRegionStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status REGION",
		Short: "Show one region, and how far it and others are apart",
		Long: "Show one region as the asked node knows it: its state, who has to do what for it to go on, and how far it\n" +
			"is behind others, and they behind it. Exit code 3 if there is no such region.",
		Example: `  atoll region status us
  atoll region status us -o json`,
		Args:              wants(1, 1, "REGION"),
		ValidArgsFunction: a.completeRegions,
		RunE: func(cmd *cobra.Command, args []string) error {
			status, view, err := a.membership(cmd.Context())
			if err != nil {
				return err
			}
			view.Members = slices.DeleteFunc(view.Members, func(m memberView) bool { return m.Region != args[0] })
			if len(view.Members) == 0 {
				return &codeError{withHint(fmt.Errorf("there is no region %s", printable([]byte(args[0]), 80)), "atoll region list"), exitNotFound}
			}
			s := summarize(status)
			s.Flows = slices.DeleteFunc(s.Flows, func(f flowSummary) bool { return f.Source != args[0] && f.Destination != args[0] })
			s.Garbage, s.Refused = nil, nil
			one := struct {
				memberView
				Flows []flowSummary `json:"flows"`
			}{view.Members[0], s.Flows}
			return a.tables(one, view.table(), s.flowsTable())
		},
	}
}

// membershipView is which regions there are, as JSON.
type membershipView struct {
	Region string `json:"region"`
	// Epoch is that of the membership; 0 if nothing is decided about regions.
	Epoch     uint64       `json:"membership_epoch"`
	Members   []memberView `json:"members"`
	Overrides uint32       `json:"overrides,omitempty"`
	// Fenced is why the asked node takes no writes.
	Fenced string `json:"fenced,omitempty"`
}

type memberView struct {
	Region     string   `json:"region"`
	ID         uint32   `json:"id"`
	Epoch      uint32   `json:"epoch"`
	State      string   `json:"state"`
	Address    string   `json:"address,omitempty"`
	Waiting    []string `json:"waiting,omitempty"`
	WaitingFor string   `json:"waiting_for,omitempty"`
	Cut        []uint64 `json:"cut,omitempty"`
	// Heir takes over the region's homes.
	Heir string `json:"heir,omitempty"`
}

// membership asks which regions there are. Where nothing is decided about that they are those of the configuration.
func (a *app) membership(ctx context.Context) (*atollv1.StatusResponse, *membershipView, error) {
	c, err := a.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	m := status.GetMembership()
	view := &membershipView{Region: status.GetRegion(), Epoch: m.GetEpoch(), Overrides: m.GetOverrides(), Fenced: status.GetFenced()}
	for _, r := range m.GetMembers() {
		view.Members = append(view.Members, memberView{
			r.GetRegion(), r.GetId(), r.GetEpoch(), r.GetState(), r.GetAddress(), r.GetWaiting(), r.GetWaitingFor(), r.GetCut(), r.GetHeir(),
		})
	}
	if view.Epoch == 0 {
		for _, r := range status.GetRegions() {
			view.Members = append(view.Members, memberView{Region: r.GetName(), ID: r.GetId(), Epoch: r.GetEpoch(), State: "CONFIGURED"})
		}
	}
	return status, view, nil
}

func (v *membershipView) table() *grid {
	t := &grid{
		title:  fmt.Sprintf("membership %d, as region %s knows it", v.Epoch, v.Region),
		header: []string{"REGION", "ID", "EPOCH", "STATE", "VOTE", "WAITING"},
	}
	for _, m := range v.Members {
		waiting := "-"
		if len(m.Waiting) > 0 {
			waiting = "for " + strings.Join(m.Waiting, ", ") + " " + m.WaitingFor
		}
		t.add(m.Region, strconv.Itoa(int(m.ID)), strconv.Itoa(int(m.Epoch)), m.State, cmp.Or(m.Address, "-"), waiting)
	}
	if v.Epoch == 0 {
		t.note += "nothing is decided about regions: these are those of the configuration\n"
	}
	for _, m := range v.Members {
		if m.Heir != "" {
			t.note += "the homes of " + m.Region + " go to " + m.Heir + "\n"
		}
	}
	if v.Overrides > 0 {
		t.note += fmt.Sprintf("regions were declared dead without a majority %d times\n", v.Overrides)
	}
	if v.Fenced != "" {
		t.note += v.Region + " takes no writes: " + v.Fenced + "\n"
	}
	return t
}

type regionCall = func(context.Context, *client.Client, client.RegionChange) (*atollv1.RegionPlan, error)

// regionChange returns a command that changes one region.
func (a *app) regionChange(verb, short, long string, do regionCall) *cobra.Command {
	var change client.RegionChange
	return a.changeCommand(&change, verb, short, long, do)
}

// changeCommand is regionChange for a change that has flags of its own.
func (a *app) changeCommand(change *client.RegionChange, verb, short, long string, do regionCall) *cobra.Command {
	c := &cobra.Command{
		Use:   verb + " REGION",
		Short: short,
		Long: long + "\nPrint what follows; it goes on by itself, and atoll region list shows how far it is. With --dry-run\n" +
			"nothing is done. Exit code 4 if it is refused, 5 if no majority of the regions answers.",
		Example: "  atoll region " + verb + " us --dry-run\n  atoll region " + verb + " us",
		Args:    wants(1, 1, "REGION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change.Region = args[0]
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			plan, err := do(cmd.Context(), c, *change)
			if err != nil {
				return err
			}
			return a.showPlan(verb, plan, change.DryRun)
		},
		ValidArgsFunction: a.completeRegions,
	}
	c.Flags().BoolVar(&change.DryRun, "dry-run", false, "only say what would follow")
	return c
}

func newRegionFence(a *app) *cobra.Command {
	var change client.RegionChange
	c := a.changeCommand(&change, "fence", "Give a region up",
		"Give a region up that is lost: the others close it at what they have of it, and refuse what comes later.\n"+
			"It takes no writes once it hears of that. What it acknowledged and nobody else has is lost; where it still\n"+
			"answers, drain it instead.",
		func(ctx context.Context, c *client.Client, r client.RegionChange) (*atollv1.RegionPlan, error) {
			return c.FenceRegion(ctx, r)
		})
	c.Flags().StringVar(&change.Note, "note", "", "why, for the record")
	return c
}

func newRegionHeir(a *app) *cobra.Command {
	var change client.RegionChange
	c := a.changeCommand(&change, "heir", "Name the region that takes over a lost region's homes",
		"Decide which region takes over the homes of one that was fenced, or drained, and has not come back. Nobody else\n"+
			"does then, also not that region when it comes back, and it cannot be changed. Once that region is CLOSED,\n"+
			"atoll namespace move-home has the heir take over, for each namespace.",
		func(ctx context.Context, c *client.Client, r client.RegionChange) (*atollv1.RegionPlan, error) {
			return c.NameHeir(ctx, r)
		})
	c.Example = `  atoll region heir us --to ap --dry-run
  atoll region heir us --to ap`
	c.Flags().StringVar(&change.Heir, "to", "", "the region that takes over")
	noError(c.MarkFlagRequired("to"))
	noError(c.RegisterFlagCompletionFunc("to", a.completeRegions))
	return c
}

func newRegionAdd(a *app) *cobra.Command {
	var change client.RegionChange
	c := a.changeCommand(&change, "add", "Take a new region in",
		"Take a new region in. Before, put it into the configuration of all nodes, with joins: true, and start them\n"+
			"again one by one. It takes writes once it has what the others have.",
		func(ctx context.Context, c *client.Client, r client.RegionChange) (*atollv1.RegionPlan, error) {
			return c.AddRegion(ctx, r)
		})
	c.Example = `  atoll region add ap --id 4 --address 10.3.0.1:7490 --dry-run
  atoll region add ap --id 4 --address 10.3.0.1:7490`
	c.Flags().Uint32Var(&change.ID, "id", 0, "its id, as in the configuration")
	c.Flags().Uint32Var(&change.Epoch, "epoch", 0, "its epoch, as in the configuration")
	c.Flags().StringVar(&change.Address, "address", "", "host:port of its vote, as in the configuration (membership)")
	noError(c.MarkFlagRequired("id"))
	noError(c.MarkFlagRequired("address"))
	return c
}

func newRegionRejoin(a *app) *cobra.Command {
	var change client.RegionChange
	c := a.changeCommand(&change, "rejoin", "Have a closed region come back",
		"Have a region that is closed come back under a new epoch, which is printed. Put the epoch, and joins: true,\n"+
			"into the configuration of its own nodes, and start them with empty data directories. It takes writes once\n"+
			"it has what the others have.",
		func(ctx context.Context, c *client.Client, r client.RegionChange) (*atollv1.RegionPlan, error) {
			return c.RejoinRegion(ctx, r)
		})
	c.Flags().Uint32Var(&change.Epoch, "epoch", 0, "its epoch (default the next)")
	c.Flags().StringVar(&change.Address, "address", "", "host:port of its vote, if it is another than before")
	return c
}

// planView is a plan as JSON.
type planView struct {
	Change          string     `json:"change"`
	Region          string     `json:"region"`
	Epoch           uint32     `json:"epoch"`
	MembershipEpoch uint64     `json:"membership_epoch"`
	DryRun          bool       `json:"dry_run"`
	Done            bool       `json:"done_before"`
	Steps           []stepView `json:"steps"`
	// LostAtMost is absent if nobody can tell.
	LostAtMost *uint64      `json:"lost_at_most,omitempty"`
	LossWhy    string       `json:"loss_why"`
	Warnings   []string     `json:"warnings,omitempty"`
	Refusal    *refusalView `json:"refusal,omitempty"`
}

type stepView struct {
	Regions []string `json:"regions,omitempty"`
	What    string   `json:"what"`
}

type refusalView struct {
	Code    string   `json:"code"`
	Waiting []string `json:"waiting,omitempty"`
	Why     string   `json:"why"`
	Do      string   `json:"do"`
}

// showPlan prints what a change leads to. One that would be refused is an error, too.
func (a *app) showPlan(verb string, p *atollv1.RegionPlan, dry bool) error {
	view := &planView{
		Change: verb, Region: p.GetRegion(), Epoch: p.GetEpoch(), MembershipEpoch: p.GetMembershipEpoch(), DryRun: dry, Done: p.GetDone(),
		LossWhy: p.GetLoss().GetWhy(), Warnings: p.GetWarnings(),
	}
	if l := p.GetLoss(); l != nil {
		view.LostAtMost = l.AtMost
	}
	for _, s := range p.GetSteps() {
		view.Steps = append(view.Steps, stepView{s.GetRegions(), s.GetWhat()})
	}
	if r := p.GetRefusal(); r != nil {
		view.Refusal = &refusalView{r.GetCode(), r.GetWaiting(), r.GetWhy(), r.GetDo()}
	}
	if err := a.tables(view, view.table()); err != nil {
		return err
	}
	if r := view.Refusal; r != nil {
		err := fmt.Errorf("%s of %s would be refused: %s (%s)", verb, view.Region, r.Why, r.Code)
		if len(r.Waiting) > 0 {
			err = fmt.Errorf("%w; waiting for %s", err, strings.Join(r.Waiting, ", "))
		}
		return &codeError{withHint(err, "%s", r.Do), exitConflict}
	}
	return nil
}

func (v *planView) table() *grid {
	title := fmt.Sprintf("%s region %s, epoch %d", v.Change, v.Region, v.Epoch)
	switch {
	case v.DryRun:
		title += " (dry run: nothing is done)"
	case v.Done:
		title += " (decided before)"
	}
	t := &grid{title: title, header: []string{"STEP", "WHO", "WHAT"}}
	for i, s := range v.Steps {
		t.add(strconv.Itoa(i+1), cmp.Or(strings.Join(s.Regions, ", "), "the majority"), s.What)
	}
	if v.Refusal != nil {
		return t
	}
	lost := "not known"
	if v.LostAtMost != nil {
		lost = strconv.FormatUint(*v.LostAtMost, 10) + " operations"
	}
	t.note = fmt.Sprintf("lost at most: %s (%s)\n", lost, v.LossWhy)
	for _, w := range v.Warnings {
		t.note += "warning: " + w + "\n"
	}
	return t
}
