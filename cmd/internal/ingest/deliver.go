package ingest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Sink takes batches. It is called from several goroutines.
type Sink interface {
	// Write runs the writes under an operation id: under one already used in the last 15 minutes for
	// the same writes it changes nothing and answers as it did then.
	//
	// It returns one error per write, nil where it was done, or an error of the batch as a whole. An
	// error that matches ErrRetry is worth another try under the same id, one that matches ErrRefused
	// will not go away but concerns that write only; any other ends the import.
	Write(ctx context.Context, opID string, writes []Write) ([]error, error)
}

// Errors that a Sink's errors match.
var (
	ErrRetry   = errors.New("worth another try")
	ErrRefused = errors.New("refused")
)

// GaveUpError says that a batch could not be delivered within the patience. Its outcome is unknown;
// a later run repeats it under the same operation id.
type GaveUpError struct {
	Batch    int64
	Line     int64 // of its first record
	Patience time.Duration
	Err      error
}

func (e *GaveUpError) Error() string {
	return fmt.Sprintf("gave up on batch %d (from line %d) after %v: %v", e.Batch, e.Line, e.Patience, e.Err)
}

// Unwrap returns the error of the last try.
func (e *GaveUpError) Unwrap() error { return e.Err }

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// deliver sends a batch until each of its writes is done or refused, and returns how many records
// had a write that was refused.
//
// The writes of one partition are done together or not at all, so one that is refused takes others
// with it. Those that failed are sent again one by one, which tells them apart.
func (im *Importer) deliver(ctx context.Context, b *Batch) (refused int64, err error) {
	if len(b.Writes) == 0 {
		return 0, nil
	}
	id := fmt.Sprintf("import/%s/%d", im.start.Run, b.Number)
	results, err := im.persist(ctx, b, id, b.Writes)
	if err != nil {
		return 0, err
	}
	records := map[int64]bool{}
	for i, failed := range results {
		if failed != nil && len(b.Writes) > 1 {
			alone, err := im.persist(ctx, b, fmt.Sprintf("%s/%d", id, i), b.Writes[i:i+1])
			if err != nil {
				return 0, err
			}
			failed = alone[0]
		}
		if failed == nil {
			continue
		}
		for _, source := range b.SourcesOf(i) {
			records[source.Number] = true
			im.report(&BadRecord{Number: source.Number, Line: source.Line, EndLine: source.Line, Err: refusal(&b.Writes[i], failed)})
		}
	}
	return int64(len(records)), nil
}

func refusal(w *Write, err error) error {
	what := "key"
	switch w.Kind {
	case KindCounterAdd, KindCounterSet:
		what = "counter"
	case KindSetAdd:
		what = "set"
	case KindBoundedInc:
		what = "bounded counter"
	case KindMax:
		what = "maximum"
	case KindMin:
		what = "minimum"
	case KindFlagEnable:
		what = "flag"
	case KindMapPut:
		what = "map"
	case KindZSetAdd, KindCountedAdd:
		what = "sorted set"
	}
	if len(w.Path) > 0 {
		return fmt.Errorf("%s %q in map %q: %w", what, strings.Join(w.Path, "/"), w.Key, err)
	}
	return fmt.Errorf("%s %q: %w", what, w.Key, err)
}

// persist repeats a request until no part of it is worth another try. Every error that it returns
// in results is a refusal.
func (im *Importer) persist(ctx context.Context, b *Batch, id string, writes []Write) ([]error, error) {
	began := im.cfg.Clock()
	tryCtx, cancel := context.WithTimeout(ctx, im.cfg.Patience)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		results, err := im.cfg.Sink.Write(tryCtx, id, writes)
		results, err = settle(results, err, len(writes))
		if err == nil || !errors.Is(err, ErrRetry) {
			return results, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if tryCtx.Err() != nil || im.cfg.Clock().Sub(began)+pause > im.cfg.Patience || !wait(tryCtx, pause) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &GaveUpError{Batch: b.Number, Line: b.Records[0].Line, Patience: im.cfg.Patience, Err: err}
		}
	}
}

// settle makes one of the two answers of a sink: an error if the request has to be repeated or the
// import ends, else a result for each write.
func settle(results []error, err error, writes int) ([]error, error) {
	if err == nil && len(results) != writes {
		return nil, fmt.Errorf("%d results for %d writes", len(results), writes)
	}
	if errors.Is(err, ErrRefused) && !errors.Is(err, ErrRetry) {
		results = make([]error, writes)
		for i := range results {
			results[i] = err
		}
		return results, nil
	}
	if err != nil {
		return nil, err
	}
	var retry error
	for _, r := range results {
		switch {
		case r == nil, errors.Is(r, ErrRefused):
		case errors.Is(r, ErrRetry):
			retry = r
		default:
			return nil, r
		}
	}
	if retry != nil {
		return nil, retry
	}
	return results, nil
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
