package world

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// group is one partition of a region: a log that cannot be lost or disagreed on, whose leaders change, and
// whose proposals are done, not done, or have an unknown outcome.
type group struct {
	site    *site
	id      topology.PartitionID
	log     []*entry // index i+1 at i
	term    uint64
	leader  *member // nil if there is none
	members []*member
	session *session
	queue   []*request
	flying  *entry
	// prints are hashes of the state after each entry that was applied somewhere.
	prints  []uint64
	books   books
	touched bool
	// resyncing says that the state, before or after the entry that is being entered, was not that of one vector.
	resyncing bool
	wakeAt    time.Duration // of the wake that is asked for, never if none
}

// entry is an entry of the log, or is proposed to become one.
type entry struct {
	region.Entry
	proposal region.Proposal
	requests []*request
	// silent says that who asked will not learn the outcome.
	silent bool
}

// request is a command, and who waits for its result.
type request struct {
	command *logv1.Command
	ops     []operation // of a write
	opID    string
	merge   *mergeOf
	expires bool
	keeps   bool // looks after the outbox
	// takesOver is what the state includes that this ends to take over.
	takesOver []uint64
	done      func(verdict, region.StepResult)
}

// verdict is what is known of a request's end.
type verdict int

const (
	done verdict = iota
	notDone
	unknown
)

var errOutcomeUnknown = errors.New("nobody knows whether it was done")

const (
	mostTogether = 6 // commands in one entry
	mostQueued   = 64
)

func newGroup(s *site, p topology.PartitionID) *group {
	return &group{site: s, id: p, wakeAt: never, books: newBooks(s.w.plan.Regions * s.w.plan.lives())}
}

// touch has the group's step functions looked at after this step.
func (g *group) touch() {
	if !g.touched {
		g.touched = true
		g.site.w.dirty = append(g.site.w.dirty, g)
	}
}

// propose has a command committed, together with others that wait.
func (g *group) propose(r *request) {
	if g.leader == nil || len(g.queue) >= mostQueued {
		r.done(notDone, region.StepResult{})
		return
	}
	g.queue = append(g.queue, r)
	g.flushQueue()
}

// flushQueue proposes what waits, unless something is on its way.
func (g *group) flushQueue() {
	w := g.site.w
	if g.flying != nil || len(g.queue) == 0 || g.leader == nil {
		return
	}
	n := min(len(g.queue), mostTogether)
	e := &entry{requests: g.queue[:n:n]}
	g.queue = g.queue[n:]
	commands := make([]*logv1.Command, n)
	for i, r := range e.requests {
		commands[i] = r.command
	}
	var err error
	if e.proposal, e.Data, err = g.leader.steps.Entry(commands); err != nil {
		w.fail("commands can be encoded", "%v", err)
		return
	}
	g.flying = e
	w.after(w.between1to5ms(), func() {
		if g.flying == e { // else its leader is gone
			g.flying = nil
			g.decide(e)
			g.flushQueue()
		}
	})
}

// decide says what becomes of an entry.
func (g *group) decide(e *entry) {
	w := g.site.w
	switch {
	case w.chance(w.plan.Rates.NotDone):
		w.counts.Refused++
		e.end(notDone)
		return
	case w.chance(w.plan.Rates.Unknown):
		w.counts.Unknown++
		e.silent = true
		if w.rng.IntN(2) == 0 {
			e.end(unknown)
			return
		}
	}
	g.commit(e)
	if e.silent {
		e.end(unknown)
	}
}

// end tells everyone who waits that there is no result.
func (e *entry) end(v verdict) {
	for _, r := range e.requests {
		r.done(v, region.StepResult{})
	}
}

// commit appends an entry to the log, and has the leader apply it.
func (g *group) commit(e *entry) {
	e.Index, e.Term = uint64(len(g.log))+1, g.term
	g.log = append(g.log, e)
	if g.leader != nil {
		g.leader.apply(len(g.log))
	}
	for _, m := range g.members {
		if m != g.leader {
			m.catchUpSoon()
		}
	}
}

// depose ends a leadership. What was proposed may be committed or not, and nobody learns which.
func (g *group) depose() {
	w := g.site.w
	m := g.leader
	if m == nil {
		return
	}
	m.leading, g.leader = false, nil
	if g.session != nil {
		g.session.end()
		g.session = nil
	}
	queue := g.queue
	g.queue = nil
	if e := g.flying; e != nil {
		g.flying, e.silent = nil, true
		if w.rng.IntN(2) == 0 {
			g.commit(e)
		}
		e.end(unknown)
	}
	for _, r := range queue {
		r.done(notDone, region.StepResult{})
	}
	w.after(50*time.Millisecond+time.Duration(w.rng.Int64N(int64(time.Second))), g.elect)
}

// elect makes a node the leader, once it has applied all there is.
func (g *group) elect() {
	w := g.site.w
	if g.leader != nil {
		return
	}
	first := w.rng.IntN(len(g.members))
	for i := range g.members {
		m := g.members[(first+i)%len(g.members)]
		if !m.node.up {
			continue
		}
		g.term++
		m.behindUntil = 0
		m.apply(len(g.log))
		if w.failure != nil {
			return
		}
		m.leading, g.leader = true, m
		g.openSession()
		w.mention("%v leads partition %d of %v", m.node, g.id, g.site)
		g.touch()
		return
	}
}

// apply applies the log up to an entry.
func (m *member) apply(upTo int) {
	g, w := m.group, m.group.site.w
	for w.failure == nil {
		have := int(m.machine.Position().Index)
		if have >= upTo {
			return
		}
		if have == len(g.prints) {
			m.applyFirst(g.log[have])
			continue
		}
		// Others have applied it, one by one; together it must come to the same.
		// Raft feeds what was applied again, after a restart.
		to, from := have+min(1+w.rng.IntN(4), len(g.prints)-have, upTo-have), max(0, have-w.rng.IntN(3))
		entries := make([]region.Entry, to-from)
		for i := range entries {
			entries[i] = g.log[from+i].Entry
		}
		m.applied(m.machine.Apply(entries), uint64(to))
	}
}

// applyFirst applies an entry that no replica of the region has applied before, and enters into the books
// what it did.
func (m *member) applyFirst(e *entry) {
	w := m.group.site.w
	var results []region.StepResult
	m.steps.Expect(e.proposal, func(r []region.StepResult) { results = r })
	err := m.machine.Apply([]region.Entry{e.Entry})
	m.group.prints = append(m.group.prints, m.disk.sum)
	m.applied(err, e.Index)
	if w.failure != nil {
		return
	}
	if len(results) != len(e.requests) {
		w.fail("every command is answered", "%d of %d", len(results), len(e.requests))
		return
	}
	m.enter(e, results)
	w.mix(m.disk.sum)
	if !e.silent {
		for i, r := range e.requests {
			r.done(done, results[i])
		}
	}
	m.group.touch()
}

// applied checks what applying has led to.
func (m *member) applied(err error, index uint64) {
	w := m.group.site.w
	switch have := m.machine.Position().Index; {
	case err != nil:
		w.fail("committed entries can be applied", "%v, partition %d: %v", m.node, m.group.id, err)
	case have != index:
		w.fail("the applied index is that of the last entry", "%d, want %d", have, index)
	}
	m.checkPrint()
	if w.chance(w.plan.Rates.Flush) {
		if err := m.machine.Flush(); err != nil {
			w.fail("storage can be flushed", "%v", err)
		}
	}
	w.counts.Applied++
}

// checkPrint holds a replica against the first that was at the same entry.
func (m *member) checkPrint() {
	if at := m.machine.Position().Index; at > 0 && m.group.prints[at-1] != m.disk.sum {
		m.group.site.w.fail("replicas of a region are equal", "%v differs in partition %d at index %d", m.node, m.group.id, at)
	}
}

// catchUpSoon has a follower apply what it lacks, a little later.
func (m *member) catchUpSoon() {
	w := m.group.site.w
	if m.catching {
		return
	}
	m.catching = true
	wait := w.between1to5ms()
	if w.chance(w.plan.Rates.Lag) {
		wait *= 50
	}
	w.after(max(wait, m.behindUntil-w.now), func() {
		m.catching = false
		if m.node.up && w.now >= m.behindUntil {
			m.apply(len(m.group.log))
		}
	})
}

// install replaces what a follower has by a snapshot of the leader.
func (m *member) install() {
	w := m.group.site.w
	leader := m.group.leader
	if leader == nil || leader == m || !m.node.up {
		return
	}
	m.disk.files["snapshot"] = leader.disk.copy()
	if err := m.machine.Install("snapshot"); err != nil {
		w.fail("a snapshot can be installed", "%v", err)
		return
	}
	m.checkPrint()
}

// tend does what a leader does once a second.
func (g *group) tend() {
	w := g.site.w
	if g.leader == nil || g.site.restored {
		return
	}
	command, err := g.leader.steps.Expire()
	if err != nil {
		w.fail("what has expired can be looked up", "%v", err)
		return
	}
	ignore := func(verdict, region.StepResult) {}
	if command != nil {
		g.propose(&request{command: command, expires: true, done: ignore})
	}
	if g.leader == nil {
		return
	}
	if command := g.leader.steps.Tick(); command != nil {
		g.propose(&request{command: command, done: ignore})
	}
}

// view calls fn with what the leader has, or any replica if there is none.
func (g *group) read(fn func(r *replica.Replica) error) error {
	m := g.leader
	for i := 0; m == nil && i < len(g.members); i++ {
		if g.members[i].node.up && int(g.members[i].machine.Position().Index) == len(g.log) {
			m = g.members[i]
		}
	}
	if m == nil {
		return errOutcomeUnknown
	}
	return m.machine.Read(fn)
}
