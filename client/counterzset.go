package client

import (
	"context"
	"iter"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// CounterZSet is a sorted set whose scores are counters: increments made in different regions at once
// all count. Members are 1 to 1024 bytes, and scores whole numbers. They are in order of score, then of
// bytes.
//
// An increment survives a removal or an Add made at once in another region: it adds to what they leave.
// So do the scores of two Adds made at once.
//
// A region takes scores from -2^53 to 2^53; increments of several regions can exceed that together, and
// are rounded to the nearest float64 then.
type CounterZSet struct {
	client *Client
	key    string
}

// CountedMember is a member of a [CounterZSet] and its score.
type CountedMember struct {
	Member []byte
	Score  int64
}

// CounterZSetChange is what an operation did to a [CounterZSet]. It is zero for one with
// [WithLocalDurability].
type CounterZSetChange struct {
	// Size is the number of members after the operation, in the region.
	Size uint64
	// Changed is how many members entered or left, or got another score.
	Changed uint64
	// Score is the score of the member that was added or incremented.
	Score int64
}

// CounterZSetRange says which members [CounterZSet.Range] yields. The zero value means all, by score.
type CounterZSetRange struct {
	// Min and Max bound the score, both included; nil means no bound.
	Min, Max *int64
	// Reverse begins with the largest score.
	Reverse bool
	// Offset is how many to skip, at most 10 000: the rank of the first one.
	Offset uint32
	// Limit is how many to yield; 0 means all.
	Limit uint64
}

// CounterZSet returns the sorted set under a key. It does not have to exist: it begins empty.
func (c *Client) CounterZSet(key string) *CounterZSet { return &CounterZSet{client: c, key: key} }

// Add makes score the member's score as the region sees it. Increments made elsewhere meanwhile add to
// it.
//
// Errors: ErrWrongType, ErrInvalidArgument if the score is out of range, ErrOverloaded with reason
// [ReasonQuotaExceeded] if the region has a million members.
func (z *CounterZSet) Add(ctx context.Context, member []byte, score int64, opts ...WriteOption) (CounterZSetChange, error) {
	return z.update(ctx, counterZSetAdd(member, score), opts)
}

// Incr adds n, which may be negative, to the member's score; that of a new member is n.
//
// Errors: as Add's.
func (z *CounterZSet) Incr(ctx context.Context, member []byte, n int64, opts ...WriteOption) (CounterZSetChange, error) {
	return z.update(ctx, counterZSetIncr(member, n), opts)
}

// Remove removes members as the region sees them, at most 10 000. Increments made elsewhere meanwhile
// survive. A sorted set of more members than that cannot be deleted as a whole ([Client.Delete] answers
// ErrInvalidArgument with reason [ReasonBatchTooLarge]): remove them first.
func (z *CounterZSet) Remove(ctx context.Context, members [][]byte, opts ...WriteOption) (CounterZSetChange, error) {
	return z.update(ctx, counterZSetRemove(members), opts)
}

// Score returns a member's score, and whether it is a member.
func (z *CounterZSet) Score(ctx context.Context, member []byte, opts ...ReadOption) (score int64, ok bool, err error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetScore{ZsetScore: &atollv1.ZSetScore{Member: member, Additive: true}}}
	res, err := z.client.query(ctx, z.key, q, opts)
	return wholeScore(res.GetZsetPosition().GetScore()), res.GetZsetPosition().GetFound(), err
}

// Rank returns how many members are before a member, or behind it if reverse, and whether it is a
// member. The server counts them: it costs as many steps.
func (z *CounterZSet) Rank(ctx context.Context, member []byte, reverse bool, opts ...ReadOption) (rank uint64, ok bool, err error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{ZsetRank: &atollv1.ZSetRank{Member: member, Reverse: reverse, Additive: true}}}
	res, err := z.client.query(ctx, z.key, q, opts)
	return res.GetZsetPosition().GetRank(), res.GetZsetPosition().GetFound(), err
}

// Range yields members in order of (score, member), and ends after the first error. They are read a page
// at a time: each page is linearizable by itself, the iteration as a whole is not, and a member whose
// score changes meanwhile may come twice or not at all.
func (z *CounterZSet) Range(ctx context.Context, r CounterZSetRange, opts ...ReadOption) iter.Seq2[CountedMember, error] {
	return func(yield func(CountedMember, error) bool) {
		q := &atollv1.ZSetRange{Reverse: r.Reverse, Offset: r.Offset, Additive: true, MinScore: bound(r.Min), MaxScore: bound(r.Max)}
		for left := r.Limit; ; {
			q.Limit = membersPage
			if r.Limit > 0 {
				q.Limit = uint32(min(left, membersPage))
			}
			res, err := z.client.query(ctx, z.key, &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRange{ZsetRange: q}}, opts)
			if err != nil {
				yield(CountedMember{}, err)
				return
			}
			page := res.GetZsetRange()
			for _, m := range countedMembers(page.GetMembers()) {
				if !yield(m, nil) {
					return
				}
			}
			left -= min(left, uint64(len(page.GetMembers())))
			q = &atollv1.ZSetRange{Reverse: q.Reverse, Cursor: page.GetCursor(), Additive: true, MinScore: q.MinScore, MaxScore: q.MaxScore}
			if len(q.Cursor) == 0 || r.Limit > 0 && left == 0 {
				return
			}
		}
	}
}

// bound returns a bound of scores for the server.
func bound(score *int64) *float64 {
	if score == nil {
		return nil
	}
	f := float64(*score)
	return &f
}

// wholeScore returns a score of the server, which is a whole number.
func wholeScore(score float64) int64 {
	if score >= 1<<63 {
		return 1<<63 - 1 // rounded up from less
	}
	return int64(score)
}

func countedMembers(members []*atollv1.ScoredMember) []CountedMember {
	var out []CountedMember
	for _, m := range members {
		out = append(out, CountedMember{Member: m.GetMember(), Score: wholeScore(m.GetScore())})
	}
	return out
}

func (z *CounterZSet) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (CounterZSetChange, error) {
	res, err := z.client.update(ctx, z.key, op, opts)
	return counterZSetChange(res.GetResult().GetZset()), err
}

func counterZSetChange(c *atollv1.ZSetChange) CounterZSetChange {
	return CounterZSetChange{Size: c.GetSize(), Changed: c.GetChanged(), Score: wholeScore(c.GetScore())}
}

// NewCounterZSetAdd returns a write that makes score a member's score in a [CounterZSet].
func NewCounterZSetAdd(key string, member []byte, score int64, opts ...WriteOption) Write {
	return newUpdate(key, counterZSetAdd(member, score), opts)
}

// NewCounterZSetIncr returns a write that adds n to a member's score in a [CounterZSet].
func NewCounterZSetIncr(key string, member []byte, n int64, opts ...WriteOption) Write {
	return newUpdate(key, counterZSetIncr(member, n), opts)
}

// NewCounterZSetRemove returns a write that removes members from a [CounterZSet].
func NewCounterZSetRemove(key string, members [][]byte, opts ...WriteOption) Write {
	return newUpdate(key, counterZSetRemove(members), opts)
}

func counterZSetAdd(member []byte, score int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetAdd{ZsetAdd: &atollv1.ZSetAdd{Member: member, Score: exactly(score), Additive: true}}}
}

func counterZSetIncr(member []byte, n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetIncr{ZsetIncr: &atollv1.ZSetIncr{Member: member, Delta: exactly(n), Additive: true}}}
}

func counterZSetRemove(members [][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetRemove{ZsetRemove: &atollv1.ZSetRemove{Members: members, Additive: true}}}
}

// exactly returns a score for the server. What a float64 may round is out of range, and stays so: 2^53+1
// must not be taken for 2^53.
func exactly(score int64) float64 {
	const most = 1 << 53
	switch {
	case score > most:
		return max(float64(score), most+2)
	case score < -most:
		return min(float64(score), -most-2)
	default:
		return float64(score)
	}
}
