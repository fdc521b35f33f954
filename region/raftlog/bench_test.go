package raftlog

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncCounter is a file system that counts the syncs of files that it made.
type syncCounter struct {
	vfs.FS
	syncs atomic.Int64
}

func (c *syncCounter) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	return &countedFile{f, c}, err
}

func (c *syncCounter) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.ReuseForWrite(from, to, category)
	return &countedFile{f, c}, err
}

type countedFile struct {
	vfs.File
	counter *syncCounter
}

func (f *countedFile) Sync() error { f.counter.syncs.Add(1); return f.File.Sync() }

func (f *countedFile) SyncData() error { f.counter.syncs.Add(1); return f.File.SyncData() }

// BenchmarkAppend measures group commit: writers of a group each append one entry at a time.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 48} {
		for _, size := range []int{128, 1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("writers=%d/bytes=%d", writers, size), func(b *testing.B) {
				benchmarkAppend(b, writers, size)
			})
		}
	}
}

func benchmarkAppend(b *testing.B, writers, size int) {
	disk := &syncCounter{FS: vfs.Default}
	l, err := Open(b.TempDir(), Options{fs: disk})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	took := make([][]time.Duration, writers)
	done := make(chan error)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	before := disk.syncs.Load()
	for w := range writers {
		go func() { done <- appendWhile(l, uint32(w), size, &left, &took[w]) }()
	}
	for range writers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(disk.syncs.Load()-before)/float64(b.N), "fsyncs/op")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// appendWhile appends entries while there are some left, and cuts the log now and then.
func appendWhile(l *Log, id uint32, size int, left *atomic.Int64, took *[]time.Duration) error {
	g, err := l.Group(id)
	if err != nil {
		return err
	}
	data := make([]byte, size)
	one := make([]Entry, 1)
	for left.Add(-1) >= 0 {
		index := g.LastIndex() + 1
		one[0] = Entry{Index: index, Term: 1, Data: data}
		began := time.Now()
		if err := g.Append(one); err != nil {
			return err
		}
		*took = append(*took, time.Since(began))
		if index%4096 == 0 {
			g.SetDurable(index)
			if err := g.DeleteRange(1, index-2048); err != nil {
				return err
			}
		}
	}
	return nil
}
