package replica

import "fmt"

// scorePage is a page of members in order of their scores.
type scorePage struct {
	// start and end are the range in table Z, of which the page is, or with reverse from its end.
	start, end []byte
	reverse    bool
	// skip is how many members are left out first. The page ends at limit members, or once they have
	// maxBytes bytes; unless limit is 0 it has at least one if there is one.
	skip, limit, maxBytes int
}

// read gives add the members of the page, and returns whether there are more. add must not keep the
// member's memory.
func (p scorePage) read(kv reader, add func(ordered uint64, member []byte)) (more bool, err error) {
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
	if p.reverse {
		err = descend(kv, p.start, p.end, visit)
	} else {
		err = kv.Scan(p.start, p.end, func(k, _ []byte) (bool, error) { return visit(k) })
	}
	if err != nil {
		return false, fmt.Errorf("read members by score: %w", err)
	}
	return more, nil
}

// rankOf counts the members of a sorted set before one, or after it if reverse.
func rankOf(kv reader, kid, ordered uint64, member []byte, reverse bool) (rank uint64, err error) {
	prefix, own := scorePrefix(kid), scoreKey(kid, ordered, member)
	start, end := prefix, own
	if reverse {
		start, end = append(own, 0), prefixEnd(prefix)
	}
	err = kv.Scan(start, end, func(_, _ []byte) (bool, error) {
		rank++
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("count members: %w", err)
	}
	return rank, nil
}
