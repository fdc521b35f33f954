package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

var (
	errQuoteOpen   = errors.New("a quoted field is not closed")
	errQuoteInside = errors.New(`a quote inside a field without quotes: write the field as "..." and the quote as ""`)
	errQuoteAfter  = errors.New("text behind the closing quote of a field")
)

// csvReader reads RFC 4180: fields between commas, quoted where they hold commas, quotes ("") or line
// breaks. The first line names the fields. A quote where none may be spoils its own line only.
type csvReader struct {
	in     *scanner
	number int64
	header []string // each name as JSON
	fields [][]byte
	field  []byte
	out    bytes.Buffer
}

func newCSVReader(in *scanner) (*csvReader, error) {
	r := &csvReader{in: in}
	err := r.readRow()
	if errors.Is(err, io.EOF) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("header of the CSV: %w", err)
	}
	seen := map[string]bool{}
	for i, f := range r.fields {
		name := string(bytes.TrimSpace(f))
		if name == "" || seen[name] || !utf8.ValidString(name) {
			return nil, fmt.Errorf("header of the CSV: field %d has the name %q: names must be UTF-8, not empty and different", i+1, name)
		}
		seen[name] = true
		r.out.Reset()
		if err := r.writeString([]byte(name)); err != nil {
			return nil, err
		}
		r.header = append(r.header, r.out.String())
	}
	return r, nil
}

func (r *csvReader) Offset() int64 { return r.in.offset }

func (r *csvReader) Next() (Record, error) {
	line := r.in.line
	err := r.readRow()
	for err == nil && len(r.fields) == 0 { // an empty line
		line = r.in.line
		err = r.readRow()
	}
	if errors.Is(err, io.EOF) {
		return Record{}, io.EOF
	}
	r.number++
	if err == nil {
		err = r.object()
	}
	switch {
	case err == nil:
		return Record{Number: r.number, Line: line, JSON: r.out.Bytes()}, nil
	case isRowFault(err):
		return Record{}, &BadRecord{Number: r.number, Line: line, EndLine: max(line, r.in.line-1), Err: err}
	default:
		return Record{}, err
	}
}

// object renders the row as a JSON object with the fields in the header's order.
func (r *csvReader) object() error {
	if len(r.fields) != len(r.header) {
		return &rowError{fmt.Errorf("%d fields, where the header has %d", len(r.fields), len(r.header))}
	}
	r.out.Reset()
	r.out.WriteByte('{')
	for i, f := range r.fields {
		if i > 0 {
			r.out.WriteByte(',')
		}
		r.out.WriteString(r.header[i])
		r.out.WriteByte(':')
		if !utf8.Valid(f) {
			return &rowError{errors.New("not UTF-8")}
		}
		if err := r.writeString(f); err != nil {
			return err
		}
	}
	r.out.WriteByte('}')
	if r.out.Len() > MaxRecordBytes {
		return &rowError{errTooLong}
	}
	return nil
}

func (r *csvReader) writeString(s []byte) error {
	enc := json.NewEncoder(&r.out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(s)); err != nil {
		return err
	}
	r.out.Truncate(r.out.Len() - 1) // the encoder's line end
	return nil
}

// rowError is a fault of one row.
type rowError struct{ err error }

func (e *rowError) Error() string { return e.err.Error() }
func (e *rowError) Unwrap() error { return e.err }

func isRowFault(err error) bool {
	_, ok := errors.AsType[*rowError](err)
	return ok
}

// readRow reads a row, which may be several lines, into r.fields. An empty line has no fields.
func (r *csvReader) readRow() error {
	r.fields = r.fields[:0]
	row := rowParser{fields: r.fields, field: r.field[:0]}
	for size := 0; ; {
		line, err := r.in.readLine()
		switch {
		case errors.Is(err, io.EOF) && row.quoted:
			return &rowError{errQuoteOpen}
		case errors.Is(err, errTooLong):
			return &rowError{errTooLong}
		case err != nil:
			return err
		}
		if size += len(line) + 1; size > MaxRecordBytes {
			return &rowError{errTooLong}
		}
		if !row.quoted && len(line) == 0 {
			return nil
		}
		more, err := row.line(line)
		if err != nil {
			return &rowError{err}
		}
		if !more {
			r.fields, r.field = row.fields, row.field
			return nil
		}
	}
}

// rowParser takes a row apart, a line at a time.
type rowParser struct {
	fields [][]byte
	field  []byte
	quoted bool // inside a quoted field
}

// line parses one line and reports whether the row goes on in the next.
func (p *rowParser) line(line []byte) (more bool, err error) {
	for {
		if !p.quoted && len(line) > 0 && line[0] == '"' {
			p.quoted, line = true, line[1:]
		}
		if !p.quoted {
			field, rest, found := bytes.Cut(line, []byte{','})
			if bytes.IndexByte(field, '"') >= 0 {
				return false, errQuoteInside
			}
			p.field = append(p.field, field...)
			p.end()
			if !found {
				return false, nil
			}
			line = rest
			continue
		}
		part, rest, found := bytes.Cut(line, []byte{'"'})
		p.field = append(p.field, part...)
		switch {
		case !found:
			p.field = append(p.field, '\n')
			return true, nil
		case len(rest) > 0 && rest[0] == '"':
			p.field = append(p.field, '"')
			line = rest[1:]
		case len(rest) == 0 || rest[0] == ',':
			p.quoted = false
			p.end()
			if len(rest) == 0 {
				return false, nil
			}
			line = rest[1:]
		default:
			return false, errQuoteAfter
		}
	}
}

func (p *rowParser) end() {
	p.fields = append(p.fields, bytes.Clone(p.field))
	p.field = p.field[:0]
}
