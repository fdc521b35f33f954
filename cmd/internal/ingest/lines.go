package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

var errTooLong = fmt.Errorf("longer than %d bytes", MaxRecordBytes)

// scanner reads lines or bytes, and counts both. It drops a byte order mark at the beginning.
type scanner struct {
	r      *bufio.Reader
	line   int64 // the line that the next byte is on, from 1
	offset int64
	buf    []byte
}

func newScanner(input io.Reader) *scanner {
	s := &scanner{r: bufio.NewReaderSize(input, 64<<10), line: 1}
	if head, err := s.r.Peek(3); err == nil && bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		n, _ := s.r.Discard(3)
		s.offset = int64(n)
	}
	return s
}

// readLine returns the next line without its end, valid until the next call, or errTooLong once the
// whole of a line that is too long has been read over. It returns io.EOF only with no line.
func (s *scanner) readLine() ([]byte, error) {
	s.buf = s.buf[:0]
	tooLong, some := false, false
	for {
		part, err := s.r.ReadSlice('\n')
		s.offset += int64(len(part))
		some = some || len(part) > 0
		if len(s.buf)+len(part) > MaxRecordBytes+2 {
			tooLong = true
		}
		if !tooLong {
			s.buf = append(s.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read input at line %d: %w", s.line, err)
		case !some:
			return nil, io.EOF
		}
		s.line++
		line := bytes.TrimSuffix(bytes.TrimSuffix(s.buf, []byte("\n")), []byte("\r"))
		if tooLong || len(line) > MaxRecordBytes {
			return nil, errTooLong
		}
		return line, nil
	}
}

// readByte returns io.EOF at the end.
func (s *scanner) readByte() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		return 0, fmt.Errorf("read input at line %d: %w", s.line, err)
	}
	s.offset++
	if c == '\n' {
		s.line++
	}
	return c, nil
}

// unread takes back the byte just read.
func (s *scanner) unread(c byte) {
	if s.r.UnreadByte() != nil {
		return // only after a failed read, which the caller never takes back
	}
	s.offset--
	if c == '\n' {
		s.line--
	}
}
