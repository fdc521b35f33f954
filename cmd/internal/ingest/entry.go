package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Entry is a line of an export. Bytes that are UTF-8 are text; others go base64 into the second
// field of their kind. A large set takes several lines, each with a part of its members.
type Entry struct {
	Key  string `json:"key"`
	Type string `json:"type"`
	// Value and ValueBase64 are a register's; one of them is set.
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	// Counter is a counter's value.
	Counter *int64 `json:"counter,omitempty"`
	// Members and MembersBase64 are a set's.
	Members       []string `json:"members,omitempty"`
	MembersBase64 [][]byte `json:"members_base64,omitempty"`
	// Expires is when the register ceases to exist.
	Expires *time.Time `json:"expires,omitempty"`
	// Version is for information; a restored value gets its own.
	Version string `json:"version,omitempty"`
}

// The types of an Entry.
const (
	typeRegister = "register"
	typeCounter  = "counter"
	typeSet      = "set"
)

// NewRegister returns a register's entry. ttl is what is left at now; 0 means that it stays.
func NewRegister(key string, value []byte, ttl time.Duration, now time.Time) Entry {
	e := Entry{Key: key, Type: typeRegister}
	if utf8.Valid(value) {
		text := string(value)
		e.Value = &text
	} else {
		e.ValueBase64 = value
	}
	if ttl > 0 {
		at := now.Add(ttl).UTC().Round(time.Millisecond)
		e.Expires = &at
	}
	return e
}

// NewCounter returns a counter's entry.
func NewCounter(key string, value int64) Entry {
	return Entry{Key: key, Type: typeCounter, Counter: &value}
}

// NewSet returns the entry of a part of a set.
func NewSet(key string, members [][]byte) Entry {
	e := Entry{Key: key, Type: typeSet}
	for _, m := range members {
		if utf8.Valid(m) {
			e.Members = append(e.Members, string(m))
		} else {
			e.MembersBase64 = append(e.MembersBase64, m)
		}
	}
	return e
}

// NewRestorer returns a mapper of entries. Registers are put, counters set to their value, members
// added to their set; what expired before now is left out.
func NewRestorer(now func() time.Time) Mapper { return &restorer{now} }

type restorer struct{ now func() time.Time }

// Map implements Mapper.
func (m *restorer) Map(r Record) ([]Write, error) {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(r.JSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("not an entry of an export: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not an entry of an export: text behind it")
	}
	w, err := e.write()
	if err != nil {
		return nil, err
	}
	if e.Expires != nil {
		if w.TTL = e.Expires.Sub(m.now()); w.TTL <= 0 {
			return nil, nil
		}
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	return []Write{w}, nil
}

func (e *Entry) write() (Write, error) {
	w := Write{Key: e.Key}
	switch {
	case e.Type == typeRegister && e.Value != nil && e.ValueBase64 == nil:
		w.Kind, w.Value = KindPut, []byte(*e.Value)
	case e.Type == typeRegister && e.Value == nil && e.ValueBase64 != nil:
		w.Kind, w.Value = KindPut, e.ValueBase64
	case e.Type == typeCounter && e.Counter != nil:
		w.Kind, w.Delta = KindCounterSet, *e.Counter
	case e.Type == typeSet && len(e.Members)+len(e.MembersBase64) > 0:
		w.Kind, w.Elements = KindSetAdd, e.MembersBase64
		for _, m := range e.Members {
			w.Elements = append(w.Elements, []byte(m))
		}
	case e.Type == typeRegister, e.Type == typeCounter, e.Type == typeSet:
		return w, fmt.Errorf("an entry of type %s without its value", e.Type)
	default:
		return w, fmt.Errorf("unknown type %q: want register, counter or set", e.Type)
	}
	if e.Expires != nil && w.Kind != KindPut {
		return w, fmt.Errorf("a %s cannot expire", e.Type)
	}
	return w, nil
}
