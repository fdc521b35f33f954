package lint

import (
	"bufio"
	"fmt"
	"strings"
)

// Exception allows one kind of finding in one file.
type Exception struct {
	Path    string
	Message string // what the finding begins with
	used    bool
}

// ParseExceptions reads the lines of exceptions.txt: path, beginning of the finding and reason,
// separated by bars. Empty lines and # comments are skipped.
func ParseExceptions(text string) ([]*Exception, error) {
	var exceptions []*Exception
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 || parts[2] == "" {
			return nil, fmt.Errorf("exception %q is not: path | finding | reason", line)
		}
		exceptions = append(exceptions, &Exception{Path: parts[0], Message: parts[1]})
	}
	return exceptions, scanner.Err()
}

// Except returns the findings that no exception allows.
func Except(findings []Finding, exceptions []*Exception) []Finding {
	var rest []Finding
	for _, f := range findings {
		allowed := false
		for _, e := range exceptions {
			if e.Path == f.Path && strings.HasPrefix(f.Message, e.Message) {
				allowed, e.used = true, true
			}
		}
		if !allowed {
			rest = append(rest, f)
		}
	}
	return rest
}

// Unused returns the exceptions that allowed nothing.
func Unused(exceptions []*Exception) []*Exception {
	var unused []*Exception
	for _, e := range exceptions {
		if !e.used {
			unused = append(unused, e)
		}
	}
	return unused
}
