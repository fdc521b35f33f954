package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Template makes a string of a record: text with {field} in it, or {a.b} for field b of the object
// in field a. {{ and }} stand for the brackets themselves. {#} is the number of records before
// this one for which the rest of the template gave the same.
type Template struct {
	source   string
	parts    []part
	Numbered bool // whether {#} occurs
}

type part struct {
	text   string
	path   []string // a field if not nil
	number bool
}

// ParseTemplate parses a template.
func ParseTemplate(source string) (*Template, error) {
	t := &Template{source: source}
	text := ""
	for rest := source; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			text += rest
			break
		}
		text += rest[:i]
		rest = rest[i:]
		if strings.HasPrefix(rest, "{{") || strings.HasPrefix(rest, "}}") {
			text, rest = text+rest[:1], rest[2:]
			continue
		}
		name, after, closed := strings.Cut(rest[1:], "}")
		if rest[0] == '}' || !closed {
			return nil, fmt.Errorf("template %q: %c at byte %d has no partner: write {{ or }} for the bracket itself", source, rest[0], len(source)-len(rest)+1)
		}
		t.parts = append(t.parts, part{text: text})
		text, rest = "", after
		switch {
		case name == "#" && t.Numbered:
			return nil, fmt.Errorf("template %q: {#} may occur once", source)
		case name == "#":
			t.Numbered = true
			t.parts = append(t.parts, part{number: true})
		case name == "":
			return nil, fmt.Errorf("template %q: {} names no field", source)
		default:
			t.parts = append(t.parts, part{path: strings.Split(name, ".")})
		}
	}
	t.parts = append(t.parts, part{text: text})
	return t, nil
}

// String returns the template's source.
func (t *Template) String() string { return t.source }

// render returns the template with {#} as number.
func (t *Template) render(f fields, number int64) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p.number:
			b.WriteString(strconv.FormatInt(number, 10))
		case p.path != nil:
			v, err := f.text(p.path)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
		default:
			b.WriteString(p.text)
		}
	}
	return b.String(), nil
}

// fields are those of a record's object.
type fields map[string]json.RawMessage

var errNoText = errors.New("has no text: want a string, a number or a boolean")

// text returns a field as text: the content of a string, the literal of a number or boolean.
func (f fields) text(path []string) (string, error) {
	raw, err := f.raw(path)
	if err != nil {
		return "", err
	}
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case '{', '[', 'n':
		return "", fmt.Errorf("field %s %w", strings.Join(path, "."), errNoText)
	default:
		return string(raw), nil
	}
}

func (f fields) raw(path []string) (json.RawMessage, error) {
	raw, ok := f[path[0]]
	if !ok {
		return nil, fmt.Errorf("no field %s", path[0])
	}
	if len(path) == 1 {
		return raw, nil
	}
	var inner fields
	if err := json.Unmarshal(raw, &inner); err != nil {
		return nil, fmt.Errorf("field %s is not an object", path[0])
	}
	return inner.raw(path[1:])
}
