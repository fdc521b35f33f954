package membership

import (
	"fmt"
	"strings"

	"github.com/atolldb/atoll/topology"
)

// Step is one thing that will happen, in order.
type Step struct {
	// Who has to do it; empty means the majority that decides.
	Who  RegionSet
	What string
}

// Loss says how many acknowledged writes can be missing for good afterwards.
type Loss struct {
	// Known means that at most AtMost operations are lost. If it is not known, nobody can tell.
	Known  bool
	AtMost uint64
	// Why explains the figure.
	Why string
}

// Plan is what a command would lead to.
type Plan struct {
	Command Command
	// Epoch is the membership that the plan was made for. Another one may give another plan.
	Epoch uint64
	// Refusal is why the command would do nothing, a *RefusedError; nil if it would be taken.
	Refusal error
	// Done means that the command has been carried out already, or is being.
	Done     bool
	Steps    []Step
	Loss     Loss
	Warnings []string
}

// Knowledge is what whoever plans knows beside the state.
type Knowledge struct {
	// Unshipped says, of regions of which that is known, how many operations they have acknowledged
	// that some other living member may lack.
	Unshipped map[topology.RegionID]uint64
	// Reachable are the regions that answer now, if Asked; Witness means that the witness does.
	Asked, Witness bool
	Reachable      RegionSet
}

// Plan returns what a command would lead to in this state. It changes nothing.
func (s *State) Plan(c Command, k Knowledge) Plan {
	p := Plan{Command: c, Epoch: s.Epoch, Loss: Loss{Known: true, Why: "nothing is given up"}}
	next, err := s.Apply(c)
	if err != nil {
		p.Refusal = err
		return p
	}
	p.Done = next == s
	s.warnOfMajority(&p, k)
	switch c.Kind {
	case Add, Rejoin:
		s.planJoin(&p, next)
	case Drain:
		s.planDrain(&p, next)
	case Fence, SelfFence:
		s.planFence(&p, next, k)
	case Remove:
		p.step(0, "%s is struck off, and its voter with it; its id and its name stay taken", next.names(SetOf(c.Region)))
	case Declare:
		s.planDeclare(&p, next, k)
	case NameHeir:
		s.planHeir(&p, next)
	case Found, AckMember, Join, ReportVector, Close, Drained:
		p.step(0, "the command is recorded")
	}
	return p
}

func (p *Plan) step(who RegionSet, format string, args ...any) {
	p.Steps = append(p.Steps, Step{who, fmt.Sprintf(format, args...)})
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// warnOfMajority says if too few voters answer for anything to be decided.
func (s *State) warnOfMajority(p *Plan, k Knowledge) {
	if !k.Asked || p.Command.Kind == Declare {
		return
	}
	voters, answer := s.Voters().Len(), (s.Voters() & k.Reachable).Len()
	if s.Witness.Name != "" {
		voters++
		if k.Witness {
			answer++
		}
	}
	if 2*answer > voters {
		return
	}
	p.warn("only %d of %d voters answer: nothing is decided before a majority does", answer, voters)
	if voters <= 2 {
		p.warn("with two regions neither is a majority: let a witness vote, or, if the other region is dead for good, override by hand")
	}
}

func (s *State) planJoin(p *Plan, next *State) {
	id := p.Command.Region
	p.step(0, "%s joins under epoch %d; it takes no writes yet", next.names(SetOf(id)), p.Command.Epoch)
	p.step(next.Region(id).Awaiting, "wait for it: their garbage collection stands still and their outboxes keep what it may need, and each confirms that")
	p.step(SetOf(id), "copies a donor's state, taken after the last of them has confirmed")
	p.step(SetOf(id), "catches up, has what it wrote under earlier epochs, and takes writes")
	if missing := next.Region(id).Awaiting; missing.Len() > 0 {
		p.warn("it cannot finish while one of %s is away", next.names(missing))
	}
}

func (s *State) planDrain(p *Plan, next *State) {
	id := p.Command.Region
	p.step(0, "%s stops writing; it still serves reads", next.names(SetOf(id)))
	p.step(next.Living(), "report how far they have what the region wrote; its own last events are the cut")
	p.step(next.Living().Minus(SetOf(id)), "fetch what they lack up to the cut, and confirm that")
	p.step(0, "%s is closed; nothing waits for it", next.names(SetOf(id)))
	p.warn("writes that one node alone has acknowledged, and no partition has taken yet, stay with that node: let the queues of local writes run empty first")
	p.Loss.Why = "the region tells itself how far it wrote, and stays until everybody has all of it"
}

func (s *State) planFence(p *Plan, next *State, k Knowledge) {
	id := p.Command.Region
	p.planClosing(next, SetOf(id))
	if p.Done {
		return
	}
	p.Loss = s.lossOf(SetOf(id), k)
	if k.Asked && k.Reachable.Has(id) {
		p.warn("%s answers: drain it instead, and nothing is lost", next.names(SetOf(id)))
	}
}

func (s *State) planHeir(p *Plan, next *State) {
	r, heir := s.Region(p.Command.Region), SetOf(p.Command.Member)
	p.step(0, "%s is the heir of %s, epoch %d: what was the home of a namespace there is taken over by it, and by nobody else, also not by %s when it comes back",
		s.names(heir), r.Name, p.Command.Epoch, r.Name)
	p.step(heir, "takes the homes over when it is told to, for each namespace: atoll namespace move-home NAMESPACE --to %s", s.names(heir))
	if r.State == Fenced {
		p.warn("%s is not closed yet: it is taken over from once all others have what counts of it", r.Name)
	}
	if last, _ := next.Successor(r.ID, p.Command.Epoch); last != p.Command.Member {
		p.warn("%s was given up meanwhile, and what it inherited goes to %s", s.names(heir), s.names(SetOf(last)))
	}
	p.Loss.Why = "what is lost was decided when the region was given up"
}

func (p *Plan) planClosing(next *State, ids RegionSet) {
	p.step(0, "%s: fenced; from each partition's next entry on, no more events from there are merged", next.names(ids))
	p.step(next.Living(), "report how far they have what was written there")
	p.step(0, "the most that anybody has is the cut; what lies beyond it is refused for ever")
	p.step(next.Living(), "fetch what they lack up to the cut, and confirm that")
	p.step(0, "nothing waits for %s any more; to come back takes a higher epoch", next.names(ids))
	for i := range next.Regions {
		r := &next.Regions[i]
		for j := range r.Actors {
			if a := &r.Actors[j]; a.closing() && a.Round == next.Epoch && !ids.Has(r.ID) {
				p.warn("the closing of %s, epoch %d, begins again: one of its members is given up", r.Name, a.Epoch)
			}
		}
	}
}

func (s *State) planDeclare(p *Plan, next *State, k Knowledge) {
	dead := p.Command.Dead
	p.step(0, "the votes of %s are struck off without a majority, and that is recorded for good", next.names(dead))
	p.planClosing(next, dead)
	p.Loss = s.lossOf(dead&s.Living(), k)
	if name := s.Witness.Name; name != "" {
		p.warn("%s votes no more, and must not run again: with one of the dead it would be a majority", name)
	}
	p.warn("if one of these regions lives and does the same, there are two deployments that must never meet: nothing detects that while they are apart")
	if answering := dead & k.Reachable; answering != 0 {
		p.warn("not dead, for they answer: %s", next.names(answering))
	}
}

// lossOf returns what is lost at most when regions are given up.
func (s *State) lossOf(ids RegionSet, k Knowledge) Loss {
	l := Loss{Known: true, Why: "what the regions have acknowledged and nobody else has"}
	for id := range ids.All() {
		n, known := k.Unshipped[id]
		if !known {
			return Loss{Why: fmt.Sprintf("nobody here knows how far %s wrote; at most everything that it acknowledged since it was last heard of", s.names(SetOf(id)))}
		}
		l.AtMost += n
	}
	return l
}

// names lists regions as people call them.
func (s *State) names(ids RegionSet) string {
	var names []string
	for id := range ids.All() {
		name := fmt.Sprint("region ", id)
		if r := s.Region(id); r != nil {
			name = r.Name
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
