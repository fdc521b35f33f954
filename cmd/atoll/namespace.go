package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// moveEvery is how often a move of a home is carried on.
const moveEvery = 300 * time.Millisecond

func newNamespace(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "namespace",
		Short: "Show and move the home of a namespace",
		Long: "Show which region the writes of a namespace are made in, and have another region do that. Only a namespace\n" +
			"that the configuration gives a home has one; docs/types.md says what it is for.",
		Example: `  atoll namespace homes locks
  atoll namespace move-home locks --to us --dry-run
  atoll namespace move-home locks --to us`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	c.AddCommand(newNamespaceHomes(a), newMoveHome(a))
	return c
}

func newNamespaceHomes(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "homes NAMESPACE",
		Short: "Show which region is the home of a namespace",
		Long: "Show which region is the home of each partition of a namespace, as the asked region knows: SERVING is yes only\n" +
			"if it is the home itself, and WAITING are the regions that have to hear of it before it can move, or the heir of\n" +
			"a home that was given up, which has to take over (atoll namespace move-home).",
		Example: `  atoll namespace homes locks
  atoll namespace homes locks -o json | jq '[.partitions[] | select(.home != "eu")]'`,
		Args: wants(1, 1, "NAMESPACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			homes, err := c.Namespace(args[0]).Homes(cmd.Context())
			if err != nil {
				return err
			}
			view := &homesView{Namespace: args[0]}
			for _, h := range homes {
				view.Partitions = append(view.Partitions, homeView{h.Partition, h.Region, h.Epoch, h.Serving, h.Waiting, errorText(h.Err), h.Heir})
				err = cmp.Or(err, h.Err)
			}
			return errors.Join(a.tables(view, view.table()), err)
		},
	}
}

// homesView is the homes of a namespace as JSON.
type homesView struct {
	Namespace  string     `json:"namespace"`
	Partitions []homeView `json:"partitions"`
}

type homeView struct {
	Partition uint32   `json:"partition"`
	Home      string   `json:"home"`
	Epoch     uint64   `json:"epoch"`
	Serving   bool     `json:"serving"`
	Waiting   []string `json:"waiting,omitempty"`
	Error     string   `json:"error,omitempty"`
	Heir      string   `json:"heir,omitempty"`
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (v *homesView) table() *grid {
	t := &grid{header: []string{"PARTITION", "HOME", "EPOCH", "SERVING", "WAITING"}}
	for _, h := range v.Partitions {
		serving := "no"
		if h.Serving {
			serving = "yes"
		}
		waiting := strings.Join(h.Waiting, ", ")
		if h.Heir != "" {
			waiting = "its heir " + h.Heir + " has not taken over"
		}
		t.add(strconv.Itoa(int(h.Partition)), cmp.Or(h.Home, "-"), strconv.FormatUint(h.Epoch, 10), serving, cmp.Or(h.Error, waiting, "-"))
	}
	return t
}

func newMoveHome(a *app) *cobra.Command {
	var to string
	var dry bool
	var patience time.Duration
	c := &cobra.Command{
		Use:   "move-home NAMESPACE",
		Short: "Make another region the home of a namespace",
		Long: "Make another region the home of a namespace, and wait until it serves. In each partition the home gives up as\n" +
			"its last act, and the new one serves as soon as it has all that was written; writes wait meanwhile. If this\n" +
			"is interrupted, run it again: it goes on where it was. A home whose region is lost has to be fenced and CLOSED\n" +
			"first (atoll region fence); it is taken over if --to is its heir (atoll region heir), or the only region left,\n" +
			"ten seconds after the fence, as it may not know of that before. With --dry-run nothing is done.\n" +
			"Exit code 4 if that is refused, or the region takes no writes, 5 if not all is done within --wait.",
		Example: `  atoll namespace move-home locks --to us --dry-run
  atoll namespace move-home locks --to us
  atoll namespace move-home locks --to us --wait 10m -o json`,
		Args: wants(1, 1, "NAMESPACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			m := &homeMover{app: a, client: c.Namespace(args[0]), to: to, patience: patience}
			moves, err := m.run(cmd.Context(), dry)
			if moves == nil {
				return err
			}
			view := moveViewOf(args[0], to, dry, moves)
			return errors.Join(a.tables(view, view.table()), err)
		},
	}
	c.Flags().StringVar(&to, "to", "", "the new home")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say whether it can move")
	c.Flags().DurationVar(&patience, "wait", 2*time.Minute, "how long to go on until the new home serves")
	noError(c.MarkFlagRequired("to"))
	noError(c.RegisterFlagCompletionFunc("to", a.completeRegions))
	return c
}

// homeMover carries a move on until it is done.
type homeMover struct {
	app      *app
	client   *client.Client
	to       string
	patience time.Duration
	told     string
}

// run returns how far the move is in the end.
func (m *homeMover) run(ctx context.Context, dry bool) ([]client.HomeMove, error) {
	began := m.app.clock()
	var moves []client.HomeMove
	for {
		next, done, err := m.client.MoveHome(ctx, m.to, dry)
		if err != nil && (moves == nil || !goesAway(err)) {
			return moves, err
		}
		if err == nil {
			moves = next
			m.tell(moves)
			err = stuck(moves)
		}
		late := m.app.clock().Sub(began) >= m.patience
		switch {
		case done || dry && err == nil:
			return moves, nil
		case err != nil && (dry || late || !goesAway(err)):
			return moves, err
		case late:
			return moves, &codeError{withHint(errors.New("the new home does not serve in all partitions yet"), "run it again: it goes on where it is"), exitUnavailable}
		}
		if err := pause(ctx, moveEvery); err != nil {
			return moves, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stuck returns an error of a partition, one that does not go away by itself if there is any.
func stuck(moves []client.HomeMove) error {
	var found error
	for _, move := range moves {
		if move.Err != nil && (found == nil || goesAway(found)) {
			found = fmt.Errorf("partition %d: %w", move.Partition, move.Err)
		}
	}
	return found
}

func goesAway(err error) bool {
	return slices.ContainsFunc([]error{client.ErrUnavailable, client.ErrDeadline, client.ErrOverloaded, client.ErrOutcomeUnknown},
		func(passing error) bool { return errors.Is(err, passing) })
}

// tell says how far the move is, if that has changed.
func (m *homeMover) tell(moves []client.HomeMove) {
	counts := map[string]int{}
	for _, move := range moves {
		counts[stateName(move.State)]++
	}
	var parts []string
	for _, state := range []string{"ready", "waiting", "moving", "serving", "failed"} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	if text := strings.Join(parts, ", "); text != m.told {
		m.told = text
		m.app.notef("partitions: %s", text)
	}
}

func stateName(s atollv1.HomeMoveState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "HOME_MOVE_STATE_"))
}

// moveView is a move of a home as JSON.
type moveView struct {
	Namespace  string          `json:"namespace"`
	To         string          `json:"to"`
	DryRun     bool            `json:"dry_run"`
	Done       bool            `json:"done"`
	Partitions []partitionMove `json:"partitions"`
}

type partitionMove struct {
	Partition uint32   `json:"partition"`
	State     string   `json:"state"`
	From      string   `json:"from,omitempty"`
	Epoch     uint64   `json:"epoch"`
	Waiting   []string `json:"waiting,omitempty"`
	Error     string   `json:"error,omitempty"`
}

func moveViewOf(namespace, to string, dry bool, moves []client.HomeMove) *moveView {
	v := &moveView{Namespace: namespace, To: to, DryRun: dry, Done: true}
	for _, m := range moves {
		v.Partitions = append(v.Partitions, partitionMove{m.Partition, stateName(m.State), m.From, m.Epoch, m.Waiting, errorText(m.Err)})
		v.Done = v.Done && m.State == atollv1.HomeMoveState_HOME_MOVE_STATE_SERVING
	}
	return v
}

func (v *moveView) table() *grid {
	title := fmt.Sprintf("home of %s: to %s", v.Namespace, v.To)
	if v.DryRun {
		title += " (dry run: nothing is done)"
	}
	t := &grid{title: title, header: []string{"PARTITION", "STATE", "FROM", "EPOCH", "WAITING"}}
	for _, p := range v.Partitions {
		t.add(strconv.Itoa(int(p.Partition)), p.State, cmp.Or(p.From, "-"), strconv.FormatUint(p.Epoch, 10),
			cmp.Or(p.Error, strings.Join(p.Waiting, ", "), "-"))
	}
	return t
}
