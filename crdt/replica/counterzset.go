package replica

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// counterZSetKind keeps the header of a crdt.CounterZSet in table K, each member's counter in elements,
// and their order by score. A member that was removed stays among them while its counter has
// rows: the resets of additions that are still to come, or whose actor may not know that they were reset.
type counterZSetKind struct{}

// counterZSetHeader exists if it has members, also those that have only rows.
type counterZSetHeader struct {
	last crdt.Dot
	elements
	// present counts the members, and traces those that were removed but have rows.
	present, traces uint64
	// leaving are the members that an operation is going to delete, once they were found.
	leaving []*scored
}

// counterZSetActions are what the operations of sorted sets do to this one.
var counterZSetActions = map[OpKind]action{
	OpZSetAdd:    {crdt.TypeCounterZSet, checkCounted, runCounterZSetAdd},
	OpZSetIncr:   {crdt.TypeCounterZSet, checkCounted, runCounterZSetIncr},
	OpZSetRemove: {crdt.TypeCounterZSet, checkElements, runCounterZSetRemove},
}

// append appends the encoding:
//
//	version 1 | last actor | last seq | kid | present | traces
//	version 2 | last actor | last seq | present | traces | elements
func (h *counterZSetHeader) append(b []byte) []byte {
	if len(h.inside) > 0 {
		b = appendDot(append(b, headerVersion2), h.last)
		return h.appendInside(binary.AppendUvarint(binary.AppendUvarint(b, h.present), h.traces))
	}
	b = appendDot(append(b, storeVersion), h.last)
	for _, n := range []uint64{h.kid, h.present, h.traces} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func (h *counterZSetHeader) live(hlc.Time) bool { return h.present > 0 }
func (h *counterZSetHeader) version() string    { return h.last.String() }
func (h *counterZSetHeader) show(o *Object)     { o.Size = h.present }

func decodeCounterZSetHeader(data []byte) (counterZSetHeader, error) {
	const any = ^uint64(0)
	r, version := readHeader("header of a counter zset", data)
	h := counterZSetHeader{last: readDot(r)}
	if version == headerVersion2 {
		h.present, h.traces = r.Uvarint(any), r.Uvarint(any)
		h.elements = readInside(r)
		if n := uint64(len(h.inside)); h.present > n || h.traces != n-h.present {
			r.Fail("%d members and %d traces in %d elements", h.present, h.traces, n)
		}
		return h, r.Done()
	}
	h.kid, h.present, h.traces = r.Uvarint(any), r.Uvarint(any), r.Uvarint(any)
	if h.kid == 0 || h.present == 0 && h.traces == 0 {
		r.Fail("sorted set without id or members")
	}
	return h, r.Done()
}

func (counterZSetKind) decode(data []byte) (stored, error) {
	h, err := decodeCounterZSetHeader(data)
	return &h, err
}

// orderOf returns a score in a form that sorts like it, and scoreAt does the reverse.
func orderOf(score int64) uint64   { return uint64(score) ^ 1<<63 }
func scoreAt(ordered uint64) int64 { return int64(ordered ^ 1<<63) }

// countedOrder is the ordering by the value of a member's counter.
func countedOrder(value []byte) (ordered uint64, in bool, err error) {
	c, err := crdt.DecodeCounter(value)
	return orderOf(c.Value()), !c.Empty(), err
}

func checkCounted(o *Op) error {
	switch {
	case len(o.Elements) != 1:
		return fmt.Errorf("%d members", len(o.Elements))
	case o.Score != math.Trunc(o.Score) || math.Abs(o.Score) > MaxScore: // NaN is not equal to itself
		return fmt.Errorf("%w: %v", ErrScoreRange, o.Score)
	default:
		return checkElements(o)
	}
}

// scored is a member under way: its counter, and what is stored of it.
type scored struct {
	member []byte
	rows   crdt.Counter
	// stored and in report whether it had rows and a score, which was score.
	stored, in bool
	score      int64
}

// scored reads a member.
func (w *work) scored(h *counterZSetHeader, member []byte) (*scored, error) {
	m := &scored{member: member}
	var err error
	m.rows, m.stored, err = h.counted(w.kv, member)
	m.in, m.score = !m.rows.Empty(), m.rows.Value()
	return m, err
}

// counted reads a member's counter, and whether there is one.
func (h *counterZSetHeader) counted(kv reader, member []byte) (crdt.Counter, bool, error) {
	data, ok, err := h.get(kv, member)
	if err != nil || !ok {
		return crdt.Counter{}, false, err
	}
	c, err := crdt.DecodeCounter(data)
	return c, true, err
}

// putScored writes a member's changed rows, and keeps the counts and the order of scores. The header is
// to be written after it.
func (w *work) putScored(h *counterZSetHeader, m *scored) error {
	w.compact(&m.rows)
	stored, in, score := m.rows.Len() > 0, !m.rows.Empty(), m.rows.Value()
	if m.in && (!in || score != m.score) {
		if err := h.index(w, orderOf(m.score), m.member, false); err != nil {
			return err
		}
	}
	if in && (!m.in || score != m.score) {
		if err := h.index(w, orderOf(score), m.member, true); err != nil {
			return err
		}
	}
	h.present += count(in) - count(m.in)
	h.traces += count(stored && !in) - count(m.stored && !m.in)
	switch {
	case stored:
		return h.put(w, m.member, m.rows.Append(nil), countedOrder)
	case m.stored:
		return h.delete(w, m.member)
	default:
		return nil
	}
}

func count(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

// putCounterZSet writes a sorted set's header, or deletes it if nothing is left of the set.
func (w *work) putCounterZSet(objectKey []byte, h *counterZSetHeader) error {
	w.wrote(objectKey, nil)
	if h.present == 0 && h.traces == 0 {
		return w.kv.Delete(objectKey)
	}
	w.data = h.append(w.data[:0])
	return w.kv.Put(objectKey, w.data)
}

// counterZSet returns what the operation's key holds of such a sorted set.
func (o *operation) counterZSet() *counterZSetHeader {
	if h, ok := o.held.get(crdt.TypeCounterZSet).(*counterZSetHeader); ok {
		return h
	}
	return &counterZSetHeader{}
}

// runCounterZSetAdd resets the member's score and adds the operation's: one that has the score already is
// written anew, so that it survives a concurrent remove.
func runCounterZSetAdd(o *operation) (Outcome, []Effect, error) {
	return o.scoreMember(func(m *scored) (crdt.Counter, error) { return m.rows.Set(o.dot, int64(o.Score)), nil })
}

func runCounterZSetIncr(o *operation) (Outcome, []Effect, error) {
	return o.scoreMember(func(m *scored) (crdt.Counter, error) {
		delta, err := m.rows.Add(o.dot, int64(o.Score))
		// What concurrent increments took out of range may come back.
		if now := m.rows.Value(); err == nil && (now > MaxScore && now > m.score || now < -MaxScore && now < m.score) {
			err = ErrScoreRange
		}
		return delta, err
	})
}

// scoreMember changes the score of the operation's member.
func (o *operation) scoreMember(change func(*scored) (crdt.Counter, error)) (Outcome, []Effect, error) {
	h := o.counterZSet()
	m, err := o.work.scored(h, o.Elements[0])
	if err != nil {
		return Outcome{}, nil, err
	}
	if !m.in && h.present >= MaxSetElements {
		return Outcome{}, nil, refuse(ErrTooManyElements)
	}
	delta, err := change(m)
	if err != nil {
		return Outcome{}, nil, refuse(err)
	}
	score := m.rows.Value()
	outcome := Outcome{Score: float64(score), Changed: count(!m.in || score != m.score)}
	return o.storeScored(h, outcome, []*scored{m}, []MemberChange{{Member: m.member, Rows: delta}})
}

// storeScored writes changed members and their header, and returns what the operation answers.
func (o *operation) storeScored(h *counterZSetHeader, outcome Outcome, members []*scored, changes []MemberChange) (Outcome, []Effect, error) {
	for i, m := range members {
		if err := o.work.putScored(h, m); err != nil {
			return Outcome{}, nil, err
		}
		if changes[i].Rows.Resets() {
			if err := o.work.awaitOwners(m.rows, o.dot, o.key(crdt.TypeCounterZSet), m.member); err != nil {
				return Outcome{}, nil, err
			}
		}
	}
	h.last = o.dot
	outcome.Version, outcome.Size = h.version(), h.present
	return outcome, o.effects(crdt.TypeCounterZSet, &CounterZSetChange{changes}), o.work.putCounterZSet(o.key(crdt.TypeCounterZSet), h)
}

// runCounterZSetRemove resets the members that are here.
func runCounterZSetRemove(o *operation) (Outcome, []Effect, error) {
	h := o.counterZSet()
	var leaving []*scored
	for _, member := range ascending(o.Elements) {
		m, err := o.work.scored(h, member)
		if err != nil {
			return Outcome{}, nil, err
		}
		if m.in {
			leaving = append(leaving, m)
		}
	}
	if len(leaving) == 0 {
		return Outcome{Size: h.present}, nil, nil
	}
	if err := boundedRemoval(leaving); err != nil {
		return Outcome{}, nil, err
	}
	return o.resetScored(h, leaving)
}

// resetScored resets members that are here, in ascending order.
func (o *operation) resetScored(h *counterZSetHeader, leaving []*scored) (Outcome, []Effect, error) {
	changes := make([]MemberChange, len(leaving))
	for i, m := range leaving {
		changes[i] = MemberChange{Member: m.member, Rows: m.rows.Reset(o.dot)}
	}
	return o.storeScored(h, Outcome{Changed: uint64(len(leaving))}, leaving, changes)
}

// removalBytes bounds what a delta has of a member's removal. A reset takes less than an entry and a base.
func removalBytes(m *scored) int {
	const rowBytes, memberBytes = 32, 8
	return memberBytes + len(m.member) + len(m.rows.Append(nil)) + rowBytes*m.rows.Len()
}

// boundedRemoval refuses a removal that a delta cannot hold.
func boundedRemoval(leaving []*scored) error {
	size := leavingBytes(leaving)
	if len(leaving) > MaxOperationElements || size > maxChangeBytes {
		return refuse(fmt.Errorf("%w: %d members of %d bytes", ErrChangeTooLarge, len(leaving), size))
	}
	return nil
}

// leavingBytes is at least how large the changes that remove members are.
func leavingBytes(leaving []*scored) int {
	size := 0
	for _, m := range leaving {
		size += removalBytes(m)
	}
	return size
}

// refuseDelete refuses to delete more than one delta can hold: unlike a set's clear, that of counters
// names every row that it resets.
func (counterZSetKind) refuseDelete(o *operation) error {
	h := o.counterZSet()
	if h.present > MaxOperationElements {
		return refuse(fmt.Errorf("%w: %d members", ErrChangeTooLarge, h.present))
	}
	var members [][]byte
	kv, err := h.in(o.work.kv, countedOrder)
	if err != nil {
		return err
	}
	prefix := scorePrefix(h.kid)
	err = kv.Scan(prefix, prefixEnd(prefix), func(k, _ []byte) (bool, error) {
		_, member := scoreOf(k)
		members = append(members, slices.Clone(member))
		return true, nil
	})
	if err != nil {
		return err
	}
	if uint64(len(members)) != h.present {
		return fmt.Errorf("sorted set of %d members has %d scores: %w", h.present, len(members), crdt.ErrCorrupt)
	}
	h.leaving = nil
	for _, member := range ascending(members) {
		m, err := o.work.scored(h, member)
		if err != nil {
			return err
		}
		h.leaving = append(h.leaving, m)
	}
	return boundedRemoval(h.leaving)
}

// deletePart resets the members with the lowest scores.
func (counterZSetKind) deletePart(o *operation) (Outcome, []Effect, error) {
	h := o.counterZSet()
	order, err := h.in(o.work.kv, countedOrder)
	if err != nil {
		return Outcome{}, nil, err
	}
	keys, err := collectKeys(order, scorePrefix(h.kid), MaxOperationElements)
	if err != nil {
		return Outcome{}, nil, err
	}
	members := make([][]byte, len(keys))
	for i, k := range keys {
		_, members[i] = scoreOf(k)
	}
	var leaving []*scored
	size := 0
	for _, member := range ascending(members) {
		m, err := o.work.scored(h, member)
		if err != nil {
			return Outcome{}, nil, err
		}
		if size += removalBytes(m); size > maxChangeBytes {
			break
		}
		leaving = append(leaving, m)
	}
	return o.resetScored(h, leaving)
}

// delete resets every member that refuseDelete found.
func (counterZSetKind) delete(o *operation) (Outcome, []Effect, error) {
	h := o.counterZSet()
	return o.resetScored(h, h.leaving)
}

// merge joins the changed rows, member by member.
func (counterZSetKind) merge(w *work, d *Delta, e *Effect) error {
	key := e.object()
	data, ok, err := w.kv.Get(key)
	if err != nil {
		return err
	}
	var h counterZSetHeader
	if ok {
		if h, err = decodeCounterZSetHeader(data); err != nil {
			return err
		}
	}
	changes := e.Change.(*CounterZSetChange).Members
	for i := range changes {
		m, err := w.scored(&h, changes[i].Member)
		if err != nil {
			return err
		}
		if err := w.mergeRows(contest{d, e, m.member}, &m.rows, changes[i].Rows); err != nil {
			return err
		}
		if err := w.putScored(&h, m); err != nil {
			return err
		}
	}
	h.last = d.Dot
	return w.putCounterZSet(key, &h)
}

func (counterZSetKind) digest(_ *digestSum, _ []byte, s stored, _ hlc.Time) uint64 {
	return s.(*counterZSetHeader).kid
}

// digestElement leaves out rows that are wholly reset, as a counter's digest does.
func (counterZSetKind) digestElement(data []byte) ([]byte, error) {
	c, err := crdt.DecodeCounter(data)
	if live := c.LiveRows(); err == nil && live.Len() > 0 {
		return live.Append(nil), nil
	}
	return nil, err
}
