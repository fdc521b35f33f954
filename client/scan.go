package client

import (
	"context"
	"errors"
	"io"
	"iter"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// ScanOptions selects the keys of a scan. The zero value means all keys of the namespace.
type ScanOptions struct {
	// Prefix selects the keys that begin with it; it excludes Start and End.
	Prefix string
	// Start is the first key, inclusive; End the last, exclusive. Empty means no bound.
	Start, End string
	// After resumes a scan behind a key already seen.
	After string
	// Limit is the most entries to yield; 0 means no limit.
	Limit uint64
	// KeysOnly leaves values out.
	KeysOnly bool
	// Eventual lets any replica answer with what it holds, as the read option of this name.
	Eventual bool
	// Session makes the scan part of a session, as InSession does reads.
	Session *Session
}

// Scan yields the namespace's keys in byte order with their values, and ends after the first error.
//
// A scan is no snapshot: it sees some of the writes made while it runs, and each key at most once.
// It goes on by itself when a connection breaks or a leader changes.
func (c *Client) Scan(ctx context.Context, opts ScanOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s := scan{client: c, opts: opts, after: opts.After, yield: yield}
		for !s.done {
			if _, err := invoke(ctx, c.shared, "", s.stream); err != nil {
				yield(Entry{}, err)
				return
			}
		}
	}
}

// scan is the state of one Scan between its requests.
type scan struct {
	client  *Client
	opts    ScanOptions
	yield   func(Entry, error) bool
	after   string // the last key yielded, or where to begin
	cursor  []byte // where the server wants the next request to begin
	yielded uint64
	done    bool
}

// stream runs one request. An error after progress is no error: the next request begins where this
// one broke off, with all its attempts, and meets the error again if it lasts.
func (s *scan) stream(ctx context.Context, e *endpoint) (struct{}, error) {
	before := s.yielded
	err := s.receive(ctx, e)
	if err != nil && s.yielded > before {
		s.cursor, err = nil, nil
	}
	return struct{}{}, err
}

func (s *scan) receive(ctx context.Context, e *endpoint) error {
	stream, err := e.kv.Scan(ctx, s.request())
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	var cursor []byte
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			s.cursor = cursor
			s.done = s.done || len(cursor) == 0
			return nil
		}
		if err != nil {
			return err
		}
		cursor = msg.GetCursor()
		s.session().saw(msg.GetSession())
		for _, entry := range msg.GetEntries() {
			s.after = entry.GetKey()
			s.yielded++
			full := s.opts.Limit > 0 && s.yielded == s.opts.Limit
			if more := s.yield(entryOf(entry), nil); !more || full {
				s.done = true
				return nil
			}
		}
	}
}

// session returns the session that the scan is in, if any.
func (s *scan) session() *Session {
	if s.opts.Session != nil {
		return s.opts.Session
	}
	return s.client.shared.cfg.session
}

func (s *scan) request() *atollv1.ScanRequest {
	req := &atollv1.ScanRequest{
		Namespace: s.client.namespace,
		Prefix:    s.opts.Prefix,
		Start:     s.opts.Start,
		End:       s.opts.End,
		Cursor:    s.cursor,
		KeysOnly:  s.opts.KeysOnly,
	}
	if s.opts.Limit > 0 {
		req.Limit = s.opts.Limit - s.yielded
	}
	if s.cursor == nil && s.after != "" {
		req.Cursor = []byte(s.after)
	}
	cfg := readConfig{session: s.session()}
	if s.opts.Eventual {
		cfg.consistency = ConsistencyEventual
	}
	req.Options = cfg.options()
	return req
}
