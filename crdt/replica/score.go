package replica

import "fmt"

// scorePage bounds a page of members in order of their scores.
type scorePage struct {
	// skip is how many members are left out first. The page ends at limit members, or once they have
	// maxBytes bytes; unless limit is 0 it has at least one if there is one.
	skip, limit, maxBytes int
}

// pageByScore gives add the members of a range of table Z, in order or in reverse, and returns whether
// there are more. add must not keep the member's memory.
func (r *Replica) pageByScore(start, end []byte, reverse bool, p scorePage, add func(ordered uint64, member []byte)) (more bool, err error) {
	added, size := 0, 0
	visit := func(k []byte) (bool, error) {
		ordered, member := scoreOf(k)
		switch {
		case p.skip > 0:
			p.skip--
		case added >= p.limit || size >= p.maxBytes && added > 0:
			more = true
			return false, nil
		default:
			add(ordered, member)
			added++
			size += len(member)
		}
		return true, nil
	}
	if reverse {
		err = descend(r.kv, start, end, visit)
	} else {
		err = r.kv.Scan(start, end, func(k, _ []byte) (bool, error) { return visit(k) })
	}
	if err != nil {
		return false, fmt.Errorf("read members by score: %w", err)
	}
	return more, nil
}

// rankOf counts the members of a sorted set before one, or after it if reverse.
func (r *Replica) rankOf(kid, ordered uint64, member []byte, reverse bool) (rank uint64, err error) {
	prefix, own := scorePrefix(kid), scoreKey(kid, ordered, member)
	start, end := prefix, own
	if reverse {
		start, end = append(own, 0), prefixEnd(prefix)
	}
	err = r.kv.Scan(start, end, func(_, _ []byte) (bool, error) {
		rank++
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("count members: %w", err)
	}
	return rank, nil
}
