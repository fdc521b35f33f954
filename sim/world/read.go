package world

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
)

const namespace = "n"

func sortedIDs(values map[valueID]*value) []valueID {
	return slices.SortedFunc(maps.Keys(values), func(a, b valueID) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.path, b.path), cmp.Compare(a.of, b.of))
	})
}

// valueText reads a value and writes it as the specification does; "" if it is absent.
func valueText(r *replica.Replica, id valueID) (string, error) {
	if id.path != "" {
		return leafText(r, id)
	}
	o, found, err := r.LookupType(namespaceOf(id.key), id.key, id.of, 0)
	if err != nil || !found {
		return "", err
	}
	return objectText(r, &o)
}

func leafText(r *replica.Replica, id valueID) (string, error) {
	path, err := crdt.ParsePath([]byte(id.path))
	if err != nil {
		return "", err
	}
	leaves, err := r.ORMapLeaves(namespace, id.key, path, 0)
	if err != nil {
		return "", err
	}
	for i := range leaves {
		if leaves[i].Type == id.of {
			return objectText(r.Below(path), &leaves[i])
		}
	}
	return "", nil
}

func objectText(r *replica.Replica, o *replica.Object) (string, error) {
	switch o.Type {
	case crdt.TypeLWWRegister:
		return "=" + string(o.Value), nil
	case crdt.TypeCounter, crdt.TypeMaxRegister, crdt.TypeMinRegister:
		return fmt.Sprint(o.Counter), nil
	case crdt.TypeBoundedCounter:
		return fmt.Sprint(o.Bounded.Value()), nil
	case crdt.TypeHLL:
		return fmt.Sprint(o.Size), nil
	case crdt.TypeEWFlag:
		return "enabled", nil
	case crdt.TypeMVRegister:
		var parts []string
		for _, s := range o.Siblings {
			parts = append(parts, "="+string(s.Value))
		}
		return strings.Join(parts, " "), nil
	default:
		parts, err := collectionParts(r, o)
		return strings.Join(parts, " "), err
	}
}

// collectionParts reads what a collection holds.
func collectionParts(r *replica.Replica, o *replica.Object) (parts []string, err error) {
	const most, bytes = 1000, 1 << 20
	add := func(name string, value any) { parts = append(parts, fmt.Sprint(name, "=", value)) }
	switch o.Type {
	case crdt.TypeAWSet:
		members, _, e := r.SetMembers(o.Namespace, o.Key, nil, most, bytes)
		for _, m := range members {
			parts = append(parts, string(m))
		}
		err = e
	case crdt.TypeLWWMap:
		fields, _, e := r.MapFields(o.Namespace, o.Key, nil, most, bytes)
		for _, f := range fields {
			add(string(f.Name), string(f.Value))
		}
		err = e
	case crdt.TypeTimeline:
		entries, _, e := r.Timeline(o.Namespace, o.Key, replica.TimelineRange{Limit: most, MaxBytes: bytes})
		for _, t := range entries {
			add("", string(t.Value))
		}
		err = e
	case crdt.TypeZSet:
		members, _, e := r.ZSetRange(o.Namespace, o.Key, replica.ZSetRange{Low: math.Inf(-1), High: math.Inf(1), Limit: most, MaxBytes: bytes})
		for _, m := range members {
			add(m.Member, m.Score)
		}
		slices.Sort(parts) // from the order of scores
		err = e
	case crdt.TypeCounterZSet:
		members, _, e := r.CounterZSetRange(o.Namespace, o.Key, replica.CounterZSetRange{Low: math.MinInt64, High: math.MaxInt64, Limit: most, MaxBytes: bytes})
		for _, m := range members {
			add(m.Member, m.Score)
		}
		slices.Sort(parts)
		err = e
	default:
		err = fmt.Errorf("no reader of a %v", o.Type)
	}
	return parts, err
}
