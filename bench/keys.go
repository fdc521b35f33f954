package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync/atomic"
)

const (
	// datasetBytes bounds all values of one size together.
	datasetBytes = 256 << 20
	// headerBytes is what every value begins with: the key's number, the write's number, a CRC-32C.
	headerBytes = 4 + 8 + 4
	// poolBytes is how many random bytes values are cut from, besides the longest value's.
	poolBytes = 4 << 20
)

// keySpace is the keys of one value size in one system, and what may be read from them.
//
// A value says which key it belongs to and which write of that key it is. As long as each key has one
// writer at a time, a linearizable read must return a write that was not older than the last
// acknowledged before it began, nor younger than the last begun before it ended.
type keySpace struct {
	bytes int
	names []string
	table *crc32.Table
	pool  []byte
	// begun and done are, by key, the number of the last write begun and acknowledged.
	begun, done []atomic.Uint64
	// doubtful says of which keys it is not known which write was the last.
	doubtful []atomic.Bool
}

var (
	errDamaged  = errors.New("the value read is not one that was written")
	errStale    = errors.New("the value read is older than one acknowledged before the read began")
	errPhantom  = errors.New("the value read was never written")
	errWrongKey = errors.New("the value read is another key's")
)

// newKeySpace returns the keys for values of a size, at most keys of them.
func newKeySpace(keys, bytes int) *keySpace {
	keys = min(keys, max(1, datasetBytes/bytes))
	k := &keySpace{
		bytes: bytes, table: crc32.MakeTable(crc32.Castagnoli), pool: make([]byte, poolBytes+bytes),
		begun: make([]atomic.Uint64, keys), done: make([]atomic.Uint64, keys), doubtful: make([]atomic.Bool, keys),
	}
	random := rand.NewChaCha8([32]byte{byte(bytes), byte(bytes >> 8), byte(bytes >> 16)})
	_, _ = random.Read(k.pool) // never fails
	for i := range keys {
		k.names = append(k.names, fmt.Sprintf("v%d/%06d", bytes, i))
	}
	return k
}

// begin makes the value of the next write of a key, in buf if that is large enough.
func (k *keySpace) begin(key int, random *rand.Rand, buf []byte) (write uint64, value []byte) {
	write = k.begun[key].Add(1)
	from := random.IntN(poolBytes)
	value = append(buf[:0], k.pool[from:from+k.bytes]...)
	binary.LittleEndian.PutUint32(value, uint32(key))
	binary.LittleEndian.PutUint64(value[4:], write)
	binary.LittleEndian.PutUint32(value[12:], k.checksum(value))
	return write, value
}

func (k *keySpace) checksum(value []byte) uint32 {
	return crc32.Update(crc32.Checksum(value[:12], k.table), k.table, value[headerBytes:])
}

// end notes how a write ended.
func (k *keySpace) end(key int, write uint64, err error) {
	if err != nil {
		k.doubt(key)
		return
	}
	for {
		last := k.done[key].Load()
		if last >= write || k.done[key].CompareAndSwap(last, write) {
			return
		}
	}
}

// doubt notes that which write of a key comes last is not known: one had an unknown outcome, and may take
// effect at any time, or there were several writers.
func (k *keySpace) doubt(key int) { k.doubtful[key].Store(true) }

// acknowledged returns the last acknowledged write of a key, to be taken before a read of it.
func (k *keySpace) acknowledged(key int) uint64 { return k.done[key].Load() }

// check verifies a value read from a key. Only a linearizable read, of a key with one writer, has to
// return at least the write that was acknowledged before.
func (k *keySpace) check(key int, atLeast uint64, linearizable bool, value []byte) error {
	if len(value) != k.bytes || k.checksum(value) != binary.LittleEndian.Uint32(value[12:]) {
		return errDamaged
	}
	write := binary.LittleEndian.Uint64(value[4:])
	switch {
	case binary.LittleEndian.Uint32(value) != uint32(key):
		return errWrongKey
	case write == 0 || write > k.begun[key].Load():
		return errPhantom
	case linearizable && write < atLeast && !k.doubtful[key].Load():
		return errStale
	default:
		return nil
	}
}

// share returns which keys a client writes: every clients-th from its number on, so that no key has two
// writers. With more clients than keys it is all of them, and exclusive is false.
func (k *keySpace) share(client, clients int) (pick func(*rand.Rand) int, exclusive bool) {
	keys := len(k.names)
	if clients > keys {
		return func(r *rand.Rand) int { return r.IntN(keys) }, false
	}
	own := (keys - client + clients - 1) / clients
	return func(r *rand.Rand) int { return client + clients*r.IntN(own) }, true
}
