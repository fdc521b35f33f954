package replica

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// The window of losers that a replica keeps. When it is full the oldest go.
const (
	MaxLosers     = 4096
	MaxLoserBytes = 4 << 20
)

// Loser is a value that a merge here decided against: of two concurrent writes of a register, a field or a
// score, the earlier one.
type Loser struct {
	// ID numbers the losers of a replica's region and partition, from 1 on in the order of the decisions.
	ID uint64
	Namespace,
	Key string
	// Path is where in the observed-remove map under the key the value was; the root if it was the key's own.
	Path crdt.Path
	Type crdt.Type
	// Field is the field's name or the member, empty for registers.
	Field []byte
	// Value is what was written; of a sorted set, the eight big-endian bytes of a float64. Expires is 0
	// for a value that does not.
	Value   []byte
	Expires hlc.Time
	// Lost and Won name the two events, which were at LostAt and WonAt.
	Lost, Won     crdt.Dot
	LostAt, WonAt hlc.Time
}

// loserWindow says what table B holds: the losers from first to before next.
type loserWindow struct {
	first, next  uint64
	bytes, letGo uint64
}

// loserOf returns what is kept of a write that lost. It shares no memory with the storage.
func loserOf(c contest, lost, won *crdt.LWWRegister) Loser {
	return Loser{
		Namespace: c.effect.Namespace, Key: c.effect.Key, Path: c.effect.Path, Type: c.effect.Type,
		Field: slices.Clone(c.field), Value: slices.Clone(lost.Value), Expires: lost.Expires,
		Lost: lost.Dot(), LostAt: lost.Time, Won: won.Dot(), WonAt: won.Time,
	}
}

// size is what a loser counts for in the window.
func (l *Loser) size() uint64 {
	const rest = 96 // the key in table B, two events, lengths
	return uint64(len(l.Namespace) + len(l.Key) + len(l.Path.Encoded()) + len(l.Field) + len(l.Value) + rest)
}

// Score returns the score that a member of a sorted set would have had.
func (l *Loser) Score() (float64, error) { return scoreIn(l.Value) }

// Restore returns the operation that writes the value again.
func (l *Loser) Restore() (Op, error) {
	op := Op{Namespace: l.Namespace, Key: l.Key, Path: l.Path, Restores: true}
	switch l.Type {
	case crdt.TypeLWWRegister:
		op.Kind, op.Value, op.Expires = OpPut, l.Value, l.Expires
		return op, nil
	case crdt.TypeLWWMap:
		op.Kind, op.Elements, op.Values = OpMapPut, [][]byte{l.Field}, [][]byte{l.Value}
		return op, nil
	case crdt.TypeZSet:
		score, err := l.Score()
		op.Kind, op.Type, op.Elements, op.Score = OpZSetAdd, l.Type, [][]byte{l.Field}, score
		return op, err
	default:
		return op, fmt.Errorf("loser of %v: %w", l.Type, crdt.ErrCorrupt)
	}
}

// add takes in a loser, and lets go of the oldest if there are more than a window holds.
func (d *decisions) add(l Loser) {
	d.losers, d.bytes = append(d.losers, l), d.bytes+l.size()
	for len(d.losers) > MaxLosers || d.bytes > MaxLoserBytes {
		d.bytes -= d.losers[0].size()
		d.losers = d.losers[1:]
		d.letGo++
		d.full = true
	}
}

// keepLosers writes the losers of a work.
func (w *work) keepLosers() error {
	added := &w.conflicts
	if len(added.losers) == 0 {
		return nil
	}
	window := &w.meta.losers
	window.letGo += added.letGo
	for window.first < window.next && (added.full ||
		window.next-window.first+uint64(len(added.losers)) > MaxLosers || window.bytes+added.bytes > MaxLoserBytes) {
		if err := w.dropFirstLoser(); err != nil {
			return err
		}
	}
	for i := range added.losers {
		if window.next == 0 {
			window.first, window.next = 1, 1
		}
		l := &added.losers[i]
		if err := w.kv.Put(loserKey(window.next), l.append(nil)); err != nil {
			return err
		}
		window.next++
		window.bytes += l.size()
	}
	return nil
}

func (w *work) dropFirstLoser() error {
	window := &w.meta.losers
	l, ok, err := readLoser(w.kv, window.first)
	if err != nil {
		return err
	}
	if !ok || l.size() > window.bytes {
		return fmt.Errorf("loser %d: %w", window.first, crdt.ErrCorrupt)
	}
	if err := w.kv.Delete(loserKey(window.first)); err != nil {
		return err
	}
	window.bytes -= l.size()
	window.first++
	window.letGo++
	return nil
}

func loserKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{tableLosers}, id) }

// append appends the encoding:
//
//	version 1 | namespace bytes | key bytes | path bytes | type 1 | field bytes | value bytes | expires 8
//	lost dot | time 8 | won dot | time 8
func (l *Loser) append(b []byte) []byte {
	b = codec.AppendBytes(codec.AppendBytes(append(b, storeVersion), l.Namespace), l.Key)
	b = codec.AppendBytes(b, l.Path.Encoded())
	b = codec.AppendBytes(codec.AppendBytes(append(b, byte(l.Type)), l.Field), l.Value)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Expires))
	b = binary.BigEndian.AppendUint64(appendDot(b, l.Lost), uint64(l.LostAt))
	return binary.BigEndian.AppendUint64(appendDot(b, l.Won), uint64(l.WonAt))
}

func decodeLoser(data []byte) (Loser, error) {
	r := codec.NewReader("loser", data, storeVersion)
	l := Loser{Namespace: string(r.Bytes(MaxNamespaceBytes)), Key: string(r.Bytes(MaxKeyBytes))}
	path, err := crdt.ParsePath(r.Bytes(maxPathBytes))
	if err != nil {
		r.FailWith(err)
	}
	l.Path, l.Type = path, crdt.Type(r.Byte())
	l.Field = slices.Clone(r.Bytes(crdt.MaxElementBytes))
	l.Value = slices.Clone(r.Bytes(crdt.MaxValueBytes))
	l.Expires = hlc.Time(r.Uint64())
	l.Lost, l.LostAt = readDot(r), hlc.Time(r.Uint64())
	l.Won, l.WonAt = readDot(r), hlc.Time(r.Uint64())
	return l, r.Done()
}

func readLoser(kv KV, id uint64) (Loser, bool, error) {
	data, ok, err := kv.Get(loserKey(id))
	if err != nil || !ok {
		return Loser{}, false, err
	}
	l, err := decodeLoser(data)
	l.ID = id
	return l, true, err
}

// Loser returns a loser by its number, if it is still kept. It is the caller's.
func (r *Replica) Loser(id uint64) (Loser, bool, error) {
	l, ok, err := readLoser(r.kv, id)
	if err != nil {
		return Loser{}, false, fmt.Errorf("read loser %d: %w", id, err)
	}
	return l, ok, nil
}

// LoserQuery selects losers.
type LoserQuery struct {
	// Namespace, if not nil, is the one that keys are in. Key is theirs, unless it is empty, and Prefix is
	// what they begin with.
	Namespace   *string
	Key, Prefix string
	// Before, unless it is 0, is a number that theirs are below.
	Before uint64
	// Limit bounds how many are returned, and Bytes how large, but one is always.
	Limit int
	Bytes uint64
}

func (q *LoserQuery) matches(l *Loser) bool {
	return (q.Namespace == nil || *q.Namespace == l.Namespace) &&
		(q.Key == "" || q.Key == l.Key) && strings.HasPrefix(l.Key, q.Prefix)
}

// Losers returns the losers that a query selects, the newest first, and whether there are more.
func (r *Replica) Losers(q LoserQuery) (losers []Loser, more bool, err error) {
	window, size := &r.meta.losers, uint64(0)
	next := window.next
	if q.Before != 0 {
		next = min(next, q.Before)
	}
	for id := next; id > window.first; id-- {
		l, ok, err := readLoser(r.kv, id-1)
		if err == nil && !ok {
			err = crdt.ErrCorrupt
		}
		if err != nil {
			return nil, false, fmt.Errorf("read loser %d: %w", id-1, err)
		}
		if !q.matches(&l) {
			continue
		}
		if size += l.size(); len(losers) >= q.Limit || len(losers) > 0 && size > q.Bytes {
			return losers, true, nil
		}
		losers = append(losers, l)
	}
	return losers, false, nil
}

// LosersLetGo returns how many losers are not kept any more.
func (r *Replica) LosersLetGo() uint64 { return r.meta.losers.letGo }
