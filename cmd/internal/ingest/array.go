package ingest

import (
	"errors"
	"fmt"
	"io"
)

var (
	errUnterminated = errors.New("malformed JSON: the input ends inside this record")
	errNewline      = errors.New("malformed JSON: a line break inside a string")
	errNesting      = errors.New("malformed JSON: a bracket closes what was not opened, or too many are open")
	errNoComma      = errors.New("malformed JSON: no comma before this record")
	errExtraComma   = errors.New("malformed JSON: a comma without a record")
	errNotArray     = errors.New("malformed JSON: the input is not an array: it must begin with [")
	errNotClosed    = errors.New("malformed JSON: the array is not closed: is the input complete?")
	errTrailing     = errors.New("malformed JSON: text after the end of the array; it is left out")
)

// maxNesting bounds the brackets open at once; encoding/json refuses more anyway.
const maxNesting = 10_000

// arrayReader takes a JSON array apart. It follows brackets and strings only, and leaves the rest of
// the grammar to the check of each record; so one bad record does not hide those after it.
//
// A record whose brackets or strings are broken has no end that could be trusted. The reader then
// goes on at the next line that begins like a record: with { in the column in which the last record
// at the beginning of a line had it. Without such a record, the rest of the input is left out with
// the bad one, which says so.
type arrayReader struct {
	in     *scanner
	number int64
	state  arrayState
	// indent counts the spaces at the beginning of the present line; -1 behind anything else.
	indent int
	// first is the indent of the byte that nextByte returned last, -1 if it is not its line's first.
	first int
	// column is the indent of the last record that began a line; -1 if none did.
	column int
	record []byte
	nesting
}

type arrayState int

const (
	arrayStart arrayState = iota
	arrayFirst            // behind [
	arrayNext             // behind a record
	arrayComma            // behind a comma
	arrayLost             // at the beginning of a line behind a broken record
	arrayEnd
)

func (r *arrayReader) Offset() int64 { return r.in.offset }

func (r *arrayReader) Next() (Record, error) {
	for r.state != arrayEnd {
		c, err := r.nextByte()
		if errors.Is(err, io.EOF) {
			return Record{}, r.end()
		}
		if err != nil {
			return Record{}, err
		}
		if rec, err := r.step(c); err != nil || rec.JSON != nil {
			return rec, err
		}
	}
	return Record{}, io.EOF
}

// end handles an end of the input before the end of the array.
func (r *arrayReader) end() error {
	empty := r.state == arrayStart
	r.state = arrayEnd
	if empty {
		return io.EOF
	}
	return r.between(errNotClosed)
}

// step handles the first byte of something. A zero Record and nil mean that there is no record yet.
func (r *arrayReader) step(c byte) (Record, error) {
	switch {
	case r.state == arrayStart && c == '[':
		r.state = arrayFirst
		return Record{}, nil
	case r.state == arrayStart:
		r.state = arrayEnd
		return Record{}, r.between(errNotArray)
	case r.state == arrayLost:
		return r.resume(c)
	case c == ',' && r.state == arrayNext:
		r.state = arrayComma
		return Record{}, nil
	case c == ',':
		r.state = arrayComma
		return Record{}, r.between(errExtraComma)
	case c == ']':
		return Record{}, r.close()
	default:
		return r.element(c)
	}
}

func (r *arrayReader) close() error {
	state := r.state
	r.state = arrayEnd
	switch _, err := r.nextByte(); {
	case err == nil:
		return r.between(errTrailing)
	case errors.Is(err, io.EOF) && state == arrayComma:
		return r.between(errExtraComma)
	default:
		return err
	}
}

// resume looks for the next record behind a broken one.
func (r *arrayReader) resume(c byte) (Record, error) {
	for c == ']' {
		// The end of the array, if nothing follows.
		next, err := r.nextByte()
		if errors.Is(err, io.EOF) {
			r.state = arrayEnd
			return Record{}, io.EOF
		}
		if err != nil {
			return Record{}, err
		}
		c = next
	}
	if c == '{' && r.first >= 0 && r.first == r.column {
		r.state = arrayComma
		return r.element(c)
	}
	return Record{}, r.skipLine()
}

// element reads the record that begins with c.
func (r *arrayReader) element(c byte) (Record, error) {
	line, missingComma := r.in.line, r.state == arrayNext
	if r.first >= 0 && c == '{' {
		r.column = r.first
	}
	r.state = arrayNext
	r.number++
	err := r.scan(c)
	switch {
	case errors.Is(err, errUnterminated):
		r.state = arrayEnd
	case errors.Is(err, errNewline), errors.Is(err, errNesting):
		if err = r.lose(err); !errors.Is(err, errNewline) && !errors.Is(err, errNesting) {
			return Record{}, err
		}
	case errors.Is(err, errTooLong):
	case err != nil:
		return Record{}, err
	case missingComma:
		err = errNoComma
	default:
		err = checkObject(r.record)
	}
	if err != nil {
		return Record{}, &BadRecord{Number: r.number, Line: line, EndLine: r.in.line, Err: err}
	}
	return Record{Number: r.number, Line: line, JSON: r.record}, nil
}

// lose skips to where the search for the next record begins, and returns what to say of the record,
// or the input's error.
func (r *arrayReader) lose(broken error) error {
	if r.column >= 0 {
		r.state = arrayLost
		if errors.Is(broken, errNewline) {
			r.indent = 0
			return broken
		}
		return errors.Join(broken, r.skipLine())
	}
	r.state = arrayEnd
	for from := r.in.offset; ; {
		if _, err := r.in.readByte(); errors.Is(err, io.EOF) {
			return fmt.Errorf("%w; the rest of the input, %d bytes, is left out", broken, r.in.offset-from)
		} else if err != nil {
			return err
		}
	}
}

// scan reads the record that begins with c into r.record, or past it if it is too long.
func (r *arrayReader) scan(c byte) error {
	r.record, r.nesting = r.record[:0], nesting{open: r.nesting.open[:0]}
	tooLong := false
	for {
		if len(r.record) == MaxRecordBytes {
			tooLong = true
		} else {
			r.record = append(r.record, c)
		}
		if err := r.nesting.step(c); err != nil {
			return err
		}
		next, err := r.in.readByte()
		ended := errors.Is(err, io.EOF)
		switch {
		case err != nil && !ended:
			return err
		case ended && !r.nesting.closed():
			return errUnterminated
		case r.nesting.closed() && (ended || endsRecord(next)):
			if !ended {
				r.in.unread(next)
			}
			if tooLong {
				return errTooLong
			}
			return nil
		}
		c = next
	}
}

func endsRecord(c byte) bool {
	return c == ',' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'
}

// nesting follows the strings and brackets of a record.
type nesting struct {
	open              []byte // the bracket that closes each open one
	inString, escaped bool
}

func (n *nesting) closed() bool { return len(n.open) == 0 && !n.inString }

func (n *nesting) step(c byte) error {
	switch {
	case n.inString && c == '\n':
		return errNewline
	case n.escaped:
		n.escaped = false
	case n.inString && c == '\\':
		n.escaped = true
	case c == '"':
		n.inString = !n.inString
	case !n.inString:
		return n.bracket(c)
	}
	return nil
}

func (n *nesting) bracket(c byte) error {
	switch c {
	case '{':
		n.open = append(n.open, '}')
	case '[':
		n.open = append(n.open, ']')
	case '}', ']':
		if len(n.open) == 0 || n.open[len(n.open)-1] != c {
			return errNesting
		}
		n.open = n.open[:len(n.open)-1]
	}
	if len(n.open) > maxNesting {
		return errNesting
	}
	return nil
}

// nextByte returns the next byte that is no space.
func (r *arrayReader) nextByte() (byte, error) {
	for {
		c, err := r.in.readByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case '\n':
			r.indent = 0
		case ' ', '\t', '\r':
			if r.indent >= 0 {
				r.indent++
			}
		default:
			r.first, r.indent = r.indent, -1
			return c, nil
		}
	}
}

func (r *arrayReader) skipLine() error {
	for {
		c, err := r.in.readByte()
		if errors.Is(err, io.EOF) {
			return nil // the next read meets it again
		}
		if err != nil {
			return err
		}
		if c == '\n' {
			r.indent = 0
			return nil
		}
	}
}

// between is a fault outside records.
func (r *arrayReader) between(err error) error {
	return &BadRecord{Number: r.number + 1, Line: r.in.line, EndLine: r.in.line, Err: err}
}
