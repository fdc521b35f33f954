package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region/store"
)

// TestNothingStaysBehindInQuietPartitions: one region never writes, and still nothing is left in any of what was
// deleted, was reset or has expired.
func TestNothingStaysBehindInQuietPartitions(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(t.Context(), Config{
		Nodes: 1, Dir: dir, Control: filepath.Join(t.TempDir(), "control.sock"),
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	regions := map[string]*client.Client{}
	for _, name := range Regions() {
		regions[name] = dial(t, d, name)
	}
	keys := writeAndDelete(t, regions)
	settled := time.Now()
	last := ""
	testkit.Eventually(t, 90*time.Second, func() error {
		now, err := stateOf(t.Context(), regions, keys)
		if err != nil || now != last {
			last, settled = now, time.Now()
			return errors.Join(err, errors.New("something happens still"))
		}
		if time.Since(settled) < 3*time.Second {
			return errors.New("something may happen still")
		}
		return nil
	})
	cancel()
	if err := errors.Join(<-ended, d.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "partitions", "*.db"))
	if err != nil || len(files) < len(Regions())*partitions {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		onlyMeta(t, file)
	}
}

// writeAndDelete has two regions write values of several types that are deleted or expire, and returns their keys.
func writeAndDelete(t *testing.T, regions map[string]*client.Client) (keys []string) {
	t.Helper()
	ctx := t.Context()
	eu, us := regions["eu"], regions["us"]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const each = 3
	for i := range each {
		key := func(kind string) string {
			keys = append(keys, fmt.Sprint(kind, i))
			return keys[len(keys)-1]
		}
		_, err := eu.Put(ctx, key("register"), []byte("v"))
		must(err)
		_, err = eu.Put(ctx, key("expiring"), []byte("v"), client.WithTTL(2*time.Second))
		must(err)
		_, err = eu.Set(key("set")).Add(ctx, [][]byte{[]byte("a")}, client.WithTTL(2*time.Second))
		must(err)
		counter := key("counter")
		_, err = eu.Counter(counter).Add(ctx, 1)
		must(err)
		_, err = us.Counter(counter).Add(ctx, 1)
		must(err)
		_, err = eu.HLL(key("hll")).Add(ctx, [][]byte{[]byte("a")})
		must(err)
		_, err = eu.Max(key("max")).Raise(ctx, 3)
		must(err)
	}
	testkit.Eventually(t, 30*time.Second, func() error {
		for i := range each {
			if n, err := eu.Counter(fmt.Sprint("counter", i)).Value(ctx); err != nil || n != 2 {
				return fmt.Errorf("counter is %d: %w", n, err)
			}
		}
		return nil
	})
	for _, key := range keys {
		_, err := eu.Delete(ctx, key)
		must(err)
	}
	return keys
}

// stateOf returns the vectors of all regions. It is an error if they differ, or if a region knows of a key.
func stateOf(ctx context.Context, regions map[string]*client.Client, keys []string) (string, error) {
	var states []string
	for _, name := range Regions() {
		digest, err := regions[name].Digest(ctx)
		if err != nil {
			return "", err
		}
		state := ""
		for _, p := range digest.GetPartitions() {
			state += fmt.Sprintln(p.GetPartition(), p.GetVector(), p.GetDigest())
		}
		states = append(states, state)
		for _, key := range keys {
			explained, err := regions[name].Explain(ctx, key)
			if err != nil || len(explained.GetObjects()) > 0 {
				return state, fmt.Errorf("%s knows of %s: %w", name, key, errors.Join(err, errors.New("not gone")))
			}
		}
	}
	for _, s := range states[1:] {
		if s != states[0] {
			return s, errors.New("regions differ")
		}
	}
	return states[0], nil
}

// onlyMeta checks that a partition has nothing of values and their deletes.
func onlyMeta(t *testing.T, file string) {
	t.Helper()
	s, err := store.Open(file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(func(kv replica.KV) error {
		return kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
			if strings.ContainsRune("KNEZRUADGXVY", rune(k[0])) {
				t.Errorf("%s has %q", file, k)
			}
			return true, nil
		})
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Error(err)
	}
}
