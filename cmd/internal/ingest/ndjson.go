package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

type ndjsonReader struct {
	in     *scanner
	number int64
}

func (r *ndjsonReader) Offset() int64 { return r.in.offset }

func (r *ndjsonReader) Next() (Record, error) {
	for {
		line := r.in.line
		text, err := r.in.readLine()
		if errors.Is(err, errTooLong) {
			r.number++
			return Record{}, &BadRecord{Number: r.number, Line: line, EndLine: line, Err: errTooLong}
		}
		if err != nil {
			return Record{}, err
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		r.number++
		if err := checkObject(text); err != nil {
			return Record{}, &BadRecord{Number: r.number, Line: line, EndLine: line, Err: err}
		}
		return Record{Number: r.number, Line: line, JSON: text}, nil
	}
}

// checkObject refuses what is not a JSON object in UTF-8. encoding/json would replace other bytes.
func checkObject(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8")
	}
	if !json.Valid(text) {
		return syntaxFault(text)
	}
	if text[0] != '{' {
		return errors.New("not a JSON object")
	}
	return nil
}

func syntaxFault(text []byte) error {
	var v any
	err := json.Unmarshal(text, &v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && syntax.Offset < int64(len(text)) {
		return &malformedError{syntax, syntax.Offset}
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return &malformedError{err, int64(len(text))}
}

type malformedError struct {
	err error
	at  int64
}

func (e *malformedError) Error() string {
	return fmt.Sprintf("malformed JSON at byte %d of the record: %v", e.at, e.err)
}

func (e *malformedError) Unwrap() error { return e.err }
