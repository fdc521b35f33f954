package region

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// errNotInOutbox means that the outbox has no entries that a run could replace: some may be trimmed by now.
var errNotInOutbox = errors.New("the outbox has no such entries")

// foldOutbox puts a run, which the leader made, in the place of what it stands for. What other regions read from
// now on says the same.
func (a *application) foldOutbox(c *logv1.OutboxFoldCommand) (result, error) {
	run := c.GetRun()
	o, err := replica.ReadOutline(run)
	if err != nil || !replica.IsRun(run) || o.Actor != a.replica.Self() {
		return result{err: ErrBadCommand}, nil
	}
	if o.From <= a.state.outbox.trimmed || o.To > a.state.outbox.head {
		return result{err: errNotInOutbox}, nil
	}
	pairs, at, err := pairsOf(a.kv, o)
	switch {
	case errors.Is(err, errNotInOutbox):
		return result{err: err}, nil
	case err != nil:
		return result{}, err
	}
	return a.outbox().replace(pairs, foldedValue(o.From, at, run))
}

// pairsOf returns, without their data, the pairs that stand for just the events of a run, and the instant of the
// first event.
func pairsOf(kv replica.KV, o replica.Outline) (pairs []outboxPair, at hlc.Time, err error) {
	next := o.From
	err = scanOutbox(kv, o.From, func(p *outboxPair) (more bool, err error) {
		if p.first != next || p.seq > o.To {
			return false, nil
		}
		if len(pairs) == 0 {
			if at, err = p.firstTime(); err != nil {
				return false, fmt.Errorf("read event %d of the outbox: %w", p.first, err)
			}
		}
		next = p.seq + 1
		p.data = nil
		pairs = append(pairs, *p)
		return p.seq < o.To, nil
	})
	if err == nil && next != o.To+1 {
		err = errNotInOutbox
	}
	return pairs, at, err
}

// replace puts one folded pair in the place of pairs that follow each other, unless it is not smaller.
func (o outbox) replace(pairs []outboxPair, value []byte) (result, error) {
	before, size := uint64(0), uint64(len(value))
	for i := range pairs {
		before += pairs[i].size
	}
	if size >= before {
		return result{err: ErrBadCommand}, nil
	}
	last := &pairs[len(pairs)-1]
	for i := range pairs[:len(pairs)-1] {
		if err := o.remove(&pairs[i]); err != nil {
			return result{}, err
		}
	}
	o.bounds.drop(last)
	o.index.resize(last.seq, last.size, size)
	o.bounds.bytes += size
	o.bounds.foldedBytes += size
	o.bounds.foldedEvents += last.seq + 1 - pairs[0].first
	return result{}, o.kv.Put(outboxKey(last.seq), value)
}
