package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Entry is a line of an export. Bytes that are UTF-8 are text; others go base64 into the second
// field of their kind. A large collection takes several lines, each with a part of it, and an
// observed-remove map takes lines for each of its leaves.
type Entry struct {
	Key string `json:"key"`
	// Path is where in the observed-remove map under the key the value is; empty if it is the key's own.
	Path []string `json:"path,omitempty"`
	Type string   `json:"type"`
	// Value and ValueBase64 are the value of a register, multi-value or not; one of them is set.
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	// Counter is a counter's value, Number that of a bounded counter, a maximum or a minimum.
	Counter *int64 `json:"counter,omitempty"`
	Number  *int64 `json:"number,omitempty"`
	// Members and MembersBase64 are a set's.
	Members       []string `json:"members,omitempty"`
	MembersBase64 [][]byte `json:"members_base64,omitempty"`
	// Fields and FieldsBase64 are a map's.
	Fields       map[string]string `json:"fields,omitempty"`
	FieldsBase64 map[string][]byte `json:"fields_base64,omitempty"`
	// Scores are the members of a sorted set, with counters as scores or without.
	Scores []Scored `json:"scores,omitempty"`
	// Expires is when the value ceases to exist; of a leaf, the whole map.
	Expires *time.Time `json:"expires,omitempty"`
	// Version is for information; a restored value gets its own.
	Version string `json:"version,omitempty"`
}

// The types of an Entry.
const (
	typeRegister   = "register"
	typeCounter    = "counter"
	typeSet        = "set"
	typeMVRegister = "mvregister"
	typeBounded    = "bcounter"
	typeFlag       = "flag"
	typeMax        = "max"
	typeMin        = "min"
	typeMap        = "map"
	typeZSet       = "zset"
	typeCounted    = "countzset"
)

// entryTypes are all of them, in the order in which they are named to people.
var entryTypes = [...]string{
	typeRegister, typeCounter, typeSet, typeMVRegister, typeBounded, typeFlag, typeMax, typeMin, typeMap, typeZSet, typeCounted,
}

// ExpiresAfter sets when the value ceases to exist. ttl is what is left at now; 0 means that it stays.
func (e Entry) ExpiresAfter(ttl time.Duration, now time.Time) Entry {
	if ttl > 0 {
		at := now.Add(ttl).UTC().Round(time.Millisecond)
		e.Expires = &at
	}
	return e
}

// At returns the entry as that of the leaf at a path in the observed-remove map under its key.
func (e Entry) At(path []string) Entry {
	e.Path = path
	return e
}

// NewRegister returns a register's entry.
func NewRegister(key string, value []byte) Entry { return newValue(key, typeRegister, value) }

// NewMVRegister returns the entry of a multi-value register with one value.
func NewMVRegister(key string, value []byte) Entry { return newValue(key, typeMVRegister, value) }

func newValue(key, typ string, value []byte) Entry {
	e := Entry{Key: key, Type: typ}
	if utf8.Valid(value) {
		text := string(value)
		e.Value = &text
	} else {
		e.ValueBase64 = value
	}
	return e
}

// NewCounter returns a counter's entry.
func NewCounter(key string, value int64) Entry {
	return Entry{Key: key, Type: typeCounter, Counter: &value}
}

// NewBounded returns a bounded counter's entry. Who had which rights is not in it.
func NewBounded(key string, value int64) Entry {
	return Entry{Key: key, Type: typeBounded, Number: &value}
}

// NewMax returns a maximum's entry.
func NewMax(key string, value int64) Entry { return Entry{Key: key, Type: typeMax, Number: &value} }

// NewMin returns a minimum's entry.
func NewMin(key string, value int64) Entry { return Entry{Key: key, Type: typeMin, Number: &value} }

// NewFlag returns the entry of a flag that is enabled.
func NewFlag(key string) Entry { return Entry{Key: key, Type: typeFlag} }

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

// AddField adds a field to the entry of a part of a map.
func (e *Entry) AddField(name string, value []byte) {
	switch {
	case !utf8.Valid(value):
		if e.FieldsBase64 == nil {
			e.FieldsBase64 = map[string][]byte{}
		}
		e.FieldsBase64[name] = value
	default:
		if e.Fields == nil {
			e.Fields = map[string]string{}
		}
		e.Fields[name] = string(value)
	}
}

// NewMap returns the entry of a part of a map, without fields yet.
func NewMap(key string) Entry { return Entry{Key: key, Type: typeMap} }

// NewZSet returns the entry of a part of a sorted set.
func NewZSet(key string, scores []Scored) Entry {
	return Entry{Key: key, Type: typeZSet, Scores: scores}
}

// NewCounterZSet returns the entry of a part of a sorted set with counters as scores.
func NewCounterZSet(key string, scores []Scored) Entry {
	return Entry{Key: key, Type: typeCounted, Scores: scores}
}

// NewRestorer returns a mapper of entries. Values are written as they were, and collections and
// observed-remove maps are added to; what expired before now is left out.
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
	writes, err := e.writes()
	if err != nil {
		return nil, err
	}
	if e.Path != nil && e.Type == typeBounded {
		return nil, fmt.Errorf("a %s cannot be in a map", e.Type)
	}
	var ttl time.Duration
	if e.Expires != nil {
		if e.Type == typeBounded {
			return nil, fmt.Errorf("a %s cannot expire", e.Type)
		}
		if ttl = e.Expires.Sub(m.now()); ttl <= 0 {
			return nil, nil
		}
	}
	for i := range writes {
		writes[i].Key, writes[i].Path, writes[i].TTL = e.Key, e.Path, ttl
		if err := writes[i].check(); err != nil {
			return nil, err
		}
	}
	return writes, nil
}

// writes returns the writes that make the entry's value, without their keys. It holds nothing but its
// own memory.
func (e *Entry) writes() (writes []Write, err error) {
	complete := true
	switch e.Type {
	case typeRegister, typeMVRegister:
		writes, complete = e.putWrite()
	case typeCounter, typeBounded, typeMax, typeMin:
		writes, complete = e.numberWrite()
	case typeFlag:
		writes = []Write{{Kind: KindFlagEnable}}
	case typeSet:
		w := Write{Kind: KindSetAdd, Elements: e.MembersBase64}
		for _, m := range e.Members {
			w.Elements = append(w.Elements, []byte(m))
		}
		writes, complete = []Write{w}, len(w.Elements) > 0
	case typeMap:
		w := Write{Kind: KindMapPut, Fields: map[string][]byte{}}
		for name, value := range e.Fields {
			w.Fields[name] = []byte(value)
		}
		for name, value := range e.FieldsBase64 {
			w.Fields[name] = value
		}
		writes, complete = []Write{w}, len(w.Fields) > 0
	case typeZSet, typeCounted:
		writes, err = e.scoreWrites()
		complete = len(e.Scores) > 0
	default:
		return nil, fmt.Errorf("unknown type %q: want one of %s", e.Type, strings.Join(entryTypes[:], ", "))
	}
	if err == nil && !complete {
		err = fmt.Errorf("an entry of type %s without its value", e.Type)
	}
	return writes, err
}

func (e *Entry) putWrite() ([]Write, bool) {
	w := Write{Kind: KindPut, Value: e.ValueBase64}
	if e.Type == typeMVRegister {
		w.Kind = KindMVPut
	}
	if e.Value != nil {
		w.Value = []byte(*e.Value)
	}
	return []Write{w}, (e.Value != nil) != (e.ValueBase64 != nil)
}

func (e *Entry) numberWrite() ([]Write, bool) {
	number, kind := e.Number, KindCounterSet
	switch e.Type {
	case typeCounter:
		number = e.Counter
	case typeBounded:
		kind = KindBoundedInc
	case typeMax:
		kind = KindMax
	default:
		kind = KindMin
	}
	if number == nil {
		return nil, false
	}
	if kind == KindBoundedInc && *number == 0 {
		return nil, true // one that is 0 reads like one that is not there
	}
	return []Write{{Kind: kind, Delta: *number}}, true
}

func (e *Entry) scoreWrites() ([]Write, error) {
	writes := make([]Write, len(e.Scores))
	for i, s := range e.Scores {
		member, err := s.member()
		if err != nil {
			return nil, err
		}
		writes[i] = Write{Kind: KindZSetAdd, Elements: [][]byte{member}, Score: float64(s.Score)}
		if e.Type != typeCounted {
			continue
		}
		writes[i].Kind = KindCountedAdd
		if writes[i].Delta, err = s.Score.whole(); err != nil {
			return nil, err
		}
	}
	return writes, nil
}
