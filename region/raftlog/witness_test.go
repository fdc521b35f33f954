package raftlog

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// flushed makes a log whose vote is in a table only, and returns the name of its manifest.
func flushed(t *testing.T, fs vfs.FS) (manifest string) {
	t.Helper()
	l := openLog(t, campaignDir, Options{fs: fs})
	if err := openGroup(t, l, 1).Set([]byte("vote"), []byte("n1")); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) { // until the vote's WAL is used again
		if err := errors.Join(l.db.Flush(), openGroup(t, l, 1).SetUint64([]byte("term"), i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return presentManifest(t, fs)
}

func presentManifest(t *testing.T, fs vfs.FS) string {
	t.Helper()
	names, err := fs.List(campaignDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if at := strings.Index(name, manifestPrefix); at > 0 { // marker.manifest.000002.MANIFEST-000005
			return name[at:]
		}
	}
	t.Fatalf("no manifest in %v", names)
	return ""
}

func rewrite(t *testing.T, fs vfs.FS, name string, change func([]byte) []byte) {
	t.Helper()
	content, err := readFile(fs, name)
	if err == nil {
		err = writeFile(fs, name, change(content))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Without a witness, Pebble takes a cut manifest for one that a crash tore, and the vote is gone.
func TestCutManifestsAreRefused(t *testing.T) {
	cutShort := func(b []byte) []byte { return b[:len(b)/3] }
	for name, c := range map[string]struct {
		damage  func(t *testing.T, fs vfs.FS, manifest string)
		corrupt bool
		vote    string
	}{
		"whole":       {func(*testing.T, vfs.FS, string) {}, false, "n1"},
		"cut":         {func(t *testing.T, fs vfs.FS, m string) { rewrite(t, fs, m, cutShort) }, true, ""},
		"witness cut": {func(t *testing.T, fs vfs.FS, _ string) { rewrite(t, fs, witnessName, cutShort) }, true, ""},
		"witness empty": {func(t *testing.T, fs vfs.FS, _ string) {
			rewrite(t, fs, witnessName, func([]byte) []byte { return nil })
		}, true, ""},
		"witness flipped": {func(t *testing.T, fs vfs.FS, _ string) { rewrite(t, fs, witnessName, flipLast) }, true, ""},
		"cut, no witness": {func(t *testing.T, fs vfs.FS, m string) {
			rewrite(t, fs, m, cutShort)
			if err := fs.Remove(fs.PathJoin(campaignDir, witnessName)); err != nil {
				t.Fatal(err)
			}
		}, false, ""},
		"more than the witness saw": {func(t *testing.T, fs vfs.FS, m string) {
			rewrite(t, fs, m, func(b []byte) []byte { return append(b, "torn"...) })
		}, false, "n1"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			c.damage(t, fs, flushed(t, fs))
			l, err := Open(campaignDir, Options{fs: fs})
			if isCorrupt(err) != c.corrupt {
				t.Fatalf("open: %v", err)
			}
			if err != nil {
				return
			}
			defer l.Close()
			vote, err := openGroup(t, l, 1).Get([]byte("vote"))
			if string(vote) != c.vote || err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatalf("the vote is %q, %v", vote, err)
			}
		})
	}
}

func flipLast(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

// A log without its manifest is not an empty log, and one without a table is damaged, not unreadable.
func TestMissingFilesAreDamage(t *testing.T) {
	for _, missing := range []string{"marker.manifest", ".sst", manifestPrefix} {
		fs := vfs.NewMem()
		flushed(t, fs)
		names, err := fs.List(campaignDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.Contains(name, missing) {
				if err := fs.Remove(fs.PathJoin(campaignDir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if l, err := Open(campaignDir, Options{fs: fs}); !isCorrupt(err) {
			t.Errorf("without %s: %v, %v", missing, l, err)
		}
	}
}

// What another process or the system causes is not called damage.
func TestLockedLogsAreNotDamaged(t *testing.T) {
	dir := t.TempDir()
	openLog(t, dir, Options{})
	if l, err := Open(dir, Options{}); err == nil || isCorrupt(err) {
		t.Fatalf("opened twice: %v, %v", l, err)
	}
}

// A failure to write the witness file counts like one to write the manifest.
func TestWitnessMustBeWritten(t *testing.T) {
	disk := &failing{}
	w := &witness{FS: errorfs.Wrap(vfs.NewMem(), disk), dir: "d"}
	if err := w.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := w.Create("d/MANIFEST-000007", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("edit")); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	disk.arm(nil, errorfs.OpRename)
	if err := f.Sync(); !errors.Is(err, errDisk) {
		t.Fatalf("sync without a witness: %v", err)
	}
}
