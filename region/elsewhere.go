package region

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// elsewhereAtMost is how many writes of other regions are remembered per partition, beside this region's own. One
// takes some 30 bytes, at most about 250.
const elsewhereAtMost = 1 << 17

// elsewhere knows the writes with an op_id that other regions have executed and this one has merged: a retry of one
// is done already. The storage has a record per merge; which record has an op_id is found in memory.
type elsewhere struct {
	recordOf map[replica.OpID]elsewhereKey
	oldest   []elsewhereRecord // by key, from the front
}

// elsewhereKey names a record: which of its log entry's merges it is of.
type elsewhereKey struct {
	index  uint64
	number uint32
}

// elsewhereRecord is what memory has of one record.
type elsewhereRecord struct {
	key elsewhereKey
	hlc hlc.Time
	ids []replica.OpID
}

func (k elsewhereKey) stored() []byte {
	b := binary.BigEndian.AppendUint64([]byte{tableElsewhere}, k.index)
	return binary.BigEndian.AppendUint32(b, k.number)
}

// loadElsewhere reads what the storage remembers. A record is a delta without effects of who executed the writes;
// its time is when this region merged them.
func loadElsewhere(kv replica.KV) (*elsewhere, error) {
	e := &elsewhere{recordOf: map[replica.OpID]elsewhereKey{}}
	err := kv.Scan([]byte{tableElsewhere}, []byte{tableElsewhere + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 1+8+4 {
			return false, fmt.Errorf("%w: key of a write elsewhere of %d bytes", errState, len(key))
		}
		record, err := replica.DecodeDelta(value)
		if err != nil {
			return false, fmt.Errorf("%w: %w", errState, err)
		}
		e.add(elsewhereKey{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint32(key[9:])}, &record)
		return true, nil
	})
	return e, err
}

func (e *elsewhere) add(key elsewhereKey, record *replica.Delta) {
	r := elsewhereRecord{key: key, hlc: record.Time, ids: make([]replica.OpID, len(record.Writes))}
	for i := range record.Writes {
		r.ids[i] = record.Writes[i].ID
		e.recordOf[r.ids[i]] = key
	}
	e.oldest = append(e.oldest, r)
}

// recall returns what is known of the outcomes of a write that another region has executed.
func (e *elsewhere) recall(kv replica.KV, command *logv1.WriteCommand) (outcomes []replica.Outcome, ok bool, err error) {
	key, known := e.recordOf[opIDOf(command.GetOpId())]
	if !known {
		return nil, false, nil
	}
	id := writeIDOf(command)
	data, ok, err := kv.Get(key.stored())
	if err != nil {
		return nil, false, err
	}
	record, err := replica.DecodeDelta(data)
	if err != nil || !ok {
		return nil, false, fmt.Errorf("%w: writes elsewhere of entry %d: %v", errState, key.index, err)
	}
	for i := range record.Writes {
		w := &record.Writes[i]
		switch {
		case w.ID != id.ID:
			continue
		case w.Fingerprint != id.Fingerprint:
			return nil, false, ErrOpIDReused
		}
		return w.Outcomes(record.Dot.Actor, len(command.GetOperations())), true, nil
	}
	return nil, false, fmt.Errorf("%w: a write elsewhere is not in entry %d", errState, key.index)
}

// meet remembers the writes that an actor's deltas, which were just merged, tell of, and takes back what this region
// did of them if the other one's is to stay. Writes of events up to have were met before, by runs that overlap.
func (a *application) meet(now hlc.Time, have uint64, deltas []replica.Delta) error {
	record := replica.Delta{}
	for i := range deltas {
		record.Dot = deltas[i].Dot
		for _, w := range deltas[i].Writes {
			// A late write is as if it was not done: a retry does it.
			if w.Seq > have && !(w.Seq == record.Dot.Seq && a.late(&deltas[i])) {
				record.Writes = append(record.Writes, w)
			}
		}
		have = max(have, deltas[i].Dot.Seq)
	}
	if len(record.Writes) == 0 {
		return nil
	}
	for i := range record.Writes {
		if err := a.takeBack(now, record.Dot.Actor, record.Writes[i].WriteID); err != nil {
			return err
		}
	}
	// Runs bound the writes that they tell of, but a command may have many of them.
	record.Writes = record.Writes[max(0, len(record.Writes)-replica.MaxWrites):]
	record.Dot.Seq++ // a delta tells of events before it
	record.Time = a.replica.LastHLC().Next()
	return a.keepElsewhere(&record)
}

// keepElsewhere stores a record.
func (a *application) keepElsewhere(record *replica.Delta) error {
	key := elsewhereKey{index: a.entryIndex, number: a.merges}
	a.merges++
	if err := a.kv.Put(key.stored(), replica.EncodeDelta(*record)); err != nil {
		return err
	}
	a.elsewhere.add(key, record)
	a.state.elsewhere += uint64(len(record.Writes))
	return a.forgetElsewhere(a.horizon(record.Time))
}

func (a *application) forgetElsewhere(horizon hlc.Time) error {
	e := a.elsewhere
	for len(e.oldest) > 1 && (e.oldest[0].hlc < windowBefore(horizon) || a.state.elsewhere > elsewhereAtMost) {
		first := e.oldest[0]
		if err := a.kv.Delete(first.key.stored()); err != nil {
			return err
		}
		for _, id := range first.ids {
			if e.recordOf[id] == first.key {
				delete(e.recordOf, id)
			}
		}
		a.state.elsewhere -= min(a.state.elsewhere, uint64(len(first.ids)))
		e.oldest[0] = elsewhereRecord{}
		e.oldest = e.oldest[1:]
	}
	return nil
}

// takeBack takes back what this region added by a write that another region has executed, too: of two regions the one
// with the higher actor does so, once, and of more all but the one with the lowest.
func (a *application) takeBack(now hlc.Time, executed crdt.Actor, id replica.WriteID) error {
	if a.replica.Self() < executed || a.state.facts.mute(a.replica.Self()) {
		return nil // a region that writes no more cannot take back, either
	}
	additions, err := a.memory.release(a.kv, a.remembered, id)
	if err != nil {
		return err
	}
	for _, addition := range additions {
		if err := a.undo(now, addition); err != nil {
			return err
		}
	}
	return nil
}

// undo takes back one addition, as far as that is possible now.
func (a *application) undo(now hlc.Time, addition replica.Addition) error {
	d, left, err := a.replica.Undo(now, addition)
	if err != nil {
		return err
	}
	if left > 0 {
		addition.Amount = left
		a.state.owe(addition)
	}
	if d == nil {
		return nil
	}
	made := []replica.Delta{*d}
	a.note(CauseLocal, made)
	return a.ship(made)
}

// owedAtMost is of how many bounded counters a partition remembers that something is still to be taken back.
const owedAtMost = 1024

// owe remembers what is still to be taken back from a bounded counter, by its name.
func (s *machineState) owe(a replica.Addition) {
	for i := range s.owed {
		if o := &s.owed[i]; o.Namespace == a.Namespace && o.Key == a.Key {
			if sum := o.Amount + a.Amount; sum > o.Amount {
				o.Amount = sum
			}
			return
		}
	}
	if len(s.owed) < owedAtMost {
		s.owed = append(s.owed, a)
	}
}

// settleOwed takes back what is owed of bounded counters that an entry changed: there may be rights now.
func (a *application) settleOwed(now hlc.Time, changed []change) error {
	if len(a.state.owed) == 0 || a.state.facts.mute(a.replica.Self()) {
		return nil
	}
	touched := map[counterName]bool{}
	for i := range changed {
		if changed[i].Type == crdt.TypeBoundedCounter {
			touched[counterName{changed[i].Namespace, changed[i].Key}] = true
		}
	}
	owed := a.state.owed
	a.state.owed = nil
	for _, o := range owed {
		if !touched[counterName{o.Namespace, o.Key}] {
			a.state.owed = append(a.state.owed, o)
			continue
		}
		if err := a.undo(now, o); err != nil {
			return err
		}
	}
	return nil
}
