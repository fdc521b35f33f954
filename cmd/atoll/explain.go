package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func newExplain(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain KEY",
		Short: "Show per region what made a key's value",
		Long: "Ask every region what made the key's value there: the write that won a register, each region's part\n" +
			"of a counter, the adds that keep each member in a set. An event is written REGION#NUMBER. It also\n" +
			"says whether the regions agree, and names values that lost against concurrent ones. Exit code 3 if no region has the key, 5 if one does not answer.",
		Example: `  atoll explain visits
  atoll explain greeting -o json
  atoll explain fruit --region ap`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answers, err := askRegions(cmd.Context(), a, func(ctx context.Context, c *client.Client) (*atollv1.ExplainResponse, error) {
				return c.Explain(ctx, args[0])
			})
			if err != nil {
				return err
			}
			if err := a.explained(args[0], answers); err != nil {
				return err
			}
			if err := unanswered(answers); err != nil {
				return err
			}
			if !slices.ContainsFunc(answers, func(x answer[*atollv1.ExplainResponse]) bool { return len(x.value.GetObjects()) > 0 }) {
				return &codeError{fmt.Errorf("no region has the key %q", args[0]), exitNotFound}
			}
			return nil
		},
	}
}

type explanation struct {
	Key     string                     `json:"key"`
	Agree   bool                       `json:"agree"`
	Regions map[string]json.RawMessage `json:"regions"`
	Errors  map[string]string          `json:"errors,omitempty"`
}

func (a *app) explained(key string, answers []answer[*atollv1.ExplainResponse]) error {
	out := explanation{Key: key, Agree: agree(answers), Regions: map[string]json.RawMessage{}, Errors: map[string]string{}}
	t := &grid{
		title:  "key " + printable([]byte(key), 200),
		header: []string{"REGION", "TYPE", "VALUE", "MADE BY", "AT"},
		note:   verdict(out.Agree, answers),
	}
	for _, ans := range answers {
		if ans.err != nil {
			out.Errors[ans.region] = ans.err.Error()
			t.add(ans.region, "?", printable([]byte(ans.err.Error()), 80), "", "")
			continue
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(ans.value)
		if err != nil {
			return err
		}
		out.Regions[ans.region] = text
		t.rows = append(t.rows, explainRows(ans.region, ans.value)...)
	}
	return a.tables(out, t)
}

func verdict(agreed bool, answers []answer[*atollv1.ExplainResponse]) string {
	answered := 0
	for _, ans := range answers {
		if ans.err == nil {
			answered++
		}
	}
	switch {
	case answered == 0:
		return ""
	case agreed && answered == 1:
		return "only one region answered"
	case agreed:
		return fmt.Sprintf("all %d regions that answered agree", answered)
	default:
		return "the regions differ: events are still on their way (atoll status shows the lag)"
	}
}

func explainRows(region string, r *atollv1.ExplainResponse) [][]string {
	var rows [][]string
	if len(r.GetObjects()) == 0 {
		rows = append(rows, []string{region, "-", "absent", "", ""})
	}
	for _, o := range r.GetObjects() {
		switch d := o.GetDetail().(type) {
		case *atollv1.ExplainedObject_Register:
			rows = append(rows, registerRow(region, d.Register))
		case *atollv1.ExplainedObject_Counter:
			rows = append(rows, counterRows(region, d.Counter)...)
		case *atollv1.ExplainedObject_Set:
			rows = append(rows, setRows(region, d.Set)...)
		case *atollv1.ExplainedObject_Parts:
			rows = append(rows, partRows(region, client.Type(o.GetType()).String(), d.Parts)...)
		default:
			rows = append(rows, []string{region, client.Type(o.GetType()).String(), "absent", "", ""})
		}
		if d := o.GetDeadline(); d != nil {
			rows = append(rows, deadlineRow(d))
		}
	}
	return append(rows, loserRows(region, r.GetLosers())...)
}

// deadlineRow shows when a value expires; a deadline that says nothing any more is in brackets.
func deadlineRow(d *atollv1.ExplainDeadline) []string {
	text := "[expiry taken away]"
	if d.GetExpiresHlc() > 0 {
		text = "expires " + hlcTime(d.GetExpiresHlc())
	}
	return []string{"", "", "  " + text, event(d.GetEvent()), hlcText(d.GetEvent().GetHlc())}
}

func registerRow(region string, r *atollv1.ExplainRegister) []string {
	value := printable(r.GetValue(), 60)
	switch {
	case r.GetDeleted():
		value = "deleted"
	case r.GetExpiresHlc() > 0:
		value += " (expires " + hlcTime(r.GetExpiresHlc()) + ")"
	}
	return []string{region, "register", value, event(r.GetWinner()), hlcText(r.GetWinner().GetHlc())}
}

func counterRows(region string, c *atollv1.ExplainCounter) [][]string {
	rows := [][]string{{region, "counter", strconv.FormatInt(c.GetValue(), 10), "", ""}}
	for _, p := range c.GetParts() {
		part := fmt.Sprintf("  %+d", p.GetEffective())
		if p.GetReset_() != 0 {
			part += fmt.Sprintf(" (%d, reset at %d)", p.GetSum(), p.GetReset_())
		}
		rows = append(rows, []string{"", "", part, event(p.GetLast()), hlcText(p.GetLast().GetHlc())})
	}
	return rows
}

func setRows(region string, s *atollv1.ExplainSet) [][]string {
	rows := [][]string{{region, "set", fmt.Sprintf("%d members", s.GetSize()), "", ""}}
	for _, e := range s.GetElements() {
		rows = append(rows, []string{"", "", "  " + printable(e.GetElement(), 60), events(e.GetDots()), ""})
	}
	if more := s.GetSize() - uint64(len(s.GetElements())); more > 0 {
		rows = append(rows, []string{"", "", fmt.Sprintf("  and %d more", more), "", ""})
	}
	return rows
}

// partRows shows the parts of any other value; what readers do not see is in brackets.
func partRows(region, kind string, p *atollv1.ExplainParts) [][]string {
	rows := [][]string{{region, kind, fmt.Sprintf("%d parts", p.GetSize()), "", ""}}
	for _, part := range p.GetParts() {
		text := part.GetValue()
		if len(part.GetName()) > 0 {
			text = printable(part.GetName(), 60) + ": " + text
		}
		if part.GetHidden() {
			text = "[" + text + "]"
		}
		at := ""
		if events := part.GetEvents(); len(events) > 0 {
			at = hlcText(events[0].GetHlc())
		}
		rows = append(rows, []string{"", "", "  " + text, events(part.GetEvents()), at})
	}
	if more := p.GetSize() - uint64(len(p.GetParts())); more > 0 {
		rows = append(rows, []string{"", "", fmt.Sprintf("  and %d more", more), "", ""})
	}
	return rows
}

// events names events in their order.
func events(all []*atollv1.Event) string {
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = event(e)
	}
	return strings.Join(names, " ")
}

func event(e *atollv1.Event) string {
	if e == nil {
		return ""
	}
	if e.GetSeq() == 0 { // only known by its region and time
		return strings.TrimSuffix(eventName(e.GetRegion(), e.GetEpoch(), 0), "#0")
	}
	return eventName(e.GetRegion(), e.GetEpoch(), e.GetSeq())
}

// hlcText shows a hybrid logical clock as its wall time, the counter behind it, and its bits.
func hlcText(t uint64) string {
	if t == 0 {
		return ""
	}
	return fmt.Sprintf("%s+%d (%x)", hlcTime(t), t&0xffff, t)
}

func hlcTime(t uint64) string {
	return time.UnixMilli(int64(t >> 16)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// agree reports whether all regions that answered hold the same, made by the same events.
func agree(answers []answer[*atollv1.ExplainResponse]) bool {
	var first string
	seen := false
	for _, ans := range answers {
		if ans.err != nil {
			continue
		}
		state := essence(ans.value)
		if seen && state != first {
			return false
		}
		first, seen = state, true
	}
	return true
}

// essence leaves out what may differ between regions that hold the same: versions, which name the
// last event applied there, and the order of parts.
func essence(r *atollv1.ExplainResponse) string {
	var lines []string
	for _, o := range r.GetObjects() {
		if d := o.GetDeadline(); d.GetExpiresHlc() > 0 {
			lines = append(lines, fmt.Sprint("deadline ", o.GetType(), event(d.GetEvent()), d.GetExpiresHlc()))
		}
		switch d := o.GetDetail().(type) {
		case *atollv1.ExplainedObject_Register:
			reg := d.Register
			lines = append(lines, fmt.Sprint("register ", event(reg.GetWinner()), reg.GetWinner().GetHlc(), reg.GetDeleted(), reg.GetExpiresHlc(), hex.EncodeToString(reg.GetValue())))
		case *atollv1.ExplainedObject_Counter:
			lines = append(lines, fmt.Sprint("counter ", d.Counter.GetValue()))
			for _, p := range d.Counter.GetParts() {
				lines = append(lines, fmt.Sprint("part ", event(p.GetLast()), p.GetSum(), p.GetReset_(), p.GetEffective()))
			}
		case *atollv1.ExplainedObject_Set:
			lines = append(lines, fmt.Sprint("set ", d.Set.GetSize()))
			for _, e := range d.Set.GetElements() {
				dots := make([]string, 0, len(e.GetDots()))
				for _, dot := range e.GetDots() {
					dots = append(dots, event(dot))
				}
				slices.SortFunc(dots, cmp.Compare)
				lines = append(lines, fmt.Sprint("element ", hex.EncodeToString(e.GetElement()), dots))
			}
		case *atollv1.ExplainedObject_Parts:
			for _, p := range d.Parts.GetParts() {
				if !p.GetHidden() {
					lines = append(lines, fmt.Sprint(o.GetType(), " ", hex.EncodeToString(p.GetName()), p.GetValue(), events(p.GetEvents())))
				}
			}
		}
	}
	slices.SortFunc(lines, cmp.Compare)
	return strings.Join(lines, "\n")
}
