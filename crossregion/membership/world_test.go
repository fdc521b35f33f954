package membership

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// The world: regions with a few partitions each, that write, merge, collect garbage and trim outboxes by
// the facts that their partitions have taken over, and a log of commands that grows where a majority of
// the voters is together. Links break into groups, commands are lost and repeated, regions crash, are
// given up while they write on, lose their last events, and come back. After every step it is checked
// that nothing was lost that was to be kept (invariants_test.go). Chance has a seed.

var schedules = flag.Int("schedules", 1500, "how many worlds to run")

const (
	worldPartitions = 2
	worldSteps      = 900
	worldHealing    = 15000
)

type dot struct {
	actor crdt.Actor
	p     int
	seq   uint64
}

// part is one partition of one region.
type part struct {
	facts   Facts
	applied map[crdt.Actor]uint64 // the version vector
	at      map[crdt.Actor]uint64 // the instant of each actor's last event
	last    uint64                // the latest instant issued or merged
	cut     uint64                // everything up to here was collected
	trimmed uint64                // own events up to here have left the outbox
	marks   map[topology.RegionID]uint64
	old     *part // a copy of the disk
}

func newPart() *part {
	return &part{applied: map[crdt.Actor]uint64{}, at: map[crdt.Actor]uint64{}, marks: map[topology.RegionID]uint64{}}
}

// clone copies what a transfer of state carries.
func (q *part) clone() *part {
	return &part{facts: q.facts, applied: maps.Clone(q.applied), at: maps.Clone(q.at), last: q.last, cut: q.cut}
}

type member struct {
	id    topology.RegionID
	epoch topology.Epoch
	up    bool
	// ahead means that others know more of it than it does.
	ahead bool
	group int
	log   [][]byte
	state *State
	parts []*part
	// copying is a donor's state on its way.
	copying *transfer
	copied  bool
	donor   topology.RegionID
	since   uint64
}

type transfer struct {
	donor topology.RegionID
	parts []*part
	since uint64
}

func (m *member) actor() crdt.Actor { return topology.Actor(m.id, m.epoch) }

func (m *member) taken() uint64 {
	taken := m.parts[0].facts.Epoch
	for _, q := range m.parts {
		taken = min(taken, q.facts.Epoch)
	}
	return taken
}

func (m *member) vector(a crdt.Actor) []uint64 {
	v := make([]uint64, len(m.parts))
	for i, q := range m.parts {
		v[i] = q.applied[a]
	}
	return v
}

// rules are what a mutant changes.
type rules struct {
	apply    func(*State, Command) (*State, error)
	admits   func(*Facts, crdt.Actor, uint64) bool
	majority func(answer, voters int) bool
	mayCopy  func(*State, topology.RegionID) bool
	// over reports whether an actor, of which so much is applied, is over for who takes over its homes.
	over func(*Fact, uint64) bool
}

func soundRules() rules {
	return rules{
		apply:    (*State).Apply,
		admits:   (*Facts).Admits,
		majority: func(answer, voters int) bool { return 2*answer > voters },
		mayCopy:  func(s *State, id topology.RegionID) bool { return s.MayCopy(id) == nil },
		over:     func(f *Fact, applied uint64) bool { return f.State == ActorClosed && f.Released && applied >= f.Cut },
	}
}

type world struct {
	rng     *rand.Rand
	rules   rules
	members []*member
	events  map[dot]uint64 // instants
	delayed []Command
	healing bool
	story   []string
	fault   string
	// newest is the state of the longest log.
	newest *State
	kinds  map[Kind]int
	homes  []homeChange
	taken  int
}

func newWorld(seed uint64, r rules) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), rules: r, events: map[dot]uint64{}, kinds: map[Kind]int{}, newest: &State{}}
	founders := 3 + w.rng.IntN(2)
	found := Command{Kind: Found, Name: "w", Round: worldPartitions}
	for id := range topology.RegionID(5) {
		m := &member{id: id + 1, up: int(id) < founders, state: &State{}}
		m.wipe(0)
		w.members = append(w.members, m)
		if m.up {
			found.Founding = append(found.Founding, FoundingRegion{ID: m.id, Name: fmt.Sprint("r", m.id)})
		}
	}
	w.commit(w.members[0], found)
	for _, m := range w.members {
		m.copied = m.up
	}
	return w
}

func (m *member) wipe(e topology.Epoch) {
	m.epoch, m.copied, m.copying, m.ahead, m.parts = e, false, nil, false, nil
	for range worldPartitions {
		m.parts = append(m.parts, newPart())
	}
}

func (w *world) chance(oneIn int) bool { return w.rng.IntN(oneIn) == 0 }

func (w *world) say(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

func (w *world) violate(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
		w.say("VIOLATED: %s", w.fault)
	}
}

func (w *world) any() *member { return w.members[w.rng.IntN(len(w.members))] }

func (w *world) together(a, b *member) bool { return a.up && b.up && a.group == b.group }

// learn has a member apply what a log has beyond its own.
func (w *world) learn(m *member, log [][]byte) {
	for _, data := range log[len(m.log):] {
		c, err := DecodeCommand(data)
		if err != nil {
			w.violate("decode %x: %v", data, err)
			return
		}
		next, err := w.rules.apply(m.state, c)
		var refused *RefusedError
		if err != nil && !errors.As(err, &refused) {
			w.violate("apply %v: %v", c.Kind, err)
		}
		w.checkStep(m.state, next, c)
		m.state = next
		m.log = append(m.log, data)
	}
	if m.state.Epoch > w.newest.Epoch {
		w.newest = m.state
	}
	if r := m.state.Region(m.id); r != nil && r.State == Joining && r.Actor().Epoch > m.epoch {
		w.say("region %d begins anew under epoch %d", m.id, r.Actor().Epoch)
		m.wipe(r.Actor().Epoch)
	}
}

// commit has a command written to the logs of those together, if they are a majority.
func (w *world) commit(by *member, c Command) bool {
	var group []*member
	longest := by
	for _, m := range w.members {
		if w.together(m, by) {
			group = append(group, m)
			if len(m.log) > len(longest.log) {
				longest = m
			}
		}
	}
	voters, founding := longest.state.Voters(), !longest.state.Founded()
	if founding {
		voters = SetOf(1, 2, 3)
	}
	answer := 0
	for _, m := range group {
		if voters.Has(m.id) {
			answer++
		}
	}
	if !w.rules.majority(answer, voters.Len()) {
		return false
	}
	log := append(slices.Clip(longest.log), c.Encode())
	for _, m := range group { // a majority, and by chance others
		if voters.Has(m.id) || founding || w.chance(2) {
			w.learn(m, log)
		}
	}
	w.kinds[c.Kind]++
	return true
}

// propose is commit over a link that loses commands, and repeats them.
func (w *world) propose(by *member, c Command) {
	if !by.up || w.chance(5) && !w.healing {
		return
	}
	before := by.state.Epoch
	ok := w.commit(by, c)
	if ok && by.state.Epoch > before {
		w.say("region %d: %v region %d epoch %d member %d round %d -> membership %d",
			by.id, c.Kind, c.Region, c.Epoch, c.Member, c.Round, by.state.Epoch)
	}
	if w.chance(4) && len(w.delayed) < 32 {
		w.delayed = append(w.delayed, c)
	}
}

func (w *world) step() {
	m := w.any()
	p := w.rng.IntN(worldPartitions)
	switch w.rng.IntN(18) {
	case 0, 1, 2:
		w.write(m, p)
	case 3, 4, 5, 6:
		w.merge(m, w.any(), p)
	case 7:
		w.collect(m, p)
	case 8:
		w.acknowledge(m, w.any(), p)
	case 9:
		w.gossip(m, w.any())
	case 10:
		w.take(m, p)
	case 11, 12:
		w.duty(m)
	case 13:
		w.copy(m, w.any())
	case 14:
		w.again(m)
	case 15:
		if !w.healing {
			w.trouble(m)
		}
	case 16, 17:
		w.home(m, w.any(), p)
	}
}

// gossip has a member that is behind in the log catch up from another.
func (w *world) gossip(m, from *member) {
	if w.together(m, from) && len(from.log) > len(m.log) {
		w.learn(m, from.log[:len(m.log)+1+w.rng.IntN(len(from.log)-len(m.log))])
	}
}

// take has a partition take over the facts of the membership that its region knows.
func (w *world) take(m *member, p int) {
	q := m.parts[p]
	if !m.up || m.state.Region(m.id) == nil || m.state.Epoch <= q.facts.Epoch {
		return
	}
	before := q.facts
	q.facts = m.state.FactsOf(topology.PartitionID(p))
	for _, f := range q.facts.Facts {
		if _, known := before.fact(topology.Actor(f.Region, f.Epoch)); !known && f.Destination {
			delete(q.marks, f.Region)
		}
	}
}

// duty has a member do what it owes.
func (w *world) duty(m *member) {
	if !m.up {
		return
	}
	local := Local{Taken: m.taken(), Applied: m.vector}
	owed := m.state.Duties(m.id, m.epoch, local)
	if r := m.state.Region(m.id); m.copied && r != nil && r.State == Joining && r.Actor().Epoch == m.epoch {
		owed = append(owed, JoinCommand(m.id, m.epoch, m.donor, m.since))
	}
	if m.ahead {
		owed = append(owed, SelfFenceCommand(m.id, m.epoch, 0))
	}
	if len(owed) > 0 {
		w.propose(m, owed[w.rng.IntN(len(owed))])
	}
}

// again has a command come once more, late.
func (w *world) again(m *member) {
	if n := len(w.delayed); n > 0 {
		i := w.rng.IntN(n)
		c := w.delayed[i]
		w.delayed = slices.Delete(w.delayed, i, i+1)
		if m.up {
			w.commit(m, c)
		}
	}
}

// trouble is what the world and operators do.
func (w *world) trouble(m *member) {
	about := w.any()
	switch w.rng.IntN(2) {
	case 0:
		w.accident(about)
	case 1:
		w.operate(m, about)
	}
}

func (w *world) accident(about *member) {
	switch w.rng.IntN(6) {
	case 0: // links break into groups
		for _, m := range w.members {
			m.group = w.rng.IntN(2)
		}
		w.say("links break: %v", w.groups())
	case 1, 2:
		for _, m := range w.members {
			m.group = 0
		}
	case 3:
		about.up = w.chance(2) || !about.up
	case 4:
		w.loseTail(about)
	case 5:
		for _, m := range w.members {
			m.up = m.up || w.newest.Region(m.id) != nil
		}
	}
}

func (w *world) operate(m, about *member) {
	r := m.state.Region(about.id)
	switch w.rng.IntN(8) {
	case 6, 7:
		w.nameHeir(m, about)
	case 0, 1:
		if r == nil {
			about.up = true
			w.propose(m, AddCommand(about.id, 0, fmt.Sprint("r", about.id), "x:1"))
		} else if !r.living() {
			about.up = true
			w.propose(m, RejoinCommand(about.id, r.Actor().Epoch+1, ""))
		}
	case 2:
		if r != nil {
			w.propose(m, DrainCommand(about.id, r.Actor().Epoch))
		}
	case 3, 4:
		if r != nil {
			w.propose(m, FenceCommand(about.id, r.Actor().Epoch, "lost"))
		}
	case 5:
		if r != nil {
			w.propose(m, RemoveCommand(about.id, r.Actor().Epoch))
		}
	}
}

func (w *world) groups() string {
	var b strings.Builder
	for _, m := range w.members {
		fmt.Fprintf(&b, "%d in %d, ", m.id, m.group)
	}
	return b.String()
}

// heal mends what is broken, gives up what is lost, and has everybody do what is owed.
func (w *world) heal() {
	w.healing = true
	w.say("everything heals")
	for _, m := range w.members {
		m.group = 0
		m.up = m.up || w.newest.Region(m.id) != nil
	}
	for since, at := 0, w.newest.Epoch; since < worldHealing && w.fault == "" && !w.settled(); since++ {
		w.step()
		w.check()
		if w.newest.Epoch != at {
			since, at = 0, w.newest.Epoch
		}
	}
	if w.fault == "" && !w.settled() {
		w.violate("after everything healed, something still waits: %s", w.describe())
	}
}

// settled reports whether nothing is under way in the newest membership.
func (w *world) settled() bool {
	for _, m := range w.members {
		if m.ahead && w.newest.Writing() == bit(m.id) {
			return true // the last region that takes writes was set back: no command mends that
		}
	}
	for i := range w.newest.Regions {
		r := &w.newest.Regions[i]
		if r.State == Joining || r.State == Draining || r.State == Fenced {
			return false
		}
		for j := range r.Actors {
			if a := &r.Actors[j]; a.State != ActorOpen && !a.Released {
				return false
			}
		}
	}
	for _, m := range w.members {
		if w.newest.Living().Has(m.id) && m.ahead {
			return false
		}
	}
	return true
}

func (w *world) describe() string {
	var b strings.Builder
	for i := range w.newest.Regions {
		r := &w.newest.Regions[i]
		fmt.Fprintf(&b, "region %d %v awaiting %v acked at %d;", r.ID, r.State, r.Awaiting, r.AckedAt)
		for j := range r.Actors {
			a := &r.Actors[j]
			fmt.Fprintf(&b, " epoch %d %v released %v, reports from %v, lagging %v;", a.Epoch, a.State, a.Released, w.newest.Reporters(a), w.newest.Lagging(r.ID, a))
		}
	}
	for _, m := range w.members {
		fmt.Fprintf(&b, " member %d: up %v, epoch %d, membership %d, taken %d, copied %v, ahead %v;", m.id, m.up, m.epoch, m.state.Epoch, m.taken(), m.copied, m.ahead)
	}
	return b.String()
}

func (w *world) run() {
	for range worldSteps {
		if w.fault != "" {
			return
		}
		w.step()
		w.check()
	}
	w.heal()
	w.settleHomes()
}

func TestWorld(t *testing.T) {
	kinds, taken := map[Kind]int{}, 0
	for seed := range uint64(*schedules) {
		w := newWorld(seed, soundRules())
		w.run()
		if w.fault != "" {
			t.Fatalf("seed %d: %s\n%s", seed, w.fault, strings.Join(w.story, "\n"))
		}
		for k, n := range w.kinds {
			kinds[k] += n
		}
		taken += w.taken
	}
	t.Logf("%d homes taken over, %d heirs named", taken, kinds[NameHeir])
	if taken < *schedules/10 {
		t.Errorf("only %d homes were taken over", taken)
	}
	for k := Add; k <= NameHeir; k++ {
		if k != Declare && kinds[k] < *schedules/10 {
			t.Errorf("only %d %v in %d worlds: they try too little", kinds[k], k, *schedules)
		}
	}
}

func TestWorldIsReplayedAsItWas(t *testing.T) {
	for seed := range uint64(20) {
		a, b := newWorld(seed, soundRules()), newWorld(seed, soundRules())
		a.run()
		b.run()
		if !slices.Equal(a.story, b.story) || !bytes.Equal(a.newest.Encode(), b.newest.Encode()) {
			t.Fatalf("seed %d went two ways", seed)
		}
	}
}
