package replica

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
)

// maxPathBytes bounds a path's encoding: names have one or two bytes of length each.
const maxPathBytes = crdt.MaxPathNames * (2 + crdt.MaxNameBytes)

// A path in a key is its names, each as appendName writes it, then 0x00 0x00: no name begins like that, so
// a scan meets the leaves at a path before those below it, and names in byte order.
const placeEnd = 0x00

// leafPrefix returns what the keys in table N of all leaves at a path and below it begin with.
func leafPrefix(namespace, key string, p crdt.Path) []byte {
	b := make([]byte, 0, len(namespace)+len(key)+len(p.Encoded())+4*crdt.MaxPathNames)
	b = append(appendNames(append(b, tableLeaf), namespace, key), byte(crdt.TypeORMap))
	for _, name := range p.Names() {
		b = appendName(b, name)
	}
	return b
}

// placePrefix returns what the keys of what is at a path begin with, but for the type: in table N, or, if
// it is the root, in table K.
func placePrefix(namespace, key string, p crdt.Path) []byte {
	if p.IsRoot() {
		return objectPrefix(namespace, key)
	}
	return append(leafPrefix(namespace, key, p), escape, placeEnd)
}

// objectAt returns the key of an object at a path: in table N, or, if it is the root, in table K.
func objectAt(namespace, key string, p crdt.Path, t crdt.Type) []byte {
	return append(placePrefix(namespace, key, p), byte(t))
}

// readPlace reads the type and the path of a key of table N, and returns what follows.
func readPlace(b []byte) (p crdt.Path, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != byte(crdt.TypeORMap) {
		return crdt.Path{}, nil, false
	}
	var names []string
	for b = b[1:]; len(b) < 2 || b[0] != escape || b[1] != placeEnd; {
		var name string
		if name, b, ok = readName(b); !ok || len(names) == crdt.MaxPathNames {
			return crdt.Path{}, nil, false
		}
		names = append(names, name)
	}
	p, err := crdt.NewPath(names...)
	return p, b[2:], err == nil
}

// parseLeafKey reads where in its map a leaf is, and its type, from its key in table N.
func parseLeafKey(b []byte) (p crdt.Path, t crdt.Type, err error) {
	if len(b) > 0 && b[0] == tableLeaf {
		if _, rest, ok := readName(b[1:]); ok {
			if _, rest, ok = readName(rest); ok {
				if p, rest, ok = readPlace(rest); ok && len(rest) == 1 && isLeafType(crdt.Type(rest[0])) {
					return p, crdt.Type(rest[0]), nil
				}
			}
		}
	}
	return crdt.Path{}, 0, fmt.Errorf("leaf key of %d bytes: %w", len(b), crdt.ErrCorrupt)
}

// mapKey returns the key in table K of the map that a leaf with a key in table N is in.
func mapKey(leaf []byte) ([]byte, error) {
	if _, rest, ok := readName(leaf[1:]); ok {
		if _, rest, ok := readName(rest); ok && len(rest) > 0 {
			n := len(leaf) - len(rest) + 1
			return append([]byte{tableObject}, leaf[1:n]...), nil
		}
	}
	return nil, fmt.Errorf("leaf key of %d bytes: %w", len(leaf), crdt.ErrCorrupt)
}
