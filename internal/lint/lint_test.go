package lint

import (
	"os"
	"strings"
	"testing"
)

// repository is where this package's tests find the top of the repository.
const repository = "../.."

func load(t *testing.T) []*File {
	t.Helper()
	files, err := Load(repository)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found %d files: this is not the repository", len(files))
	}
	return files
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryFileKeepsTheRules(t *testing.T) {
	files := load(t)
	exceptions, err := ParseExceptions(read(t, "exceptions.txt"))
	if err != nil {
		t.Fatal(err)
	}
	rules := []Rule{Arrows, Calls, NoAfterInLoop, NoContextInStruct, NoPanic, NoInit, NoSkip, NoErrorText, DocComments}
	findings := PackageComments(files)
	for _, f := range files {
		for _, rule := range rules {
			findings = append(findings, rule(f)...)
		}
	}
	for _, finding := range Except(findings, exceptions) {
		t.Error(finding)
	}
	for _, e := range Unused(exceptions) {
		t.Errorf("exceptions.txt: nothing in %s needs %q any more", e.Path, e.Message)
	}
}

func TestSizesOnlyShrink(t *testing.T) {
	debt, err := ParseDebt(read(t, "debt.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range Ratchet(Oversized(load(t)), debt) {
		t.Error(fault)
	}
}

func TestEveryArrowLeadsSomewhere(t *testing.T) {
	dirs := map[string]bool{".": true}
	for _, f := range load(t) {
		dir := f.Dir
		for dir != "." {
			dirs[dir] = true
			dir = dir[:max(strings.LastIndexByte(dir, '/'), 0)]
			if dir == "" {
				dir = "."
			}
		}
	}
	for _, a := range arrows {
		for _, dir := range append([]string{a.dir}, append(a.imports, a.tests...)...) {
			if !dirs[dir] {
				t.Errorf("the arrows name %s, which does not exist", dir)
			}
		}
	}
}
