package api

import (
	"encoding/binary"
	"math"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// maxOffset bounds how many members a range skips, which costs as many steps.
	maxOffset  = 10_000
	scoreBytes = 8
)

var zsetAPI = typeAPI{
	of:        crdt.TypeZSet,
	operation: zsetOperation,
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Zset{
			Zset: &atollv1.ZSetChange{Size: out.Size, Changed: out.Changed, Score: out.Score},
		}}
	},
	value: func(_ *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		members, _, err := r.ZSetRange(o.Namespace, o.Key, replica.ZSetRange{
			Low: math.Inf(-1), High: math.Inf(1), Limit: valueMembers, MaxBytes: valueMemberBytes,
		})
		if err != nil {
			return nil, err
		}
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Zset{Zset: &atollv1.ZSetValue{Size: o.Size, Members: scoredOf(members)}}}, nil
	},
	query:  checkZSetQuery,
	answer: answerZSet,
}

// additiveOperation returns where an operation of a sorted set is, and whether of the additive one.
func additiveOperation(o *atollv1.Op) (field string, additive bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_ZsetAdd:
		return "op.zset_add", o.ZsetAdd.GetAdditive()
	case *atollv1.Op_ZsetIncr:
		return "op.zset_incr", o.ZsetIncr.GetAdditive()
	case *atollv1.Op_ZsetRemove:
		return "op.zset_remove", o.ZsetRemove.GetAdditive()
	default:
		return "", false
	}
}

// additiveQuery returns where a query of a sorted set is, and whether of the additive one.
func additiveQuery(q *atollv1.QueryOp) (field string, additive bool) {
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_ZsetRange:
		return "query.zset_range", q.ZsetRange.GetAdditive()
	case *atollv1.QueryOp_ZsetScore:
		return "query.zset_score", q.ZsetScore.GetAdditive()
	case *atollv1.QueryOp_ZsetRank:
		return "query.zset_rank", q.ZsetRank.GetAdditive()
	default:
		return "", false
	}
}

func zsetOperation(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	if _, additive := additiveOperation(o); additive {
		return replica.Op{}, nil, false
	}
	switch o := o.GetOp().(type) {
	case *atollv1.Op_ZsetAdd:
		op := replica.Op{Kind: replica.OpZSetAdd, Elements: [][]byte{o.ZsetAdd.GetMember()}, Score: o.ZsetAdd.GetScore()}
		return op, checkScore("op.zset_add", "score", &op), true
	case *atollv1.Op_ZsetIncr:
		op := replica.Op{Kind: replica.OpZSetIncr, Elements: [][]byte{o.ZsetIncr.GetMember()}, Score: o.ZsetIncr.GetDelta()}
		return op, checkScore("op.zset_incr", "delta", &op), true
	case *atollv1.Op_ZsetRemove:
		members := o.ZsetRemove.GetMembers()
		return replica.Op{Kind: replica.OpZSetRemove, Elements: members}, checkElements("op.zset_remove.members", members), true
	default:
		return replica.Op{}, nil, false
	}
}

func checkScore(field, score string, op *replica.Op) *failure {
	if math.IsNaN(op.Score) {
		return invalid(field+"."+score, "must be a number")
	}
	return checkElements(field+".member", op.Elements)
}

func checkZSetQuery(q *atollv1.QueryOp) (*failure, bool) {
	if _, additive := additiveQuery(q); additive {
		return nil, false
	}
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_ZsetRange:
		return checkZSetRange(q.ZsetRange), true
	case *atollv1.QueryOp_ZsetScore:
		return checkElements("query.zset_score.member", [][]byte{q.ZsetScore.GetMember()}), true
	case *atollv1.QueryOp_ZsetRank:
		return checkElements("query.zset_rank.member", [][]byte{q.ZsetRank.GetMember()}), true
	default:
		return nil, false
	}
}

func checkZSetRange(q *atollv1.ZSetRange) *failure {
	const field = "query.zset_range"
	_, ok := zsetCursor(q.GetCursor())
	switch {
	case math.IsNaN(q.GetMinScore()):
		return invalid(field+".min_score", "must be a number")
	case math.IsNaN(q.GetMaxScore()):
		return invalid(field+".max_score", "must be a number")
	case q.GetOffset() > maxOffset:
		return invalid(field+".offset", "must be at most %d", maxOffset)
	case !ok:
		return invalid(field+".cursor", "is none of this service; leave it out to begin from the start")
	default:
		return checkPage(field, q.GetLimit(), nil)
	}
}

// zsetCursor reads the cursor of a range: the score and the name of the last member of a page.
func zsetCursor(cursor []byte) (*crdt.ZSetMember, bool) {
	if len(cursor) == 0 {
		return nil, true
	}
	if len(cursor) <= scoreBytes || len(cursor) > scoreBytes+maxElementBytes {
		return nil, false
	}
	score := math.Float64frombits(binary.BigEndian.Uint64(cursor))
	return &crdt.ZSetMember{Member: string(cursor[scoreBytes:]), Score: score}, !math.IsNaN(score)
}

func appendZSetCursor(m crdt.ZSetMember) []byte {
	return append(binary.BigEndian.AppendUint64(nil, math.Float64bits(m.Score)), m.Member...)
}

func answerZSet(_ *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	position := &atollv1.ZSetPosition{}
	var err error
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_ZsetRange:
		return answerZSetRange(r, q.ZsetRange, o)
	case *atollv1.QueryOp_ZsetScore:
		position.Score, position.Found, err = r.ZSetScore(o.Namespace, o.Key, q.ZsetScore.GetMember())
	case *atollv1.QueryOp_ZsetRank:
		position.Score, position.Rank, position.Found, err = r.ZSetRank(o.Namespace, o.Key, q.ZsetRank.GetMember(), q.ZsetRank.GetReverse())
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetPosition{ZsetPosition: position}}, err
}

func answerZSetRange(r *replica.Replica, q *atollv1.ZSetRange, o *replica.Object) (*atollv1.QueryResult, error) {
	asked := replica.ZSetRange{
		Low: math.Inf(-1), High: math.Inf(1), Reverse: q.GetReverse(), Offset: int(q.GetOffset()),
		Limit: pageLimit(q.GetLimit()), MaxBytes: membersPageBytes,
	}
	if q.MinScore != nil {
		asked.Low = q.GetMinScore()
	}
	if q.MaxScore != nil {
		asked.High = q.GetMaxScore()
	}
	if asked.After, _ = zsetCursor(q.GetCursor()); asked.After != nil {
		asked.Offset = 0 // the first page has skipped them
	}
	members, more, err := r.ZSetRange(o.Namespace, o.Key, asked)
	if err != nil {
		return nil, err
	}
	page := &atollv1.ZSetPage{Members: scoredOf(members), Size: o.Size}
	if more && len(members) > 0 {
		page.Cursor = appendZSetCursor(members[len(members)-1])
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_ZsetRange{ZsetRange: page}}, nil
}

func scoredOf(members []crdt.ZSetMember) []*atollv1.ScoredMember {
	scored := make([]*atollv1.ScoredMember, len(members))
	for i, m := range members {
		scored[i] = &atollv1.ScoredMember{Member: []byte(m.Member), Score: m.Score}
	}
	return scored
}
