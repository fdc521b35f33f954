package client

import (
	"context"
	"iter"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const membersPage = 1000

// Set is an add-wins set of byte strings: of an add and a remove made at once in different regions,
// the add wins.
type Set struct {
	client *Client
	key    string
}

// SetChange is what an operation did to a set. It is zero for one with [WithLocalDurability].
type SetChange struct {
	// Size is the number of members after the operation, in the region.
	Size uint64
	// Changed is how many elements became members, or ceased to be.
	Changed uint64
}

// Set returns the set under a key. It does not have to exist: it begins empty.
func (c *Client) Set(key string) *Set { return &Set{client: c, key: key} }

// Add makes the elements members: 1 to 1024 bytes each, at most 10 000 of them.
func (s *Set) Add(ctx context.Context, elements [][]byte, opts ...WriteOption) (SetChange, error) {
	return s.update(ctx, setAdd(elements), opts)
}

// Remove removes the elements as the region sees them.
func (s *Set) Remove(ctx context.Context, elements [][]byte, opts ...WriteOption) (SetChange, error) {
	return s.update(ctx, setRemove(elements), opts)
}

// Clear removes all members that the region sees.
func (s *Set) Clear(ctx context.Context, opts ...WriteOption) (SetChange, error) {
	op := &atollv1.Op{Op: &atollv1.Op_SetClear{SetClear: &atollv1.SetClear{}}}
	return s.update(ctx, op, opts)
}

// Contains says for each element whether it is a member.
func (s *Set) Contains(ctx context.Context, elements [][]byte, opts ...ReadOption) ([]bool, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_SetContains{SetContains: &atollv1.SetContains{Elements: elements}}}
	res, err := s.client.query(ctx, s.key, q, opts)
	return res.GetSetContains().GetContains(), err
}

// Size returns the number of members.
func (s *Set) Size(ctx context.Context, opts ...ReadOption) (uint64, error) {
	q := &atollv1.QueryOp{Query: &atollv1.QueryOp_SetSize{SetSize: &atollv1.SetSize{}}}
	res, err := s.client.query(ctx, s.key, q, opts)
	return res.GetSetSize(), err
}

// Members yields the members in byte order, and ends after the first error. They are read a page at
// a time: each page is linearizable by itself, the iteration as a whole is not.
func (s *Set) Members(ctx context.Context, opts ...ReadOption) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var cursor []byte
		for {
			q := &atollv1.QueryOp{Query: &atollv1.QueryOp_SetMembers{
				SetMembers: &atollv1.SetMembers{Cursor: cursor, Limit: membersPage},
			}}
			res, err := s.client.query(ctx, s.key, q, opts)
			if err != nil {
				yield(nil, err)
				return
			}
			page := res.GetSetMembers()
			for _, member := range page.GetMembers() {
				if !yield(member, nil) {
					return
				}
			}
			if cursor = page.GetCursor(); len(cursor) == 0 {
				return
			}
		}
	}
}

func (s *Set) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (SetChange, error) {
	res, err := s.client.update(ctx, s.key, op, opts)
	change := res.GetResult().GetSet()
	return SetChange{Size: change.GetSize(), Changed: change.GetChanged()}, err
}

func setAdd(elements [][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_SetAdd{SetAdd: &atollv1.SetAdd{Elements: elements}}}
}

func setRemove(elements [][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_SetRemove{SetRemove: &atollv1.SetRemove{Elements: elements}}}
}
