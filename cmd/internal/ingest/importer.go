package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Defaults of a Config.
const (
	DefaultBatch       = 500
	DefaultConcurrency = 8
	DefaultPatience    = time.Minute
)

// Config is what an import needs. Reader, Mapper, Sink, Run and Clock are required.
type Config struct {
	Reader Reader
	Mapper Mapper
	Sink   Sink
	// Input identifies the input and every setting that batches depend on.
	Input string
	// Run makes the operation ids of this import different from those of another one of the same
	// input: at most 32 bytes. A resumed import takes it from the checkpoint.
	Run string
	// Batch is how many records go into a batch, Concurrency how many batches are under way at once,
	// Patience how long one is tried; 0 means the default.
	Batch, Concurrency int
	Patience           time.Duration
	// Checkpoint is the file that lets a later run continue; empty means none.
	Checkpoint string
	// OnBad is told of each record that cannot be imported; one at a time, but from any goroutine.
	OnBad func(*BadRecord)
	Clock func() time.Time
}

// Stats are the figures of an import so far. Records counts those acknowledged, earlier runs
// included; of them Resumed were acknowledged by earlier runs, and Refused had a write that the
// server refused. Bad counts the records that could not be read or mapped.
type Stats struct {
	Records, Resumed, Refused int64
	Batches                   int64
	Bad                       int64
	// ReadBytes is how much of the input was read.
	ReadBytes int64
	Elapsed   time.Duration
}

// Importer is one run of an import.
type Importer struct {
	cfg     Config
	window  *window
	start   checkpoint
	began   time.Time
	bad     atomic.Int64
	read    atomic.Int64
	onBadMu sync.Mutex
}

// New prepares an import, and continues one that left a checkpoint.
// Errors: *MismatchError if the checkpoint is of another import; *CheckpointError.
func New(cfg Config) (*Importer, error) {
	if cfg.Batch <= 0 {
		cfg.Batch = DefaultBatch
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = DefaultConcurrency
	}
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.OnBad == nil {
		cfg.OnBad = func(*BadRecord) {}
	}
	im := &Importer{cfg: cfg, began: cfg.Clock()}
	im.start = checkpoint{Version: checkpointVersion, Input: cfg.Input, Run: cfg.Run}
	if cfg.Checkpoint != "" {
		earlier, err := loadCheckpoint(cfg.Checkpoint, cfg.Input)
		if err != nil {
			return nil, err
		}
		if earlier != nil {
			im.start = *earlier
		}
	}
	im.window = newWindow(&im.start)
	return im, nil
}

// Resumes reports whether this run continues an earlier one, and when that one last took note of
// what was acknowledged.
func (im *Importer) Resumes() (time.Time, bool) { return im.start.Saved, !im.start.Saved.IsZero() }

// Stats returns the figures so far. It is safe for concurrent use.
func (im *Importer) Stats() Stats {
	all, resumed := im.window.progress()
	return Stats{
		Records: all.Records, Resumed: resumed.Records, Refused: all.Refused, Batches: all.Batches,
		Bad: im.bad.Load(), ReadBytes: im.read.Load(), Elapsed: im.cfg.Clock().Sub(im.began),
	}
}

// Run imports the whole input. A nil error promises that every record was acknowledged or reported
// to OnBad, and that the checkpoint is gone. After any error the checkpoint is as late as what was
// acknowledged, and another run continues there.
//
// Errors: *GaveUpError, the context's, those of the input, of the checkpoint, and of the sink.
func (im *Importer) Run(ctx context.Context) error {
	// The run's name must be on disk before anything is sent under it.
	if err := im.save(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	batches := make(chan *Batch)
	g.Go(func() error {
		defer close(batches)
		return im.produce(gctx, batches)
	})
	acked := make(chan struct{}, 1)
	var workers sync.WaitGroup
	for range im.cfg.Concurrency {
		workers.Add(1)
		g.Go(func() error {
			defer workers.Done()
			return im.work(gctx, batches, acked)
		})
	}
	g.Go(func() error {
		workers.Wait()
		close(acked)
		return nil
	})
	g.Go(func() error {
		// One save takes in every acknowledgement that came during the last one.
		for range acked {
			if err := im.save(); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return errors.Join(err, im.save())
	}
	if im.cfg.Checkpoint == "" {
		return nil
	}
	return removeCheckpoint(im.cfg.Checkpoint)
}

func (im *Importer) save() error {
	if im.cfg.Checkpoint == "" {
		return nil
	}
	c := im.start
	im.window.snapshot(&c)
	c.Saved = im.cfg.Clock()
	return c.save(im.cfg.Checkpoint)
}

// produce makes batches of the input and sends on those not yet acknowledged.
func (im *Importer) produce(ctx context.Context, out chan<- *Batch) error {
	b := newBatch(0)
	for {
		rec, err := im.cfg.Reader.Next()
		im.read.Store(im.cfg.Reader.Offset())
		if errors.Is(err, io.EOF) {
			if len(b.Records) == 0 {
				return nil
			}
			return im.dispatch(ctx, b, out)
		}
		var writes []Write
		if err == nil {
			writes, err = im.mapRecord(rec)
		}
		if bad, ok := errors.AsType[*BadRecord](err); ok {
			b.Last = bad.Number
			im.reportInput(bad)
			continue
		}
		if err != nil {
			return err
		}
		if !b.fits(writes, im.cfg.Batch) {
			if err := im.dispatch(ctx, b, out); err != nil {
				return err
			}
			b = newBatch(b.Number + 1)
		}
		b.add(Source{rec.Number, rec.Line}, writes)
		b.Last = rec.Number
	}
}

func (im *Importer) mapRecord(rec Record) ([]Write, error) {
	writes, err := im.cfg.Mapper.Map(rec)
	if n := sizeOf(writes); err == nil && n > maxBatchBytes {
		err = fmt.Errorf("its writes have %d bytes: at most %d are allowed", n, maxBatchBytes)
	}
	if err != nil {
		return nil, &BadRecord{Number: rec.Number, Line: rec.Line, EndLine: rec.Line, Err: err}
	}
	return writes, nil
}

// dispatch hands a batch to the workers, unless an earlier run had it acknowledged.
func (im *Importer) dispatch(ctx context.Context, b *Batch, out chan<- *Batch) error {
	if im.window.acknowledged(b) {
		return ctx.Err()
	}
	if err := im.window.enter(ctx, b); err != nil {
		return err
	}
	select {
	case out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (im *Importer) work(ctx context.Context, in <-chan *Batch, acked chan<- struct{}) error {
	for b := range in {
		refused, err := im.deliver(ctx, b)
		if err != nil {
			return err
		}
		im.window.leave(b, progress{Batches: 1, Records: int64(len(b.Records)), Refused: refused})
		select {
		case acked <- struct{}{}:
		default:
		}
	}
	return nil
}

// reportInput counts a record that cannot be read or mapped. An earlier run has told of those that
// its acknowledged batches cover.
func (im *Importer) reportInput(bad *BadRecord) {
	im.bad.Add(1)
	if bad.Number > im.start.Last {
		im.report(bad)
	}
}

func (im *Importer) report(bad *BadRecord) {
	im.onBadMu.Lock()
	defer im.onBadMu.Unlock()
	im.cfg.OnBad(bad)
}
