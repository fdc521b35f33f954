package jetstream

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// blocksOf returns the blocks of messages below a server's store.
func blocksOf(t *testing.T, dir string) []string {
	t.Helper()
	var blocks []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == blockPattern {
			blocks = append(blocks, path)
		}
		return err
	})
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	return blocks
}

// A server that opens such a block takes all memory and a core for good.
func TestFlippedBitOfASequenceNumber(t *testing.T) {
	eu, us := newRegion(t, 1, "eu", 2), newRegion(t, 2, "us", 1)
	eu.start(t, nil, us)
	us.start(t, nil, eu)
	eu.write(2000, 100)
	converge(t, time.Minute, eu, us)
	eu.stop()
	if err := checkStore(eu.dir); err != nil {
		t.Fatalf("an intact store: %v", err)
	}
	block := blocksOf(t, eu.dir)[0]
	content, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	second := binary.LittleEndian.Uint32(content) &^ recordHeadersIn
	content[second+4+5] ^= 1 // of its number
	if err := os.WriteFile(block, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkStore(eu.dir); !errors.Is(err, errDamagedStore) {
		t.Fatalf("a damaged store: %v", err)
	}
	eu.start(t, nil, us)
	eu.write(100, 100)
	converge(t, time.Minute, eu, us)
}

func TestStoreThatDoesNotOpen(t *testing.T) {
	eu, us := newRegion(t, 1, "eu", 2), newRegion(t, 2, "us", 1)
	if err := os.WriteFile(filepath.Join(eu.dir, "jetstream"), []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	eu.start(t, nil, us)
	us.start(t, nil, eu)
	eu.write(100, 100)
	converge(t, time.Minute, eu, us)
}

// Whatever a block has in it, looking at it ends.
func TestBlocksThatEndEarly(t *testing.T) {
	record := make([]byte, recordHeader+recordHash)
	binary.LittleEndian.PutUint32(record, uint32(len(record)))
	binary.LittleEndian.PutUint64(record[4:], 7)
	block := append(append([]byte{}, record...), record...)
	for n := range len(block) + 1 {
		path := filepath.Join(t.TempDir(), "1.blk")
		if err := os.WriteFile(path, block[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkBlock(path); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := checkStore(filepath.Join(t.TempDir(), "absent")); err != nil {
		t.Error(err)
	}
}
