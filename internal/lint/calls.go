package lint

import (
	"go/ast"
	"path"
	"slices"
)

// ban forbids members of packages, in the files for which it holds.
type ban struct {
	members []string
	holds   func(*File) bool
	why     string
}

var bans = []ban{
	{
		[]string{"time.Now", "time.Since", "time.Until"},
		func(f *File) bool { return !f.Test && !f.Command() && !f.Under("cmd") },
		"take a clock from the caller, so that a simulation can supply it",
	},
	{
		[]string{"time.Sleep"},
		func(*File) bool { return true },
		"wait on a channel or a condition with a deadline",
	},
	{
		[]string{"context.Background", "context.TODO"},
		func(f *File) bool { return !f.Test && !f.Command() },
		"take the caller's context; context.WithoutCancel and a deadline for detached work",
	},
	{
		[]string{
			"log/slog.Default", "log/slog.SetDefault", "log/slog.With", "log/slog.Log", "log/slog.LogAttrs",
			"log/slog.Debug", "log/slog.Info", "log/slog.Warn", "log/slog.Error",
			"log/slog.DebugContext", "log/slog.InfoContext", "log/slog.WarnContext", "log/slog.ErrorContext",
			"log.Print", "log.Printf", "log.Println", "log.Default", "log.SetOutput",
		},
		func(*File) bool { return true },
		"take a *slog.Logger from the caller",
	},
	{
		[]string{"log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf", "log.Panicln"},
		func(*File) bool { return true },
		"return an error",
	},
	{
		[]string{"os.Exit"},
		func(f *File) bool { return !f.Test && (!f.Command() || path.Base(f.Path) != "main.go") },
		"return an error: only main.go ends the process",
	},
}

// Calls checks that a file uses no banned member of a package, not even as a value.
func Calls(f *File) []Finding {
	if f.Generated {
		return nil
	}
	var findings []Finding
	ast.Inspect(f.Syntax, func(node ast.Node) bool {
		e, ok := node.(ast.Expr)
		if !ok {
			return true
		}
		member := f.selector(e)
		for _, b := range bans {
			if member != "" && slices.Contains(b.members, member) && b.holds(f) {
				findings = append(findings, f.finding(e, "%s: %s", member, b.why))
			}
		}
		return true
	})
	return findings
}

// NoAfterInLoop checks that no loop makes a new timer in each turn.
func NoAfterInLoop(f *File) []Finding {
	var findings []Finding
	ast.Inspect(f.Syntax, func(node ast.Node) bool {
		var body *ast.BlockStmt
		switch loop := node.(type) {
		case *ast.ForStmt:
			body = loop.Body
		case *ast.RangeStmt:
			body = loop.Body
		default:
			return true
		}
		ast.Inspect(body, func(inner ast.Node) bool {
			if e, ok := inner.(ast.Expr); ok && f.selector(e) == "time.After" {
				findings = append(findings, f.finding(e, "time.After in a loop: use one timer or ticker"))
			}
			return true
		})
		return false // what is inside was looked at
	})
	return findings
}

// NoContextInStruct checks that contexts are arguments, never fields. A test's table may hold them.
func NoContextInStruct(f *File) []Finding {
	if f.Test {
		return nil
	}
	var findings []Finding
	ast.Inspect(f.Syntax, func(node ast.Node) bool {
		if s, ok := node.(*ast.StructType); ok {
			for _, field := range s.Fields.List {
				if f.selector(field.Type) == "context.Context" {
					findings = append(findings, f.finding(field, "a context in a struct: pass it to each call"))
				}
			}
		}
		return true
	})
	return findings
}

// NoPanic checks that only internal/invariant panics.
func NoPanic(f *File) []Finding {
	if f.Test || f.Generated || f.Under("internal/invariant") {
		return nil
	}
	var findings []Finding
	ast.Inspect(f.Syntax, func(node ast.Node) bool {
		if call, ok := node.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "panic" {
				findings = append(findings, f.finding(call, "panic: return an error, or use invariant.Check for the impossible"))
			}
		}
		return true
	})
	return findings
}

// NoInit checks that nothing is wired behind the program's back.
func NoInit(f *File) []Finding {
	if f.Generated {
		return nil
	}
	var findings []Finding
	for _, declaration := range f.Syntax.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
			findings = append(findings, f.finding(function, "init function: construct it where it is needed"))
		}
	}
	return findings
}

// NoSkip checks that no test skips itself: a check that need not run cannot fail.
func NoSkip(f *File) []Finding {
	if !f.Test {
		return nil
	}
	var findings []Finding
	ast.Inspect(f.Syntax, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method.Sel.Name) {
			return true
		}
		if x, ok := method.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
			findings = append(findings, f.finding(call, "a skipped test: fix it, or build what it needs"))
		}
		return true
	})
	return findings
}

// searches are the functions that a decision by the words of an error would use.
var searches = []string{"strings.Contains", "strings.HasPrefix", "strings.HasSuffix", "strings.Index", "strings.EqualFold"}

// NoErrorText checks that no decision depends on the words of an error. Tests may look at them.
func NoErrorText(f *File) []Finding {
	if f.Test || f.Generated {
		return nil
	}
	var findings []Finding
	ast.Inspect(f.Syntax, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || !slices.Contains(searches, f.selector(call.Fun)) {
			return true
		}
		for _, arg := range call.Args {
			inner, ok := arg.(*ast.CallExpr)
			if !ok || len(inner.Args) != 0 {
				continue
			}
			if method, ok := inner.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Error" {
				findings = append(findings, f.finding(call, "an error's text: branch with errors.Is or errors.As"))
			}
		}
		return true
	})
	return findings
}
