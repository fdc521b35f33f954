package region_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

var outboxSchedules = flag.Uint64("outbox-schedules", 25, "how many schedules TestOutboxesSayWhatTheirDeltasSay runs")

// TestOutboxesSayWhatTheirDeltasSay has a region write, merge, fold, trim and evict at random. Whatever is left in
// its outbox, a region that continues from any event that is kept ends with the same state as one that merged all
// deltas one by one.
func TestOutboxesSayWhatTheirDeltasSay(t *testing.T) {
	t.Parallel()
	folds := 0
	for seed := range *outboxSchedules {
		w := newOutboxWorld(t, seed)
		for range 60 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
			}
		}
		if err := w.readers(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
		folds += w.folds
	}
	if folds == 0 {
		t.Error("nothing was folded")
	}
}

// outboxWorld is two replicas of one partition that apply the same log, in different transactions, and one that never
// folds nor trims: it has every delta.
type outboxWorld struct {
	t     *testing.T
	rng   *rand.Rand
	clock int64
	log   []region.Entry
	one   *region.Machine
	two   *region.Machine
	path  string // of two
	// second says how much of the log two has applied.
	second int
	plain  *region.Machine
	other  *replica.Replica
	// held is what the outbox must keep for each region: all after it. gone are those it need not wait for.
	held  map[topology.RegionID]uint64
	gone  map[topology.RegionID]bool
	folds int
	trace []string
}

func newOutboxWorld(t *testing.T, seed uint64) *outboxWorld {
	t.Helper()
	w := &outboxWorld{
		t: t, rng: rand.New(rand.NewPCG(seed, 5)), clock: 1_700_000_000_000, path: filepath.Join(t.TempDir(), "two.db"),
		held: map[topology.RegionID]uint64{}, gone: map[topology.RegionID]bool{},
	}
	w.one, w.plain = w.machine(filepath.Join(t.TempDir(), "one.db")), w.machine(filepath.Join(t.TempDir(), "plain.db"))
	w.two = w.machine(w.path)
	var err error
	if w.other, err = replica.Open(replica.NewMemory(), actorOf(testAP)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *outboxWorld) machine(path string) *region.Machine {
	w.t.Helper()
	m, err := region.NewMachine(actorOf(testEU), openStore(w.t, path), hlc.NewClock(time.Now))
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// apply has a command applied, by two later and by plain if it does not concern the outbox.
func (w *outboxWorld) apply(c *logv1.Command, outbox bool) error {
	w.clock++
	data, err := proto.Marshal(&logv1.LogEntry{Hlc: uint64(hlc.At(w.clock, 0)), Commands: []*logv1.Command{c}})
	if err != nil {
		return err
	}
	e := region.Entry{Index: uint64(len(w.log)) + 1, Term: 1, Data: data}
	w.log = append(w.log, e)
	if err := w.one.Apply([]region.Entry{e}); err != nil {
		return err
	}
	if outbox {
		return nil
	}
	return w.plain.Apply([]region.Entry{e})
}

func (w *outboxWorld) step() error {
	var err error
	switch p := w.rng.IntN(20); {
	case p < 7:
		for range 1 + w.rng.IntN(12) {
			err = errors.Join(err, w.apply(region.WriteCommand("", []replica.Op{w.op()}), false))
		}
	case p < 9:
		err = w.exchange()
	case p < 14:
		err = w.fold()
	case p < 16:
		err = w.acknowledge()
	case p < 17:
		err = w.evict()
	case p < 18:
		err = w.readmit()
	default:
		err = w.follow()
	}
	if err != nil {
		return err
	}
	return w.audit()
}

func (w *outboxWorld) op() replica.Op {
	key := fmt.Sprint("k", w.rng.IntN(3))
	element := [][]byte{{byte('a' + w.rng.IntN(3))}}
	switch w.rng.IntN(8) {
	case 0:
		return put("p"+key, fmt.Sprint(w.rng.IntN(100)))
	case 1, 2:
		return add("c"+key, int64(w.rng.IntN(9)))
	case 3:
		return replica.Op{Kind: replica.OpCounterReset, Namespace: "default", Key: "c" + key}
	case 4, 5:
		return replica.Op{Kind: replica.OpSetAdd, Namespace: "default", Key: "s" + key, Elements: element}
	case 6:
		return replica.Op{Kind: replica.OpSetRemove, Namespace: "default", Key: "s" + key, Elements: element}
	default:
		return replica.Op{Kind: replica.OpMapPut, Namespace: "default", Key: "m" + key, Elements: element, Values: [][]byte{{byte(w.rng.IntN(9))}}}
	}
}

// exchange has the other region merge what plain has, and write, and this one merge that.
func (w *outboxWorld) exchange() error {
	runs, err := w.runs(w.plain, w.other.Vector().Get(actorOf(testEU))+1)
	if err != nil {
		return err
	}
	if _, err := w.other.MergeRuns(runs...); err != nil {
		return err
	}
	var data [][]byte
	for range 1 + w.rng.IntN(4) {
		w.clock++
		_, deltas, err := w.other.Execute(hlc.At(w.clock, 0), []replica.Op{w.op()})
		if err != nil {
			return err
		}
		for _, d := range deltas {
			data = append(data, replica.EncodeDelta(d))
		}
	}
	merge := &logv1.MergeCommand{Actor: uint32(actorOf(testAP)), Deltas: data}
	return w.apply(&logv1.Command{Command: &logv1.Command_Merge{Merge: merge}}, false)
}

func (w *outboxWorld) runs(m *region.Machine, from uint64) (runs []replica.Run, err error) {
	records, err := m.ReadOutbox(from, 1<<30)
	for i := range records {
		run, err := replica.DecodeRunOrDelta(records[i].Data)
		if err != nil {
			return nil, err
		}
		if run.From != records[i].First || run.To() != records[i].Seq {
			return nil, fmt.Errorf("record %d to %d is of %d to %d", records[i].First, records[i].Seq, run.From, run.To())
		}
		runs = append(runs, run)
	}
	return runs, err
}

// fold folds some neighbours. A bad fold, sometimes, must change nothing.
func (w *outboxWorld) fold() error {
	pairs, err := w.one.OutboxPairs()
	if err != nil || len(pairs) < 2 {
		return err
	}
	i := w.rng.IntN(len(pairs) - 1)
	n := 2 + w.rng.IntN(min(20, len(pairs)-i-1))
	records, err := w.one.ReadOutbox(pairs[i].First, 1<<30)
	if err != nil {
		return err
	}
	run, err := region.FoldOutbox(records[:n])
	if err != nil {
		return err
	}
	if w.rng.IntN(6) == 0 && pairs[i].First < pairs[i].Seq { // begins inside what is one pair
		decoded, err := replica.DecodeRun(run)
		if err != nil {
			return err
		}
		decoded.From++
		if decoded.From > decoded.Deltas[0].Dot.Seq {
			return nil
		}
		before := dump(w.t, w.one)
		if err := w.apply(foldCommand(replica.EncodeRun(decoded)), true); err != nil {
			return err
		}
		if after := dump(w.t, w.one); outboxPart(before) != outboxPart(after) {
			return errors.New("a fold that begins inside a pair changed the outbox")
		}
		return nil
	}
	before := w.one.View().Outbox
	if err := w.apply(foldCommand(run), true); err != nil {
		return err
	}
	if w.one.View().Outbox != before {
		w.folds++
		w.note("folded %d to %d", records[0].First, records[n-1].Seq)
	}
	return nil
}

func foldCommand(run []byte) *logv1.Command {
	return &logv1.Command{Command: &logv1.Command_OutboxFold{OutboxFold: &logv1.OutboxFoldCommand{Run: run}}}
}

// outboxPart returns the lines of a dump that are the outbox's pairs.
func outboxPart(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "4c") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func (w *outboxWorld) destination() topology.RegionID {
	return []topology.RegionID{testUS, testAP}[w.rng.IntN(2)]
}

// acknowledge tells of a watermark, and asks to trim too much.
func (w *outboxWorld) acknowledge() error {
	box := w.one.View().Outbox
	r := w.destination()
	seq := w.held[r] + uint64(w.rng.IntN(int(box.Head-min(w.held[r], box.Head))+1))
	if w.gone[r] {
		seq = uint64(w.rng.IntN(int(box.Head) + 1))
	}
	for _, d := range []topology.RegionID{testUS, testAP} { // those that never said anything hold nothing
		if _, known := w.held[d]; !known && d != r {
			w.held[d] = 0
			if err := w.apply(acknowledgeCommand(d, 0, 0), true); err != nil {
				return err
			}
		}
	}
	w.note("%d has %d of %d, from %d on", r, seq, box.Head, box.First)
	if w.gone[r] && seq+1 >= box.First {
		delete(w.gone, r)
	}
	if !w.gone[r] {
		w.held[r] = max(w.held[r], seq)
	}
	return w.apply(acknowledgeCommand(r, seq, box.Head), true)
}

func acknowledgeCommand(r topology.RegionID, seq, trimTo uint64) *logv1.Command {
	return &logv1.Command{Command: &logv1.Command_Acknowledge{Acknowledge: &logv1.AcknowledgeCommand{
		Watermarks: []*logv1.Watermark{{Region: uint32(r), Actor: uint32(actorOf(testEU)), Seq: seq}}, TrimTo: trimTo,
	}}}
}

func (w *outboxWorld) evict() error {
	r := w.destination()
	if len(w.held) < 2 {
		return nil
	}
	w.note("%d is evicted", r)
	w.gone[r] = true
	return w.apply(&logv1.Command{Command: &logv1.Command_Destination{Destination: &logv1.DestinationCommand{
		Region: uint32(r), Change: &logv1.DestinationCommand_Evict{Evict: &logv1.EvictDestination{TrimTo: w.one.View().Outbox.Head}},
	}}}, true)
}

// readmit readmits from anywhere, also from where nothing is kept.
func (w *outboxWorld) readmit() error {
	box, r := w.one.View().Outbox, w.destination()
	seq := uint64(w.rng.IntN(int(box.Head) + 3))
	if w.gone[r] && seq+1 >= box.First && seq <= box.Head {
		delete(w.gone, r)
		w.held[r] = max(w.held[r], seq)
	}
	w.note("%d is readmitted at %d", r, seq)
	return w.apply(&logv1.Command{Command: &logv1.Command_Destination{Destination: &logv1.DestinationCommand{
		Region: uint32(r), Change: &logv1.DestinationCommand_Readmit{Readmit: &logv1.ReadmitDestination{Seq: seq}},
	}}}, true)
}

// follow has two apply what it has not, perhaps after a crash.
func (w *outboxWorld) follow() error {
	if len(w.log) == 0 {
		return nil
	}
	if w.rng.IntN(3) == 0 {
		if w.rng.IntN(2) == 0 {
			if err := w.two.Flush(); err != nil {
				return err
			}
		}
		w.path = copyFile(w.t, w.path)
		w.two = w.machine(w.path)
		w.second = int(w.two.Position().Index)
	}
	if err := w.two.Apply(w.log[w.second:]); err != nil {
		return err
	}
	w.second = len(w.log)
	if one, two := dump(w.t, w.one), dump(w.t, w.two); one != two {
		return fmt.Errorf("two replicas of the partition differ, of %d and %d bytes", len(one), len(two))
	}
	for seq := range w.one.View().Outbox.Head {
		if err := w.checkIndex(w.two, seq); err != nil {
			return err
		}
	}
	return nil
}

// audit checks what is so after every step.
func (w *outboxWorld) audit() error {
	box := w.one.View().Outbox
	pairs, err := w.one.OutboxPairs()
	if err != nil {
		return err
	}
	next, bytes, foldedBytes, foldedEvents := box.First, uint64(0), uint64(0), uint64(0)
	for _, p := range pairs {
		if p.First != next {
			return fmt.Errorf("a pair begins at %d, not %d", p.First, next)
		}
		if next, bytes = p.Seq+1, bytes+p.Size; p.Folded {
			foldedBytes, foldedEvents = foldedBytes+p.Size, foldedEvents+p.Seq+1-p.First
		}
	}
	if next != box.Head+1 || bytes != box.Bytes || foldedBytes != box.FoldedBytes || foldedEvents != box.FoldedEvents {
		return fmt.Errorf("pairs up to %d, %d bytes, folded %d bytes and %d events, but %+v", next-1, bytes, foldedBytes, foldedEvents, box)
	}
	for r, seq := range w.held {
		if !w.gone[r] && box.First > seq+1 {
			return fmt.Errorf("region %d lacks what follows %d, and the outbox begins at %d", r, seq, box.First)
		}
	}
	for _, e := range w.one.View().Evictions {
		if e.ServedFrom == 0 && !w.gone[e.Region] {
			return fmt.Errorf("%+v, but the region is readmitted", e)
		}
	}
	return w.checkIndex(w.one, uint64(w.rng.IntN(int(box.Head)+1)))
}

// checkIndex checks what a machine says of the bytes after an event.
func (w *outboxWorld) checkIndex(m *region.Machine, seq uint64) error {
	pairs, err := m.OutboxPairs()
	if err != nil {
		return err
	}
	after, largest := uint64(0), uint64(0)
	for _, p := range pairs {
		if largest = max(largest, p.Size); p.Seq > seq {
			after += p.Size
		}
	}
	if got := m.OutboxBytesAfter(seq); got < after || got > after+region.BlockBytes+largest || seq < m.View().Outbox.First && got != after {
		return fmt.Errorf("%d bytes after %d, it says %d", after, seq, got)
	}
	return nil
}

// readers has regions continue from every event that is kept.
func (w *outboxWorld) readers() error {
	if err := w.exchange(); err != nil { // other has all that is before
		return err
	}
	all, err := w.runs(w.plain, 1)
	if err != nil {
		return err
	}
	box := w.one.View().Outbox
	want, err := w.reader(all)
	if err != nil {
		return err
	}
	for from := box.First; from <= box.Head+1; from += 1 + uint64(w.rng.IntN(3)) {
		rest, err := w.runs(w.one, from)
		if err != nil {
			return err
		}
		got, err := w.reader(all[:from-1], rest)
		if err != nil {
			return fmt.Errorf("from %d on: %w", from, err)
		}
		if got != want {
			return fmt.Errorf("who continues from %d has digest %x, not %x", from, got, want)
		}
	}
	return nil
}

// reader returns the digest of a region that merges these after one another.
func (w *outboxWorld) reader(parts ...[]replica.Run) (replica.Digest, error) {
	r, err := replica.Open(replica.NewMemory(), actorOf(testUS))
	if err != nil {
		return replica.Digest{}, err
	}
	for _, runs := range parts {
		if _, err := r.MergeRuns(runs...); err != nil {
			return replica.Digest{}, err
		}
	}
	return r.Digest()
}

func (w *outboxWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}
