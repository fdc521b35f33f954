package crdt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/atolldb/atoll/hlc"
)

// ErrScoreNotANumber means that a score is NaN, which has no place in an order.
var ErrScoreNotANumber = errors.New("score is not a number")

// ZSetMember is a member of a ZSet and its score.
type ZSetMember struct {
	Member string
	Score  float64
}

// Compare orders members by score, then by name.
func (m ZSetMember) Compare(o ZSetMember) int {
	return cmp.Or(cmp.Compare(m.Score, o.Score), cmp.Compare(m.Member, o.Member))
}

// ZSet is a last-writer-wins sorted set: members with a score each, in order of (score, member). The
// last event that concerns a member, by (time, actor), decides whether it is in the set, and its
// score. It is an LWWMap from members to scores, and all that is said there holds: the tie rule, what
// deletes win over and leave, what garbage collection needs, the laws.
//
// An increment of a score is a read and an Add by the caller; of two concurrent ones one is lost. A
// CounterZSet keeps both.
//
// Scores are all float64 but NaN; -0 becomes 0, so that equal scores have one encoding. Size: per
// member, or tombstone of one, its name and about 23 bytes. Range, ByScore and Rank sort the whole
// set: this is the whole-state form, and a region keeps an index by score instead.
//
// A copy by assignment shares memory with the original: Clone before changing either.
type ZSet struct {
	members LWWMap
}

// Add gives a member a score as event d at an instant, and returns the change as a set to join
// elsewhere. It has no effect if the set holds a later event of the member. It returns
// ErrScoreNotANumber, and changes nothing, if the score is NaN. A member has 1 to MaxElementBytes
// bytes.
func (z *ZSet) Add(at hlc.Time, d Dot, member string, score float64) (ZSet, error) {
	if math.IsNaN(score) {
		return ZSet{}, ErrScoreNotANumber
	}
	return ZSet{z.members.Put(at, d, member, scoreBytes(score))}, nil
}

// Remove removes a member as event d at an instant, and returns the change as a set to join elsewhere.
func (z *ZSet) Remove(at hlc.Time, d Dot, member string) ZSet {
	return ZSet{z.members.Remove(at, d, member)}
}

// Delete removes every member as event d at an instant, and returns the change as a set to join
// elsewhere. Members whose score was written later stay.
func (z *ZSet) Delete(at hlc.Time, d Dot) ZSet { return ZSet{z.members.Delete(at, d)} }

// Join merges o, which may be a whole set or a change.
func (z *ZSet) Join(o ZSet) { z.members.Join(o.members) }

// Collect drops what removes and deletes up to cut have left, as LWWMap.Collect does.
func (z *ZSet) Collect(cut hlc.Time) { z.members.Collect(cut) }

// Score returns a member's score, and whether the member is in the set.
func (z ZSet) Score(member string) (float64, bool) {
	value, ok := z.members.Get(member)
	if !ok {
		return 0, false
	}
	return scoreOf(value), true
}

// Len returns the number of members.
func (z ZSet) Len() int { return z.members.Len() }

// Rank returns how many members come before a member, and whether it is in the set.
func (z ZSet) Rank(member string) (int, bool) {
	score, ok := z.Score(member)
	if !ok {
		return 0, false
	}
	return slices.BinarySearchFunc(z.sorted(), ZSetMember{member, score}, ZSetMember.Compare)
}

// Range returns the members of ranks from (counted from 0) to before to, in order of (score, member).
// Ranks that no member has are left out.
func (z ZSet) Range(from, to int) []ZSetMember {
	all := z.sorted()
	from = min(max(from, 0), len(all))
	return all[from:max(from, min(to, len(all)))]
}

// ByScore returns the members with a score of at least low and at most high, in order of (score,
// member). math.Nextafter makes of a bound one that leaves it out.
func (z ZSet) ByScore(low, high float64) []ZSetMember {
	return slices.DeleteFunc(z.sorted(), func(m ZSetMember) bool { return !(m.Score >= low && m.Score <= high) })
}

func (z ZSet) sorted() []ZSetMember {
	all := make([]ZSetMember, 0, len(z.members.fields))
	for member, r := range z.members.fields {
		if !r.Deleted {
			all = append(all, ZSetMember{member, scoreOf(r.Value)})
		}
	}
	slices.SortFunc(all, ZSetMember.Compare)
	return all
}

// Register returns the last write of a member, as LWWMap.Register does; its value is the score as the
// encoding has it.
func (z ZSet) Register(member string) LWWRegister { return z.members.Register(member) }

// Deleted returns the last delete of the whole set, or the zero register.
func (z ZSet) Deleted() LWWRegister { return z.members.Deleted() }

// Equal reports whether two sets have the same members, scores, tombstones and last delete.
func (z ZSet) Equal(o ZSet) bool { return z.members.Equal(o.members) }

// Clone returns a copy that shares no memory that is ever changed.
func (z ZSet) Clone() ZSet { return ZSet{z.members.Clone()} }

// Append appends the set's encoding: that of an LWWMap from members to scores, each of which is the
// eight big-endian bytes of its IEEE 754 form.
func (z ZSet) Append(b []byte) []byte { return z.members.Append(b) }

// DecodeZSet reads what Append wrote. The set shares data's memory.
func DecodeZSet(data []byte) (ZSet, error) {
	members, err := readMap("sorted set", data, scoreFault)
	return ZSet{members}, err
}

const scoreSize = 8

func scoreFault(value []byte) string {
	switch {
	case len(value) != scoreSize:
		return "score not of 8 bytes"
	case math.IsNaN(scoreOf(value)):
		return "score is not a number"
	case scoreOf(value) == 0 && math.Signbit(scoreOf(value)):
		return "score -0"
	default:
		return ""
	}
}

func scoreBytes(score float64) []byte {
	if score == 0 {
		score = 0 // -0 equals 0 and would have an encoding of its own
	}
	return binary.BigEndian.AppendUint64(nil, math.Float64bits(score))
}

func scoreOf(value []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(value)) }
