package client

import (
	"context"
	"iter"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// ZSet is a sorted set: members with a score each, in order of score and then of bytes. The last write
// of a member wins, be it a score, a remove, or a delete of the whole set with [Client.Delete]: of
// writes made at once in different regions the one with the later time stays.
type ZSet struct {
	client *Client
	key    string
}

// ScoredMember is a member of a sorted set.
type ScoredMember struct {
	Member []byte
	Score  float64
}

// ZSetChange is what an operation did to a sorted set. It is zero for one with [WithLocalDurability].
type ZSetChange struct {
	// Size is the number of members after the operation, in the region.
	Size uint64
	// Changed is how many members appeared, disappeared or got another score.
	Changed uint64
	// Score is that of the member that was added or incremented.
	Score float64
}

// ZSetRange says which members are wanted. The zero value means all, the smallest score first.
type ZSetRange struct {
	// Min and Max bound the score, both included; nil means no bound.
	Min, Max *float64
	// Reverse begins with the largest score.
	Reverse bool
	// Offset is how many members to skip, at most 10 000.
	Offset int
	// Limit is how many members to yield; 0 means no limit.
	Limit int
}

// ZSet returns the sorted set under a key. It does not have to exist: it begins empty.
func (c *Client) ZSet(key string) *ZSet { return &ZSet{client: c, key: key} }

// Add gives a member of 1 to 1024 bytes a score, which may be infinite but must be a number.
//
// Errors: ErrWrongType, ErrInvalidArgument, ErrOverloaded (reason QUOTA_EXCEEDED) if the set would have
// more than a million members.
func (z *ZSet) Add(ctx context.Context, member []byte, score float64, opts ...WriteOption) (ZSetChange, error) {
	return z.update(ctx, zsetAdd(member, score), opts)
}

// Incr adds to a member's score in the region, and an absent member counts as 0. It is a read and an
// Add: of increments made at once in different regions only one stays.
func (z *ZSet) Incr(ctx context.Context, member []byte, delta float64, opts ...WriteOption) (ZSetChange, error) {
	return z.update(ctx, zsetIncr(member, delta), opts)
}

// Remove removes members, at most 10 000. Those that are not there in the region are left alone.
func (z *ZSet) Remove(ctx context.Context, members [][]byte, opts ...WriteOption) (ZSetChange, error) {
	return z.update(ctx, zsetRemove(members), opts)
}

// Score returns a member's score, and whether it is a member.
func (z *ZSet) Score(ctx context.Context, member []byte, opts ...ReadOption) (float64, bool, error) {
	res, err := z.client.query(ctx, z.key, &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetScore{ZsetScore: &atollv1.ZSetScore{Member: member}}}, opts)
	p := res.GetZsetPosition()
	return p.GetScore(), p.GetFound(), err
}

// Rank returns how many members are before one, or after it if reverse, and whether it is a member. It
// costs as many steps.
func (z *ZSet) Rank(ctx context.Context, member []byte, reverse bool, opts ...ReadOption) (uint64, bool, error) {
	res, err := z.client.query(ctx, z.key, &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRank{ZsetRank: &atollv1.ZSetRank{Member: member, Reverse: reverse}}}, opts)
	p := res.GetZsetPosition()
	return p.GetRank(), p.GetFound(), err
}

// Size returns the number of members.
func (z *ZSet) Size(ctx context.Context, opts ...ReadOption) (uint64, error) {
	res, err := z.client.query(ctx, z.key, zsetRange(&atollv1.ZSetRange{Limit: 1}), opts)
	return res.GetZsetRange().GetSize(), err
}

// Range yields members in order, and ends after the first error. They are read a page at a time: each
// page is linearizable by itself, the iteration as a whole is not.
//
// Errors: ErrInvalidArgument.
func (z *ZSet) Range(ctx context.Context, r ZSetRange, opts ...ReadOption) iter.Seq2[ScoredMember, error] {
	return func(yield func(ScoredMember, error) bool) {
		q := &atollv1.ZSetRange{MinScore: r.Min, MaxScore: r.Max, Reverse: r.Reverse, Offset: uint32(min(max(r.Offset, 0), 1<<31-1))}
		for left := r.Limit; ; {
			q.Limit = membersPage
			if r.Limit > 0 {
				q.Limit = uint32(min(left, membersPage))
			}
			res, err := z.client.query(ctx, z.key, zsetRange(q), opts)
			if err != nil {
				yield(ScoredMember{}, err)
				return
			}
			page := res.GetZsetRange()
			for _, m := range scoredMembers(page.GetMembers()) {
				if !yield(m, nil) {
					return
				}
			}
			left -= len(page.GetMembers())
			if q.Cursor = page.GetCursor(); len(q.GetCursor()) == 0 || r.Limit > 0 && left <= 0 {
				return
			}
		}
	}
}

func (z *ZSet) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (ZSetChange, error) {
	res, err := z.client.update(ctx, z.key, op, opts)
	return zsetChange(res.GetResult()), err
}

func zsetChange(r *atollv1.UpdateResult) ZSetChange {
	z := r.GetZset()
	return ZSetChange{Size: z.GetSize(), Changed: z.GetChanged(), Score: z.GetScore()}
}

func scoredMembers(members []*atollv1.ScoredMember) []ScoredMember {
	var all []ScoredMember
	for _, m := range members {
		all = append(all, ScoredMember{m.GetMember(), m.GetScore()})
	}
	return all
}

// NewZSetAdd returns a write that gives a member of a sorted set a score.
func NewZSetAdd(key string, member []byte, score float64, opts ...WriteOption) Write {
	return newUpdate(key, zsetAdd(member, score), opts)
}

// NewZSetIncr returns a write that adds to the score of a member of a sorted set.
func NewZSetIncr(key string, member []byte, delta float64, opts ...WriteOption) Write {
	return newUpdate(key, zsetIncr(member, delta), opts)
}

// NewZSetRemove returns a write that removes members of a sorted set.
func NewZSetRemove(key string, members [][]byte, opts ...WriteOption) Write {
	return newUpdate(key, zsetRemove(members), opts)
}

func zsetAdd(member []byte, score float64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetAdd{ZsetAdd: &atollv1.ZSetAdd{Member: member, Score: score}}}
}

func zsetIncr(member []byte, delta float64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetIncr{ZsetIncr: &atollv1.ZSetIncr{Member: member, Delta: delta}}}
}

func zsetRemove(members [][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_ZsetRemove{ZsetRemove: &atollv1.ZSetRemove{Members: members}}}
}

func zsetRange(q *atollv1.ZSetRange) *atollv1.QueryOp {
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_ZsetRange{ZsetRange: q}}
}
