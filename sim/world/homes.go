package world

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/spec"
	"github.com/atolldb/atoll/region"
)

// homeNamespace has a home, in plans with homes. Its keys begin with homed, so that no two namespaces have the same.
const (
	homeNamespace = "homed"
	homed         = "@"
	homeKeys      = 3
)

// atHome reports whether a key is one whose namespace has a home.
func atHome(key string) bool { return strings.HasPrefix(key, homed) }

func namespaceOf(key string) string {
	if atHome(key) {
		return homeNamespace
	}
	return namespace
}

// firstHome is the region that the configuration says is the home.
func (w *World) firstHome() *site { return w.sites[w.plan.FirstHome] }

// isFirstHome reports whether a region is the home as long as there was no other.
func (s *site) isFirstHome() bool { return s == s.w.firstHome() }

// knowsHomes reports whether clients of a region know already that the namespace has a home.
func (s *site) knowsHomes() bool {
	return s.w.now >= s.w.plan.Unhomed*time.Duration(1+s.index%3)/3
}

// clientAtHome has a client read or write what has a home: mostly there.
func (w *World) clientAtHome(h *Happening) {
	if !w.plan.Homes {
		return
	}
	s, rng := w.sites[h.Site], rand.New(rand.NewPCG(h.Draw, 3))
	a := &homeWrite{w: w, by: s, partition: h.Partition, tries: 4, strays: rng.IntN(4) == 0}
	if rng.IntN(6) == 0 {
		a.target().groups[h.Partition].readHome()
		return
	}
	a.ops = []operation{w.homeOperation(rng, h.Partition)}
	if a.ops[0].Condition.Kind == replica.CondNone && rng.IntN(4) == 0 {
		a.ops = append(a.ops, w.homeOperation(rng, h.Partition))
		a.ops[1].Condition = replica.Condition{}
	}
	if rng.IntN(3) == 0 {
		a.opID = fmt.Sprintf("h%x", h.Draw)
	}
	a.do()
	if rng.IntN(4) == 0 { // the same at once, somewhere
		twin := *a
		twin.ops, twin.by = slices.Clone(a.ops), w.sites[rng.IntN(len(w.sites))]
		if !s.knowsHomes() || !twin.by.knowsHomes() { // each region does what it is asked to then
			twin.opID = ""
		}
		twin.do()
	}
}

// homeOperation draws a put or a delete, under a condition that mostly holds, or none.
func (w *World) homeOperation(rng *rand.Rand, p int) operation {
	key := fmt.Sprint(homed, rng.IntN(homeKeys))
	o := operation{Op: replica.Op{Namespace: homeNamespace, Key: key, Kind: replica.OpPut, Value: fmt.Appendf(nil, "v%d", rng.IntN(1000))}}
	o.id, o.event = valueID{key, "", crdt.TypeLWWRegister}, spec.Event{Of: crdt.TypeLWWRegister, Names: []string{""}, Values: []string{string(o.Value)}}
	if rng.IntN(6) == 0 {
		o.Kind, o.Type, o.Value = replica.OpDelete, crdt.TypeLWWRegister, nil
		o.id, o.event = valueID{}, spec.Event{}
	}
	now := w.ledger.homes[p].copyOf(key).now
	switch kind := replica.ConditionKind(rng.IntN(8)); kind {
	case replica.CondAbsent, replica.CondPresent:
		o.Condition.Kind = kind
	case replica.CondVersion, replica.CondValue:
		if o.Condition.Kind = kind; present(now) && rng.IntN(5) > 0 {
			o.Condition.Value, o.Condition.Version = []byte(now.Values[0]), versionOf(now)
		} else {
			o.Condition.Value, o.Condition.Version = []byte("v1"), versionOf(&spec.Event{Time: 1, Actor: 1})
		}
	}
	return o
}

// homeWrite is what a client wants written, where it thinks the home is.
type homeWrite struct {
	w         *World
	by        *site
	partition int
	ops       []operation
	opID      string
	tries     int
	// strays says that the client asks the region that it is in, wherever the home is.
	strays bool
}

// target is the region that the client asks: its own, or the home as far as that knows.
func (a *homeWrite) target() *site {
	if a.strays || !a.by.knowsHomes() {
		return a.by
	}
	if g := a.by.groups[a.partition]; g.leader != nil {
		if home, epoch, _ := g.leader.machine.View().Home(homeNamespace); epoch > 0 {
			return a.w.sites[home-1]
		}
	}
	return a.w.firstHome()
}

// do writes, and again with the same id while the outcome is unknown, wherever the home is by then.
func (a *homeWrite) do() {
	w, s := a.w, a.target()
	g := s.groups[a.partition]
	if g.leader == nil {
		w.counts.Unavailable++
		return
	}
	plain := make([]replica.Op, len(a.ops))
	for i := range a.ops {
		plain[i] = a.ops[i].Op
	}
	knows := a.by.knowsHomes()
	command, err := g.leader.steps.Write(a.opID, plain)
	if knows {
		command, err = g.leader.steps.WriteHome(a.opID, plain, s.isFirstHome())
	}
	if errors.Is(err, region.ErrFenced) {
		w.counts.Unavailable++
		return
	}
	if err != nil {
		w.fail("a leader takes writes", "%v: %v", s, err)
		return
	}
	s.checkTakesWrites()
	if w.tell != nil {
		w.mention("%v, for a home: %s%s", s, describe(a.ops), a.opID)
	}
	g.propose(&request{command: command, ops: a.ops, opID: a.opID, done: func(v verdict, r region.StepResult) {
		again := v == notDone || v != done && a.opID != ""
		if a.tries--; again && a.tries > 0 {
			w.after(w.between1to5ms()*10, func() {
				if a.by.knowsHomes() == knows {
					a.do()
				}
			})
		}
	}})
}

// homesAgain has every region write once more, where the homes are, and moves each home.
func (w *World) homesAgain() {
	w.say("the homes are written to, and move, once more")
	rng := rand.New(rand.NewPCG(w.plan.Seed, 0x40e6))
	var moves []*homeMove
	for p := range w.plan.Partitions {
		var living []*site
		for _, s := range w.sites {
			if s.in() {
				living = append(living, s)
			}
		}
		m := &homeMove{w: w, by: living[rng.IntN(len(living))], to: living[rng.IntN(len(living))], partition: p, tries: 200, must: true}
		m.start()
		moves = append(moves, m)
	}
	began := w.now
	for w.failure == nil && slices.ContainsFunc(moves, func(m *homeMove) bool { return !m.over() }) {
		w.run(w.now + tryEvery)
		if w.now-began > homesMove {
			w.fail("homes can be moved", "not within %v: %s", homesMove, moves[0].why)
		}
	}
	for i := range 2 * len(w.sites) {
		s := w.sites[i%len(w.sites)]
		for p := range w.plan.Partitions {
			w.clientAtHome(&Happening{Site: s.index, Partition: p, Draw: rng.Uint64()})
		}
		w.run(w.now + 20*time.Millisecond)
	}
}
