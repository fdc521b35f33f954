package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestDamageHitsWhatIsThere(t *testing.T) {
	content := make([]byte, 64<<10)
	copy(content[4096:], bytes.Repeat([]byte{7}, 512))
	copy(content[40960:], bytes.Repeat([]byte{7}, 512))
	hit := map[int]bool{}
	for i := range 100 {
		at := somewhere(content, float64(i)/100)
		if content[at] == 0 {
			t.Fatalf("place %d of 100 is byte %d, where there is nothing", i, at)
		}
		hit[at/4096] = true
	}
	if len(hit) != 2 {
		t.Errorf("the places are in %d of the two blocks", len(hit))
	}
	if at := somewhere(make([]byte, 10), 1); at != 9 {
		t.Errorf("the last place of ten empty bytes is %d", at)
	}
}

func TestEveryDamageChangesTheFile(t *testing.T) {
	dir := t.TempDir()
	original := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for _, name := range []string{"log/000001.log", "partitions/0003.db"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, original, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]int{}
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		d, err := choose(random, dir)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(d.apply(bytes.Clone(original)), original) {
			t.Fatalf("%s of %s changes nothing", d.how, d.file)
		}
		kinds[d.how+filepath.Ext(d.file)]++
	}
	if len(kinds) != 6 {
		t.Errorf("of three kinds and two files there are %v", kinds)
	}
	if _, err := choose(random, t.TempDir()); err == nil {
		t.Error("found something to damage in nothing")
	}
}

func TestReadsOfADamagedNodeAreJudged(t *testing.T) {
	r := &corruptRun{written: map[string][]string{"k": {"old", "new"}}}
	for _, c := range []struct {
		name        string
		found, last bool
		value       string
		good        bool
	}{
		{"the last", true, true, "new", true},
		{"old for the region", true, true, "old", false},
		{"old at the node", true, false, "old", true},
		{"garbage at the node", true, false, "nex", false},
		{"absent at the node", false, false, "", true},
		{"absent for the region", false, true, "", false},
	} {
		if fault := r.judge("k", c.found, []byte(c.value), c.last); (fault == "") != c.good {
			t.Errorf("%s: %q", c.name, fault)
		}
	}
}

func TestARefusalMustNameTheDamage(t *testing.T) {
	for _, c := range []struct {
		said, file string
		want       bool
	}{
		{"open /d/partitions/0006.db: page 3 is damaged", "/d/partitions/0006.db", true},
		{"open partition 6: damaged", "/d/partitions/0006.db", true},
		{"open /d/partitions/0007.db: page 3 is damaged", "/d/partitions/0006.db", false},
		{"open: corrupt log /d/log: unreadable entries", "/d/log/000003.sst", true},
		{"open /d/log: the log is of another node", "/d/log/000003.sst", false},
		{"panic: out of range", "/d/log/000003.sst", false},
	} {
		if got := namesDamage(c.said, c.file, "/d"); got != c.want {
			t.Errorf("%q names %s: %v", c.said, c.file, got)
		}
	}
}

func TestLargeValuesAreTold(t *testing.T) {
	r := newLargeRun(&stage{settings: &settings{seed: 3}})
	n := r.next() + r.next() // 1
	r.verify(largeKey(n), r.value(n))
	if err := r.mu.wrong.err(); err != nil {
		t.Errorf("a value that was written: %v", err)
	}
	changed := bytes.Clone(r.value(n))
	changed[largeBytes/2] ^= 1
	for name, value := range map[string][]byte{
		"one bit wrong": changed, "cut off": r.value(n)[:largeBytes-1], "another key's": r.value(0), "never written": r.value(n + largeKeys), "nothing": nil,
	} {
		before := r.mu.wrong.count
		r.verify(largeKey(n), value)
		if r.mu.wrong.count != before+1 {
			t.Errorf("%s passed", name)
		}
	}
}

func TestMemoryWatchKeepsTheMost(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := start(log, "sleep", "100")
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	w := newMemoryWatch()
	w.follow(&member{name: "a", process: p})
	w.look()
	m := w.most["a"]
	if m.resident <= 0 || m.anonymous <= 0 || m.anonymous > m.resident {
		t.Fatalf("a process has %+v", m)
	}
	if err := w.judge(&report{}, m.anonymous); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	if err := w.judge(&report{}, m.anonymous-1); err == nil {
		t.Error("above the bound passed")
	}
}
