package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// MaxRecordBytes bounds one record of the input.
const MaxRecordBytes = 4 << 20

// Format is the format of an input.
type Format string

// The formats.
const (
	// FormatNDJSON has one JSON object per line.
	FormatNDJSON Format = "ndjson"
	// FormatArray is one JSON array of objects.
	FormatArray Format = "json"
	// FormatCSV has a header line that names the fields.
	FormatCSV Format = "csv"
)

// Record is one record of the input. JSON is valid until the reader's next call.
type Record struct {
	// Number counts the records of the input from 1, bad ones included.
	Number int64
	// Line is where the record begins, from 1.
	Line int64
	JSON []byte
}

// BadRecord is a record that cannot be read or mapped, or that the server refused.
type BadRecord struct {
	Number        int64
	Line, EndLine int64
	Err           error
}

func (b *BadRecord) Error() string {
	if b.EndLine > b.Line {
		return fmt.Sprintf("lines %d-%d, record %d: %v", b.Line, b.EndLine, b.Number, b.Err)
	}
	return fmt.Sprintf("line %d, record %d: %v", b.Line, b.Number, b.Err)
}

// Unwrap returns what is wrong with the record.
func (b *BadRecord) Unwrap() error { return b.Err }

// Reader reads records one at a time.
type Reader interface {
	// Next returns the next record. A *BadRecord is about one record, or about all that it covers:
	// call Next again. io.EOF is the end; any other error is that of the input.
	Next() (Record, error)
	// Offset is how many bytes of the input were taken so far.
	Offset() int64
}

// NewReader returns a reader of the input. If format is empty it is taken from the extension of
// name, and from the input's first byte where that does not tell.
func NewReader(input io.Reader, name string, format Format) (Reader, error) {
	in := newScanner(input)
	if format == "" {
		var err error
		if format, err = detect(in.r, name); err != nil {
			return nil, err
		}
	}
	switch format {
	case FormatNDJSON:
		return &ndjsonReader{in: in}, nil
	case FormatArray:
		return &arrayReader{in: in, column: -1}, nil
	case FormatCSV:
		return newCSVReader(in)
	default:
		return nil, fmt.Errorf("unknown format %q: want ndjson, json or csv", format)
	}
}

func detect(r *bufio.Reader, name string) (Format, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".ndjson", ".jsonl":
		return FormatNDJSON, nil
	case ".csv":
		return FormatCSV, nil
	}
	head, err := r.Peek(512)
	if len(head) == 0 && err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read input: %w", err)
	}
	switch trimmed := bytes.TrimLeft(head, " \t\r\n"); {
	case len(trimmed) == 0, trimmed[0] == '{':
		return FormatNDJSON, nil
	case trimmed[0] == '[':
		return FormatArray, nil
	default:
		return FormatCSV, nil
	}
}
