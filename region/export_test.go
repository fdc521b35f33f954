package region

import (
	"context"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// Waiting returns how many commands and linearizable readers wait for the next entry and proof.
func (p *Partition) Waiting() (commands, readers int) {
	p.batcher.mu.Lock()
	commands = len(p.batcher.mu.queue)
	p.batcher.mu.Unlock()
	p.confirmer.leader.mu.Lock()
	readers = p.confirmer.leader.mu.next.readers
	p.confirmer.leader.mu.Unlock()
	return commands, readers
}

// ExpireDue expires what is due, as the leader does now and then.
func (p *Partition) ExpireDue(ctx context.Context) error { return p.expireDue(ctx) }

// Cut is the instant from before which no event can still arrive.
func (p *Partition) Cut() hlc.Time { return p.cut() }

// TickTimer is when the leader has seen that a tick is needed.
type TickTimer = tickTimer

// TickDue tells other regions how far this one is if they wait for it, as the leader does now and then.
func (p *Partition) TickDue(ctx context.Context, t *TickTimer) error { return p.tickDue(ctx, t) }

// WriteCommand encodes a client's write.
func WriteCommand(opID string, ops []replica.Op) *logv1.Command { return writeCommand(opID, ops) }

// ApplyForResults applies one entry, which proposes nothing, and returns what each of its commands answered.
func (m *Machine) ApplyForResults(e Entry, proposer, proposal uint64) (results []WriteResult, errs []error, err error) {
	m.expect(proposalID{proposer, proposal}, func(all []result) {
		for _, r := range all {
			results = append(results, WriteResult{Outcomes: r.outcomes, Repeated: r.repeated, Elsewhere: r.elsewhere})
			errs = append(errs, r.err)
		}
	})
	err = m.Apply([]Entry{e})
	return results, errs, err
}

// Owed returns how much is still to be taken back from bounded counters.
func (m *Machine) Owed() (sum int64, err error) {
	err = m.store.View(func(kv replica.KV) error {
		s, err := loadMachineState(kv)
		for _, o := range s.owed {
			sum += o.Amount
		}
		return err
	})
	return sum, err
}

// OutboxPair is one pair of the outbox as the store has it.
type OutboxPair struct {
	First, Seq, Size uint64
	Folded           bool
}

// OutboxPairs returns the pairs of the outbox, of all there are in the store.
func (m *Machine) OutboxPairs() (pairs []OutboxPair, err error) {
	err = m.store.View(func(kv replica.KV) error {
		return scanOutbox(kv, 0, func(p *outboxPair) (bool, error) {
			pairs = append(pairs, OutboxPair{p.first, p.seq, p.size, p.folded})
			return true, nil
		})
	})
	return pairs, err
}

// OutboxBytesAfter returns about how many bytes of the outbox come after an event.
func (m *Machine) OutboxBytesAfter(seq uint64) uint64 { return m.outbox.Load().after(seq) }

// KeepOutbox looks after the outbox, as the leader does now and then.
func (p *Partition) KeepOutbox(ctx context.Context, f *OutboxFolder) error {
	return p.keepOutbox(ctx, f)
}

// BlockBytes is a bound of the outbox's index.
const BlockBytes = blockBytes

// ForceHome has the partition take a namespace over without its home, under a later term, whatever that does.
func (p *Partition) ForceHome(ctx context.Context, namespace string, term uint64) error {
	self, _ := topology.ActorRegion(p.View().Outbox.Actor)
	_, err := p.batcher.do(ctx, &logv1.Command{Command: &logv1.Command_Home{
		Home: &logv1.HomeCommand{Namespace: namespace, Region: uint32(self), Epoch: term << 32, Take: true},
	}})
	return err
}

// Damage changes what is stored, behind everybody's back.
func (m *Machine) Damage(change func(kv replica.KV) error) error { return m.store.Update(change) }
