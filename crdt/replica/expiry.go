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

// Name is what a register is called.
type Name struct{ Namespace, Key string }

// putRegister writes a register in place of old, whose Seq is 0 if there is none, and keeps what is to
// be done about it later: X says when it expires, Y from when on nobody needs a tombstone.
func (w *work) putRegister(namespace, key string, old, reg *crdt.LWWRegister) error {
	object := objectKey(namespace, key, crdt.TypeLWWRegister)
	if err := w.forgetInstants(object, old); err != nil {
		return err
	}
	var err error
	switch {
	case reg.Deleted:
		err = w.kv.Put(instantKey(tableSpent, reg.Time, object), marker[:])
	case reg.Expires != 0:
		err = w.kv.Put(instantKey(tableExpiry, reg.Expires, object), marker[:])
	}
	if err != nil {
		return err
	}
	w.wrote(object, reg)
	return w.kv.Put(object, reg.Append(make([]byte, 0, len(reg.Value)+32)))
}

// forgetInstants deletes what tables X and Y say of a register.
func (w *work) forgetInstants(object []byte, reg *crdt.LWWRegister) error {
	switch {
	case reg.Seq == 0:
		return nil
	case reg.Deleted:
		return w.kv.Delete(instantKey(tableSpent, reg.Time, object))
	case reg.Expires != 0:
		if err := w.kv.Delete(instantKey(tableExpiry, reg.Expires, object)); err != nil {
			return err
		}
		return w.kv.Delete(instantKey(tableSpent, reg.Expires, object))
	}
	return nil
}

// Due reports whether Expire would do something.
func (r *Replica) Due(now, cut hlc.Time) (bool, error) {
	for _, t := range []struct {
		table byte
		until hlc.Time
	}{{tableExpiry, now}, {tableSpent, cut}} {
		found, err := instants(r.kv, t.table, t.until, 1)
		if err != nil || len(found) > 0 {
			return len(found) > 0, err
		}
	}
	return false, nil
}

// Expire returns up to limit registers that have expired by now, each once, and removes up to limit
// registers that were deleted, or had expired, by cut, or what other values keep because of a delete or
// an event up to cut. No event from before cut may be still to come:
// cut is at most the instant of the last event applied from every other region. The result is a
// function of the replica's state and the arguments.
func (r *Replica) Expire(now, cut hlc.Time, limit int) ([]Name, error) {
	w := r.begin(false)
	expired, err := instants(r.kv, tableExpiry, now, limit)
	if err != nil {
		return nil, err
	}
	var names []Name
	for _, e := range expired {
		namespace, key, _, err := parseObjectKey(e.object)
		if err != nil {
			return nil, err
		}
		names = append(names, Name{namespace, key})
		if err := w.kv.Delete(e.key); err != nil {
			return nil, err
		}
		if err := w.kv.Put(instantKey(tableSpent, e.at, e.object), marker[:]); err != nil {
			return nil, err
		}
	}
	spent, err := instants(r.kv, tableSpent, cut, limit)
	if err != nil {
		return nil, err
	}
	for _, s := range spent {
		if err := w.kv.Delete(s.key); err != nil {
			return nil, err
		}
		if err := w.collect(s.object, cut); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// collect removes what a pair of table Y names, given what its key has behind the instant.
func (w *work) collect(named []byte, cut hlc.Time) error {
	object, t, rest, err := cutObjectKey(named)
	if err != nil {
		return err
	}
	if c, ok := kinds[t].(collector); ok {
		return c.collect(w, object, cut, rest)
	}
	w.wrote(object, nil)
	return w.kv.Delete(object)
}

// instant is one pair of table X or Y: a register, and when something is to be done about it.
type instant struct {
	key, object []byte
	at          hlc.Time
}

// instants returns up to limit pairs of a table up to an instant, inclusive.
func instants(kv KV, table byte, until hlc.Time, limit int) ([]instant, error) {
	var found []instant
	err := kv.Scan([]byte{table}, []byte{table + 1}, func(k, _ []byte) (bool, error) {
		if len(k) <= 1+instantBytes || !bytes.HasPrefix(k[1+instantBytes:], []byte{tableObject}) {
			return false, fmt.Errorf("key of an instant: %w", crdt.ErrCorrupt)
		}
		at := hlc.Time(binary.BigEndian.Uint64(k[1:]))
		if at > until || len(found) == limit {
			return false, nil
		}
		own := slices.Clone(k)
		found = append(found, instant{key: own, object: own[1+instantBytes:], at: at})
		return len(found) < limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read instants: %w", err)
	}
	return found, nil
}

// instantKey returns a key of table X or Y.
func instantKey(table byte, at hlc.Time, object []byte) []byte {
	b := make([]byte, 0, 1+instantBytes+len(object))
	b = binary.BigEndian.AppendUint64(append(b, table), uint64(at))
	return append(b, object...)
}
