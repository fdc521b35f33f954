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

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func newStatus(a *app) *cobra.Command {
	var partitions, follow bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show regions, lag and outbox",
		Long: "Show the regions as one of them sees them: who is reachable, how far each is behind each other,\n" +
			"and what is written but not yet known to have arrived everywhere. A lag is \"unknown\" if nothing\n" +
			"was heard lately; it is never guessed. UNSHIPPED counts exactly what this region has acknowledged and\n" +
			"the other is not recorded to have. Below are said: what needs help, states that differ although all\n" +
			"was applied, who keeps deleted values from being removed, and messages that the asked node refused.\n" +
			"With --watch it is shown again every second; -o json then prints one object per line.",
		Example: `  atoll status
  atoll status --region us --partitions
  atoll status --watch
  atoll status -o json | jq '.flows[] | select(.unknown)'`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			kv, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			if !follow {
				status, err := kv.Status(cmd.Context())
				if err != nil {
					return err
				}
				return a.showStatus(status, partitions)
			}
			for status, err := range kv.WatchStatus(cmd.Context()) {
				if errors.Is(err, context.Canceled) {
					return nil // an interrupt is how a watch ends
				}
				if err == nil {
					err = a.showStatus(status, partitions)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&follow, "watch", false, "show it again every second, until interrupted")
	c.Flags().BoolVar(&partitions, "partitions", false, "show each partition too")
	return c
}

func (a *app) showStatus(status *atollv1.StatusResponse, partitions bool) error {
	s := summarize(status)
	tables := []*grid{s.regionsTable(), s.flowsTable(), s.outboxTable()}
	if s.Clocks != nil {
		tables = append(tables, s.clocksTable())
	}
	if partitions {
		tables = append(tables, partitionsTable(status))
	}
	return a.tables(s, tables...)
}

// summary is the state of replication, added up over partitions.
type summary struct {
	Cluster    string             `json:"cluster"`
	Region     string             `json:"region"`
	Node       string             `json:"node"`
	Regions    []regionSummary    `json:"regions"`
	Flows      []flowSummary      `json:"flows"`
	Outbox     outboxSummary      `json:"outbox"`
	Garbage    []garbageSummary   `json:"garbage,omitempty"`
	Refused    []refusedSummary   `json:"refused,omitempty"`
	Clocks     *clocksSummary     `json:"clocks,omitempty"`
	Partitions []partitionSummary `json:"partitions"`
	// Unsettled are the regions that join or leave, Fenced why the asked node takes no writes.
	Unsettled []unsettledSummary `json:"unsettled,omitempty"`
	Fenced    string             `json:"fenced,omitempty"`
	HomeLease *leaseSummary      `json:"home_lease,omitempty"`
}

type unsettledSummary struct {
	Region string `json:"region"`
	State  string `json:"state"`
}

type regionSummary struct {
	Name  string        `json:"name"`
	ID    uint32        `json:"id"`
	Epoch uint32        `json:"epoch"`
	State string        `json:"state"`
	Nodes []nodeSummary `json:"nodes"`
}

type nodeSummary struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"`
}

// flowSummary is the replication from one region to another. Lags are the worst of a partition,
// counts the sum; a figure that any partition does not know is absent.
type flowSummary struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Unknown     bool     `json:"unknown"`
	LagMS       *float64 `json:"lag_ms,omitempty"`
	Operations  *uint64  `json:"operations,omitempty"`
	Bytes       *uint64  `json:"bytes,omitempty"`
	HeardMS     *float64 `json:"last_heard_ms,omitempty"`
	// Unshipped is known of flows from the asked region.
	Unshipped *uint64 `json:"unshipped,omitempty"`
	// Diverged says of each partition whose states differ how that was seen.
	Diverged []string `json:"diverged,omitempty"`
	// Differing are the values that are known to be what differs, seen from the asked region; More says of which partitions
	// there are more.
	Differing []differingView `json:"differing,omitempty"`
	More      []uint32        `json:"more_differing,omitempty"`
	// Stuck says of each partition that cannot go on without help why.
	Stuck []string `json:"stuck,omitempty"`
	// AheadMS is how far the source's events are ahead of the destination's clock, if some wait for that.
	AheadMS *float64 `json:"ahead_ms,omitempty"`
}

// garbageSummary is what one region keeps from being removed: the longest since when, and the sums.
type garbageSummary struct {
	HeldBy string `json:"held_by"`
	// SinceMS is absent if a partition never had an operation of that region.
	SinceMS *float64 `json:"since_ms,omitempty"`
	Count   uint64   `json:"count"`
	Bytes   uint64   `json:"bytes"`
	More    bool     `json:"more,omitempty"`
}

type refusedSummary struct {
	Source string `json:"source,omitempty"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

type outboxSummary struct {
	Unshipped  uint64 `json:"unshipped"`
	Entries    uint64 `json:"entries"`
	Bytes      uint64 `json:"bytes"`
	Leaderless int    `json:"leaderless_partitions"`
	Unanswered int    `json:"unanswered_partitions"`
}

type partitionSummary struct {
	Partition uint32 `json:"partition"`
	Leader    string `json:"leader"`
	Unshipped uint64 `json:"unshipped"`
	Entries   uint64 `json:"outbox_entries"`
	Bytes     uint64 `json:"outbox_bytes"`
	Error     string `json:"error,omitempty"`
}

func summarize(s *atollv1.StatusResponse) *summary {
	out := &summary{Cluster: s.GetCluster(), Region: s.GetRegion(), Node: s.GetNode(), Flows: summarizeFlows(s.GetFlows()), Clocks: summarizeClocks(s.GetClocks())}
	for _, r := range s.GetRegions() {
		region := regionSummary{Name: r.GetName(), ID: r.GetId(), Epoch: r.GetEpoch(), State: regionState(r.GetState())}
		for _, n := range r.GetNodes() {
			region.Nodes = append(region.Nodes, nodeSummary{n.GetName(), n.GetAddress(), n.GetZone()})
		}
		out.Regions = append(out.Regions, region)
	}
	for _, m := range s.GetMembership().GetMembers() {
		if m.GetState() != "ACTIVE" && m.GetState() != "REMOVED" {
			out.Unsettled = append(out.Unsettled, unsettledSummary{m.GetRegion(), m.GetState()})
		}
	}
	out.Fenced, out.HomeLease = s.GetFenced(), summarizeLease(s.GetHomeLease())
	out.Garbage, out.Refused = summarizeGarbage(s.GetPartitions()), summarizeRefused(s.GetRefused())
	for _, p := range s.GetPartitions() {
		out.Partitions = append(out.Partitions, partitionSummary{
			p.GetPartition(), p.GetLeader(), p.GetUnshipped(), p.GetOutboxEntries(), p.GetOutboxBytes(), p.GetError().GetMessage(),
		})
		out.Outbox.Unshipped += p.GetUnshipped()
		out.Outbox.Entries += p.GetOutboxEntries()
		out.Outbox.Bytes += p.GetOutboxBytes()
		if p.GetError() != nil {
			out.Outbox.Unanswered++
		} else if p.GetLeader() == "" {
			out.Outbox.Leaderless++
		}
	}
	return out
}

func summarizeFlows(flows []*atollv1.Flow) []flowSummary {
	type pair struct{ source, destination string }
	byPair := map[pair][]*atollv1.Flow{}
	var pairs []pair
	for _, f := range flows {
		p := pair{f.GetSource(), f.GetDestination()}
		if byPair[p] == nil {
			pairs = append(pairs, p)
		}
		byPair[p] = append(byPair[p], f)
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		return cmp.Or(cmp.Compare(x.source, y.source), cmp.Compare(x.destination, y.destination))
	})
	var out []flowSummary
	for _, p := range pairs {
		out = append(out, summarizeFlow(p.source, p.destination, byPair[p]))
	}
	return out
}

func summarizeFlow(source, destination string, flows []*atollv1.Flow) flowSummary {
	out := flowSummary{Source: source, Destination: destination}
	var lag, heard, ahead time.Duration
	var operations, bytes, unshipped uint64
	knowsLag, knowsHeard, knowsOperations, knowsBytes, knowsUnshipped := true, true, true, true, true
	for _, f := range flows {
		out.Unknown = out.Unknown || f.GetLag().GetUnknown()
		knowsLag = knowsLag && f.GetLag().GetTime() != nil
		knowsHeard = knowsHeard && f.GetLastHeard() != nil
		knowsOperations = knowsOperations && f.GetLag() != nil && f.GetLag().Operations != nil
		knowsBytes = knowsBytes && f.GetLag() != nil && f.GetLag().Bytes != nil
		lag = max(lag, f.GetLag().GetTime().AsDuration())
		heard = max(heard, f.GetLastHeard().AsDuration())
		ahead = max(ahead, f.GetAhead().AsDuration())
		if f.GetStuck() != "" {
			out.Stuck = append(out.Stuck, fmt.Sprintf("partition %d: %s", f.GetPartition(), f.GetStuck()))
		}
		if f.GetDiverged() != "" {
			out.Diverged = append(out.Diverged, fmt.Sprintf("partition %d: %s", f.GetPartition(), f.GetDiverged()))
			out.Differing = append(out.Differing, differingValues(f.GetAudit())...)
			if f.GetAudit().GetMore() {
				out.More = append(out.More, f.GetPartition())
			}
		}
		knowsUnshipped = knowsUnshipped && f.Unshipped != nil
		unshipped += f.GetUnshipped()
		operations += f.GetLag().GetOperations()
		bytes += f.GetLag().GetBytes()
	}
	if !out.Unknown {
		out.LagMS = millisIf(knowsLag, lag)
		out.Operations = valueIf(knowsOperations, operations)
		out.Bytes = valueIf(knowsBytes, bytes)
	}
	out.HeardMS, out.AheadMS = millisIf(knowsHeard, heard), millisIf(ahead > 0, ahead)
	out.Unshipped = valueIf(knowsUnshipped, unshipped)
	return out
}

func millisIf(known bool, d time.Duration) *float64 {
	return valueIf(known, float64(d.Microseconds())/1000)
}

func valueIf[T any](known bool, v T) *T {
	if !known {
		return nil
	}
	return &v
}

func (s *summary) regionsTable() *grid {
	t := &grid{
		title:  fmt.Sprintf("cluster %s, as %s (region %s) sees it", s.Cluster, s.Node, s.Region),
		header: []string{"REGION", "ID", "EPOCH", "STATE", "NODES"},
	}
	for _, r := range s.Regions {
		var nodes []string
		for _, n := range r.Nodes {
			nodes = append(nodes, n.Name+" "+n.Address)
		}
		t.add(r.Name, strconv.Itoa(int(r.ID)), strconv.Itoa(int(r.Epoch)), r.State, strings.Join(nodes, ", "))
	}
	return t
}

func (s *summary) flowsTable() *grid {
	t := &grid{title: "lag", header: []string{"FROM", "TO", "LAG", "OPERATIONS", "BYTES", "UNSHIPPED", "LAST HEARD"}}
	for _, f := range s.Flows {
		lag := "unknown"
		if f.LagMS != nil {
			lag = duration(*f.LagMS)
		}
		heard := "never"
		if f.HeardMS != nil {
			heard = duration(*f.HeardMS) + " ago"
		}
		t.add(f.Source, f.Destination, lag, orDash(f.Operations), orDash(f.Bytes), orDash(f.Unshipped), heard)
	}
	if len(s.Flows) == 0 {
		t.note = "no other region"
	}
	for _, f := range s.Flows {
		for _, why := range f.Stuck {
			t.note += fmt.Sprintf("%s to %s needs help: %s\n", f.Source, f.Destination, why)
		}
		for _, how := range f.Diverged {
			t.note += fmt.Sprintf("%s and %s DIFFER: %s\n", f.Source, f.Destination, how)
		}
		t.note += f.differingNotes()
	}
	t.note += s.membershipNotes() + s.garbageNotes() + s.refusedNotes()
	return t
}

func duration(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}

func orDash(n *uint64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatUint(*n, 10)
}

func (s *summary) outboxTable() *grid {
	o := s.Outbox
	t := &grid{title: "outbox of region " + s.Region, header: []string{"UNSHIPPED", "ENTRIES", "BYTES", "WITHOUT LEADER", "NOT ANSWERING"}}
	t.add(strconv.FormatUint(o.Unshipped, 10), strconv.FormatUint(o.Entries, 10), strconv.FormatUint(o.Bytes, 10),
		strconv.Itoa(o.Leaderless), strconv.Itoa(o.Unanswered))
	return t
}

func partitionsTable(s *atollv1.StatusResponse) *grid {
	t := &grid{title: "partitions", header: []string{"PARTITION", "LEADER", "UNSHIPPED", "ENTRIES", "BYTES", "VECTOR"}}
	for _, p := range s.GetPartitions() {
		leader, vector := cmp.Or(p.GetLeader(), "none"), vectorText(p.GetVector())
		if p.GetError() != nil {
			leader, vector = "?", printable([]byte(p.GetError().GetMessage()), 100)
		}
		t.add(strconv.Itoa(int(p.GetPartition())), leader, strconv.FormatUint(p.GetUnshipped(), 10),
			strconv.FormatUint(p.GetOutboxEntries(), 10), strconv.FormatUint(p.GetOutboxBytes(), 10), vector)
	}
	return t
}

func vectorText(entries []*atollv1.VectorEntry) string {
	var parts []string
	for _, e := range entries {
		parts = append(parts, eventName(e.GetRegion(), e.GetEpoch(), e.GetSeq()))
	}
	return strings.Join(parts, " ")
}

// eventName names an event: its region, the region's epoch if it is not the first, and its number.
func eventName(region string, epoch uint32, seq uint64) string {
	if epoch > 0 {
		return fmt.Sprintf("%s/%d#%d", region, epoch, seq)
	}
	return fmt.Sprintf("%s#%d", region, seq)
}
