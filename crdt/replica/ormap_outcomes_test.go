package replica

import (
	"maps"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// ormapOutcomes has leaves of types that are decided by what was observed, and of one that is decided by time.
func ormapOutcomes() outcomeTable {
	leaf := func(op Op, names ...string) Op {
		op.Path = leafPath(names...)
		return onK(op)
	}
	add := func(n int64, names ...string) Op { return leaf(Op{Kind: OpCounterAdd, Delta: n}, names...) }
	put := func(v string, names ...string) Op { return leaf(Op{Kind: OpPut, Value: []byte(v)}, names...) }
	tag := leaf(setOp(OpSetAdd, "x"), "u", "tags")
	remove := onK(Op{Kind: OpORMapRemove, Path: leafPath("u")})
	return outcomeTable{
		of: crdt.TypeORMap, title: "Observed-remove map",
		pairs: []concurrent{
			{nil, add(2, "u", "n"), add(3, "u", "n"), [3]string{"absent", "add 2 to u/n", "add 3 to u/n"}},
			{nil, add(2, "u"), put("a", "u"), [3]string{"absent", "add 2 to the counter u", "put a into the register u"}},
			{[]Op{add(10, "u", "n")}, add(2, "u", "n"), remove, [3]string{"u/n 10", "add 2 to u/n", "remove u and below"}},
			{[]Op{add(10, "u", "n")}, tag, remove, [3]string{"u/n 10", "add x to u/tags", "remove u and below"}},
			{[]Op{put("a", "u", "name")}, put("b", "u", "name"), remove, [3]string{"u/name a", "put b into u/name", "remove u and below"}},
			{[]Op{put("a", "u", "name")}, put("c", "u", "city"), remove, [3]string{"u/name a", "put c into u/city", "remove u and below"}},
			{[]Op{add(10, "u", "n"), add(7, "v")}, onK(Op{Kind: OpDelete}), add(1, "u", "n"), [3]string{"u/n 10, v 7", "delete the key", "add 1 to u/n"}},
			{[]Op{add(10, "u", "n")}, remove, remove, [3]string{"u/n 10", "remove u and below", "remove u and below"}},
		},
		show: func(r *Replica, _ Object) (string, error) {
			leaves, err := readLeaves(r, "", "k")
			var parts []string
			for _, name := range slices.Sorted(maps.Keys(leaves)) {
				path, _, _ := strings.Cut(name, "] ")
				path = strings.NewReplacer("[", "", `"`, "", " ", "/").Replace(path)
				parts = append(parts, path+" "+strings.TrimPrefix(leaves[name], "="))
			}
			return strings.Join(parts, ", "), err
		},
	}
}
