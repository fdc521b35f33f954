package lint

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
)

// Limits of size, tests included.
const (
	maxFunctionLines = 70
	maxCyclomatic    = 15
	maxFileLines     = 600
)

// Sizes maps what is over a limit to its size. A key is a line of debt.txt without the number.
type Sizes map[string]int

// Oversized returns everything in the files that is over a limit.
func Oversized(files []*File) Sizes {
	sizes := Sizes{}
	note := func(size, limit int, format string, args ...any) {
		if size > limit {
			sizes[fmt.Sprintf(format, args...)] = size
		}
	}
	for _, f := range files {
		if f.Generated {
			continue
		}
		note(f.Lines, maxFileLines, "%s lines", f.Path)
		for _, declaration := range f.Syntax.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := f.positions.Position(function.Pos()), f.positions.Position(function.End())
			note(last.Line-first.Line+1, maxFunctionLines, "%s %s lines", f.Path, functionName(function))
			note(cyclomatic(function), maxCyclomatic, "%s %s cyclomatic", f.Path, functionName(function))
		}
	}
	return sizes
}

// functionName returns "Name", or "Type.Name" for a method.
func functionName(function *ast.FuncDecl) string {
	if receiver := receiverName(function); receiver != "" {
		return receiver + "." + function.Name.Name
	}
	return function.Name.Name
}

// receiverName returns the name of a method's type, or "".
func receiverName(function *ast.FuncDecl) string {
	if function.Recv == nil || len(function.Recv.List) == 0 {
		return ""
	}
	receiver := function.Recv.List[0].Type
	for {
		switch t := receiver.(type) {
		case *ast.StarExpr:
			receiver = t.X
		case *ast.IndexExpr:
			receiver = t.X
		case *ast.IndexListExpr:
			receiver = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

// cyclomatic returns McCabe's number of a function, closures included: one more than its branches.
func cyclomatic(function *ast.FuncDecl) int {
	n := 1
	ast.Inspect(function, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if x.List != nil {
				n++
			}
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// ParseDebt reads the lines of debt.txt: a key and a number. Empty lines and # comments are skipped.
func ParseDebt(text string) (Sizes, error) {
	debt := Sizes{}
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		space := strings.LastIndexByte(line, ' ')
		var size int
		if _, err := fmt.Sscanf(line[space+1:], "%d", &size); space < 0 || err != nil {
			return nil, fmt.Errorf("debt line %q has no number", line)
		}
		debt[line[:space]] = size
	}
	return debt, scanner.Err()
}

// Ratchet compares what is over a limit with the debt: nothing may be added or grow, and a line whose
// function or file shrank must follow it.
func Ratchet(sizes, debt Sizes) []string {
	var faults []string
	for _, key := range slices.Sorted(maps.Keys(sizes)) {
		owed, listed := debt[key]
		switch size := sizes[key]; {
		case !listed:
			faults = append(faults, fmt.Sprintf("%s: %d is over the limit: split it", key, size))
		case size > owed:
			faults = append(faults, fmt.Sprintf("%s: grew from %d to %d: what is in debt.txt may only shrink", key, owed, size))
		case size < owed:
			faults = append(faults, fmt.Sprintf("%s: shrank from %d to %d: lower its line in debt.txt", key, owed, size))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(debt)) {
		if _, still := sizes[key]; !still {
			faults = append(faults, fmt.Sprintf("%s: within the limit or gone: remove its line from debt.txt", key))
		}
	}
	return faults
}
