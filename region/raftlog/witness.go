package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's manifest says which tables and WALs make up the log. Damage in it ends it early, as a write
// torn by a crash would, and when the lost end told of a flush, the log opens without the flushed
// table, whose WAL is gone: without votes, or without entries at its front. So whenever Pebble has
// synced a manifest, and before it deletes anything by it, the witness file notes what it holds:
//
//	crc32c of the rest (4) | manifest number (8) | its length (8) | crc32c of that much (4) | ...
//
// for the present manifest and the one before, which counts until Pebble has switched over.
const (
	witnessName    = "MANIFEST.witness"
	manifestPrefix = "MANIFEST-"
	testimonyBytes = 8 + 8 + 4
	testimonies    = 2
)

type testimony struct {
	number, length uint64
	crc            uint32
}

// witness is a file system that keeps the witness file of one directory.
type witness struct {
	vfs.FS
	dir string

	mu   sync.Mutex // held over writing the file
	seen []testimony
}

// load reads the witness file. A log from before there were such files has none.
func (w *witness) load() error {
	content, err := w.read(witnessName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	bad := &CorruptError{Dir: w.dir, Detail: witnessName + " is damaged"}
	if len(content) < crcBytes || (len(content)-crcBytes)%testimonyBytes != 0 || len(content) > crcBytes+testimonies*testimonyBytes {
		return bad
	}
	body := content[crcBytes:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(content) {
		return bad
	}
	for b := range slices.Chunk(body, testimonyBytes) {
		w.seen = append(w.seen, testimony{
			number: binary.BigEndian.Uint64(b), length: binary.BigEndian.Uint64(b[8:]), crc: binary.BigEndian.Uint32(b[16:]),
		})
	}
	return nil
}

func (w *witness) read(name string) ([]byte, error) {
	f, err := w.Open(w.PathJoin(w.dir, name))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return content, errors.Join(err, f.Close())
}

// check returns *CorruptError unless the manifest begins with what was synced.
func (w *witness) check(name string) error {
	number, _ := manifestNumber(name)
	at := slices.IndexFunc(w.seen, func(t testimony) bool { return t.number == number })
	if at < 0 {
		return nil
	}
	content, err := w.read(name)
	if err != nil {
		return err
	}
	synced := w.seen[at]
	if uint64(len(content)) < synced.length || crc32.Checksum(content[:synced.length], castagnoli) != synced.crc {
		return &CorruptError{Dir: w.dir, Detail: name + " is damaged"}
	}
	return nil
}

// manifestNumber returns the number in a manifest's name.
func manifestNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, manifestPrefix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

// Create implements vfs.FS.
func (w *witness) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, category)
	number, manifest := manifestNumber(w.PathBase(name))
	if err != nil || !manifest {
		return f, err
	}
	return &manifestFile{File: f, witness: w, written: testimony{number: number}}, nil
}

// note makes a testimony durable.
func (w *witness) note(t testimony) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = slices.DeleteFunc(w.seen, func(old testimony) bool { return old.number == t.number })
	w.seen = append(w.seen, t)
	w.seen = w.seen[max(0, len(w.seen)-testimonies):]
	var b bytes.Buffer
	b.Write(make([]byte, crcBytes))
	for _, t := range w.seen {
		b.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, t.number), t.length))
		b.Write(binary.BigEndian.AppendUint32(nil, t.crc))
	}
	binary.BigEndian.PutUint32(b.Bytes(), crc32.Checksum(b.Bytes()[crcBytes:], castagnoli))
	if err := w.replace(b.Bytes()); err != nil {
		return fmt.Errorf("write %s: %w", witnessName, err)
	}
	return nil
}

// replace writes the witness file anew, or leaves the old one.
func (w *witness) replace(content []byte) error {
	name := w.PathJoin(w.dir, witnessName)
	f, err := w.FS.Create(name+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := w.Rename(name+".tmp", name); err != nil {
		return err
	}
	dir, err := w.OpenDir(w.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// manifestFile tells the witness what was synced. Pebble writes a manifest from front to back, in one
// goroutine at a time.
type manifestFile struct {
	vfs.File
	witness *witness
	written testimony
}

// Write implements vfs.File.
func (f *manifestFile) Write(p []byte) (int, error) {
	crc := crc32.Update(f.written.crc, castagnoli, p) // before: Pebble's file system for tests scribbles on p
	n, err := f.File.Write(p)
	if err == nil {
		f.written.length += uint64(n)
		f.written.crc = crc
	}
	return n, err
}

// Sync implements vfs.File.
func (f *manifestFile) Sync() error { return f.synced(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *manifestFile) SyncData() error { return f.synced(f.File.SyncData()) }

func (f *manifestFile) synced(err error) error {
	if err != nil {
		return err
	}
	return f.witness.note(f.written)
}
