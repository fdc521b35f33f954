package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
)

const benchKeys = 20_000

// benchKey is shaped like an object's key.
func benchKey(i int) []byte {
	return fmt.Appendf(nil, "Kdefault\x00\x01user:%08d\x00\x01\x01", i*7919%benchKeys)
}

// benchStore returns a store of benchKeys values of 300 bytes.
func benchStore(b *testing.B, flushed bool) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "s"), Options{Buffer: true, MaxBuffered: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	err = s.Update(func(kv replica.KV) error {
		for i := range benchKeys {
			if err := kv.Put(benchKey(i), make([]byte, 300)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && flushed {
		err = s.Flush()
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// cpu reports the processor time of the benchmark's loop, which a busy machine disturbs less.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkRead reads within one view; BenchmarkView opens one for each read.
func BenchmarkRead(b *testing.B) {
	for _, where := range []string{"memory", "file"} {
		s := benchStore(b, where == "file")
		keys := make([][]byte, 1024)
		for i := range keys {
			keys[i] = benchKey(rand.IntN(benchKeys))
		}
		b.Run("get/"+where, func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			_ = s.View(func(kv replica.KV) error {
				for i := 0; b.Loop(); i++ {
					if _, ok, err := kv.Get(keys[i%len(keys)]); !ok || err != nil {
						b.Fatal(ok, err)
					}
				}
				return nil
			})
		})
		b.Run("scan/"+where, func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			_ = s.View(func(kv replica.KV) error {
				var end []byte
				for i := 0; b.Loop(); i++ {
					key := keys[i%len(keys)]
					start := key[:len(key)-1]
					end = append(end[:0], start...)
					end[len(end)-1]++
					found := 0
					err := kv.Scan(start, end, func([]byte, []byte) (bool, error) { found++; return true, nil })
					if found != 1 || err != nil {
						b.Fatal(found, err)
					}
				}
				return nil
			})
		})
		b.Run("view/"+where, func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			for i := 0; b.Loop(); i++ {
				err := s.View(func(kv replica.KV) error {
					_, _, err := kv.Get(keys[i%len(keys)])
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkUpdate writes 256 values of 300 bytes, each after reading what its key holds, and flushes
// outside the measured time.
func BenchmarkUpdate(b *testing.B) {
	for name, spread := range map[string]int{"new": 1 << 40, "known": benchKeys} {
		b.Run(name, func(b *testing.B) {
			s := benchStore(b, true)
			value := make([]byte, 300)
			key := benchKey(0)
			next := 0
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				err := s.Update(func(kv replica.KV) error {
					for range 256 {
						key = fmt.Appendf(key[:0], "Kdefault\x00\x01user:%08d\x00\x01\x01", next*7919%spread)
						next++
						if _, _, err := kv.Get(key); err != nil {
							return err
						}
						if err := kv.Put(key, value); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				if s.Buffered() > flushBytes {
					b.StopTimer()
					if err := s.Flush(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkFlush flushes 8 MiB of values of 300 bytes under scattered keys.
func BenchmarkFlush(b *testing.B) {
	s := benchStore(b, true)
	value := make([]byte, 300)
	next := 0
	defer cpu(b)()
	for b.Loop() {
		b.StopTimer()
		err := s.Update(func(kv replica.KV) error {
			for s.Buffered() < flushBytes {
				next++
				if err := kv.Put(benchKey(next), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := s.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
