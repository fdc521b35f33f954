package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func openLog(t *testing.T, dir string, opts Options) *Log {
	t.Helper()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func openGroup(t *testing.T, l *Log, id uint32) *Group {
	t.Helper()
	g, err := l.Group(id)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// entries makes entries from to to, whose content depends on group and index.
func entries(group uint32, from, to uint64) []Entry {
	var out []Entry
	for i := from; i <= to; i++ {
		out = append(out, Entry{
			Index: i, Term: i/10 + 1, Kind: uint8(i % 6),
			Data:       fmt.Appendf(nil, "group %d entry %d", group, i),
			AppendedAt: time.Unix(0, int64(i)*1e9+7),
		})
	}
	return out
}

func checkEntries(t *testing.T, g *Group, from, to uint64) {
	t.Helper()
	if s := g.Stats(); s.First != from || s.Last != to {
		t.Fatalf("bounds %d..%d, want %d..%d", s.First, s.Last, from, to)
	}
	for _, want := range entries(g.id, from, to) {
		got, err := g.Entry(want.Index)
		if err != nil {
			t.Fatalf("entry %d: %v", want.Index, err)
		}
		same := got.Index == want.Index && got.Term == want.Term && got.Kind == want.Kind &&
			bytes.Equal(got.Data, want.Data) && len(got.Extensions) == 0 && got.AppendedAt.Equal(want.AppendedAt)
		if !same {
			t.Fatalf("entry %d is %+v, want %+v", want.Index, got, want)
		}
	}
	for _, index := range []uint64{0, from - 1, to + 1} {
		if _, err := g.Entry(index); !errors.Is(err, ErrNotFound) {
			t.Fatalf("entry %d: %v", index, err)
		}
	}
}

func TestGroupsAreApartAndSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	ids := []uint32{0, 1, 255, ^uint32(0)}
	var writers sync.WaitGroup
	for _, id := range ids {
		g := openGroup(t, l, id)
		writers.Go(func() {
			for i := uint64(1); i <= 40; i += 4 {
				if err := g.Append(entries(id, i, i+3)); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(g.Set([]byte("vote"), fmt.Appendf(nil, "n%d", id)), g.SetUint64([]byte("term"), uint64(id)+7)); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	for round := range 2 {
		for _, id := range ids {
			checkGroup(t, openGroup(t, l, id))
		}
		if round == 0 {
			if err := errors.Join(l.Close(), l.Close()); err != nil {
				t.Fatal(err)
			}
			l = openLog(t, dir, Options{})
		}
	}
	empty := openGroup(t, l, 9)
	checkEmpty(t, empty)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := empty.Append(entries(9, 1, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
}

// checkGroup checks what TestGroupsAreApartAndSurviveReopening wrote.
func checkGroup(t *testing.T, g *Group) {
	t.Helper()
	checkEntries(t, g, 1, 40)
	vote, err := g.Get([]byte("vote"))
	if err != nil || string(vote) != fmt.Sprintf("n%d", g.id) {
		t.Fatalf("vote %q, %v", vote, err)
	}
	term, err := g.GetUint64([]byte("term"))
	if err != nil || term != uint64(g.id)+7 {
		t.Fatalf("term %d, %v", term, err)
	}
	if s := g.Stats(); s.Bytes == 0 || s.Appended < s.Bytes {
		t.Fatalf("figures %+v", s)
	}
}

func checkEmpty(t *testing.T, g *Group) {
	t.Helper()
	if g.FirstIndex() != 0 || g.LastIndex() != 0 {
		t.Fatalf("bounds %d..%d", g.FirstIndex(), g.LastIndex())
	}
	if _, err := g.Get([]byte("absent")); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if n, err := g.GetUint64([]byte("absent")); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

func TestExtensionsAndEmptyDataAreKept(t *testing.T) {
	g := openGroup(t, openLog(t, t.TempDir(), Options{}), 1)
	want := []Entry{{Index: 5, Term: 1, Extensions: []byte("ext"), Data: []byte("data")}, {Index: 6, Term: 1, Kind: 1}}
	if err := g.Append(want); err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		got, err := g.Entry(w.Index)
		if err != nil || string(got.Extensions) != string(w.Extensions) || string(got.Data) != string(w.Data) || !got.AppendedAt.IsZero() {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestAppendLeavesNoGap(t *testing.T) {
	g := openGroup(t, openLog(t, t.TempDir(), Options{}), 1)
	if err := g.Append(entries(1, 5, 9)); err != nil { // an empty log may begin anywhere
		t.Fatal(err)
	}
	for name, bad := range map[string][]Entry{
		"gap": entries(1, 11, 12), "overlap": entries(1, 9, 12), "hole": append(entries(1, 10, 10), entries(1, 12, 12)...),
	} {
		if err := g.Append(bad); !errors.Is(err, ErrGap) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := Entry{Index: 10, Data: make([]byte, MaxEntryBytes+1)}
	if err := g.Append([]Entry{large}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
	checkEntries(t, g, 5, 9)
}

// The state machine's file must hold what is deleted at the front, and must not yet hold what is
// truncated at the back.
func TestDeleteRangeGuardsWhatIsNeeded(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	g := openGroup(t, l, 1)
	if err := g.Append(entries(1, 1, 20)); err != nil {
		t.Fatal(err)
	}
	g.SetDurable(10)
	g.SetDurable(8) // never goes back
	for name, c := range map[string]struct {
		low, high uint64
		want      error
	}{
		"prefix beyond durable":   {1, 11, ErrNotDurable},
		"everything":              {1, 20, ErrNotDurable},
		"suffix of applied":       {10, 20, ErrNotDurable},
		"hole":                    {5, 7, ErrGap},
		"nothing there":           {21, 30, nil},
		"upside down":             {9, 3, nil},
		"clamped, beyond durable": {0, 15, ErrNotDurable},
	} {
		if err := g.DeleteRange(c.low, c.high); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkEntries(t, g, 1, 20)
	if err := g.DeleteRange(1, 10); err != nil {
		t.Fatal(err)
	}
	if err := g.DeleteRange(16, 20); err != nil {
		t.Fatal(err)
	}
	checkEntries(t, g, 11, 15)
	if err := g.Append(entries(1, 16, 18)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	g = openGroup(t, openLog(t, dir, Options{}), 1)
	checkEntries(t, g, 11, 18)
	g.SetDurable(18)
	if err := g.DeleteRange(11, 18); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, g)
	if err := g.Append(entries(1, 50, 51)); err != nil { // after an installed snapshot
		t.Fatal(err)
	}
	checkEntries(t, g, 50, 51)
}

// failing is a file system whose syncs and writes fail once armed.
type failing struct {
	mu    sync.Mutex
	kinds map[errorfs.OpKind]bool
	hold  chan struct{}
}

var errDisk = errors.New("injected disk failure")

func (f *failing) String() string { return "failing" }

func (f *failing) MaybeError(op errorfs.Op) error {
	f.mu.Lock()
	bad, hold := f.kinds[op.Kind], f.hold
	f.mu.Unlock()
	if bad && hold != nil {
		<-hold
		return nil
	}
	if bad {
		return errDisk
	}
	return nil
}

func (f *failing) arm(hold chan struct{}, kinds ...errorfs.OpKind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kinds, f.hold = map[errorfs.OpKind]bool{}, hold
	for _, kind := range kinds {
		f.kinds[kind] = true
	}
}

var syncKinds = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}

func TestFirstDiskFailureLatches(t *testing.T) {
	for name, kinds := range map[string][]errorfs.OpKind{
		"sync": syncKinds, "write": {errorfs.OpFileWrite},
	} {
		t.Run(name, func(t *testing.T) {
			disk := &failing{}
			var mu sync.Mutex
			var failures []error
			l := openLog(t, "log", Options{
				fs:        errorfs.Wrap(vfs.NewMem(), disk),
				OnFailure: func(err error) { mu.Lock(); failures = append(failures, err); mu.Unlock() },
			})
			g, other := openGroup(t, l, 1), openGroup(t, l, 2)
			if err := errors.Join(g.Append(entries(1, 1, 3)), other.Append(entries(2, 1, 3))); err != nil {
				t.Fatal(err)
			}
			disk.arm(nil, kinds...)
			var writers sync.WaitGroup
			for _, g := range []*Group{g, other} {
				writers.Go(func() {
					if err := g.Append(entries(g.id, 4, 4)); !errors.Is(err, ErrFailed) {
						t.Errorf("append on a failing disk: %v", err)
					}
				})
			}
			writers.Wait()
			disk.arm(nil) // works again: too late
			for what, err := range map[string]error{
				"append": g.Append(entries(1, 4, 4)), "set": g.SetUint64([]byte("term"), 9), "delete": g.DeleteRange(3, 3),
			} {
				if !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
					t.Errorf("%s after the failure: %v", what, err)
				}
			}
			if _, err := g.Entry(1); !errors.Is(err, ErrFailed) {
				t.Errorf("read after the failure: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(failures) != 1 || !errors.Is(failures[0], errDisk) {
				t.Errorf("failures reported: %v", failures)
			}
		})
	}
}

// A disk that hangs must be noticed while the write still hangs.
func TestStalledDiskLatches(t *testing.T) {
	disk := &failing{}
	failed := make(chan error, 1)
	l := openLog(t, "log", Options{
		fs: errorfs.Wrap(vfs.NewMem(), disk), OnFailure: func(err error) { failed <- err }, stall: 20 * time.Millisecond,
	})
	g := openGroup(t, l, 1)
	release, done := make(chan struct{}), make(chan error, 1)
	disk.arm(release, syncKinds...)
	go func() { done <- g.Append(entries(1, 1, 1)) }()
	if err := <-failed; !errors.Is(err, ErrStalled) {
		t.Fatal(err)
	}
	if err := openErr(l, 2); !errors.Is(err, ErrFailed) {
		t.Fatalf("another group: %v", err)
	}
	disk.arm(nil)
	close(release)
	if err := <-done; !errors.Is(err, ErrStalled) {
		t.Fatalf("the stalled append: %v", err)
	}
}

func openErr(l *Log, id uint32) error {
	_, err := l.Group(id)
	return err
}
