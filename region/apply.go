package region

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// application is the state of one Apply.
type application struct {
	kv        replica.KV
	replica   *replica.Replica
	state     *machineState
	memory    *memory
	elsewhere *elsewhere
	index     *outboxIndex
	changed   []change

	// Of the entry that is being applied:
	entryIndex   uint64
	remembered   *logv1.RememberedEntry
	merges       uint32 // that told of writes
	shipsNowhere bool
}

func (a *application) entry(e *Entry, answers map[proposalID][]result) error {
	if e.Index <= a.state.position.Index {
		return nil
	}
	a.state.position.Index, a.state.position.Term = e.Index, e.Term
	switch e.Kind {
	case EntryNothing:
		return nil
	case EntryConfiguration:
		a.state.position.Configuration, a.state.position.ConfigurationIndex = e.Data, e.Index
		return nil
	case EntryCommand:
	}
	entry, err := decodeEntry(e.Data)
	if err != nil {
		// Every replica has the same bytes, so every replica skips the entry. Who proposed it hears
		// nothing and must say that the outcome is unknown.
		return nil
	}
	a.entryIndex, a.remembered, a.shipsNowhere = e.Index, &logv1.RememberedEntry{}, entry.GetShipsNowhere()
	if a.shipsNowhere { // who proposed it may not have known yet of a region that joins
		a.shipsNowhere = len(a.state.facts.destinations(a.replica.Self())) == 0
	}
	a.merges = 0
	now, from := hlc.Time(entry.GetHlc()), len(a.changed)
	results, err := a.commands(now, entry.GetCommands())
	if err != nil {
		return err
	}
	if err := a.settleOwed(now, a.changed[from:]); err != nil {
		return err
	}
	if err := a.keepRemembered(max(now, a.replica.LastHLC())); err != nil {
		return err
	}
	answers[proposalID{entry.GetProposer(), entry.GetProposal()}] = results
	return nil
}

// commands runs an entry's commands.
func (a *application) commands(now hlc.Time, commands []*logv1.Command) ([]result, error) {
	results := make([]result, len(commands))
	together := additions(commands)
	for i, c := range commands {
		if members := together[i]; members != nil {
			if members[0] != i {
				continue // ran with the first of them
			}
			if a.muted(c) {
				for _, j := range members {
					results[j] = result{err: ErrFenced}
				}
				continue
			}
			done, err := a.addAll(now, commands, members, results)
			if err != nil {
				return nil, err
			}
			if done {
				continue
			}
			for _, j := range members[1:] {
				delete(together, j)
			}
		}
		var err error
		if results[i], err = a.command(now, c); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// command runs one command. Its error is the storage's; a refusal is in the result.
func (a *application) command(now hlc.Time, c *logv1.Command) (result, error) {
	if a.muted(c) {
		return result{err: ErrFenced}, nil
	}
	switch c := c.GetCommand().(type) {
	case *logv1.Command_Write:
		return a.write(now, c.Write)
	case *logv1.Command_Merge:
		return a.merge(now, c.Merge)
	case *logv1.Command_Acknowledge:
		return a.acknowledge(c.Acknowledge)
	case *logv1.Command_Queued:
		return a.queued(now, c.Queued)
	case *logv1.Command_Expire:
		return a.expire(now, c.Expire)
	case *logv1.Command_Tick:
		return a.tick(now, c.Tick)
	case *logv1.Command_OutboxFold:
		return a.foldOutbox(c.OutboxFold)
	case *logv1.Command_Destination:
		return a.destination(now, c.Destination)
	case *logv1.Command_Membership:
		return a.membership(c.Membership)
	case *logv1.Command_Resync:
		r, err := a.resync(now, c.Resync)
		if err != nil || r.err != nil {
			return r, err
		}
		return r, a.mergedHomes(now, true)
	case *logv1.Command_Home:
		return a.home(now, c.Home)
	default:
		return result{err: ErrBadCommand}, nil
	}
}

// muted reports whether a command is refused because this region writes no more.
func (a *application) muted(c *logv1.Command) bool {
	return writes(c) && a.state.facts.mute(a.replica.Self())
}

func (a *application) write(now hlc.Time, w *logv1.WriteCommand) (result, error) {
	if w.GetOpId() != "" {
		known, err := a.recall(w)
		if known.repeated || known.err != nil || err != nil {
			return known, err
		}
	}
	ops, err := decodeOperations(w.GetOperations())
	if err != nil {
		return result{err: err}, nil
	}
	for i := range ops {
		ops[i].AnyType = w.GetQueue() != nil // acknowledged: what the key holds is no reason to refuse it
	}
	if refused, err := a.atHome(now, w, ops); refused != nil || err != nil {
		return result{err: refused}, err
	}
	var names []replica.WriteID
	if w.GetOpId() != "" {
		names = append(names, writeIDOf(w))
	}
	outcomes, additions, err := a.execute(now, ops, names...)
	if err != nil {
		return refusal(err)
	}
	if w.GetOpId() != "" {
		a.remember(w, names[0], outcomes, additions)
	}
	return result{outcomes: outcomes}, nil
}

// queued runs writes of a node's queue, but for those that are applied: the node did not hear of it. The
// result has the last of the refusals, if there are any.
func (a *application) queued(now hlc.Time, c *logv1.QueuedCommand) (result, error) {
	var last result
	for _, w := range c.GetWrites() {
		q := w.GetQueue()
		if q.GetSeq() <= a.state.queues[q.GetQueue()] {
			continue
		}
		r, err := a.write(now, w)
		if err != nil {
			return result{}, err
		}
		if r.err != nil {
			last.err = r.err
		}
		a.state.queues[q.GetQueue()] = q.GetSeq()
	}
	return last, nil
}

// recall returns the answer to a write whose op_id is known, here or of another region. Its error is the storage's.
func (a *application) recall(w *logv1.WriteCommand) (result, error) {
	outcomes, here, err := a.memory.recall(a.kv, a.remembered, w)
	if here || err != nil {
		return recalled(result{outcomes: outcomes, repeated: here}, err)
	}
	outcomes, there, err := a.elsewhere.recall(a.kv, w)
	return recalled(result{outcomes: outcomes, repeated: there, elsewhere: there}, err)
}

func recalled(r result, err error) (result, error) {
	if errors.Is(err, ErrOpIDReused) {
		return result{err: err}, nil
	}
	return r, err
}

// execute runs operations, which are those of the writes with the given names, and keeps their deltas for the other
// regions. It returns what would have to be taken back if another region executed the same writes.
func (a *application) execute(now hlc.Time, ops []replica.Op, writes ...replica.WriteID) ([]replica.Outcome, []replica.Addition, error) {
	if a.shipsNowhere {
		writes = nil
	}
	outcomes, deltas, additions, err := a.replica.ExecuteWrite(now, ops, writes...)
	if err != nil {
		return nil, nil, err
	}
	cause := CauseLocal
	if len(ops) == 1 && ops[0].Restores {
		cause = CauseRestored
	}
	a.note(cause, deltas)
	return outcomes, additions, a.ship(deltas)
}

// ship keeps own deltas for the other regions.
func (a *application) ship(deltas []replica.Delta) error {
	if a.shipsNowhere {
		return a.outbox().pass(len(deltas))
	}
	return a.outbox().add(deltas)
}

func (a *application) outbox() outbox { return outbox{a.kv, &a.state.outbox, a.index} }

func (a *application) merge(now hlc.Time, c *logv1.MergeCommand) (result, error) {
	runs := make([]replica.Run, len(c.GetDeltas()))
	actor := crdt.Actor(c.GetActor())
	for i, data := range c.GetDeltas() {
		var err error
		if runs[i], err = replica.DecodeRunOrDelta(data); err != nil {
			return result{err: err}, nil
		}
		if first := runs[i].Deltas[0].Dot; first.Actor != actor {
			return result{err: &replica.BadDeltaError{Dot: first, Reason: fmt.Sprintf("not of actor %d", actor)}}, nil
		}
	}
	have := a.replica.Vector().Get(actor)
	runs, err := a.admit(actor, have, runs)
	if err != nil {
		return result{err: err}, nil
	}
	if _, err := a.replica.MergeRuns(runs...); err != nil {
		return refusal(err)
	}
	var fresh []replica.Delta
	last := have
	for i := range runs {
		fresh = append(fresh, runs[i].After(last)...)
		last = max(last, runs[i].To())
	}
	a.note(CauseRemote, fresh)
	if err := a.mergedHomes(now, changesHomes(fresh)); err != nil {
		return result{}, err
	}
	if err := a.meet(now, have, fresh); err != nil {
		return result{}, err
	}
	return result{applied: a.replica.Vector().Get(actor)}, nil
}

// admit returns the runs whose events count, all but those beyond the cut of a closed actor. A run across
// the cut is refused as a whole: its deltas have to come one by one.
func (a *application) admit(actor crdt.Actor, have uint64, runs []replica.Run) ([]replica.Run, error) {
	last := a.state.facts.last(actor, have)
	for i := range runs {
		if to := runs[i].To(); to > last {
			if i > 0 && runs[i-1].To() > have {
				return runs[:i], nil // some progress; what follows is refused when it comes again
			}
			return nil, a.state.facts.Admits(crdt.Dot{Actor: actor, Seq: to}, have)
		}
	}
	return runs, nil
}

// note tells watchers which keys events touched. That of a value and of its deadline are one to them.
func (a *application) note(cause Cause, deltas []replica.Delta) {
	for i := range deltas {
		from := len(a.changed)
		for j := range deltas[i].Effects {
			e := &deltas[i].Effects[j]
			next := Change{Namespace: e.Namespace, Key: e.Key, Type: e.Subject(), Cause: cause}
			if e.Type != next.Type && slices.ContainsFunc(a.changed[from:], func(c change) bool { return c.Change == next }) {
				continue
			}
			a.changed = append(a.changed, change{Change: next, index: a.entryIndex, dot: deltas[i].Dot})
		}
	}
}

// refusal sorts a replica's error: a refusal goes into the result, anything else is the storage's.
func refusal(err error) (result, error) {
	var op *replica.OpError
	var gap *replica.GapError
	var bad *replica.BadDeltaError
	if errors.As(err, &op) || errors.As(err, &gap) || errors.As(err, &bad) || errors.Is(err, ErrOpIDReused) || refusesResync(err) {
		return result{err: err}, nil
	}
	return result{}, err
}
