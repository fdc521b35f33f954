package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"os"
)

// bbolt's file format, as far as the check needs it. Numbers are in the machine's byte order.
//
//	page:   id u64 | flags u16 | count u16 | overflow u32 | elements…, then keys and values
//	branch: pos u32 | ksize u32 | child u64          (pos counts from the element itself)
//	leaf:   flags u32 | pos u32 | ksize u32 | vsize u32
//	meta:   header | magic u32 | version u32 | page size u32 | flags u32 | root u64 | sequence u64 |
//	        free list u64 | high water u64 | txid u64 | FNV-1a 64 of all before it u64
//	bucket: root u64 | sequence u64 | the page itself, if root is 0
const (
	headerBytes  = 16
	elementBytes = 16
	bucketBytes  = 16
	metaBytes    = 64

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagMeta   = 0x04
	flagBucket = 0x01

	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	noFreeList    = ^uint64(0)
	minPageBytes  = 1 << 10
	maxPageBytes  = 16 << 20
	maxDepth      = 64
	maxNodeValues = 4 // bbolt splits a page of more entries than this
	// maxRunBytes is the longest run of pages that holds one node.
	maxRunBytes = maxNodeValues*(maxValueBytes+maxKeyBytes) + maxPageBytes
)

// meta is what a meta page says.
type meta struct {
	pageBytes int
	root      uint64
	highWater uint64
	txid      uint64
}

// checker walks a file that is not mapped and not open in bbolt.
type checker struct {
	file  io.ReaderAt
	meta  meta
	pages uint64           // how many the meta page claims; the file holds as many
	seen  []uint64         // bitmap of pages reached
	bufs  [maxDepth][]byte // one page per level

	// test tests the pairs of the present bucket.
	test func(key, record []byte) bool
	// references and larges sum up the references that there are and those that there should be.
	references, larges hash.Hash
	reference          [referenceBytes]byte
}

// checkFile tests structure, key order and every checksum. Errors: *CorruptError or the reader's.
func checkFile(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c := &checker{file: f, references: fnv.New128a(), larges: fnv.New128a()}
	if err := c.run(info.Size()); err != nil {
		var detail damaged
		if errors.As(err, &detail) {
			return &CorruptError{Path: path, Detail: string(detail)}
		}
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// damaged is a finding of the checker.
type damaged string

func (d damaged) Error() string { return string(d) }

func found(format string, args ...any) error { return damaged(fmt.Sprintf(format, args...)) }

func (c *checker) run(size int64) error {
	m, err := c.readMeta(size)
	if err != nil {
		return err
	}
	if m.highWater < 4 || m.highWater > uint64(size)/uint64(m.pageBytes) {
		return found("truncated: %d pages of %d bytes claimed, %d bytes present", m.highWater, m.pageBytes, size)
	}
	c.meta, c.pages = m, m.highWater
	c.seen = make([]uint64, c.pages/64+1)
	page, err := c.page(m.root, 0)
	if err != nil {
		return err
	}
	if err := c.bucket(page, 0, bucketName, c.record); err != nil {
		return err
	}
	if err := c.bucket(page, 1, largeName, c.largeRecord); err != nil {
		return err
	}
	if page.count != 2 {
		return found("root holds %d entries", page.count)
	}
	if !bytes.Equal(c.references.Sum(nil), c.larges.Sum(nil)) {
		return found("the large values are not those referred to")
	}
	return nil
}

// bucket checks the bucket that is entry i of the root page; test checks its pairs.
func (c *checker) bucket(root treeNode, i int, name string, test func(key, record []byte) bool) error {
	if root.flags != flagLeaf || i >= root.count {
		return found("no bucket %s", name)
	}
	key, value, flags, err := root.leaf(i)
	if err != nil {
		return err
	}
	if string(key) != name && bytes.HasPrefix(key, []byte(layoutPrefix)) {
		return found("layout %q instead of %s", key, name)
	}
	if string(key) != name || flags != flagBucket || len(value) < bucketBytes {
		return found("no bucket %s", name)
	}
	c.test = test
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.walk(root, nil, nil, 1)
	}
	inline, err := parse(value[bucketBytes:], 0)
	if err != nil {
		return err
	}
	return c.leaves(inline, nil, nil)
}

// record tests a pair of the bucket of all keys, and notes what it refers to.
func (c *checker) record(key, record []byte) bool {
	if !intact(key, record) {
		return false
	}
	if isReference(record) {
		note(c.references, key, record)
	}
	return true
}

// largeRecord tests a pair of the bucket of large values, and notes what should refer to it.
func (c *checker) largeRecord(key, record []byte) bool {
	if !intact(key, record) || record[crcBytes] != kindValue {
		return false
	}
	note(c.larges, key, appendReference(c.reference[:0], key, record))
	return true
}

// note adds a reference to a sum over all of them in key order.
func note(sum hash.Hash, key, reference []byte) {
	sum.Write(key)
	sum.Write(reference)
}

// readMeta returns the newer of the valid meta pages, as bbolt does. One may be torn: its commit
// was not acknowledged.
func (c *checker) readMeta(size int64) (meta, error) {
	first, err := c.metaAt(0, 0, size)
	if err != nil {
		return meta{}, err
	}
	if first != nil {
		second, err := c.metaAt(int64(first.pageBytes), 1, size)
		if err != nil {
			return meta{}, err
		}
		if second != nil && second.txid > first.txid {
			first = second
		}
		return *first, nil
	}
	for at := int64(minPageBytes); at <= maxPageBytes; at *= 2 {
		second, err := c.metaAt(at, 1, size)
		if err != nil {
			return meta{}, err
		}
		if second != nil && int64(second.pageBytes) == at {
			return *second, nil
		}
	}
	return meta{}, found("no valid meta page")
}

// metaAt returns the meta page at an offset, or nil if there is no valid one.
func (c *checker) metaAt(at int64, id uint64, size int64) (*meta, error) {
	var b [headerBytes + metaBytes + 8]byte
	if at+int64(len(b)) > size {
		return nil, nil
	}
	if _, err := c.file.ReadAt(b[:], at); err != nil {
		return nil, err
	}
	order, body := binary.NativeEndian, b[headerBytes:]
	sum := fnv.New64a()
	sum.Write(body[:metaBytes-8])
	valid := order.Uint64(b[:]) == id && order.Uint16(b[8:]) == flagMeta &&
		order.Uint32(body) == metaMagic && order.Uint32(body[4:]) == metaVersion &&
		order.Uint64(body[metaBytes-8:]) == sum.Sum64()
	if !valid {
		return nil, nil
	}
	m := &meta{
		pageBytes: int(order.Uint32(body[8:])),
		root:      order.Uint64(body[16:]),
		highWater: order.Uint64(body[40:]),
		txid:      order.Uint64(body[48:]),
	}
	if m.pageBytes < minPageBytes || m.pageBytes > maxPageBytes {
		return nil, found("page size %d", m.pageBytes)
	}
	if order.Uint64(body[32:]) != noFreeList {
		return nil, found("keeps a free list, so it is not a file of this store")
	}
	return m, nil
}

// walk checks the subtree at a page, whose keys must lie in [low, high).
func (c *checker) walk(id uint64, low, high []byte, depth int) error {
	page, err := c.page(id, depth)
	if err != nil {
		return err
	}
	if page.flags == flagLeaf {
		return c.leaves(page, low, high)
	}
	if page.count == 0 {
		return found("page %d: branch without children", id)
	}
	key, child, err := page.branch(0)
	if err != nil {
		return err
	}
	for i := range page.count {
		var nextKey []byte
		var nextChild uint64
		bound := high
		if i+1 < page.count {
			if nextKey, nextChild, err = page.branch(i + 1); err != nil {
				return err
			}
			bound = nextKey
		}
		if !within(key, low, high) || (bound != nil && bytes.Compare(key, bound) >= 0) {
			return found("page %d: keys out of order", id)
		}
		if err := c.walk(child, key, bound, depth+1); err != nil {
			return err
		}
		key, child = nextKey, nextChild
	}
	return nil
}

// leaves checks the order and the checksums of a leaf page.
func (c *checker) leaves(page treeNode, low, high []byte) error {
	if page.flags != flagLeaf {
		return found("page %d: flags %#x", page.id, page.flags)
	}
	var last []byte
	for i := range page.count {
		key, record, flags, err := page.leaf(i)
		if err != nil {
			return err
		}
		if len(key) == 0 || flags != 0 || !within(key, low, high) || (i > 0 && bytes.Compare(last, key) >= 0) {
			return found("page %d: keys out of order", page.id)
		}
		if !c.test(key, record) {
			return found("page %d: checksum mismatch", page.id)
		}
		last = key
	}
	return nil
}

func within(key, low, high []byte) bool {
	return bytes.Compare(key, low) >= 0 && (high == nil || bytes.Compare(key, high) < 0)
}

// page reads the run of pages of one node into the buffer of its level.
func (c *checker) page(id uint64, depth int) (treeNode, error) {
	if depth >= maxDepth {
		return treeNode{}, found("page %d: tree too deep", id)
	}
	if id < 2 || id >= c.pages {
		return treeNode{}, found("page %d: outside the file", id)
	}
	var header [headerBytes]byte
	at := int64(id) * int64(c.meta.pageBytes)
	if _, err := c.file.ReadAt(header[:], at); err != nil {
		return treeNode{}, err
	}
	run := uint64(binary.NativeEndian.Uint32(header[12:])) + 1
	if run > c.pages-id || run*uint64(c.meta.pageBytes) > maxRunBytes {
		return treeNode{}, found("page %d: run of %d pages", id, run)
	}
	for p := id; p < id+run; p++ {
		if c.seen[p/64]&(1<<(p%64)) != 0 {
			return treeNode{}, found("page %d: reached twice", p)
		}
		c.seen[p/64] |= 1 << (p % 64)
	}
	if need := int(run) * c.meta.pageBytes; cap(c.bufs[depth]) < need {
		c.bufs[depth] = make([]byte, need)
	}
	b := c.bufs[depth][:int(run)*c.meta.pageBytes]
	if _, err := c.file.ReadAt(b, at); err != nil {
		return treeNode{}, err
	}
	return parse(b, id)
}

// treeNode is a page's content, header included.
type treeNode struct {
	id    uint64
	flags uint16
	count int
	b     []byte
}

func parse(b []byte, id uint64) (treeNode, error) {
	if len(b) < headerBytes {
		return treeNode{}, found("page %d: short", id)
	}
	n := treeNode{id: id, flags: binary.NativeEndian.Uint16(b[8:]), count: int(binary.NativeEndian.Uint16(b[10:])), b: b}
	if got := binary.NativeEndian.Uint64(b); got != id {
		return treeNode{}, found("page %d: calls itself %d", id, got)
	}
	if n.flags != flagBranch && n.flags != flagLeaf {
		return treeNode{}, found("page %d: flags %#x", id, n.flags)
	}
	if headerBytes+n.count*elementBytes > len(b) {
		return treeNode{}, found("page %d: %d entries", id, n.count)
	}
	return n, nil
}

func (n treeNode) branch(i int) (key []byte, child uint64, err error) {
	at := headerBytes + i*elementBytes
	e := n.b[at:]
	key, err = n.slice(at, binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:]))
	return key, binary.NativeEndian.Uint64(e[8:]), err
}

func (n treeNode) leaf(i int) (key, value []byte, flags uint32, err error) {
	at := headerBytes + i*elementBytes
	e := n.b[at:]
	pos, keyBytes := binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[8:])
	if key, err = n.slice(at, pos, keyBytes); err != nil {
		return nil, nil, 0, err
	}
	value, err = n.slice(at+int(pos)+int(keyBytes), 0, binary.NativeEndian.Uint32(e[12:]))
	return key, value, binary.NativeEndian.Uint32(e), err
}

// slice returns length bytes at pos from an element, if they are in the page.
func (n treeNode) slice(at int, pos, length uint32) ([]byte, error) {
	start := uint64(at) + uint64(pos)
	if start+uint64(length) > uint64(len(n.b)) {
		return nil, found("page %d: entry outside the page", n.id)
	}
	return n.b[start : start+uint64(length)], nil
}
