package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/zeebo/xxh3"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/ingest"
)

const (
	// dedupWindow is how long the server remembers an operation id.
	dedupWindow = 15 * time.Minute
	// maxPatience keeps every repetition of a batch inside that window.
	maxPatience = 14 * time.Minute
	// batchTimeout bounds one request of an import.
	batchTimeout = 10 * time.Second
)

type importFlags struct {
	key, value         string
	count, collect     []string
	restore            bool
	format, job        string
	batch, concurrency int
	patience           time.Duration
	checkpoint, errors string
	allowBad           bool
	showBad            int
	progress           string
}

func newImport(a *app) *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Load NDJSON, a JSON array or CSV",
		Long: "Load a file, or stdin (-), record by record. --key makes each record's key from its fields; {#}\n" +
			"numbers records that would otherwise have the same key. --count and --collect keep counters and\n" +
			"sets beside them. --restore reads back what `atoll export` wrote: values in place of those that are there,\n" +
			"elements, fields, members and leaves beside them, to expire when they did; a maximum or minimum that is\n" +
			"further stays, and a bounded counter that exists is refused, because it would grow.\n\n" +
			"Bad records are reported by line, counted, and left out. An import that is interrupted goes on\n" +
			"where it was when the same command is run again: FILE.atoll-import keeps track, and batches are\n" +
			"recognised by the server for 15 minutes, so that counters count every record once.",
		Example: `  atoll import cities.json --key 'city/{country}/{name}/{#}' \
    --count 'cities/{country}' --collect 'names/{country}={name}'
  zcat users.csv.gz | atoll import - --format csv --key 'user/{id}'
  atoll import --restore all.ndjson`,
		Args: wants(1, 1, "FILE or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runImport(cmd, args[0], &f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.key, "key", "", "template of each record's key, with {field} and {#}")
	fs.StringVar(&f.value, "value", "", "field to store; the whole record as JSON if not given")
	fs.StringArrayVar(&f.count, "count", nil, "template of a counter that gets 1 per record; repeatable")
	fs.StringArrayVar(&f.collect, "collect", nil, "KEY=ELEMENT, templates of a set and what each record adds to it; repeatable")
	fs.BoolVar(&f.restore, "restore", false, "the input is an export")
	fs.StringVar(&f.format, "format", "", "ndjson, json or csv (default by extension, then by the first byte)")
	fs.IntVar(&f.batch, "batch", ingest.DefaultBatch, "records per request")
	fs.IntVar(&f.concurrency, "concurrency", ingest.DefaultConcurrency, "requests at once")
	fs.DurationVar(&f.patience, "patience", ingest.DefaultPatience, "how long to keep trying a batch")
	fs.StringVar(&f.checkpoint, "checkpoint", "", "file that keeps track (default FILE.atoll-import, none for stdin; \"\" for none)")
	fs.StringVar(&f.job, "job", "", "name of the import: a second one of the same name within 15 minutes changes nothing (default random)")
	fs.StringVar(&f.errors, "errors", "", "write all bad records to this file, as NDJSON")
	fs.IntVar(&f.showBad, "show-bad", 10, "show this many bad records on stderr")
	fs.BoolVar(&f.allowBad, "allow-bad", false, "exit with 0 even if some records were bad")
	fs.StringVar(&f.progress, "progress", "auto", "auto, bar, plain, json or none")
	return c
}

func (f *importFlags) check() error {
	switch {
	case f.restore && (f.key != "" || f.value != "" || len(f.count)+len(f.collect) > 0):
		return usagef("--restore takes keys and values from the export: leave out --key, --value, --count and --collect")
	case !f.restore && f.key == "":
		return withHint(usagef("--key is missing: it says under which key each record goes"), "--key '{id}', or --restore for an export")
	case f.batch < 1 || f.batch > 5000:
		return usagef("--batch must be from 1 to 5000")
	case f.concurrency < 1 || f.concurrency > 64:
		return usagef("--concurrency must be from 1 to 64")
	case f.patience <= 0 || f.patience > maxPatience:
		return usagef("--patience must be positive and at most %v, because the server recognises a batch for %v", maxPatience, dedupWindow)
	case len(f.job) > 32:
		return usagef("--job must have at most 32 bytes")
	}
	switch f.progress {
	case "auto", "bar", "plain", "json", "none":
		return nil
	}
	return usagef("unknown --progress %q: want auto, bar, plain, json or none", f.progress)
}

func (f *importFlags) mapper(now func() time.Time) (ingest.Mapper, error) {
	if f.restore {
		return ingest.NewRestorer(now), nil
	}
	m := ingest.Mapping{Value: f.value}
	var err error
	if m.Key, err = ingest.ParseTemplate(f.key); err != nil {
		return nil, &usageError{err: fmt.Errorf("--key: %w", err)}
	}
	for _, s := range f.count {
		t, err := ingest.ParseTemplate(s)
		if err != nil {
			return nil, &usageError{err: fmt.Errorf("--count: %w", err)}
		}
		if t.Numbered {
			return nil, usagef("--count: {#} can stand in --key only")
		}
		m.Count = append(m.Count, t)
	}
	for _, s := range f.collect {
		c, err := ingest.ParseCollect(s)
		if err != nil {
			return nil, &usageError{err: fmt.Errorf("--collect: %w", err)}
		}
		m.Collect = append(m.Collect, c)
	}
	return ingest.NewMapper(m), nil
}

// identity names everything that batches depend on: the input's content and the flags.
func (f *importFlags) identity(namespace, content string) (string, error) {
	text, err := json.Marshal([]any{content, namespace, f.key, f.value, f.count, f.collect, f.restore, f.format, f.batch})
	if err != nil {
		return "", err
	}
	sum := xxh3.Hash128(text).Bytes()
	return hex.EncodeToString(sum[:]), nil
}

// input is what an import reads from.
type input struct {
	io.Reader
	name    string
	bytes   int64 // 0 if unknown
	content string
	close   func() error
}

// openInput hashes a file's content, which tells whether a checkpoint is about it.
func (a *app) openInput(path string) (*input, error) {
	if path == "-" {
		return &input{Reader: a.stdin, name: "stdin", content: "stdin", close: func() error { return nil }}, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := &input{Reader: file, name: path, content: "stream", close: file.Close}
	if info, err := file.Stat(); err != nil {
		return nil, errors.Join(err, file.Close())
	} else if !info.Mode().IsRegular() {
		return in, nil
	}
	hash := xxh3.New()
	if in.bytes, err = io.Copy(hash, file); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	sum := hash.Sum128().Bytes()
	in.content = hex.EncodeToString(sum[:])
	return in, nil
}

func (in *input) regular() bool { return in.bytes > 0 }

func (a *app) runImport(cmd *cobra.Command, path string, f *importFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	mapper, err := f.mapper(a.clock)
	if err != nil {
		return err
	}
	in, err := a.openInput(path)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer func() { err = errors.Join(err, in.close()) }()
	reader, err := ingest.NewReader(in, path, ingest.Format(f.format))
	if err != nil {
		return fmt.Errorf("import %s: %w", in.name, err)
	}
	kv, err := a.patientClient(cmd.Context())
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("checkpoint") && in.regular() {
		f.checkpoint = path + ".atoll-import"
	}
	cfg := ingest.Config{
		Reader: reader, Mapper: mapper, Sink: &sink{kv}, Run: f.job, Batch: f.batch, Concurrency: f.concurrency,
		Patience: f.patience, Checkpoint: f.checkpoint, Clock: a.clock,
	}
	if cfg.Input, err = f.identity(a.flags.namespace, in.content); err != nil {
		return err
	}
	if cfg.Run == "" {
		cfg.Run = randomName()
	}
	bad := &badRecords{app: a, show: f.showBad}
	cfg.OnBad = bad.add
	im, err := ingest.New(cfg)
	if _, ok := errors.AsType[*ingest.MismatchError](err); ok {
		return withHint(err, "rm %s to begin anew, or --checkpoint OTHER", f.checkpoint)
	}
	if err != nil {
		return err
	}
	since, resumes := im.Resumes()
	if resumes {
		a.resuming(im, since)
	}
	if err := bad.open(f.errors, resumes); err != nil {
		return fmt.Errorf("--errors: %w", err)
	}
	err = a.watchImport(cmd.Context(), im, in, f.progress)
	err = errors.Join(err, bad.close())
	return a.imported(im.Stats(), err, f)
}

func (a *app) resuming(im *ingest.Importer, since time.Time) {
	a.notef("continuing: %d records are acknowledged already", im.Stats().Records)
	if ago := a.clock().Sub(since); ago > maxPatience {
		a.notef("note: the last run ended %v ago, longer than the server recognises batches; those then under way may count twice", ago.Round(time.Minute))
	}
}

// imported prints the figures, and decides what the command's end is.
func (a *app) imported(s ingest.Stats, err error, f *importFlags) error {
	rate := 0.0
	if s.Elapsed > 0 {
		rate = float64(s.Records-s.Resumed) / s.Elapsed.Seconds()
	}
	bad := s.Bad + s.Refused
	if a.flags.output == "json" {
		text := ""
		if err != nil {
			text = err.Error()
		}
		if jsonErr := a.writeJSON(map[string]any{
			"records": s.Records, "resumed": s.Resumed, "batches": s.Batches, "bad": s.Bad, "refused": s.Refused,
			"seconds": s.Elapsed.Seconds(), "records_per_second": rate, "error": text,
		}); jsonErr != nil {
			return errors.Join(err, jsonErr)
		}
	}
	a.notef("%d records acknowledged in %d batches, %d bad; %.1f s, %.0f records/s", s.Records-s.Refused, s.Batches, bad, s.Elapsed.Seconds(), rate)
	switch {
	case err != nil && f.checkpoint != "":
		return withHint(err, "run the same command again: it continues from here")
	case err != nil:
		return err
	case bad > 0 && !f.allowBad:
		return &codeError{withHint(fmt.Errorf("%d records were bad and are not in the store", bad), "--errors FILE lists all of them, --allow-bad accepts them"), exitError}
	default:
		return nil
	}
}

func randomName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// badRecords shows the first bad records, and writes all of them to a file if there is one.
type badRecords struct {
	app  *app
	show int
	seen int
	file *os.File
	enc  *json.Encoder
	err  error
}

// open begins a new file, or goes on with that of the run before.
func (b *badRecords) open(path string, again bool) (err error) {
	if path == "" {
		return nil
	}
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if again {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	if b.file, err = os.OpenFile(path, mode, 0o644); err == nil {
		b.enc = json.NewEncoder(b.file)
	}
	return err
}

func (b *badRecords) add(bad *ingest.BadRecord) {
	b.seen++
	switch {
	case b.seen <= b.show:
		b.app.notef("%v", bad)
	case b.seen == b.show+1:
		b.app.notef("more bad records are counted, not shown")
	}
	if b.enc != nil && b.err == nil {
		b.err = b.enc.Encode(map[string]any{"line": bad.Line, "end_line": bad.EndLine, "record": bad.Number, "error": bad.Err.Error()})
	}
}

func (b *badRecords) close() error {
	if b.file == nil {
		return nil
	}
	if err := errors.Join(b.err, b.file.Close()); err != nil {
		return fmt.Errorf("--errors: %w", err)
	}
	return nil
}

// sink sends batches through the SDK.
type sink struct{ kv *client.Client }

// Write implements ingest.Sink.
func (s *sink) Write(ctx context.Context, opID string, writes []ingest.Write) ([]error, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	batch := make([]client.Write, len(writes))
	for i := range writes {
		batch[i] = writeOf(&writes[i])
	}
	results, err := s.kv.Batch(ctx, batch, client.WithOpID(opID))
	if err != nil {
		return nil, classify(err)
	}
	errs := make([]error, len(results))
	for i := range results {
		errs[i] = classify(results[i].Err)
	}
	return errs, nil
}

func writeOf(w *ingest.Write) client.Write {
	if len(w.Path) > 0 {
		return client.NewLeafWrite(keyWriteOf(w), w.Path...)
	}
	return keyWriteOf(w)
}

// keyWriteOf returns what a write would do if it were of the key itself.
func keyWriteOf(w *ingest.Write) client.Write {
	var opts []client.WriteOption
	if w.TTL > 0 {
		opts = append(opts, client.WithTTL(w.TTL))
	}
	switch w.Kind {
	case ingest.KindCounterAdd:
		return client.NewCounterAdd(w.Key, w.Delta, opts...)
	case ingest.KindCounterSet:
		return client.NewCounterSet(w.Key, w.Delta, opts...)
	case ingest.KindSetAdd:
		return client.NewSetAdd(w.Key, w.Elements, opts...)
	case ingest.KindMVPut:
		return client.NewMVRegisterPut(w.Key, w.Value, opts...)
	case ingest.KindBoundedInc:
		// It has no operation that sets it, and a second import must not add to it.
		return client.NewBoundedInc(w.Key, w.Delta, append(opts, client.IfAbsent())...)
	case ingest.KindFlagEnable:
		return client.NewFlagEnable(w.Key, opts...)
	case ingest.KindMax:
		return client.NewMax(w.Key, w.Delta, opts...)
	case ingest.KindMin:
		return client.NewMin(w.Key, w.Delta, opts...)
	case ingest.KindMapPut:
		return client.NewMapPut(w.Key, w.Fields, opts...)
	case ingest.KindZSetAdd:
		return client.NewZSetAdd(w.Key, w.Elements[0], w.Score, opts...)
	case ingest.KindCountedAdd:
		return client.NewCounterZSetAdd(w.Key, w.Elements[0], w.Delta, opts...)
	default:
		return client.NewPut(w.Key, w.Value, opts...)
	}
}

// classifiedError adds to an error what the importer should do about it.
type classifiedError struct {
	error
	class error
}

func (e *classifiedError) Unwrap() []error { return []error{e.error, e.class} }

func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, again := range []error{client.ErrUnavailable, client.ErrOutcomeUnknown, client.ErrDeadline, client.ErrOverloaded, client.ErrStale} {
		if errors.Is(err, again) {
			return &classifiedError{err, ingest.ErrRetry}
		}
	}
	for _, end := range []error{client.ErrDenied, client.ErrUnauthenticated, client.ErrCorrupt, client.ErrInternal, client.ErrFenced} {
		if errors.Is(err, end) {
			return err
		}
	}
	return &classifiedError{err, ingest.ErrRefused}
}
