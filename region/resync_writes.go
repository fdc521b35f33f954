package region

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// This file takes over, together with a state, which clients' writes the donor knows: the deltas that tell of them are
// not to be had, and a retry of one must not count again.

// ExportWrites returns writes that the view's donor remembers, encoded for ResyncWrites, some maxBytes of them, and from
// where on there are more: nil behind the last. from is nil at first. Error: ErrNoExport.
//
// Of writes that the donor executed itself only that they were executed is known afterwards, and not their versions.
func (p *Partition) ExportWrites(id uint64, from []byte, maxBytes int) (writes, next []byte, err error) {
	err = p.exports.readKV(id, func(kv replica.KV, r *replica.Replica) error {
		writes, next, err = exportWrites(kv, r, from, maxBytes)
		return err
	})
	return writes, next, err
}

// exportWrites reads the writes elsewhere first, and then the own ones.
func exportWrites(kv replica.KV, r *replica.Replica, from []byte, maxBytes int) (writes, next []byte, err error) {
	page := &logv1.ResyncWrites{}
	size := 0
	for _, table := range []byte{tableElsewhere, tableRemembered} {
		if len(from) > 0 && from[0] > table {
			continue
		}
		start := []byte{table}
		if len(from) > 0 && from[0] == table {
			start = from
		}
		err := kv.Scan(start, []byte{table + 1}, func(key, value []byte) (bool, error) {
			if size >= maxBytes {
				next = append([]byte(nil), key...)
				return false, nil
			}
			record := append([]byte(nil), value...)
			if table == tableRemembered {
				var err error
				if record, err = toldOf(value, r); err != nil {
					return false, err
				}
			}
			if record != nil {
				page.Records = append(page.Records, record)
				size += len(record)
			}
			return true, nil
		})
		if err != nil || next != nil {
			return encodeWrites(page, next, err)
		}
	}
	return encodeWrites(page, nil, nil)
}

func encodeWrites(page *logv1.ResyncWrites, next []byte, err error) (writes, _ []byte, _ error) {
	if err == nil && len(page.Records) > 0 {
		writes, err = proto.Marshal(page)
	}
	return writes, next, err
}

// toldOf returns a record of writes elsewhere for what this region remembers of its own: nil if nothing has had an
// effect. They are said to be of its last event, because theirs are not remembered.
func toldOf(value []byte, r *replica.Replica) ([]byte, error) {
	remembered := &logv1.RememberedEntry{}
	if err := proto.Unmarshal(value, remembered); err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	last := crdt.Dot{Actor: r.Self(), Seq: r.Seq()}
	at := r.HLCOf(last.Actor)
	told := replica.Delta{Dot: crdt.Dot{Actor: last.Actor, Seq: last.Seq + 1}, Time: at.Next()}
	for _, w := range remembered.GetWrites() {
		for _, o := range w.GetOutcomes() {
			if o.GetVersion() != "" {
				told.Writes = append(told.Writes, replica.Write{
					WriteID: replica.WriteID{ID: opIDOf(w.GetOpId()), Fingerprint: w.GetFingerprint()}, Seq: last.Seq, Time: at,
				})
				break
			}
		}
	}
	if len(told.Writes) == 0 || last.Seq == 0 {
		return nil, nil
	}
	return replica.EncodeDelta(told), nil
}

// ResyncWrites takes over writes that the donor remembers. It is called when all chunks are joined, before EndResync.
func (p *Partition) ResyncWrites(ctx context.Context, id uint64, writes []byte) error {
	command, err := p.resyncWritesCommand(id, writes)
	if err == nil {
		_, err = p.proposeResync(ctx, command)
	}
	return err
}

func (p *Partition) resyncWritesCommand(id uint64, writes []byte) (*logv1.ResyncCommand, error) {
	page := &logv1.ResyncWrites{}
	if err := proto.Unmarshal(writes, page); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	for _, data := range page.GetRecords() {
		record, err := replica.DecodeDelta(data)
		if err != nil {
			return nil, err
		}
		if ahead := record.Time.Wall().Sub(p.wall()); ahead > p.clockAhead {
			return nil, &ClockAheadError{Ahead: ahead}
		}
	}
	return &logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_Writes{Writes: page}}, nil
}

// takeOverWrites remembers the writes that are not known here, and takes back what this region did of them, as if the
// deltas that tell of them were merged.
func (a *application) takeOverWrites(now hlc.Time, id uint64, records [][]byte) (result, error) {
	state, under := a.replica.Resync()
	if !under || state.ID != id || !state.Cursor.End {
		return result{err: replica.ErrNoResync}, nil
	}
	told := make([]replica.Delta, len(records))
	for i, data := range records {
		var err error
		if told[i], err = replica.DecodeDelta(data); err != nil {
			return result{err: fmt.Errorf("%w: %w", ErrBadCommand, err)}, nil
		}
	}
	for i := range told {
		if err := a.takeOver(now, &state, &told[i]); err != nil {
			return result{}, err
		}
	}
	return result{}, nil
}

func (a *application) takeOver(now hlc.Time, state *replica.ResyncState, told *replica.Delta) error {
	executed := told.Dot.Actor
	if executed == a.replica.Self() || state.Vector.Get(executed) == 0 {
		return nil // what this region did it remembers itself; others the donor has not heard of
	}
	record := replica.Delta{Dot: told.Dot, Time: max(told.Time, a.replica.LastHLC().Next())}
	for _, w := range told.Writes {
		if err := a.takeBack(now, executed, w.WriteID); err != nil {
			return err
		}
		if _, known := a.elsewhere.recordOf[w.ID]; !known {
			record.Writes = append(record.Writes, w)
		}
	}
	if len(record.Writes) == 0 {
		return nil
	}
	return a.keepElsewhere(&record)
}
