package replica

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// The tables of a replica's storage: the first byte of every key. L, O, P and Q belong to other
// packages. Tables keyed by user key have it escaped: 0x00 becomes 0x00 0xFF, and 0x00 0x01 ends
// namespace and key, so that keys sort like the names they hold and none is another's prefix.
const (
	tableMeta       = 'M' // -> meta
	tableObject     = 'K' // namespace, key, type -> the object's state or header
	tableLeaf       = 'N' // namespace, key, 10, path, type of the leaf -> the leaf's state or header
	tableElement    = 'E' // kid, element -> dots, a register (a field or its tombstone), an entry, or a counter
	tableScore      = 'Z' // kid, score, member -> marker
	tablePreremoval = 'R' // actor, seq, key in table K or N without its first byte, element -> marker
	tableDeferred   = 'D' // key in table K or N without its first byte -> vector
	tableGarbage    = 'G' // kid -> marker
	tableExpiry     = 'X' // instant, key in table K -> marker: the register, or what has the deadline, expires then
	tableOverdue    = 'V' // instant, key in table K of a deadline -> marker: another region has yet to delete the value
	tableAhead      = 'A' // actor, actor who has seen, seq -> the first of its events that had seen as much
	tableConflicts  = 'C' // namespace, type, actor, actor -> how often events of both were decided between
	tableLosers     = 'B' // number -> a value that lost
	tableUnsettled  = 'U' // owner, actor of reset, seq, key in table K or N, rest -> marker: the reset's trace goes once seen
	tableSpent      = 'Y' // instant, key in table K or N, rest -> marker: what it names was deleted or expired then
)

const (
	escape     = 0x00
	escaped    = 0xFF
	terminator = 0x01
	kidBytes   = 8
	scoreBytes = 8
)

// marker is the value of pairs that carry everything in their key.
var marker = [1]byte{1}

// metaKey returns the key of the one pair in table M.
func metaKey() []byte { return []byte{tableMeta} }

// appendName appends a name, escaped and terminated.
func appendName(b []byte, name string) []byte {
	return append(appendEscaped(b, name), escape, terminator)
}

func appendEscaped(b []byte, name string) []byte {
	for {
		i := strings.IndexByte(name, escape)
		if i < 0 {
			return append(b, name...)
		}
		b = append(append(b, name[:i+1]...), escaped)
		name = name[i+1:]
	}
}

// readName reads what appendName wrote from the front of b, and returns what follows.
func readName(b []byte) (name string, rest []byte, ok bool) {
	var out []byte
	for i := 0; i+1 < len(b); i++ {
		if b[i] != escape {
			out = append(out, b[i])
			continue
		}
		i++
		switch b[i] {
		case terminator:
			return string(out), b[i+1:], true
		case escaped:
			out = append(out, escape)
		default:
			return "", nil, false
		}
	}
	return "", nil, false
}

// appendNames appends a namespace and a key: what all types under the key share.
func appendNames(b []byte, namespace, key string) []byte {
	return appendName(appendName(b, namespace), key)
}

// objectKey returns the key of an object in table K.
func objectKey(namespace, key string, t crdt.Type) []byte {
	return append(objectPrefix(namespace, key), byte(t))
}

// objectPrefix returns what the keys in table K of all types under a user key begin with.
func objectPrefix(namespace, key string) []byte {
	b := make([]byte, 0, len(namespace)+len(key)+8)
	return appendNames(append(b, tableObject), namespace, key)
}

// parseObjectKey reads a key of table K.
func parseObjectKey(b []byte) (namespace, key string, t crdt.Type, err error) {
	if len(b) > 0 && b[0] == tableObject {
		if namespace, rest, ok := readName(b[1:]); ok {
			if key, rest, ok := readName(rest); ok && len(rest) == 1 && kindOf(crdt.Type(rest[0])) != nil {
				return namespace, key, crdt.Type(rest[0]), nil
			}
		}
	}
	return "", "", 0, fmt.Errorf("object key of %d bytes: %w", len(b), crdt.ErrCorrupt)
}

// cutObjectKey returns the key of table K or N that b begins with, its type, and what follows.
func cutObjectKey(b []byte) (object []byte, t crdt.Type, rest []byte, err error) {
	if len(b) > 0 && (b[0] == tableObject || b[0] == tableLeaf) {
		if _, rest, ok := readName(b[1:]); ok {
			_, rest, ok = readName(rest)
			if ok && b[0] == tableLeaf {
				_, rest, ok = readPlace(rest)
			}
			if ok && len(rest) > 0 && kindOf(crdt.Type(rest[0])) != nil {
				n := len(b) - len(rest) + 1
				return b[:n:n], crdt.Type(rest[0]), b[n:], nil
			}
		}
	}
	return nil, 0, nil, fmt.Errorf("object key of %d bytes: %w", len(b), crdt.ErrCorrupt)
}

// deferredKey returns the key in table D of a set with a key in table K or N.
func deferredKey(object []byte) []byte {
	return append([]byte{tableDeferred}, object[1:]...)
}

// elementKey returns the key of an element in table E; the empty element gives the set's prefix.
func elementKey(kid uint64, element []byte) []byte {
	b := make([]byte, 0, 1+kidBytes+len(element))
	b = binary.BigEndian.AppendUint64(append(b, tableElement), kid)
	return append(b, element...)
}

// elementOf returns the element of a key in table E. It shares the key's memory.
func elementOf(key []byte) []byte { return key[1+kidBytes:] }

// scorePrefix returns what the keys in table Z of a sorted set begin with.
func scorePrefix(kid uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{tableScore}, kid)
}

// scoreKey returns the key of a member in table Z. ordered is its score in a form that sorts like it;
// the empty member gives what comes before all members with that score.
func scoreKey(kid, ordered uint64, member []byte) []byte {
	b := make([]byte, 0, 1+kidBytes+scoreBytes+len(member))
	b = binary.BigEndian.AppendUint64(append(b, tableScore), kid)
	return append(binary.BigEndian.AppendUint64(b, ordered), member...)
}

// scoreOf returns the score and the member of a key in table Z. The member shares the key's memory.
func scoreOf(key []byte) (ordered uint64, member []byte) {
	return binary.BigEndian.Uint64(key[1+kidBytes:]), key[1+kidBytes+scoreBytes:]
}

// garbageKey returns the key of a kid in table G.
func garbageKey(kid uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{tableGarbage}, kid)
}

// preremovalPrefix returns what the keys in table R of one event begin with.
func preremovalPrefix(d crdt.Dot) []byte {
	b := binary.BigEndian.AppendUint32([]byte{tablePreremoval}, uint32(d.Actor))
	return binary.BigEndian.AppendUint64(b, d.Seq)
}

// preremovalKey returns the key in table R of one element's add to the object with a key in table K or N:
// leaves have type 10 there, which no object of table K has adds of. An object that is kept whole has one element, the empty one.
func preremovalKey(d crdt.Dot, objectKey, element []byte) []byte {
	return append(append(preremovalPrefix(d), objectKey[1:]...), element...)
}

// prefixEnd returns the first key after all that begin with prefix, which does not end in 0xFF
// bytes only; nil if there is none.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
