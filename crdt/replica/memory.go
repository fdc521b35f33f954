package replica

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Memory is a KV in memory, for tests, simulations and benchmarks: a B+tree. Keys of a partition begin
// alike, so a node knows how many bytes all its keys share and keeps the eight bytes that follow as numbers:
// most steps of a search compare two numbers that lie side by side. What becomes empty goes, but nodes are
// not merged.
type Memory struct {
	root  *memoryNode
	pairs int
	// owner is of the nodes that this Memory may change; those of another are shared with a clone.
	owner *memoryOwner
	// recent is the leaf that was last used, if it is of this owner: who reads a pair often writes it next.
	recent *memoryNode
}

// memoryOwner has a size because all that have none may be the same.
type memoryOwner struct{ _ byte }

// memoryFanout is how many keys a node has at most.
const memoryFanout = 64

// memoryNode is a leaf with values, or has children; keys[i] is then not after any key of children[i], but
// keys[0] may be.
type memoryNode struct {
	owner    *memoryOwner
	shared   int // the bytes that all keys share
	heads    []uint64
	keys     [][]byte
	values   [][]byte
	children []*memoryNode
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	owner := new(memoryOwner)
	return &Memory{root: newMemoryLeaf(owner), owner: owner}
}

func newMemoryLeaf(owner *memoryOwner) *memoryNode {
	n := newMemoryNode(owner)
	n.values = make([][]byte, 0, memoryFanout)
	return n
}

func newMemoryNode(owner *memoryOwner) *memoryNode {
	return &memoryNode{owner: owner, heads: make([]uint64, 0, memoryFanout), keys: make([][]byte, 0, memoryFanout)}
}

// Get implements KV.
func (m *Memory) Get(key []byte) ([]byte, bool, error) {
	n := m.recent
	if !n.spans(key) {
		for n = m.root; n.children != nil; {
			n = n.children[n.child(key)]
		}
		if n.owner == m.owner {
			m.recent = n
		}
	}
	if i, found := n.find(key); found {
		return n.values[i], true, nil
	}
	return nil, false, nil
}

// Put implements KV.
func (m *Memory) Put(key, value []byte) error {
	n := m.recent
	if !n.spans(key) || len(n.keys) == memoryFanout {
		n = m.leafWithRoom(key)
		m.recent = n
	}
	i, found := n.find(key)
	if found {
		n.values[i] = append(n.values[i][:0], value...)
		return nil
	}
	m.pairs++
	both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	n.insertKey(i, both[:len(key):len(key)])
	n.values = slices.Insert(n.values, i, both[len(key):])
	return nil
}

// spans reports whether a key can be in no other leaf, because it is not outside of what this one has.
func (n *memoryNode) spans(key []byte) bool {
	return n != nil && len(n.keys) > 0 && bytes.Compare(n.keys[0], key) <= 0 && bytes.Compare(key, n.keys[len(n.keys)-1]) <= 0
}

// leafWithRoom returns the leaf that a key is in, or comes into, and splits full nodes on the way.
func (m *Memory) leafWithRoom(key []byte) *memoryNode {
	n := m.owned(&m.root)
	if len(n.keys) == memoryFanout {
		left, right := n, n.split(m.owner)
		n = newMemoryNode(m.owner)
		n.children = make([]*memoryNode, 0, memoryFanout)
		n.insertKey(0, left.keys[0])
		n.insertKey(1, right.keys[0])
		n.children = append(n.children, left, right)
		m.root = n
	}
	for n.children != nil {
		i := n.child(key)
		below := m.owned(&n.children[i])
		if len(below.keys) == memoryFanout {
			right := below.split(m.owner)
			if bytes.Compare(below.keys[0], n.keys[i]) < 0 {
				// What is before the first key goes to the first child, too.
				n.deleteKey(i)
				n.insertKey(i, below.keys[0])
			}
			n.insertKey(i+1, right.keys[0])
			n.children = slices.Insert(n.children, i+1, right)
			if bytes.Compare(key, right.keys[0]) >= 0 {
				below = right
			}
		}
		n = below
	}
	return n
}

// Delete implements KV.
func (m *Memory) Delete(key []byte) error {
	if _, ok, _ := m.Get(key); !ok {
		return nil
	}
	m.pairs--
	m.remove(&m.root, key)
	if len(m.root.keys) == 0 {
		m.root = newMemoryLeaf(m.owner)
	}
	return nil
}

// remove removes a key that is there from below a node.
func (m *Memory) remove(at **memoryNode, key []byte) {
	n := m.owned(at)
	if n.children == nil {
		i, _ := n.find(key)
		n.deleteKey(i)
		n.values = slices.Delete(n.values, i, i+1)
		return
	}
	i := n.child(key)
	m.remove(&n.children[i], key)
	if len(n.children[i].keys) == 0 {
		n.deleteKey(i)
		n.children = slices.Delete(n.children, i, i+1)
	}
}

// Scan implements KV.
func (m *Memory) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	_, err := m.root.scan(start, end, visit)
	return err
}

func (n *memoryNode) scan(start, end []byte, visit func(key, value []byte) (bool, error)) (bool, error) {
	if n.children != nil {
		for i := n.child(start); i < len(n.children); i++ {
			if more, err := n.children[i].scan(start, end, visit); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	}
	i, _ := n.find(start)
	for ; i < len(n.keys); i++ {
		if end != nil && bytes.Compare(n.keys[i], end) >= 0 {
			return false, nil
		}
		if more, err := visit(n.keys[i], n.values[i]); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// Clone returns a copy, which costs little until either changes.
func (m *Memory) Clone() *Memory {
	m.owner, m.recent = new(memoryOwner), nil
	return &Memory{root: m.root, pairs: m.pairs, owner: new(memoryOwner)}
}

// Len returns the number of pairs.
func (m *Memory) Len() int { return m.pairs }

// owned returns the node at a place, in whose place a copy comes if it is shared. Values are written over
// in place, so they are copied, too.
func (m *Memory) owned(at **memoryNode) *memoryNode {
	n := *at
	if n.owner == m.owner {
		return n
	}
	c := &memoryNode{
		owner: m.owner, shared: n.shared,
		heads:    append(make([]uint64, 0, memoryFanout), n.heads...),
		keys:     append(make([][]byte, 0, memoryFanout), n.keys...),
		children: slices.Clone(n.children),
	}
	for _, v := range n.values {
		c.values = append(c.values, bytes.Clone(v))
	}
	*at = c
	return c
}

// child returns which child has a key, if any has.
func (n *memoryNode) child(key []byte) int {
	i, found := n.find(key)
	if found {
		return i
	}
	return max(0, i-1)
}

// find returns where a key is, or would be.
func (n *memoryNode) find(key []byte) (int, bool) {
	if len(n.keys) == 0 {
		return 0, false
	}
	shared := min(n.shared, len(key))
	if order := bytes.Compare(key[:shared], n.keys[0][:n.shared]); order < 0 {
		return 0, false
	} else if order > 0 {
		return len(n.keys), false
	}
	head := memoryHead(key, n.shared)
	low, high := 0, len(n.heads)
	for low < high {
		middle := int(uint(low+high) >> 1)
		if n.heads[middle] < head {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for ; low < len(n.heads) && n.heads[low] == head; low++ { // few, unless keys share more than eight bytes
		if order := bytes.Compare(n.keys[low], key); order >= 0 {
			return low, order == 0
		}
	}
	return low, false
}

// memoryHead returns the eight bytes of a key from a place on as a number, with zeros behind its end.
func memoryHead(key []byte, from int) uint64 {
	if rest := key[from:]; len(rest) < 8 {
		var b [8]byte
		copy(b[:], rest)
		return binary.BigEndian.Uint64(b[:])
	}
	return binary.BigEndian.Uint64(key[from:])
}

func (n *memoryNode) insertKey(i int, key []byte) {
	if len(n.keys) == 0 {
		n.shared = len(key)
	} else if common := commonBytes(key, n.keys[0]); common < n.shared {
		n.share(common)
	}
	n.keys = slices.Insert(n.keys, i, key)
	n.heads = slices.Insert(n.heads, i, memoryHead(key, n.shared))
}

func (n *memoryNode) deleteKey(i int) {
	n.keys = slices.Delete(n.keys, i, i+1)
	n.heads = slices.Delete(n.heads, i, i+1)
}

// share makes the heads begin at a place up to which all keys are alike.
func (n *memoryNode) share(bytes int) {
	n.shared = bytes
	n.heads = n.heads[:0]
	for _, k := range n.keys {
		n.heads = append(n.heads, memoryHead(k, bytes))
	}
}

// split moves the upper half to a new node, and returns it.
func (n *memoryNode) split(owner *memoryOwner) *memoryNode {
	half := len(n.keys) / 2
	right := newMemoryNode(owner)
	right.keys = append(right.keys, n.keys[half:]...)
	n.keys = slices.Delete(n.keys, half, len(n.keys))
	if n.children != nil {
		right.children = append(make([]*memoryNode, 0, memoryFanout), n.children[half:]...)
		n.children = slices.Delete(n.children, half, len(n.children))
	} else {
		right.values = append(make([][]byte, 0, memoryFanout), n.values[half:]...)
		n.values = slices.Delete(n.values, half, len(n.values))
	}
	for _, half := range []*memoryNode{n, right} {
		half.share(commonBytes(half.keys[0], half.keys[len(half.keys)-1]))
	}
	return right
}

// commonBytes returns how many bytes two keys begin with are the same.
func commonBytes(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
