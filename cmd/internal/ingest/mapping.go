package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the server that are checked here, so that a record over one is reported with its line and
// spoils no batch.
const (
	maxKeyBytes     = 1 << 10
	maxValueBytes   = 1 << 20
	maxElementBytes = 1 << 10
	maxPathNames    = 4
	maxNameBytes    = 255
)

// Kind is the kind of a write.
type Kind uint8

// The kinds of writes.
const (
	KindPut        Kind = iota + 1 // a register
	KindCounterAdd                 // Delta on a counter
	KindCounterSet                 // a counter becomes Delta
	KindSetAdd                     // Elements into a set
	KindMVPut                      // a multi-value register
	KindBoundedInc                 // Delta on a bounded counter that does not exist
	KindFlagEnable                 // a flag
	KindMax                        // a maximum is raised to Delta
	KindMin                        // a minimum is lowered to Delta
	KindMapPut                     // Fields into a map
	KindZSetAdd                    // the only one of Elements into a sorted set, with Score
	KindCountedAdd                 // the only one of Elements into a sorted set with counters, with Delta
)

// Write is one write that a record asks for.
type Write struct {
	Kind Kind
	Key  string
	// Path is that of a leaf in the observed-remove map under the key; empty if the write is of what is
	// under the key itself. TTL is the map's then.
	Path     []string
	Value    []byte
	TTL      time.Duration // 0 is none
	Delta    int64
	Score    float64
	Elements [][]byte
	Fields   map[string][]byte
}

func (w *Write) bytes() int {
	n := len(w.Key) + len(w.Value) + 32
	for _, name := range w.Path {
		n += len(name) + 4
	}
	for _, e := range w.Elements {
		n += len(e) + 4
	}
	for name, value := range w.Fields {
		n += len(name) + len(value) + 12
	}
	return n
}

func (w *Write) check() error {
	switch {
	case w.Key == "":
		return errors.New("the key is empty")
	case len(w.Key) > maxKeyBytes:
		return fmt.Errorf("the key has %d bytes: at most %d are allowed", len(w.Key), maxKeyBytes)
	case !utf8.ValidString(w.Key):
		return errors.New("the key is not UTF-8")
	case len(w.Value) > maxValueBytes:
		return fmt.Errorf("the value has %d bytes: at most %d are allowed", len(w.Value), maxValueBytes)
	case len(w.Elements) > maxWriteElements:
		return fmt.Errorf("%d elements for set %q: at most %d are allowed at once", len(w.Elements), w.Key, maxWriteElements)
	case w.Kind == KindBoundedInc && w.Delta < 0:
		return fmt.Errorf("bounded counter %q would be %d", w.Key, w.Delta)
	}
	for _, e := range w.Elements {
		if len(e) == 0 || len(e) > maxElementBytes {
			return fmt.Errorf("an element for set %q has %d bytes: 1 to %d are allowed", w.Key, len(e), maxElementBytes)
		}
	}
	if err := w.checkPath(); err != nil {
		return err
	}
	return w.checkFields()
}

func (w *Write) checkPath() error {
	if len(w.Path) > maxPathNames {
		return fmt.Errorf("a path in %q has %d names: at most %d are allowed", w.Key, len(w.Path), maxPathNames)
	}
	for _, name := range w.Path {
		if name == "" || len(name) > maxNameBytes {
			return fmt.Errorf("a name in a path in %q has %d bytes: 1 to %d are allowed", w.Key, len(name), maxNameBytes)
		}
	}
	return nil
}

func (w *Write) checkFields() error {
	if len(w.Fields) > maxWriteElements {
		return fmt.Errorf("%d fields for map %q: at most %d are allowed at once", len(w.Fields), w.Key, maxWriteElements)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Fields)) {
		switch value := w.Fields[name]; {
		case name == "" || len(name) > maxElementBytes:
			return fmt.Errorf("a field of map %q has a name of %d bytes: 1 to %d are allowed", w.Key, len(name), maxElementBytes)
		case len(value) > maxValueBytes:
			return fmt.Errorf("field %q of map %q has %d bytes: at most %d are allowed", name, w.Key, len(value), maxValueBytes)
		}
	}
	return nil
}

// Mapper makes writes of a record. What it returns holds nothing of the record's memory. It is
// called with the records in order, and must answer alike for the same records.
type Mapper interface {
	Map(r Record) ([]Write, error)
}

// Mapping says which writes a record becomes.
type Mapping struct {
	// Key is the key that the record is put under.
	Key *Template
	// Value is the field to put; empty means the whole record, as compact JSON.
	Value string
	// Count has the keys of counters that get 1 per record.
	Count []*Template
	// Collect has sets that get one element per record.
	Collect []Collect
}

// Collect is a set and the element that a record adds to it.
type Collect struct{ Key, Element *Template }

// ParseCollect parses KEY=ELEMENT, two templates.
func ParseCollect(source string) (Collect, error) {
	for i := 0; i < len(source); i++ {
		if source[i] != '=' || strings.Count(source[:i], "{") != strings.Count(source[:i], "}") {
			continue
		}
		key, err := ParseTemplate(source[:i])
		if err != nil {
			return Collect{}, err
		}
		element, err := ParseTemplate(source[i+1:])
		if err != nil {
			return Collect{}, err
		}
		if key.Numbered || element.Numbered {
			return Collect{}, fmt.Errorf("%q: {#} can stand in the key of the record only", source)
		}
		return Collect{Key: key, Element: element}, nil
	}
	return Collect{}, fmt.Errorf("%q is not KEY=ELEMENT", source)
}

// NewMapper returns the mapper of a mapping. It remembers how often each key occurred if the key has
// {#} in it, so its memory grows with the number of different keys.
func NewMapper(m Mapping) Mapper {
	return &mapper{Mapping: m, path: strings.Split(m.Value, "."), seen: map[string]int64{}}
}

type mapper struct {
	Mapping
	path []string
	seen map[string]int64
}

// Map implements Mapper.
func (m *mapper) Map(r Record) ([]Write, error) {
	var f fields
	if err := json.Unmarshal(r.JSON, &f); err != nil {
		return nil, err
	}
	writes := make([]Write, 0, 1+len(m.Count)+len(m.Collect))
	for _, t := range m.Count {
		key, err := t.render(f, 0)
		if err != nil {
			return nil, err
		}
		writes = append(writes, Write{Kind: KindCounterAdd, Key: key, Delta: 1})
	}
	for _, c := range m.Collect {
		key, err := c.Key.render(f, 0)
		if err != nil {
			return nil, err
		}
		element, err := c.Element.render(f, 0)
		if err != nil {
			return nil, err
		}
		writes = append(writes, Write{Kind: KindSetAdd, Key: key, Elements: [][]byte{[]byte(element)}})
	}
	put, counted, err := m.put(r, f)
	if err != nil {
		return nil, err
	}
	writes = append(writes, put)
	for i := range writes {
		if err := writes[i].check(); err != nil {
			return nil, err
		}
	}
	// Only a record that is taken takes a number.
	if m.Key.Numbered {
		m.seen[counted]++
	}
	return writes, nil
}

// put also returns the key's place in the count of its like.
func (m *mapper) put(r Record, f fields) (Write, string, error) {
	value, err := m.value(r, f)
	if err != nil {
		return Write{}, "", err
	}
	key, err := m.Key.render(f, 0)
	if err != nil {
		return Write{}, "", err
	}
	like := key
	if n := m.seen[like]; m.Key.Numbered && n > 0 {
		if key, err = m.Key.render(f, n); err != nil {
			return Write{}, "", err
		}
	}
	return Write{Kind: KindPut, Key: key, Value: value}, like, nil
}

func (m *mapper) value(r Record, f fields) ([]byte, error) {
	if m.Value == "" {
		var b bytes.Buffer
		b.Grow(len(r.JSON))
		err := json.Compact(&b, r.JSON)
		return b.Bytes(), err
	}
	raw, err := f.raw(m.path)
	if err != nil {
		return nil, err
	}
	if raw[0] == '"' {
		s, err := f.text(m.path)
		return []byte(s), err
	}
	var b bytes.Buffer
	err = json.Compact(&b, raw)
	return b.Bytes(), err
}
