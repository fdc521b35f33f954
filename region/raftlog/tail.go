package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's WAL is made of blocks, blocks of chunks, little endian:
//
//	masked crc32c of all from encoding on (4) | length(2) | encoding(1) | log number(4) |
//	offset that was synced before(8) | payload
//
// When Pebble meets an invalid chunk, it looks for a later chunk that says that the invalid one had
// been synced, but in the blocks after it only. Within the last block it takes damage for a torn
// tail and drops every acknowledged record behind it. checkTail closes that hole.
const (
	walBlockBytes   = 32 << 10
	walHeaderBytes  = 4 + 2 + 1 + 4 + 8
	walFirstCode    = 9
	walLastCode     = 12
	walSuffix       = ".log"
	walCRCMaskDelta = 0xa282ead8
)

// checkTail returns *CorruptError if the last WAL file in dir holds an invalid chunk followed, in
// the same block, by one that vouches for it. Damage in the last synced record leaves no witness, nor
// that in the one before if Pebble noted its sync only after the last was written.
func checkTail(fs vfs.FS, dir string) error {
	name, err := lastWAL(fs, dir)
	if err != nil || name == "" {
		return err
	}
	number := walNumber(name)
	f, err := fs.Open(fs.PathJoin(dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, walBlockBytes)
	for base := uint64(0); ; base += walBlockBytes {
		n, err := io.ReadFull(f, block)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		bad := validChunks(block[:n], number)
		if bad+walHeaderBytes > n {
			continue // what is left of a block is too small for a chunk
		}
		if vouched(block[bad:n], number, base+uint64(bad)) {
			return &CorruptError{Dir: dir, Detail: fmt.Sprintf("%s: damaged at offset %d", name, base+uint64(bad))}
		}
		return nil // the log's end, or for Pebble to judge by the blocks that follow
	}
}

// lastWAL returns the name of the newest WAL file, "" if there is none.
func lastWAL(fs vfs.FS, dir string) (name string, err error) {
	names, err := fs.List(dir)
	if err != nil {
		if _, statErr := fs.Stat(dir); errors.Is(statErr, os.ErrNotExist) {
			return "", nil
		}
		return "", err
	}
	for _, candidate := range names {
		if walNumber(candidate) > walNumber(name) {
			name = candidate
		}
	}
	return name, nil
}

// walNumber returns the number in a WAL file's name, 0 if it is another file.
func walNumber(name string) uint32 {
	digits, ok := strings.CutSuffix(name, walSuffix)
	if n, err := strconv.ParseUint(digits, 10, 32); ok && err == nil {
		return uint32(n)
	}
	return 0
}

// validChunks returns the offset of the first chunk in block that is not valid.
func validChunks(block []byte, number uint32) int {
	at := 0
	for {
		size, _, ok := walChunk(block[at:], number)
		if !ok {
			return at
		}
		at += size
	}
}

// vouched tells whether a chunk later than the first in b says that it was written after offset
// had been synced.
func vouched(b []byte, number uint32, offset uint64) bool {
	for at := 1; at+walHeaderBytes <= len(b); at++ {
		if _, synced, ok := walChunk(b[at:], number); ok && synced > offset {
			return true
		}
	}
	return false
}

// walChunk reads the chunk at the start of b.
func walChunk(b []byte, number uint32) (size int, synced uint64, ok bool) {
	if len(b) < walHeaderBytes || b[6] < walFirstCode || b[6] > walLastCode {
		return 0, 0, false
	}
	size = walHeaderBytes + int(binary.LittleEndian.Uint16(b[4:]))
	if binary.LittleEndian.Uint32(b[7:]) != number || size > len(b) {
		return 0, 0, false
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if (sum>>15|sum<<17)+walCRCMaskDelta != binary.LittleEndian.Uint32(b) {
		return 0, 0, false
	}
	return size, binary.LittleEndian.Uint64(b[11:]), true
}
