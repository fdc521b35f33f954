package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// runORMapRemove removes the leaves at the operation's path and below it.
func runORMapRemove(o *operation) (Outcome, []Effect, error) {
	if err := o.refuseRemoval(o.Path); err != nil {
		return Outcome{}, nil, err
	}
	return o.removeLeaves(o.Path)
}

// refuseDelete refuses to delete more than one delta can hold.
func (ormapKind) refuseDelete(o *operation) error { return o.refuseRemoval(crdt.Path{}) }

// delete removes all leaves.
func (ormapKind) delete(o *operation) (Outcome, []Effect, error) { return o.removeLeaves(crdt.Path{}) }

// deletePart removes the first leaves, as many as a delta can hold, or of the first one a part.
func (ormapKind) deletePart(o *operation) (Outcome, []Effect, error) {
	leaves, err := o.liveLeaves(crdt.Path{}, MaxOperationElements)
	if err != nil {
		return Outcome{}, nil, err
	}
	size := 0
	for i, leaf := range leaves {
		part, err := o.removal(leaf)
		if i == 0 && errors.Is(err, ErrChangeTooLarge) {
			return o.removeThese(leaves[:1], func(part *operation) ([]Effect, error) {
				_, effects, _, err := part.deleteSome(part.Type)
				return effects, err
			})
		}
		if err != nil && !errors.Is(err, ErrChangeTooLarge) {
			return Outcome{}, nil, err
		}
		if size += len(leaf) + part.removalBytes(); err != nil || size > maxChangeBytes {
			leaves = leaves[:i]
			break
		}
	}
	return o.removeThese(leaves, deleteLeaf)
}

func deleteLeaf(part *operation) ([]Effect, error) {
	_, effects, err := kinds[part.Type].delete(part)
	return effects, err
}

// liveLeaves returns the keys of the leaves at a path and below it that readers see, up to a limit.
func (o *operation) liveLeaves(p crdt.Path, limit int) ([][]byte, error) {
	var leaves [][]byte
	prefix := leafPrefix(o.Namespace, o.Key, p)
	err := o.work.kv.Scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		_, t, err := parseLeafKey(k)
		if err != nil {
			return false, err
		}
		s, err := kinds[t].decode(v)
		if err != nil {
			return false, err
		}
		if s.live(o.at) {
			leaves = append(leaves, slices.Clone(k))
		}
		return len(leaves) < limit, nil
	})
	return leaves, err
}

// removal returns the operation that deletes one leaf, as part of this one: it has the same dot. It
// finds why the leaf cannot be deleted, if there is a reason.
func (o *operation) removal(leaf []byte) (*operation, error) {
	p, t, err := parseLeafKey(leaf)
	if err != nil {
		return nil, err
	}
	data, _, err := o.work.kv.Get(leaf)
	if err != nil {
		return nil, err
	}
	part := *o
	part.Op = &Op{Kind: OpDelete, Namespace: o.Namespace, Key: o.Key, Path: p, Type: t}
	part.held = holdings{}
	if err := part.held.load(t, data, t != crdt.TypeLWWRegister); err != nil {
		return nil, err
	}
	if k, limited := kinds[t].(deleteRefuser); limited {
		err = k.refuseDelete(&part)
	}
	return &part, err
}

// refuseRemoval refuses to remove more leaves at once than one delta can hold. It writes nothing.
func (o *operation) refuseRemoval(p crdt.Path) error {
	leaves, err := o.liveLeaves(p, MaxOperationElements+1)
	if err != nil {
		return err
	}
	size := 0
	for i, leaf := range leaves {
		part, err := o.removal(leaf)
		if err != nil {
			return err
		}
		size += len(leaf) + part.removalBytes()
		if i >= MaxOperationElements || size > maxChangeBytes {
			return refuse(fmt.Errorf("%w: %d leaves or more, of %d bytes", ErrChangeTooLarge, i+1, size))
		}
	}
	return nil
}

// removalBytes is at least how large the change of a delete of the one object that is held is, its lengths
// and names but for those in its key included. What is not here takes an instant at most.
func (o *operation) removalBytes() int {
	const fixed, dotBytes, rowBytes = 64, 16, 32
	if len(o.held.others) == 0 {
		return fixed // a register
	}
	switch s := o.held.others[0].stored.(type) {
	case *setHeader:
		return fixed + len(o.work.meta.vector.Append(nil))
	case *siblings:
		return fixed + dotBytes*len(s.list)
	case *counterState:
		return fixed + len(s.rows.Append(nil)) + rowBytes*s.rows.Len()
	case *counterZSetHeader:
		return fixed + leavingBytes(s.leaving)
	default:
		return fixed
	}
}

// removeLeaves deletes every leaf at a path and below it that readers see, by one event.
func (o *operation) removeLeaves(p crdt.Path) (Outcome, []Effect, error) {
	leaves, err := o.liveLeaves(p, MaxOperationElements)
	if err != nil || len(leaves) == 0 {
		return Outcome{Size: o.ormap().present}, nil, err
	}
	return o.removeThese(leaves, deleteLeaf)
}

// removeThese deletes leaves, which readers see, by one event, each with remove.
func (o *operation) removeThese(leaves [][]byte, remove func(part *operation) ([]Effect, error)) (Outcome, []Effect, error) {
	h := o.ormap()
	effects := make([]Effect, 0, len(leaves))
	for _, leaf := range leaves {
		part, err := o.removal(leaf)
		if err != nil && !errors.Is(err, ErrChangeTooLarge) {
			return Outcome{}, nil, err
		}
		removed, err := remove(part)
		if err != nil {
			return Outcome{}, nil, err
		}
		after, err := o.work.presence(leaf, part.Type)
		if err != nil {
			return Outcome{}, nil, err
		}
		h.moved(presence{stored: true, live: true}, after)
		effects = append(effects, removed...)
	}
	h.last = o.dot
	outcome := Outcome{Version: h.version(), Size: h.present, Changed: uint64(len(leaves))}
	return outcome, effects, o.work.putORMap(objectKey(o.Namespace, o.Key, crdt.TypeORMap), h)
}
