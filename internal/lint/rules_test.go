package lint

import (
	"strings"
	"testing"
)

func parse(t *testing.T, path, source string) *File {
	t.Helper()
	f, err := Parse(path, []byte(source))
	if err != nil {
		t.Fatalf("the sample does not parse: %v", err)
	}
	return f
}

// sample is a file that a rule must refuse, saying why, or one beside it that it must let pass.
type sample struct {
	name, path, source string
	rule               Rule
	want               string // part of the only finding; "" for none
}

func check(t *testing.T, samples []sample) {
	t.Helper()
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			findings := s.rule(parse(t, s.path, "package p\n"+s.source+"\n"))
			switch {
			case s.want == "" && len(findings) != 0:
				t.Errorf("must pass, but: %v", findings)
			case s.want != "" && (len(findings) != 1 || !strings.Contains(findings[0].Message, s.want)):
				t.Errorf("want one finding with %q, have %v", s.want, findings)
			}
		})
	}
}

func TestArrowsFire(t *testing.T) {
	check(t, []sample{
		{"region imports crossregion", "region/a.go", `import "github.com/atolldb/atoll/crossregion"`, Arrows, "region must not import crossregion"},
		{"crossregion imports region", "crossregion/a.go", `import "github.com/atolldb/atoll/region"`, Arrows, "crossregion must not import region"},
		{"crdt imports topology", "crdt/a.go", `import "github.com/atolldb/atoll/topology"`, Arrows, "must not import topology"},
		{"crdt imports hlc", "crdt/a.go", `import "github.com/atolldb/atoll/hlc"`, Arrows, ""},
		{"replica imports crdt", "crdt/replica/a.go", `import "github.com/atolldb/atoll/crdt"`, Arrows, ""},
		{"core imports its adapter", "region/a.go", `import "github.com/atolldb/atoll/region/raftgroup"`, Arrows, "must not import region/raftgroup"},
		{"adapter imports its core", "region/raftgroup/a.go", `import "github.com/atolldb/atoll/region"`, Arrows, ""},
		{"adapter imports another adapter", "region/store/a.go", `import "github.com/atolldb/atoll/region/raftlog"`, Arrows, "must not import region/raftlog"},
		{"pure code imports generated code", "crdt/a.go", `import "github.com/atolldb/atoll/proto/atoll/v1"`, Arrows, "must not import proto/atoll/v1"},
		{"the client imports internals", "client/a.go", `import "github.com/atolldb/atoll/region"`, Arrows, "must not import region"},
		{"the program imports the simulation", "cmd/atoll/a.go", `import "github.com/atolldb/atoll/sim/chaos"`, Arrows, "must not import sim/chaos"},
		{"the program runs the world", "cmd/atoll/a.go", `import "github.com/atolldb/atoll/sim/world"`, Arrows, ""},
		{"a region imports the world", "region/a.go", `import "github.com/atolldb/atoll/sim/world"`, Arrows, "must not import sim/world"},
		{"the simulation imports all", "sim/a.go", `import "github.com/atolldb/atoll/region/store"`, Arrows, ""},
		{"code imports testkit", "hlc/a.go", `import "github.com/atolldb/atoll/internal/testkit"`, Arrows, "must not import internal/testkit"},
		{"a test imports testkit", "hlc/a_test.go", `import "github.com/atolldb/atoll/internal/testkit"`, Arrows, ""},
		{"everyone imports invariant", "hlc/a.go", `import "github.com/atolldb/atoll/internal/invariant"`, Arrows, ""},
		{"a directory nobody placed", "misc/a.go", ``, Arrows, "not in the table"},
		{"a second importer of bbolt", "region/a.go", `import "go.etcd.io/bbolt"`, Arrows, "must not import go.etcd.io/bbolt"},
		{"the importer of bbolt", "region/store/a.go", `import "go.etcd.io/bbolt"`, Arrows, ""},
		{"a second importer of Pebble", "region/store/a.go", `import "github.com/cockroachdb/pebble/v2"`, Arrows, "pebble"},
		{"a second importer of raft", "region/a.go", `import "github.com/hashicorp/raft"`, Arrows, "hashicorp/raft"},
		{"a second importer of NATS", "crossregion/a.go", `import "github.com/nats-io/nats.go"`, Arrows, "nats.go"},
	})
}

func TestCallRulesFire(t *testing.T) {
	check(t, []sample{
		{"reads the clock", "region/a.go", `import "time"; var x = time.Now()`, Calls, "time.Now"},
		{"takes the clock as a value", "region/a.go", `import "time"; var now = time.Now`, Calls, "time.Now"},
		{"reads the clock by subtraction", "region/a.go", `import "time"; var x = time.Since(t)`, Calls, "time.Since"},
		{"reads the clock by another name", "region/a.go", `import chrono "time"; var x = chrono.Now()`, Calls, "time.Now"},
		{"assembly reads the clock", "cmd/internal/node/a.go", `import "time"; var x = time.Now`, Calls, ""},
		{"a test reads the clock", "region/a_test.go", `import "time"; var x = time.Now()`, Calls, ""},
		{"somebody else's Now", "region/a.go", `var x = clock.Now()`, Calls, ""},
		{"a test sleeps", "region/a_test.go", `import "time"; func f() { time.Sleep(1) }`, Calls, "time.Sleep"},
		{"the program sleeps", "cmd/atoll/a.go", `import "time"; func f() { time.Sleep(1) }`, Calls, "time.Sleep"},
		{"a root context", "cmd/internal/node/a.go", `import "context"; var x = context.Background()`, Calls, "context.Background"},
		{"a test's root context", "region/a_test.go", `import "context"; var x = context.Background()`, Calls, ""},
		{"the default logger", "region/a.go", `import "log/slog"; func f() { slog.Info("x") }`, Calls, "slog.Info"},
		{"an injected logger", "region/a.go", `import "log/slog"; func f(l *slog.Logger) { l.Info("x") }`, Calls, ""},
		{"log.Fatal", "region/a.go", `import "log"; func f() { log.Fatal("x") }`, Calls, "log.Fatal"},
		{"exits", "region/a.go", `import "os"; func f() { os.Exit(1) }`, Calls, "os.Exit"},

		{"a timer each turn", "region/a_test.go", `import "time"; func f() { for { for range 2 { <-time.After(1) } } }`, NoAfterInLoop, "time.After"},
		{"a timer each turn of a range", "region/a.go", `import "time"; func f() { for range 3 { select { case <-time.After(1): } } }`, NoAfterInLoop, "time.After"},
		{"one timer", "region/a.go", `import "time"; func f() { <-time.After(1) }`, NoAfterInLoop, ""},

		{"a context in a struct", "region/a.go", `import "context"; type x struct { ctx context.Context }`, NoContextInStruct, "context in a struct"},
		{"an embedded context", "region/a.go", `import "context"; type x struct { context.Context }`, NoContextInStruct, "context in a struct"},
		{"a context in a test's table", "region/a_test.go", `import "context"; var x = struct { ctx context.Context }{}`, NoContextInStruct, ""},
		{"a context as an argument", "region/a.go", `import "context"; type x struct { run func(context.Context) }`, NoContextInStruct, ""},

		{"panics", "region/a.go", `func f() { panic("x") }`, NoPanic, "panic"},
		{"the invariant panics", "internal/invariant/a.go", `func f() { panic("x") }`, NoPanic, ""},
		{"an init function", "region/a.go", `func init() {}`, NoInit, "init function"},
		{"an init method", "region/a.go", `func (x *T) init() {}`, NoInit, ""},
		{"a skipped test", "region/a_test.go", `func f(t T) { t.Skip("slow") }`, NoSkip, "skipped"},
		{"branches on text", "region/a.go", `import "strings"; var x = strings.Contains(err.Error(), "no")`, NoErrorText, "errors.Is"},
		{"a test looks at text", "region/a_test.go", `import "strings"; var x = strings.Contains(err.Error(), "no")`, NoErrorText, ""},
	})
}

func TestDocCommentsFire(t *testing.T) {
	check(t, []sample{
		{"a function without a comment", "region/a.go", `func F() {}`, DocComments, "exported F"},
		{"a method without a comment", "region/a.go", "// T is.\ntype T int\nfunc (t *T) F() {}", DocComments, "exported F"},
		{"a generic type's method", "region/a.go", "// T is.\ntype T[K any] int\nfunc (t *T[K]) F() {}", DocComments, "exported F"},
		{"a type without a comment", "region/a.go", `type T int`, DocComments, "exported T"},
		{"a grouped type without its own", "region/a.go", "// Both.\ntype (\nT int\n)", DocComments, "exported T"},
		{"a constant without a comment", "region/a.go", `const C = 1`, DocComments, "exported C"},
		{"constants with one comment", "region/a.go", "// Both.\nconst (\nC = 1\nD = 2\n)", DocComments, ""},
		{"what the standard library explains", "region/a.go", "func (t *T) Error() string { return \"\" }", DocComments, ""},
		{"a hidden type's method", "region/a.go", "func (t *t) F() {}", DocComments, ""},
		{"a comment", "region/a.go", "// F does.\nfunc F() {}", DocComments, ""},
	})
}

func TestMainPackagesMayExitInMainGoOnly(t *testing.T) {
	source := "package main\nimport (\"os\"; \"context\")\nfunc main() { os.Exit(run(context.Background())) }\n"
	if findings := Calls(parse(t, "cmd/atoll/main.go", source)); len(findings) != 0 {
		t.Errorf("main.go: %v", findings)
	}
	if findings := Calls(parse(t, "cmd/atoll/demo.go", source)); len(findings) != 1 {
		t.Errorf("demo.go: %v", findings)
	}
}

func TestGeneratedCodeIsExempt(t *testing.T) {
	f := parse(t, "proto/a.pb.go", "// Code generated by protoc-gen-go. DO NOT EDIT.\n\npackage p\nfunc F() { panic(1) }\nfunc init() {}\n")
	for _, rule := range []Rule{Calls, NoPanic, NoInit, DocComments} {
		if findings := rule(f); len(findings) != 0 {
			t.Errorf("%v", findings)
		}
	}
}

func TestPackageCommentsFire(t *testing.T) {
	const comment = "// Package p is.\npackage p\n"
	cases := []struct {
		name    string
		sources []string
		want    string
	}{
		{"none", []string{"package p\n"}, "0 package comments"},
		{"two", []string{comment, comment}, "2 package comments"},
		{"another's", []string{"// Package q is.\npackage p\n"}, `begin "Package p "`},
		{"a program's", []string{"// Package main is.\npackage main\n"}, `begin "Command "`},
		{"one", []string{comment, "package p\n"}, ""},
	}
	for _, c := range cases {
		var files []*File
		for i, source := range c.sources {
			files = append(files, parse(t, "p/"+string(rune('a'+i))+".go", source))
		}
		findings := PackageComments(files)
		switch {
		case c.want == "" && len(findings) != 0:
			t.Errorf("%s: must pass, but: %v", c.name, findings)
		case c.want != "" && (len(findings) != 1 || !strings.Contains(findings[0].Message, c.want)):
			t.Errorf("%s: %v", c.name, findings)
		}
	}
}

func TestExceptionsAllowWhatTheyNameAndNoMore(t *testing.T) {
	exceptions, err := ParseExceptions("# comment\n\na.go | panic | it must\nb.go | panic | gone\n")
	if err != nil {
		t.Fatal(err)
	}
	rest := Except([]Finding{{"a.go", 1, "panic: no"}, {"a.go", 2, "time.Now: no"}, {"c.go", 3, "panic: no"}}, exceptions)
	if len(rest) != 2 || rest[0].Line != 2 || rest[1].Line != 3 {
		t.Errorf("left: %v", rest)
	}
	if unused := Unused(exceptions); len(unused) != 1 || unused[0].Path != "b.go" {
		t.Errorf("unused: %v", unused)
	}
	for _, line := range []string{"a.go panic", "a.go | panic", "a.go | panic | "} {
		if _, err := ParseExceptions(line); err == nil {
			t.Errorf("%q passed without a reason", line)
		}
	}
}
