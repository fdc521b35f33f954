package api

import (
	"encoding/binary"
	"math"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// countZSetAPI is about sorted sets with counters as scores: what says that it is additive.
var countZSetAPI = typeAPI{
	of:        crdt.TypeCounterZSet,
	operation: countZSetOperation,
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{
			Zset: &atollv1.ZSetChange{Size: out.Size, Changed: out.Changed, Score: out.Score},
		}}
	},
	value: func(_ *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		members, _, err := r.CounterZSetRange(o.Namespace, o.Key, replica.CounterZSetRange{
			Low: math.MinInt64, High: math.MaxInt64, Limit: valueMembers, MaxBytes: valueMemberBytes,
		})
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Zset{
			Zset: &atollv1.ZSetValue{Size: o.Size, Members: countedMembers(members)},
		}}, err
	},
	query:  checkCountZSetQuery,
	answer: answerCountZSet,
}

func countedMembers(members []crdt.CountedMember) []*atollv1.ScoredMember {
	out := make([]*atollv1.ScoredMember, len(members))
	for i, m := range members {
		out[i] = &atollv1.ScoredMember{Member: []byte(m.Member), Score: float64(m.Score)}
	}
	return out
}

func countZSetOperation(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_ZsetAdd:
		a := o.ZsetAdd
		op, f := countedOperation(replica.OpZSetAdd, "op.zset_add", a.GetMember(), "score", a.GetScore())
		return op, f, a.GetAdditive()
	case *atollv1.Op_ZsetIncr:
		i := o.ZsetIncr
		op, f := countedOperation(replica.OpZSetIncr, "op.zset_incr", i.GetMember(), "delta", i.GetDelta())
		return op, f, i.GetAdditive()
	case *atollv1.Op_ZsetRemove:
		members := o.ZsetRemove.GetMembers()
		return replica.Op{Kind: replica.OpZSetRemove, Elements: members}, checkElements("op.zset_remove.members", members), o.ZsetRemove.GetAdditive()
	default:
		return replica.Op{}, nil, false
	}
}

func countedOperation(kind replica.OpKind, field string, member []byte, name string, score float64) (replica.Op, *failure) {
	f := checkElements(field+".member", [][]byte{member})
	if f == nil && (score != math.Trunc(score) || math.Abs(score) > replica.MaxScore) { // NaN is not equal to itself
		f = invalid(field+"."+name, "must be a whole number of at most 2^53 in an additive sorted set")
	}
	return replica.Op{Kind: kind, Elements: [][]byte{member}, Score: score}, f
}

func checkCountZSetQuery(q *atollv1.QueryOp) (*failure, bool) {
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_ZsetRange:
		return checkCountZSetRange(q.ZsetRange), q.ZsetRange.GetAdditive()
	case *atollv1.QueryOp_ZsetScore:
		return checkElements("query.zset_score.member", [][]byte{q.ZsetScore.GetMember()}), q.ZsetScore.GetAdditive()
	case *atollv1.QueryOp_ZsetRank:
		return checkElements("query.zset_rank.member", [][]byte{q.ZsetRank.GetMember()}), q.ZsetRank.GetAdditive()
	default:
		return nil, false
	}
}

const (
	maxRangeOffset   = 10_000
	countCursorBytes = 8 // before the member
)

func checkCountZSetRange(q *atollv1.ZSetRange) *failure {
	const field = "query.zset_range"
	cursor := q.GetCursor()
	switch {
	case math.IsNaN(q.GetMinScore()):
		return invalid(field+".min_score", "must be a number")
	case math.IsNaN(q.GetMaxScore()):
		return invalid(field+".max_score", "must be a number")
	case q.GetOffset() > maxRangeOffset:
		return invalid(field+".offset", "must be at most %d", maxRangeOffset)
	case len(cursor) > 0 && q.GetOffset() > 0:
		return invalid(field+".offset", "must be 0 behind a cursor")
	case len(cursor) > 0 && (len(cursor) <= countCursorBytes || len(cursor) > countCursorBytes+maxElementBytes):
		return invalid(field+".cursor", "is not one of this service; leave it out to begin anew")
	default:
		return checkPage(field, q.GetLimit(), nil)
	}
}

// countRange returns a range for the replica. Bounds between whole numbers are moved inwards.
func countRange(q *atollv1.ZSetRange) replica.CounterZSetRange {
	r := replica.CounterZSetRange{
		Low: math.MinInt64, High: math.MaxInt64, Reverse: q.GetReverse(),
		Offset: int(q.GetOffset()), Limit: pageLimit(q.GetLimit()), MaxBytes: membersPageBytes,
	}
	const edge = 1 << 63 // the first float64 that is over the range of int64
	if low := q.GetMinScore(); q.MinScore != nil && low >= edge {
		r.Limit = 0
	} else if q.MinScore != nil && low > -edge {
		r.Low = int64(math.Ceil(low))
	}
	if high := q.GetMaxScore(); q.MaxScore != nil && high < -edge {
		r.Limit = 0
	} else if q.MaxScore != nil && high < edge {
		r.High = int64(math.Floor(high))
	}
	if c := q.GetCursor(); len(c) > 0 {
		score := int64(binary.BigEndian.Uint64(c))
		r.After = &crdt.CountedMember{Score: score, Member: string(c[countCursorBytes:])}
	}
	return r
}

// countCursor names a member for the next page.
func countCursor(m crdt.CountedMember) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(m.Score)), m.Member...)
}

func answerCountZSet(_ *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	position := &atollv1.ZSetPosition{}
	var score int64
	var err error
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_ZsetScore:
		score, position.Found, err = r.CounterZSetScore(o.Namespace, o.Key, q.ZsetScore.GetMember())
	case *atollv1.QueryOp_ZsetRank:
		score, position.Rank, position.Found, err = r.CounterZSetRank(o.Namespace, o.Key, q.ZsetRank.GetMember(), q.ZsetRank.GetReverse())
	default:
		return countPage(r, countRange(q.(*atollv1.QueryOp_ZsetRange).ZsetRange), o)
	}
	position.Score = float64(score)
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetPosition{ZsetPosition: position}}, err
}

func countPage(r *replica.Replica, q replica.CounterZSetRange, o *replica.Object) (*atollv1.QueryResult, error) {
	page := &atollv1.ZSetPage{Size: o.Size}
	if q.Limit > 0 {
		members, more, err := r.CounterZSetRange(o.Namespace, o.Key, q)
		if err != nil {
			return nil, err
		}
		page.Members = countedMembers(members)
		if more {
			page.Cursor = countCursor(members[len(members)-1])
		}
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetRange{ZsetRange: page}}, nil
}
