package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/poison"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func newRepair(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "repair",
		Short: "Save what a region wrote while its clock was wrong",
		Long: "A region whose clock is far ahead makes values with instants of the future. The other regions do not merge\n" +
			"them, nor what follows them: atoll status shows these flows as quarantined. Set the clock right first.\n" +
			"If the region was not too far ahead, wait: everything goes on by itself when that time has come. Else:\n\n" +
			"  1. list     atoll --region ap repair clock-poison\n" +
			"  2. rewrite  atoll --region ap repair clock-poison --rewrite-in eu\n" +
			"              writes registers that only ap has again, in eu; the rest is named, to be merged by hand\n" +
			"  3. fence    atoll --region eu region fence ap\n" +
			"              once nobody writes in ap any more: what is not listed as written or taken is lost\n" +
			"  4. rejoin   atoll --region eu region rejoin ap\n" +
			"              and start its nodes under the new epoch, with empty data directories\n\n" +
			"docs/regions.md has each of them step by step.",
		Example: `  atoll --region ap repair clock-poison
  atoll --region ap repair clock-poison --rewrite-in eu --dry-run`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	c.AddCommand(newClockPoison(a))
	return c
}

// poisonFlags say what to list, and what to do about it.
type poisonFlags struct {
	partitions        []uint
	ahead             time.Duration
	in                string
	overwrite, dryRun bool
}

func newClockPoison(a *app) *cobra.Command {
	var f poisonFlags
	c := &cobra.Command{
		Use:   "clock-poison",
		Short: "List values from the future, and write them again elsewhere",
		Long: "List the values of the asked region, of all namespaces, that were made by a clock further ahead than other\n" +
			"regions believe. The present is what the middle one of the regions' clocks reads, or, with --rewrite-in, what that\n" +
			"region takes for it. TAKEN says which regions lack the value's newest event: everybody has it, or nobody else, or some lack it.\n\n" +
			"With --rewrite-in, an address or a region, registers that this region lacks are written again there, as\n" +
			"ordinary new writes, deletes too, with what is left of their time to live by the poisoned region's clock: but\n" +
			"only if the region still has what the poisoned one had seen when it wrote. If it has something else, that\n" +
			"is kept, and named; --overwrite writes all the same. Counters, sets and other types are named with both\n" +
			"regions' values, to be merged by hand; registers of a namespace with a home are not written. It may be run\n" +
			"again: what is there already is not written once more. With --dry-run nothing is written.\n\n" +
			"Exit code 4 if only the asked region has something, or, with --rewrite-in, still has, 5 if a partition or the\n" +
			"other region does not answer.",
		Example: `  atoll --region ap repair clock-poison
  atoll --region ap repair clock-poison --ahead 1m -o json | jq '.values[] | select(.only_here)'
  atoll --region ap repair clock-poison --rewrite-in eu --dry-run
  atoll --region ap repair clock-poison --rewrite-in 10.1.0.1:7480`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.in == "" && (f.overwrite || f.dryRun) {
				return usagef("--overwrite and --dry-run are about --rewrite-in REGION or ADDRESS")
			}
			if f.ahead < 0 {
				return usagef("--ahead must not be negative")
			}
			return a.clockPoison(cmd.Context(), &f)
		},
	}
	fs := c.Flags()
	fs.UintSliceVar(&f.partitions, "partition", nil, "only this partition; may be repeated (default all)")
	fs.DurationVar(&f.ahead, "ahead", 0, "list what is further ahead than this (default clock.max_ahead_ms of the region)")
	fs.StringVar(&f.in, "rewrite-in", "", "write registers again in this region, a name or the address of a node")
	fs.BoolVar(&f.overwrite, "overwrite", false, "also in place of what the poisoned region had not seen")
	fs.BoolVar(&f.dryRun, "dry-run", false, "only say what would be written")
	noError(c.RegisterFlagCompletionFunc("rewrite-in", a.completeRegions))
	return c
}

func (a *app) clockPoison(ctx context.Context, f *poisonFlags) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	q := client.FutureQuery{Ahead: f.ahead, WithValues: f.in != ""}
	for _, p := range f.partitions {
		q.Partitions = append(q.Partitions, uint32(min(p, 1<<31)))
	}
	run := &poisonRun{app: a, poisoned: c, flags: f, at: map[poisonKey]int{}, view: poisonView{DryRun: f.dryRun}}
	if f.in != "" {
		if q.Present, err = run.open(ctx); err != nil {
			return err
		}
	}
	for page, err := range c.FutureValues(ctx, q) {
		if err == nil {
			err = run.page(ctx, page)
		}
		if err != nil {
			// What was written is shown, and need not be written again.
			return errors.Join(a.tables(&run.view, run.view.table()), err)
		}
	}
	return errors.Join(a.tables(&run.view, run.view.table()), run.view.verdict())
}

// poisonRun is one listing, and rewriting.
type poisonRun struct {
	app      *app
	poisoned *client.Client
	flags    *poisonFlags
	rewriter poison.Rewriter
	view     poisonView
	// at is where in the view a value is.
	at map[poisonKey]int
}

type poisonKey struct {
	namespace, key string
	of             atollv1.Type
}

// open finds the region to write in, and what it takes for the present.
func (r *poisonRun) open(ctx context.Context) (time.Time, error) {
	sound, err := r.sound(ctx)
	if err != nil {
		return time.Time{}, err
	}
	status, err := r.poisoned.Status(ctx)
	if err != nil {
		return time.Time{}, err
	}
	region, present, err := poison.Present(ctx, sound)
	switch {
	case status.GetRegion() == region:
		return present, usagef("--rewrite-in %s is the asked region itself: --region names the poisoned one", r.flags.in)
	case errors.Is(err, poison.ErrUnsound):
		return present, &codeError{withHint(fmt.Errorf("%s: %w", region, err), "choose another region; atoll status shows what the clocks read"), exitConflict}
	case err != nil:
		return present, fmt.Errorf("ask %s for the time: %w", r.flags.in, err)
	}
	r.rewriter = poison.Rewriter{Sound: sound, Region: region, Overwrite: r.flags.overwrite, DryRun: r.flags.dryRun}
	r.view.RewrittenIn = region
	return present, nil
}

// sound returns a client of the region to write in.
func (r *poisonRun) sound(ctx context.Context) (*client.Client, error) {
	if strings.Contains(r.flags.in, ":") {
		if err := probe(ctx, []string{r.flags.in}); err != nil {
			return nil, err
		}
		return r.app.dial([]string{r.flags.in})
	}
	status, err := r.poisoned.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, region := range status.GetRegions() {
		if region.GetName() == r.flags.in {
			return r.app.regionClient(region)
		}
	}
	return nil, usagef("there is no region %q; an address is HOST:PORT", r.flags.in)
}

// page takes a page of what was found, and writes it again if that is wanted.
func (r *poisonRun) page(ctx context.Context, page *atollv1.FutureValuesResponse) error {
	v := &r.view
	v.Region, v.PresentMS, v.Clocks = page.GetRegion(), page.GetPresentMs(), page.GetClocks()
	v.AheadMS, v.ClockAheadMS = page.GetAhead().AsDuration().Milliseconds(), page.GetClockAhead().AsDuration().Milliseconds()
	v.Undated += page.GetUndated()
	for _, e := range page.GetErrors() {
		v.Errors = append(v.Errors, fmt.Sprintf("partition %d: %s", e.GetPartition(), e.GetError().GetMessage()))
	}
	for _, found := range page.GetValues() {
		if err := r.value(ctx, found); err != nil {
			return err
		}
	}
	return nil
}

func (r *poisonRun) value(ctx context.Context, found *atollv1.FutureValue) error {
	row := poisonedView{
		Partition: found.GetPartition(), Namespace: found.GetNamespace(), Key: found.GetKey(), Type: client.Type(found.GetType()).String(),
		Event: event(found.GetEvent()), HLC: found.GetEvent().GetHlc(), AheadMS: found.GetAhead().AsDuration().Milliseconds(),
		Lacking: slices.Clone(found.GetLacking()), OnlyHere: found.GetOnlyHere(), Deleted: found.GetRegister().GetDeleted(), Home: found.GetHome(),
	}
	key := poisonKey{found.GetNamespace(), found.GetKey(), found.GetType()}
	if i, again := r.at[key]; again {
		// Another event of the same value: the newest is shown, and who lacks either.
		was := r.view.Values[i]
		row.Lacking, row.OnlyHere = union(was.Lacking, row.Lacking), was.OnlyHere || row.OnlyHere
		if was.HLC > row.HLC {
			row.Event, row.HLC, row.AheadMS = was.Event, was.HLC, was.AheadMS
		}
		row.Result, row.Here, row.There = was.Result, was.Here, was.There
		r.view.Values[i] = row
	} else {
		r.at[key] = len(r.view.Values)
		r.view.Values = append(r.view.Values, row)
	}
	if r.rewriter.Sound == nil {
		return nil
	}
	outcome, err := r.rewriter.Rewrite(ctx, found)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", printable([]byte(found.GetKey()), 200), printable([]byte(found.GetNamespace()), 80), err)
	}
	now := &r.view.Values[r.at[key]]
	if now.Result == "" || outcome != poison.Taken {
		now.Result = string(outcome)
	}
	if outcome == poison.NoRegister && now.Here == "" {
		return r.both(ctx, now)
	}
	return nil
}

// both reads what the two regions hold of a value that is to be merged by hand.
func (r *poisonRun) both(ctx context.Context, row *poisonedView) error {
	for _, side := range []struct {
		c    *client.Client
		text *string
	}{{r.poisoned, &row.Here}, {r.rewriter.Sound, &row.There}} {
		v, err := side.c.Namespace(row.Namespace).Get(ctx, row.Key)
		switch {
		case errors.Is(err, client.ErrNotFound):
			*side.text = "absent"
		case err != nil:
			return err
		case v.Type.String() != row.Type:
			*side.text = "a " + v.Type.String()
		default:
			*side.text = shown(v, 60)
		}
	}
	return nil
}
