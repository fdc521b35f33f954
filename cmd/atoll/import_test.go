package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/ingest"
)

// call runs atoll in this process.
func call(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, messages bytes.Buffer
	code = run(ctx, append([]string{"atoll"}, args...), strings.NewReader(""), &out, &messages)
	return code, out.String(), messages.String()
}

// TestImportGoesOnAfterAnInterrupt stops an import after a few batches, some of them under way, and
// checks that a second run counts every record once.
func TestImportGoesOnAfterAnInterrupt(t *testing.T) {
	const records = 2000
	file := filepath.Join(t.TempDir(), "in.ndjson")
	var input strings.Builder
	for i := range records {
		fmt.Fprintf(&input, `{"id":%d,"half":%d}`+"\n", i, i%2)
	}
	if err := os.WriteFile(file, []byte(input.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	held := newStore()
	held.batches = make(chan struct{})
	server := deployment(t, map[string]*fakeStore{"eu": held}, nil)
	args := []string{"import", file, "--key", "{id}", "--count", "half/{half}", "--batch", "50", "--server", server, "--progress", "none"}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan string, 1)
	go func() {
		code, _, stderr := call(ctx, args...)
		ended <- fmt.Sprintf("%d %s", code, stderr)
	}()
	for range 7 {
		<-held.batches
	}
	cancel()
	if got := <-ended; !strings.HasPrefix(got, "1 ") || !strings.Contains(got, "interrupted") || !strings.Contains(got, "run the same command again") {
		t.Errorf("interrupted: %s", got)
	}
	held.release(t)
	code, _, stderr := call(t.Context(), args...)
	if code != exitOK || !strings.Contains(stderr, "continuing: ") || !strings.Contains(stderr, "2000 records acknowledged in 40 batches, 0 bad") {
		t.Errorf("second run: %d %s", code, stderr)
	}
	wantHalves(t, held, records)
}

func wantHalves(t *testing.T, held *fakeStore, records int) {
	t.Helper()
	held.mu.Lock()
	defer held.mu.Unlock()
	for _, key := range []string{"half/0", "half/1"} {
		if o := held.objects[place("", key)]; o == nil || o.counter != int64(records/2) {
			t.Errorf("%s is %+v, want %d", key, o, records/2)
		}
	}
	if len(held.objects) != records+2 || len(held.seen) != records/50 {
		t.Errorf("%d keys, %d operation ids", len(held.objects), len(held.seen))
	}
}

// release lets all batches through until the test ends.
func (s *fakeStore) release(t *testing.T) {
	done, released := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(done)
		<-released
	})
	go func() {
		defer close(released)
		for {
			select {
			case <-s.batches:
			case <-done:
				return
			}
		}
	}()
}

// Every error of the SDK is one the importer repeats, reports with its record, or stops at.
func TestClassify(t *testing.T) {
	for reason, want := range map[client.Reason]error{
		client.ReasonNoLeader: ingest.ErrRetry, client.ReasonUnreachable: ingest.ErrRetry, client.ReasonOutcomeUnknown: ingest.ErrRetry,
		client.ReasonDeadline: ingest.ErrRetry, client.ReasonOverloaded: ingest.ErrRetry, client.ReasonShuttingDown: ingest.ErrRetry,
		client.ReasonWrongType: ingest.ErrRefused, client.ReasonValueTooLarge: ingest.ErrRefused, client.ReasonInvalidKey: ingest.ErrRefused,
		client.ReasonDenied: nil, client.ReasonCorrupt: nil, client.ReasonInternal: nil, client.ReasonFenced: nil,
	} {
		err := classify(&client.Error{Code: codeOf[reason], Reason: reason})
		for _, class := range []error{ingest.ErrRetry, ingest.ErrRefused} {
			if errors.Is(err, class) != (class == want) {
				t.Errorf("%s is classified as %v: %v", reason, class, !errors.Is(want, class))
			}
		}
	}
	if classify(nil) != nil {
		t.Error("no error is one")
	}
}

func TestRemaining(t *testing.T) {
	s := ingest.Stats{ReadBytes: 25, Elapsed: 10 * time.Second}
	if got := remaining(s, &input{bytes: 100}); got != 30*time.Second {
		t.Errorf("got %v", got)
	}
	for _, total := range []int64{0, 25, 10} {
		if got := remaining(s, &input{bytes: total}); got != 0 {
			t.Errorf("of %d bytes: %v", total, got)
		}
	}
}
