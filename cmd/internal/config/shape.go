package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

var errSyntax = errors.New("not YAML")

// checkShape finds what the decoder lets pass: a key given twice, of which it would take the last,
// and a second document, which it would ignore.
func checkShape(name string, data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return syntaxError(name, data, err)
	}
	s := &source{name: name, lines: strings.Split(string(data), "\n")}
	faults := s.duplicates(&doc, nil)
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return syntaxError(name, data, err)
	default:
		faults = append(faults, s.at(&second, "a second document: only one is allowed"))
	}
	return errors.Join(faults...)
}

// syntaxError shows the line that the YAML parser names. The parser has no typed error; if its text
// ever changes, only the excerpt is lost.
func syntaxError(name string, data []byte, err error) error {
	var line int
	if _, scanErr := fmt.Sscanf(err.Error(), "yaml: line %d:", &line); scanErr != nil || line < 1 {
		return fmt.Errorf("%s: %w: %w", name, errSyntax, err)
	}
	lines := strings.Split(string(data), "\n")
	_, what, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), ": ")
	excerpt := ""
	if line <= len(lines) {
		excerpt = fmt.Sprintf("\n%4d | %s", line, lines[line-1])
	}
	return fmt.Errorf("%s:%d %w: %s%s", name, line, errSyntax, what, excerpt)
}

type source struct {
	name  string
	lines []string
}

// at renders a fault the way protoyaml does.
func (s *source) at(n *yaml.Node, message string) error {
	line := ""
	if n.Line >= 1 && n.Line <= len(s.lines) {
		line = fmt.Sprintf("\n%4d | %s\n%4d | %s^", n.Line, s.lines[n.Line-1], n.Line, strings.Repeat(".", max(0, n.Column-1)))
	}
	return fmt.Errorf("%s:%d:%d %s%s", s.name, n.Line, n.Column, message, line)
}

// duplicates does not follow aliases: the decoder refuses them.
func (s *source) duplicates(n *yaml.Node, faults []error) []error {
	if n.Kind == yaml.MappingNode {
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if line, twice := first[key.Value]; twice {
				faults = append(faults, s.at(key, fmt.Sprintf("%s is given twice, first on line %d", key.Value, line)))
				continue
			}
			first[key.Value] = key.Line
		}
	}
	for _, child := range n.Content {
		faults = s.duplicates(child, faults)
	}
	return faults
}

// trim removes the blank lines that protoyaml leaves after each fault.
func trim(err error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, &trimmed{e})
	}
	return errors.Join(out...)
}

type trimmed struct{ error }

func (t *trimmed) Error() string { return strings.TrimRight(t.error.Error(), "\n") }
func (t *trimmed) Unwrap() error { return t.error }
