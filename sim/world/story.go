package world

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// Tell runs a plan and writes what happens as it goes, for people to read: routine, too, if everything is wanted, but the
// same not again before anything else than routine has happened. It returns what came of it.
func (r *Runner) Tell(out io.Writer, p *Plan, everything bool) (Result, error) {
	w := bufio.NewWriter(out)
	fmt.Fprintln(w, p)
	told := map[string]bool{}
	res := r.Run(p, func(at time.Duration, text string, routine bool) {
		if !routine {
			clear(told)
		}
		if !routine || everything && !told[text] {
			told[text] = routine
			fmt.Fprintf(w, "%9.3fs  %s\n", at.Seconds(), text)
		}
	})
	c := &res.Counts
	if res.Failure == nil {
		fmt.Fprintf(w, "every invariant held: %d steps, %d events of %d operations, %d merges of them in other regions, trace %016x\n",
			c.Steps, c.Events, c.Operations, c.Merged, res.Trace)
	} else {
		fmt.Fprintf(w, "FAILED: %v (trace %016x)\n", res.Failure, res.Trace)
	}
	return res, w.Flush()
}

// String says what the plan is of.
func (p *Plan) String() string {
	var b strings.Builder
	faults := 0
	for i := range p.Happenings {
		if p.Happenings[i].Kind >= ChangeLeader {
			faults++
		}
	}
	fmt.Fprintf(&b, "seed %d: %d regions, %d partitions of %d replicas in each; %d writes and %d faults in %v; core %v\n",
		p.Seed, p.Regions, p.Partitions, p.Nodes, len(p.Happenings)-faults, faults, p.Length.Round(time.Millisecond), oneBased(p.Core))
	var types, chances []string
	for _, t := range p.Types {
		types = append(types, t.String())
	}
	for _, n := range p.Rates.named() {
		if *n.rate > 0 {
			chances = append(chances, fmt.Sprintf("%s %.0f %%", n.name, 100**n.rate))
		}
	}
	fmt.Fprintf(&b, "types: %s\nchances: %s", strings.Join(types, ", "), strings.Join(chances, ", "))
	if p.Quota > 0 {
		fmt.Fprintf(&b, "\nregions that lack more than %d bytes are evicted", p.Quota)
	}
	if p.Fold != nil {
		fmt.Fprintf(&b, "\noutboxes of more than %d bytes are folded, %d entries at first", p.Fold.FromBytes, p.Fold.WindowPairs)
	}
	if p.Relay {
		b.WriteString("\nwhat an origin does not give is soon had from third regions")
	}
	if p.Homes {
		fmt.Fprintf(&b, "\na namespace has its home in region %d, of which all clients know after %v", p.FirstHome+1, p.Unhomed.Round(time.Millisecond))
	}
	return b.String()
}

func oneBased(indexes []int) []int {
	numbers := make([]int, len(indexes))
	for i, n := range indexes {
		numbers[i] = n + 1
	}
	return numbers
}

// Blame shrinks a plan that fails, and writes what is left of it, how that goes, and the command that repeats it.
func (r *Runner) Blame(out io.Writer, p *Plan, f *Failure) error {
	fmt.Fprintf(out, "seed %d FAILED: %v\nlooking for a smaller run that fails alike ...\n", p.Seed, f)
	reduction := r.Shrink(p, f)
	if _, err := r.Tell(out, reduction.Apply(p), true); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "again, as it was:  atoll sim --seed %d\nagain, shrunk:     atoll sim --seed %d --reduce '%v'\n", p.Seed, p.Seed, reduction)
	return err
}

// Summary says what happened in many runs.
func (c *Counts) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d schedules, %d steps, %v of virtual time\n", c.Schedules, c.Steps, c.Virtual.Round(time.Second))
	fmt.Fprintf(&b, "%d operations made %d events, merged %d times elsewhere, in %d applied entries\n", c.Operations, c.Events, c.Merged, c.Applied)
	fmt.Fprintf(&b, "%d values compared with the specification, %d digests; %v to converge, on average\n",
		c.Compared, c.Digests, (c.Converged / time.Duration(max(1, 2*c.Schedules))).Round(time.Millisecond))
	fmt.Fprintf(&b, "frames: %d lost, %d repeated, %d late, %d damaged, %d publications or their answers lost\n",
		c.Lost, c.Duplicated, c.Reordered, c.Flipped, c.PublishFaults)
	fmt.Fprintf(&b, "proposals: %d not done, %d of unknown outcome; writes refused: %d by condition or type, %d without a leader\n",
		c.Refused, c.Unknown, c.Conditions, c.Unavailable)
	fmt.Fprintf(&b, "receivers: %d gaps, %d fetches, %d duplicates, %d evictions, %d refused merges; shippers: %d rewinds\n",
		c.Gaps, c.Fetches, c.Duplicates, c.Evicted, c.RefusedMerges, c.Rewinds)
	fmt.Fprintf(&b, "outboxes: %d folds, whose runs were read %d times, %d regions evicted; %d states taken over, %d fetches from third regions\n",
		c.Folds, c.RunsRead, c.Evictions, c.Transfers, c.Relayed)
	fmt.Fprintf(&b, "regions: %d fenced, %d drained, %d closed, %d released, %d begun anew, %d joined after %d transfers of states; %d late frames refused, %d events given up\n",
		c.Fences, c.Drains, c.Closings, c.Releases, c.Rejoins, c.Joins, c.JoinTransfers, c.LateFrames, c.GivenUp)
	fmt.Fprintf(&b, "homes: %d writes, %d reads, %d refused by condition, %d elsewhere; %d moves, %d of them refused, %d takeovers; %d writes that were late, %d given up\n",
		c.HomeWrites, c.HomeReads, c.HomeConditions, c.HomeRefused, c.HomeMoves, c.HomeUnmoved, c.HomeTakes, c.HomeLate, c.HomeGivenUp)
	b.WriteString("faults:")
	for k := ChangeLeader; k < kinds; k++ {
		fmt.Fprintf(&b, " %d %v,", c.Faults[k], k)
	}
	return strings.TrimSuffix(b.String(), ",") + "\n"
}
