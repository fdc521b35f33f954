package region_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

var foldBounds = region.DefaultFoldBounds()

// backlog is a partition whose destinations are all away, in virtual time.
type backlog struct {
	t       testing.TB
	store   partitionStore
	machine *region.Machine
	folder  *region.OutboxFolder
	now     time.Time
	index   uint64
	written uint64 // bytes of deltas that came into the outbox
	most    uint64 // bytes that the outbox had at most
	slowest time.Duration
}

func newBacklog(t testing.TB) *backlog {
	t.Helper()
	s := openStore(t, filepath.Join(t.TempDir(), "p.db"))
	m, err := region.NewMachine(actorOf(testEU), s, hlc.NewClock(time.Now))
	if err != nil {
		t.Fatal(err)
	}
	return &backlog{t: t, store: s, machine: m, folder: region.NewOutboxFolder(m, foldBounds), now: time.Unix(1_700_000_000, 0)}
}

func (b *backlog) apply(commands ...*logv1.Command) error {
	b.t.Helper()
	b.index++
	data, err := proto.Marshal(&logv1.LogEntry{Hlc: uint64(hlc.At(b.now.UnixMilli(), 0)), Commands: commands})
	if err != nil {
		b.t.Fatal(err)
	}
	began := time.Now()
	if err := b.machine.Apply([]region.Entry{{Index: b.index, Term: 1, Data: data}}); err != nil {
		b.t.Fatal(err)
	}
	if commands[0].GetOutboxFold() != nil {
		b.slowest = max(b.slowest, time.Since(began))
	}
	if b.store.Buffered() > 16<<20 { // before the store waits for it
		bench, timed := b.t.(*testing.B) // of which the disk is no part
		if timed {
			bench.StopTimer()
		}
		if err := b.machine.Flush(); err != nil {
			b.t.Fatal(err)
		}
		if timed {
			bench.StartTimer()
		}
	}
	return nil
}

// write has events happen in d, each of which op makes.
func (b *backlog) write(events int, d time.Duration, op func(i int) replica.Op) {
	b.t.Helper()
	const entry = 100
	for i := 0; i < events; i += entry {
		var commands []*logv1.Command
		for j := range min(entry, events-i) {
			commands = append(commands, region.WriteCommand("", []replica.Op{op(i + j)}))
		}
		before := b.machine.View().Outbox.Bytes
		_ = b.apply(commands...)
		b.written += b.machine.View().Outbox.Bytes - before
		b.most = max(b.most, b.machine.View().Outbox.Bytes)
		b.now = b.now.Add(d / time.Duration(max(1, events/entry)))
		if i%1000 == 0 {
			b.fold()
		}
	}
}

// fold folds until there is nothing to fold.
func (b *backlog) fold() {
	b.t.Helper()
	for more := true; more; {
		fold, again, err := b.folder.Step(b.now)
		if err != nil {
			b.t.Fatal(err)
		}
		if more = again; fold != nil {
			b.folder.Done(b.apply(fold))
		}
	}
}

// check has a region merge what is left, and compares it to this one.
func (b *backlog) check() {
	b.t.Helper()
	other, err := replica.Open(replica.NewMemory(), actorOf(testUS))
	if err != nil {
		b.t.Fatal(err)
	}
	for from := uint64(1); from <= b.machine.View().Outbox.Head; {
		records, err := b.machine.ReadOutbox(from, 1<<20)
		if err != nil || len(records) == 0 {
			b.t.Fatalf("%d records from %d on, %v", len(records), from, err)
		}
		for _, r := range records {
			run, err := replica.DecodeRunOrDelta(r.Data)
			if err != nil {
				b.t.Fatal(err)
			}
			if _, err := other.MergeRun(run); err != nil {
				b.t.Fatal(err)
			}
			from = r.Seq + 1
		}
	}
	got, err := other.Digest()
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.machine.Read(func(r *replica.Replica) error {
		want, err := r.Digest()
		if got != want {
			b.t.Errorf("digest %x, want %x", got, want)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func hotOp(i int) replica.Op {
	switch i % 3 {
	case 0:
		return add("hits", 1)
	case 1:
		return put("config of the page", fmt.Sprintf("%0100d", i))
	default:
		return replica.Op{Kind: replica.OpSetAdd, Namespace: "default", Key: "s", Elements: [][]byte{{byte('a' + i%7)}}}
	}
}

// TestHotKeysLeaveTheOutboxFlat: an hour, and as much again, of writes to a few keys.
func TestHotKeysLeaveTheOutboxFlat(t *testing.T) {
	t.Parallel()
	b := newBacklog(t)
	const events = 60_000
	b.write(events, time.Hour, hotOp)
	first := b.most
	if limit := foldBounds.FromBytes + 2*foldBounds.WindowBytes; first > limit {
		t.Errorf("the outbox had %d bytes, more than %d", first, limit)
	}
	b.write(events, 72*time.Hour, hotOp)
	if b.most > first+first/100 {
		t.Errorf("the outbox had %d bytes after an hour and %d after 72", first, b.most)
	}
	c := b.folder.Counts()
	t.Logf("%d bytes of deltas, at most %d kept, %d read by %d folds and %d in vain, %d written; the longest took %v",
		b.written, b.most, c.Read, c.Folds, c.Vain, c.Written, b.slowest)
	if c.Read > b.written*5/4 || c.Written > b.written/50 {
		t.Errorf("%d bytes read and %d written for %d", c.Read, c.Written, b.written)
	}
	pairs, err := b.machine.OutboxPairs()
	if err != nil || len(pairs) > 10_000 {
		t.Errorf("%d pairs, %v", len(pairs), err)
	}
	b.check()
}

// TestManyKeysLeaveTheOutboxAsLargeAsTheyAre: each is written many times, none twice in one window.
func TestManyKeysLeaveTheOutboxAsLargeAsTheyAre(t *testing.T) {
	t.Parallel()
	b := newBacklog(t)
	const keys = 6000
	value := fmt.Sprintf("%0100d", 0)
	b.write(15*keys, time.Hour, func(i int) replica.Op { return put(fmt.Sprint("key-", i%keys), value) })
	c := b.folder.Counts()
	t.Logf("%d bytes of deltas, at most %d kept, %d read by %d folds and %d in vain, %d written; the longest took %v",
		b.written, b.most, c.Read, c.Folds, c.Vain, c.Written, b.slowest)
	if limit := uint64(3*keys*150 + foldBounds.FromBytes); b.most > limit {
		t.Errorf("the outbox had %d bytes, more than %d", b.most, limit)
	}
	if c.Read > 6*b.written || c.Written > 2*b.written {
		t.Errorf("%d bytes read and %d written for %d", c.Read, c.Written, b.written)
	}
	b.check()
}

// TestWhatDoesNotPayIsNotTriedForEver: no key is written twice.
func TestWhatDoesNotPayIsNotTriedForEver(t *testing.T) {
	t.Parallel()
	b := newBacklog(t)
	value := fmt.Sprintf("%0600d", 0)
	b.write(40_000, time.Hour, func(i int) replica.Op { return put(fmt.Sprint("key-", i), value) })
	c := b.folder.Counts()
	t.Logf("%d bytes of deltas, %d read by %d in vain", b.written, c.Read, c.Vain)
	if c.Folds > 0 || c.Vain == 0 || c.Read > 6*b.written {
		t.Errorf("%+v for %d bytes", c, b.written)
	}
	b.now = b.now.Add(time.Hour)
	b.fold()
	c = b.folder.Counts()
	for range 100 {
		b.now = b.now.Add(time.Second)
		b.fold()
	}
	if again := b.folder.Counts(); again != c {
		t.Errorf("tried again: %+v after %+v", again, c)
	}
}

// TestNewEntriesAreNotFolded: whoever keeps up reads them as they are.
func TestNewEntriesAreNotFolded(t *testing.T) {
	t.Parallel()
	b := newBacklog(t)
	value := fmt.Sprintf("%0200d", 0)
	b.write(8000, 0, func(int) replica.Op { return put("k", value) })
	if b.now = b.now.Add(foldBounds.KeepAge - time.Second); b.folder.Counts() != (region.FoldCounts{}) {
		t.Errorf("%+v at once", b.folder.Counts())
	}
	if b.fold(); b.folder.Counts() != (region.FoldCounts{}) {
		t.Errorf("%+v before its time", b.folder.Counts())
	}
	b.now = b.now.Add(2 * time.Second)
	b.fold()
	box := b.machine.View().Outbox
	if b.folder.Counts().Folds == 0 || box.FoldedEvents == 0 || box.FoldedEvents > box.Head-foldBounds.KeepEvents || box.Bytes < foldBounds.FromBytes/2 {
		t.Errorf("%+v, %+v", b.folder.Counts(), box)
	}
	b.check()
}

// TestNewLeadersGoOnFolding: what earlier ones left is found.
func TestNewLeadersGoOnFolding(t *testing.T) {
	t.Parallel()
	b := newBacklog(t)
	for range 4 {
		b.write(20_000, time.Hour, hotOp)
		b.folder = region.NewOutboxFolder(b.machine, foldBounds)
	}
	if box := b.machine.View().Outbox; b.most > foldBounds.FromBytes+2*foldBounds.WindowBytes {
		t.Errorf("%d bytes: %+v", b.most, box)
	}
	b.check()
}
