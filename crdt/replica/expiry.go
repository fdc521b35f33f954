package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

const instantBytes = 8

// Name is what a value is called.
type Name struct {
	Namespace, Key string
	Type           crdt.Type
}

// putRegister writes a register in place of old, whose Seq is 0 if there is none, and keeps what is to
// be done about it later: X says when it expires, Y from when on nobody needs a tombstone.
func (w *work) putRegister(object []byte, old, reg *crdt.LWWRegister) error {
	if err := w.forgetInstants(object, old); err != nil {
		return err
	}
	var err error
	switch {
	case reg.Deleted:
		err = w.kv.Put(instantKey(tableSpent, reg.Time, object), marker[:])
	case reg.Expires != 0:
		err = w.kv.Put(instantKey(tableExpiry, expiryOf(reg), object), marker[:])
	}
	if err != nil {
		return err
	}
	w.wrote(object, reg)
	w.data = reg.Append(w.data[:0])
	return w.kv.Put(object, w.data)
}

// forgetInstants deletes what tables X and Y say of a register.
func (w *work) forgetInstants(object []byte, reg *crdt.LWWRegister) error {
	switch {
	case reg.Seq == 0:
		return nil
	case reg.Deleted:
		return w.kv.Delete(instantKey(tableSpent, reg.Time, object))
	case reg.Expires != 0:
		if err := w.kv.Delete(instantKey(tableExpiry, expiryOf(reg), object)); err != nil {
			return err
		}
		return w.kv.Delete(instantKey(tableSpent, expiryOf(reg), object))
	}
	return nil
}

// expiryOf returns when a register that expires has done so: not before it was written, because up to then an
// earlier write may arrive, which it replaces.
func expiryOf(reg *crdt.LWWRegister) hlc.Time { return max(reg.Expires, reg.Time) }

// Due reports whether Expire would do something.
func (r *Replica) Due(x Expiry) (bool, error) {
	for _, t := range []struct {
		table byte
		until hlc.Time
	}{{tableExpiry, x.Now}, {tableOverdue, x.Others}, {tableSpent, x.Cut}} {
		found, err := instants(r.kv, t.table, t.until, 1)
		if err != nil || len(found) > 0 {
			return len(found) > 0, err
		}
	}
	if r.meta.garbage > 0 {
		return true, nil
	}
	return r.begin(false).unsettled()
}

// Expire finds what has expired, each value once; deletes what this region has to delete, in events of its own;
// and removes registers that were deleted, or had expired, by the cut, or what other values keep because of a
// delete or an event up to the cut. No event from before the cut may be still to come: it is at most the
// instant of the last event applied from every other region. The result is a function of the replica's state
// and the arguments.
//
// It also sweeps what cleared collections have left, and settles resets, as every event does: there may be none.
//
// A value that is no register is deleted by the region that set its deadline, and by the others only if they
// are told to wait no longer: an event of one region is enough, and all that did the same lose nothing.
func (r *Replica) Expire(x Expiry) (Expired, error) {
	e := &expiry{Expiry: x, w: r.begin(false)}
	e.w.meta.collected = max(e.w.meta.collected, x.Cut)
	if err := e.due(); err != nil {
		return Expired{}, err
	}
	spent, err := instants(r.kv, tableSpent, x.Cut, x.Limit)
	if err != nil {
		return Expired{}, err
	}
	for _, s := range spent {
		if err := e.w.kv.Delete(s.key); err != nil {
			return Expired{}, err
		}
		if err := e.w.collect(s.object, x.Cut); err != nil {
			return Expired{}, err
		}
	}
	if err := e.w.settleAll(x.Limit); err != nil {
		return Expired{}, fmt.Errorf("settle resets: %w", err)
	}
	if err := e.w.sweep(x.Limit); err != nil {
		return Expired{}, fmt.Errorf("sweep cleared sets: %w", err)
	}
	return e.found, r.commit(e.w)
}

// due does what tables X and V say.
func (e *expiry) due() error {
	for _, t := range []struct {
		table byte
		until hlc.Time
	}{{tableExpiry, e.Now}, {tableOverdue, e.Others}} {
		found, err := instants(e.w.kv, t.table, t.until, e.Limit)
		if err != nil {
			return err
		}
		for n := range found {
			if e.bytes >= maxExpiryBytes {
				return nil
			}
			i := &found[n]
			object, of, _, err := cutObjectKey(i.object)
			switch {
			case err != nil:
			case of == crdt.TypeLWWRegister:
				err = e.expireRegister(i, object)
			default:
				err = e.expireDeadline(i, object, t.table == tableExpiry && !i.told)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// expireRegister tells of a register, which goes behind the cut.
func (e *expiry) expireRegister(i *instant, object []byte) error {
	namespace, key, _, err := parseObjectKey(object)
	if err != nil {
		return err
	}
	e.found.Names = append(e.found.Names, Name{namespace, key, crdt.TypeLWWRegister})
	if err := e.w.kv.Delete(i.key); err != nil {
		return err
	}
	e.w.meta.owe(i.at) // the others remove it once they know that it is past here, too
	return e.w.kv.Put(instantKey(tableSpent, i.at, object), marker[:])
}

// collect removes what a pair of table Y names, given what its key has behind the instant.
func (w *work) collect(named []byte, cut hlc.Time) error {
	object, t, rest, err := cutObjectKey(named)
	if err != nil {
		return err
	}
	if object[0] == tableLeaf {
		return w.collectLeaf(object, t, cut, rest)
	}
	return w.collectObject(object, t, cut, rest)
}

// collectObject removes what rest, behind the instant and the object, names as not needed.
func (w *work) collectObject(object []byte, t crdt.Type, cut hlc.Time, rest []byte) error {
	if c, ok := kindOf(t).(collector); ok {
		return c.collect(w, object, cut, rest)
	}
	w.wrote(object, nil)
	return w.kv.Delete(object)
}

// instant is one pair of table X, V or Y: an object, and when something is to be done about it.
type instant struct {
	key, object []byte
	at          hlc.Time
	// told means that watchers know.
	told bool
}

// instants returns up to limit pairs of a table up to an instant, inclusive.
func instants(kv KV, table byte, until hlc.Time, limit int) ([]instant, error) {
	var found []instant
	err := kv.Scan([]byte{table}, []byte{table + 1}, func(k, v []byte) (bool, error) {
		if len(k) <= 1+instantBytes || k[1+instantBytes] != tableObject && k[1+instantBytes] != tableLeaf {
			return false, fmt.Errorf("key of an instant: %w", crdt.ErrCorrupt)
		}
		at := hlc.Time(binary.BigEndian.Uint64(k[1:]))
		if at > until || len(found) == limit {
			return false, nil
		}
		own := slices.Clone(k)
		found = append(found, instant{key: own, object: own[1+instantBytes:], at: at, told: bytes.Equal(v, told[:])})
		return len(found) < limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read instants: %w", err)
	}
	return found, nil
}

// Spent tells what is kept because of deletions after an instant: how many there are, and how long their names are, at
// most limit of them. more says that there are more.
func (r *Replica) Spent(after hlc.Time, limit int) (count, bytes uint64, more bool, err error) {
	from := instantKey(tableSpent, after+1, nil)
	err = r.kv.Scan(from, []byte{tableSpent + 1}, func(k, _ []byte) (bool, error) {
		if more = count == uint64(limit); more {
			return false, nil
		}
		count++
		bytes += uint64(len(k))
		return true, nil
	})
	if err != nil {
		return 0, 0, false, fmt.Errorf("read deletions: %w", err)
	}
	return count, bytes, more, nil
}

// instantKey returns a key of table X, V or Y.
func instantKey(table byte, at hlc.Time, object []byte) []byte {
	b := make([]byte, 0, 1+instantBytes+len(object))
	b = binary.BigEndian.AppendUint64(append(b, table), uint64(at))
	return append(b, object...)
}
