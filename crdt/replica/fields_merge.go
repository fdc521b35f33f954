package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// merge keeps the later write of each field by (time, actor), and of it and the last delete.
func (k fieldsKind) merge(w *work, d *Delta, e *Effect) error {
	change := fieldsOf(e.Change)
	f, err := w.readFields(k.of, e.object())
	if err != nil {
		return err
	}
	at, reg := contest{delta: d, effect: e}, removedAt(d.Time, d.Dot)
	if change.Action == FieldsDeleteUntil {
		reg.Time = change.Until
	}
	changed := false
	if change.deletes() {
		if err := f.contestAll(at, &reg); err != nil || reg.Compare(f.header.stamp) <= 0 {
			return err
		}
		changed = true
		if err := f.deleteUntil(reg); err != nil {
			return err
		}
	}
	reg.Deleted = change.Action != FieldsPut
	for i := range change.Fields {
		name := change.Fields[i].Name
		have, err := f.get(name)
		if err != nil {
			return err
		}
		reg.Value, at.field = change.Fields[i].Value, name
		last := &have
		if have.Seq == 0 {
			last = &f.header.stamp
		}
		if err := f.decide(at, last, &reg); err != nil {
			return err
		}
		if last.Compare(reg) > 0 {
			continue
		}
		changed = true
		if err := f.write(name, &have, &reg); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	f.header.last = d.Dot
	return f.store()
}

// contestAll notes the fields that a delete meets without having seen them.
func (f *fields) contestAll(at contest, reg *crdt.LWWRegister) error {
	if f.header.count == 0 {
		return nil
	}
	seen := f.meta.seen[reg.Actor]
	var names [][]byte
	err := f.survey(func(name []byte, have *crdt.LWWRegister) {
		if !have.Deleted && have.Actor != reg.Actor && !seen.Covers(have.Dot()) {
			names = append(names, slices.Clone(name))
		}
	})
	for _, name := range names {
		if err != nil {
			break
		}
		var have crdt.LWWRegister
		if have, err = f.get(name); err == nil {
			at.field = name
			err = f.decide(at, &have, reg)
		}
	}
	return err
}

// deleteUntil removes the fields and tombstones that are not after a delete.
func (f *fields) deleteUntil(reg crdt.LWWRegister) error {
	if err := f.stamp(reg); err != nil || f.header.count == 0 && f.header.tombstones == 0 {
		return err
	}
	total := f.header.count + f.header.tombstones
	var gone, seen uint64
	err := f.survey(func(_ []byte, have *crdt.LWWRegister) {
		seen++
		if have.Compare(reg) <= 0 {
			gone++
		}
	})
	switch {
	case err != nil:
		return err
	case seen != total:
		return fmt.Errorf("collection of %d fields has %d: %w", total, seen, crdt.ErrCorrupt)
	case gone == total:
		return f.leave()
	case gone > total/2:
		return f.moveAfter(reg)
	case gone > 0:
		return f.removeUntil(reg)
	default:
		return nil
	}
}

// survey visits the fields and tombstones, which are invalid after visit.
func (f *fields) survey(visit func(name []byte, have *crdt.LWWRegister)) error {
	return f.header.elements.scan(f.kv, nil, nil, func(name, v []byte) (bool, error) {
		have, err := crdt.DecodeLWWRegister(v)
		if err == nil {
			visit(name, &have)
		}
		return err == nil, err
	})
}

// namedField is a field or tombstone with its name.
type namedField struct {
	name []byte
	reg  crdt.LWWRegister
}

// choose returns the fields and tombstones that are, or are not, after a delete.
func (f *fields) choose(reg crdt.LWWRegister, after bool) ([]namedField, error) {
	var chosen []namedField
	err := f.survey(func(name []byte, have *crdt.LWWRegister) {
		if have.Compare(reg) > 0 == after {
			own := namedField{slices.Clone(name), *have}
			own.reg.Value = slices.Clone(have.Value)
			chosen = append(chosen, own)
		}
	})
	return chosen, err
}

// moveAfter begins anew with the few pairs that are after a delete, and leaves the many to sweep.
func (f *fields) moveAfter(reg crdt.LWWRegister) error {
	moved, err := f.choose(reg, true)
	if err != nil {
		return err
	}
	if err := f.leave(); err != nil {
		return err
	}
	for i := range moved {
		if err := f.write(moved[i].name, &crdt.LWWRegister{}, &moved[i].reg); err != nil {
			return err
		}
	}
	return nil
}

// removeUntil takes the few pairs that are not after a delete out of the many.
func (f *fields) removeUntil(reg crdt.LWWRegister) error {
	gone, err := f.choose(reg, false)
	if err != nil {
		return err
	}
	for i := range gone {
		if err := f.remove(gone[i].name, &gone[i].reg); err != nil {
			return err
		}
	}
	return nil
}
