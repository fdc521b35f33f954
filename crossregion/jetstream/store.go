package jetstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// A server's store is not checked when the server opens it: messages have checksums, which it looks at when it
// reads them. But a sequence number with a flipped bit makes it count up to that number when it first reads the
// block (indexCacheBuf in nats-server's filestore.go), which takes all memory and a core for good. So numbers
// that jump are looked for before it starts. All else that may be wrong the server finds by itself.
//
// What is stored is only ever a copy of what outboxes keep, so a damaged store is dropped: other servers of the
// cluster have it, or the region publishes again what others lack.

// Of a block of messages, whose records follow each other: length u32 | sequence number u64 | time 8 | length of
// the subject u16 | subject, headers and message | hash 8.
const (
	blockPattern    = ".blk"
	recordHeader    = 22
	recordHash      = 8
	maxRecordBytes  = 32 << 20
	recordHeadersIn = 1 << 31 // of the length: the message has headers
	recordErased    = 1 << 63 // of the number
	recordTombstone = 1 << 62
	// maxJump is how far numbers may be apart. Nothing deletes single messages of our streams; the logs of a
	// cluster may be cut anywhere.
	maxJump = 1 << 24
)

var errDamagedStore = errors.New("the store is damaged")

// dropDamaged removes a store that the server must not open.
func dropDamaged(dir string, log *slog.Logger) error {
	err := checkStore(dir)
	if !errors.Is(err, errDamagedStore) {
		return err
	}
	log.Error("what JetStream has stored is damaged and dropped; nothing is lost, other regions fetch what they lack", slog.Any("err", err))
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("drop a damaged store: %w", err)
	}
	return nil
}

// checkStore returns errDamagedStore if a block of messages has numbers that jump.
func checkStore(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != blockPattern {
			return err
		}
		return checkBlock(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing stored yet
	}
	return err
}

func checkBlock(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check a block of messages: %w", err)
	}
	defer file.Close() // it is only read
	r := bufio.NewReaderSize(file, 64<<10)
	header := make([]byte, recordHeader)
	for last := uint64(0); ; {
		if _, err := io.ReadFull(r, header); err != nil {
			return nil // the end, or a record that was not written to its end, which the server cuts off
		}
		length := binary.LittleEndian.Uint32(header) &^ recordHeadersIn
		seq := binary.LittleEndian.Uint64(header[4:])
		if length < recordHeader+recordHash || length > maxRecordBytes {
			return nil // the server sees that, too
		}
		if seq&recordTombstone == 0 {
			seq &^= recordErased
			if last != 0 && seq > last+maxJump {
				return fmt.Errorf("%w: %s: message %d follows %d", errDamagedStore, path, seq, last)
			}
			last = max(last, seq)
		}
		if _, err := r.Discard(int(length) - recordHeader); err != nil {
			return nil
		}
	}
}
