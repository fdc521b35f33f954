package replica

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

var mapKind = fieldsKind{crdt.TypeLWWMap}

// Field is a field of a map.
type Field struct {
	Name, Value []byte
}

func checkFields(o *Op) error {
	if len(o.Values) != len(o.Elements) {
		return fmt.Errorf("%d values for %d fields", len(o.Values), len(o.Elements))
	}
	for _, v := range o.Values {
		if len(v) > crdt.MaxValueBytes {
			return fmt.Errorf("value of %d bytes", len(v))
		}
	}
	return checkElements(o)
}

// fieldsHeld returns what the operation's key holds of a collection of fields.
func (o *operation) fieldsHeld(t crdt.Type) *fields {
	f := &fields{work: o.work, of: t, object: o.key(t)}
	if h, ok := o.held.get(t).(*fieldsHeader); ok {
		f.header = *h
	}
	return f
}

// runMapPut writes every field anew, also one that has the value already: it is the last write then.
func runMapPut(o *operation) (Outcome, []Effect, error) {
	return o.putFields(mapKind, distinct(o.Elements, o.Values))
}

// distinct returns the fields in ascending order; of several with a name the last.
func distinct(names, values [][]byte) []FieldChange {
	all := make([]FieldChange, len(names))
	for i := range all {
		all[i] = FieldChange{names[i], values[i]}
	}
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b FieldChange) int { return bytes.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b FieldChange) bool { return bytes.Equal(a.Name, b.Name) })
}

// putFields writes fields.
func (o *operation) putFields(k fieldsKind, put []FieldChange) (Outcome, []Effect, error) {
	f := o.fieldsHeld(k.of)
	if len(put) == 0 {
		return Outcome{Size: f.header.count}, nil, nil
	}
	old := make([]crdt.LWWRegister, len(put))
	var changed, added uint64
	for i := range put {
		var err error
		if old[i], err = f.get(put[i].Name); err != nil {
			return Outcome{}, nil, err
		}
		absent := old[i].Seq == 0 || old[i].Deleted
		if absent {
			added++
		}
		if absent || !bytes.Equal(old[i].Value, put[i].Value) {
			changed++
		}
		old[i].Value = k.kept(old[i].Value)
	}
	if f.header.count+added > MaxSetElements && added > 0 {
		return Outcome{}, nil, refuse(ErrTooManyElements)
	}
	for i := range put {
		reg := crdt.LWWRegister{Time: o.at, Actor: o.dot.Actor, Seq: o.dot.Seq, Value: put[i].Value}
		if err := f.write(put[i].Name, &old[i], &reg); err != nil {
			return Outcome{}, nil, err
		}
	}
	return o.storeFields(f, changed, FieldsChange{Action: FieldsPut, Fields: put})
}

// kept returns of a value that is the storage's what is needed after the next write.
func (k fieldsKind) kept(value []byte) []byte {
	if k.of == crdt.TypeZSet {
		return slices.Clone(value)
	}
	return nil
}

// removeFields leaves a tombstone for each field that is there.
func (o *operation) removeFields(k fieldsKind) (Outcome, []Effect, error) {
	f := o.fieldsHeld(k.of)
	var removed []FieldChange
	for _, name := range ascending(o.Elements) {
		old, err := f.get(name)
		if err != nil {
			return Outcome{}, nil, err
		}
		if old.Seq == 0 || old.Deleted {
			continue
		}
		reg := removedAt(o.at, o.dot)
		if err := f.write(name, &old, &reg); err != nil {
			return Outcome{}, nil, err
		}
		removed = append(removed, FieldChange{Name: name})
	}
	if len(removed) == 0 {
		return Outcome{Size: f.header.count}, nil, nil
	}
	return o.storeFields(f, uint64(len(removed)), FieldsChange{Action: FieldsRemove, Fields: removed})
}

func runMapRemove(o *operation) (Outcome, []Effect, error) { return o.removeFields(mapKind) }

// delete removes all fields in constant time: nothing here is after an own event.
func (k fieldsKind) delete(o *operation) (Outcome, []Effect, error) {
	f := o.fieldsHeld(k.of)
	removed := f.header.count
	if o.until != 0 {
		return o.deleteFieldsUntil(f)
	}
	if err := f.leave(); err != nil {
		return Outcome{}, nil, err
	}
	if err := f.stamp(removedAt(o.at, o.dot)); err != nil {
		return Outcome{}, nil, err
	}
	return o.storeFields(f, removed, FieldsChange{Action: FieldsDelete})
}

// deleteFieldsUntil removes the fields of a collection that has expired, but for those that were written
// after it did.
func (o *operation) deleteFieldsUntil(f *fields) (Outcome, []Effect, error) {
	reg := removedAt(o.until, o.dot)
	if reg.Compare(f.header.stamp) <= 0 {
		return Outcome{}, nil, nil
	}
	before := f.header.count
	if err := f.deleteUntil(reg); err != nil {
		return Outcome{}, nil, err
	}
	return o.storeFields(f, before-f.header.count, FieldsChange{Action: FieldsDeleteUntil, Until: o.until})
}

// storeFields writes the header, and returns what an operation that changed the collection answers.
func (o *operation) storeFields(f *fields, changed uint64, change FieldsChange) (Outcome, []Effect, error) {
	f.header.last = o.dot
	outcome := Outcome{Version: f.header.version(), Size: f.header.count, Changed: changed}
	return outcome, o.effects(f.of, fieldsKind{f.of}.change(change)), f.store()
}

// fieldsAt reads the header of a collection of fields for a reader.
func (r *Replica) fieldsAt(namespace, key string, t crdt.Type) (fieldsHeader, error) {
	data, ok, err := r.kv.Get(r.object(namespace, key, t))
	if err != nil || !ok {
		return fieldsHeader{}, err
	}
	return decodeFieldsHeader(data)
}

// MapGet returns those of the named fields that a map has, in byte order; an absent map has none. It
// stops before names and values have more than maxBytes bytes, but after at least one field, and then
// more is true: ask again for the names behind the last one. The fields are the caller's.
func (r *Replica) MapGet(namespace, key string, names [][]byte, maxBytes int) (found []Field, more bool, err error) {
	h, err := r.fieldsAt(namespace, key, crdt.TypeLWWMap)
	if err != nil {
		return nil, false, fmt.Errorf("read map header: %w", err)
	}
	size := 0
	for _, name := range ascending(names) {
		if len(name) == 0 {
			continue
		}
		reg, err := h.field(r.kv, name)
		if err != nil {
			return nil, false, fmt.Errorf("read map field: %w", err)
		}
		if reg.Seq == 0 || reg.Deleted {
			continue
		}
		if size += len(name) + len(reg.Value); size > maxBytes && len(found) > 0 {
			return found, true, nil
		}
		found = append(found, Field{slices.Clone(name), slices.Clone(reg.Value)})
	}
	return found, false, nil
}

// MapFields returns the fields after the given name (empty: from the first on) in byte order, and
// whether there are more: at most limit of them, and no more once names and values have maxBytes bytes.
// Unless limit is 0 it returns at least one if there is one. The fields are the caller's.
func (r *Replica) MapFields(namespace, key string, after []byte, limit, maxBytes int) (page []Field, more bool, err error) {
	h, err := r.fieldsAt(namespace, key, crdt.TypeLWWMap)
	if err != nil {
		return nil, false, fmt.Errorf("read map header: %w", err)
	}
	if h.count == 0 {
		return nil, false, nil
	}
	size := 0
	err = h.elements.scan(r.kv, behind(after), nil, func(name, v []byte) (bool, error) {
		reg, err := crdt.DecodeLWWRegister(v)
		if err != nil || reg.Deleted {
			return err == nil, err
		}
		bytes := len(name) + len(reg.Value)
		if len(page) >= limit || len(page) > 0 && size+bytes > maxBytes {
			more = true
			return false, nil
		}
		page = append(page, Field{slices.Clone(name), slices.Clone(reg.Value)})
		size += bytes
		return true, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read map fields: %w", err)
	}
	return page, more, nil
}
