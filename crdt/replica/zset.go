package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/atolldb/atoll/crdt"
)

// zsetKind keeps members as fields with their scores as values, and table Z in order of the scores.
var zsetKind = fieldsKind{crdt.TypeZSet}

// orderedScore returns a score in a form that sorts like it: of IEEE 754 numbers, those of one sign sort
// like their bits, and the negative ones the other way round.
func orderedScore(score float64) uint64 {
	if score == 0 {
		score = 0 // -0 is no other number
	}
	bits := math.Float64bits(score)
	if bits>>63 == 0 {
		return bits | 1<<63
	}
	return ^bits
}

// scoreFrom is the inverse of orderedScore.
func scoreFrom(ordered uint64) float64 {
	if ordered>>63 == 0 {
		return math.Float64frombits(^ordered)
	}
	return math.Float64frombits(ordered &^ (1 << 63))
}

// scoreValue returns a score as a field's value. -0 becomes 0.
func scoreValue(score float64) []byte {
	if score == 0 {
		score = 0
	}
	return binary.BigEndian.AppendUint64(nil, math.Float64bits(score))
}

// scoreIn reads what scoreValue returned.
func scoreIn(value []byte) (float64, error) {
	if len(value) != scoreBytes {
		return 0, fmt.Errorf("score of %d bytes: %w", len(value), crdt.ErrCorrupt)
	}
	return math.Float64frombits(binary.BigEndian.Uint64(value)), nil
}

func (c *ZSetChange) fault(d *Delta) string {
	if reason := c.FieldsChange.fault(d); reason != "" || c.Action != FieldsPut {
		return reason
	}
	for i := range c.Fields {
		score, err := scoreIn(c.Fields[i].Value)
		if err != nil || math.IsNaN(score) || score == 0 && math.Signbit(score) {
			return "score is none"
		}
	}
	return ""
}

// checkMembers refuses the other sorted set, whose operations are others.
func checkMembers(o *Op) error {
	if o.Type != crdt.TypeZSet {
		return fmt.Errorf("operation of a sorted set on a %v", o.Type)
	}
	return checkElements(o)
}

func checkScore(o *Op) error {
	switch {
	case len(o.Elements) != 1:
		return fmt.Errorf("%d members for one score", len(o.Elements))
	case math.IsNaN(o.Score):
		return crdt.ErrScoreNotANumber
	default:
		return checkMembers(o)
	}
}

func runZSetAdd(o *operation) (Outcome, []Effect, error) { return o.putScore(o.Score) }

// runZSetIncr reads the score and writes the sum: of two concurrent increments the later wins.
func runZSetIncr(o *operation) (Outcome, []Effect, error) {
	reg, err := o.fieldsHeld(crdt.TypeZSet).get(o.Elements[0])
	if err != nil {
		return Outcome{}, nil, err
	}
	score := o.Score
	if reg.Seq != 0 && !reg.Deleted {
		have, err := scoreIn(reg.Value)
		if err != nil {
			return Outcome{}, nil, err
		}
		score += have
	}
	if math.IsNaN(score) { // of infinities
		return Outcome{}, nil, refuse(crdt.ErrScoreNotANumber)
	}
	return o.putScore(score)
}

func (o *operation) putScore(score float64) (Outcome, []Effect, error) {
	outcome, effects, err := o.putFields(zsetKind, []FieldChange{{Name: o.Elements[0], Value: scoreValue(score)}})
	outcome.Score = score
	return outcome, effects, err
}

func runZSetRemove(o *operation) (Outcome, []Effect, error) { return o.removeFields(zsetKind) }

// ZSetRange asks for members of a crdt.ZSet in order of (score, member).
type ZSetRange struct {
	// Low and High bound the score, both included.
	Low, High float64
	// Reverse begins with the largest score; members of one score come in reverse order then, too.
	Reverse bool
	// After is the last member of the page before; nil for the first page.
	After *crdt.ZSetMember
	// Offset is how many members to skip.
	Offset int
	// The page ends at Limit members, or once they have MaxBytes bytes; unless Limit is 0 it has at least
	// one if there is one.
	Limit, MaxBytes int
}

// bounds returns the keys of the range in table Z: none unless start is before end.
func (q *ZSetRange) bounds(kid uint64) (start, end []byte) {
	start = scoreKey(kid, orderedScore(q.Low), nil)
	end = prefixEnd(scoreKey(kid, orderedScore(q.High), nil))
	if q.After == nil {
		return start, end
	}
	after := scoreKey(kid, orderedScore(q.After.Score), []byte(q.After.Member))
	switch {
	case !q.Reverse:
		if after = append(after, 0); bytes.Compare(after, start) > 0 {
			start = after
		}
	case bytes.Compare(after, end) < 0:
		end = after
	}
	return start, end
}

// ZSetRange returns a page of members, and whether there are more. They are the caller's.
func (r *Replica) ZSetRange(namespace, key string, q ZSetRange) (members []crdt.ZSetMember, more bool, err error) {
	h, err := r.fieldsAt(namespace, key, crdt.TypeZSet)
	if err != nil {
		return nil, false, fmt.Errorf("read header of a sorted set: %w", err)
	}
	start, end := q.bounds(h.kid)
	if h.count == 0 || q.Low > q.High || bytes.Compare(start, end) >= 0 {
		return nil, false, nil
	}
	kv, err := h.in(r.kv, zsetKind.ordering())
	if err != nil {
		return nil, false, fmt.Errorf("order members: %w", err)
	}
	page := scorePage{start, end, q.Reverse, q.Offset, q.Limit, q.MaxBytes}
	more, err = page.read(kv, func(ordered uint64, member []byte) {
		members = append(members, crdt.ZSetMember{Member: string(member), Score: scoreFrom(ordered)})
	})
	return members, more, err
}

// ZSetScore returns a member's score, and whether it is in the set.
func (r *Replica) ZSetScore(namespace, key string, member []byte) (score float64, ok bool, err error) {
	_, score, ok, err = r.zsetScore(namespace, key, member)
	return score, ok, err
}

func (r *Replica) zsetScore(namespace, key string, member []byte) (h fieldsHeader, score float64, ok bool, err error) {
	h, err = r.fieldsAt(namespace, key, crdt.TypeZSet)
	if err != nil {
		return h, 0, false, fmt.Errorf("read header of a sorted set: %w", err)
	}
	if len(member) == 0 {
		return h, 0, false, nil
	}
	reg, err := h.field(r.kv, member)
	if err == nil && reg.Seq != 0 && !reg.Deleted {
		score, err = scoreIn(reg.Value)
		ok = true
	}
	if err != nil {
		return h, 0, false, fmt.Errorf("read member: %w", err)
	}
	return h, score, ok, nil
}

// ZSetRank returns a member's score, and how many members are before it, or after it if reverse; ok is
// false if it is not in the set. It counts them: it costs as many steps.
func (r *Replica) ZSetRank(namespace, key string, member []byte, reverse bool) (score float64, rank uint64, ok bool, err error) {
	h, score, ok, err := r.zsetScore(namespace, key, member)
	if err != nil || !ok {
		return 0, 0, false, err
	}
	kv, err := h.in(r.kv, zsetKind.ordering())
	if err == nil {
		rank, err = rankOf(kv, h.kid, orderedScore(score), member, reverse)
	}
	return score, rank, err == nil, err
}
