package membership

import (
	"strings"
	"testing"

	"github.com/atolldb/atoll/topology"
)

func (p *Plan) text() string {
	var b strings.Builder
	for _, s := range p.Steps {
		b.WriteString(s.What + "\n")
	}
	return b.String() + strings.Join(p.Warnings, "\n")
}

func TestPlansSayWhatIsLost(t *testing.T) {
	s := founded(t, 3)
	known := Knowledge{Unshipped: map[topology.RegionID]uint64{3: 17}}
	p := s.Plan(FenceCommand(3, 0, ""), known)
	if !p.Loss.Known || p.Loss.AtMost != 17 || p.Refusal != nil || len(p.Steps) < 4 {
		t.Errorf("a fence with a known tail: %+v", p)
	}
	if p := s.Plan(FenceCommand(3, 0, ""), Knowledge{}); p.Loss.Known || p.Loss.Why == "" {
		t.Errorf("a fence with an unknown tail: %+v", p.Loss)
	}
	if p := s.Plan(DrainCommand(3, 0), Knowledge{}); !p.Loss.Known || p.Loss.AtMost != 0 {
		t.Errorf("a drain loses %+v", p.Loss)
	}
	if s.Epoch != 1 {
		t.Error("planning has changed something")
	}
}

func TestPlansRefuseAndWarn(t *testing.T) {
	two := founded(t, 2)
	asked := Knowledge{Asked: true, Reachable: SetOf(1)}
	p := two.Plan(FenceCommand(2, 0, ""), asked)
	if !strings.Contains(p.text(), "1 of 2 voters") || !strings.Contains(p.text(), "witness") {
		t.Errorf("a fence without a majority:\n%s", p.text())
	}
	asked.Reachable = SetOf(1, 2)
	if p := two.Plan(FenceCommand(2, 0, ""), asked); !strings.Contains(p.text(), "drain it instead") {
		t.Errorf("a fence of a region that answers:\n%s", p.text())
	}
	if p := two.Plan(DeclareCommand(SetOf(2), 1, ""), asked); !strings.Contains(p.text(), "never meet") || !strings.Contains(p.text(), "not dead") {
		t.Errorf("a declaration:\n%s", p.text())
	}
	drained := apply(t, two, DrainCommand(2, 0))
	if p := drained.Plan(FenceCommand(1, 0, ""), Knowledge{}); p.Refusal == nil || len(p.Steps) > 0 {
		t.Errorf("the last region: %+v", p)
	}
	if p := drained.Plan(DrainCommand(2, 0), Knowledge{}); !p.Done {
		t.Error("a drain that is under way is not done")
	}
	three := apply(t, founded(t, 3), FenceCommand(3, 0, ""))
	if p := three.Plan(FenceCommand(2, 0, ""), Knowledge{}); !strings.Contains(p.text(), "begins again") {
		t.Errorf("a second fence:\n%s", p.text())
	}
	if p := three.Plan(AddCommand(9, 0, "n", ""), Knowledge{}); !strings.Contains(p.text(), "cannot finish while one of a, b is away") {
		t.Errorf("adding:\n%s", p.text())
	}
}
