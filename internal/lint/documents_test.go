package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	makeTarget   = regexp.MustCompile("(?m)(?:`make ([a-z-]+(?: [a-z-]+)*)|^make ([a-z-]+(?: [a-z-]+)*) *(?:#.*)?$)")
	targetLine   = regexp.MustCompile(`(?m)^([a-z-]+):.*## `)
	packageRow   = regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|")
)

func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "*/*.md", "*/*/*.md", "*/*/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if !strings.Contains(p, "node_modules") {
				found[p] = read(t, p)
			}
		}
	}
	if len(found) < 5 {
		t.Fatalf("found %d documents: this is not the repository", len(found))
	}
	return found
}

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	for path, text := range documents(t) {
		for _, match := range markdownLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), match[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, match[1], err)
			}
		}
	}
}

func TestDocumentsNameTargetsThatExist(t *testing.T) {
	targets := map[string]bool{}
	for _, match := range targetLine.FindAllStringSubmatch(read(t, filepath.Join(repository, "Makefile")), -1) {
		targets[match[1]] = true
	}
	for path, text := range documents(t) {
		for _, match := range makeTarget.FindAllStringSubmatch(text, -1) {
			for _, target := range strings.Fields(match[1] + match[2]) {
				if !targets[target] {
					t.Errorf("%s says make %s, which the Makefile does not have", path, target)
				}
			}
		}
	}
}

func TestArchitectureListsThePackages(t *testing.T) {
	listed := map[string]bool{}
	for _, match := range packageRow.FindAllStringSubmatch(read(t, filepath.Join(repository, "ARCHITECTURE.md")), -1) {
		listed[match[1]] = true
		if _, err := os.Stat(filepath.Join(repository, match[1])); err != nil {
			t.Errorf("ARCHITECTURE.md lists %s: %v", match[1], err)
		}
	}
	for _, a := range arrows {
		switch a.dir {
		case "cmd", "sim", "internal", "proto": // listed by what is below them, or not at all
			continue
		}
		if !listed[a.dir] {
			t.Errorf("ARCHITECTURE.md does not list %s", a.dir)
		}
	}
}
