package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const modulePath = "github.com/atolldb/atoll"

// File is one Go file of the repository.
type File struct {
	// Path is relative to the repository, with slashes; Dir is its directory, "." for the top.
	Path, Dir string
	Test      bool
	Generated bool
	Lines     int
	Syntax    *ast.File
	positions *token.FileSet
	// imports maps the name by which the file knows a package to its path.
	imports map[string]string
}

// Finding is one violation of a rule.
type Finding struct {
	Path    string
	Line    int
	Message string
}

// String returns the finding as compilers print theirs.
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Message) }

// Rule looks at one file.
type Rule func(*File) []Finding

// Load parses every Go file below root but those of other modules.
func Load(root string) ([]*File, error) {
	var files []*File
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(root, name, entry)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := Parse(filepath.ToSlash(relative), source)
		files = append(files, file)
		return err
	})
	slices.SortFunc(files, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
	return files, err
}

// enter decides whether to walk into a directory: not into hidden ones, test data, or other modules.
func enter(root, name string, entry fs.DirEntry) error {
	if name == root {
		return nil
	}
	base := entry.Name()
	if strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// Parse parses one file as if it were at the given path of the repository.
func Parse(filePath string, source []byte) (*File, error) {
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, filePath, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	file := &File{
		Path:      filePath,
		Dir:       path.Dir(filePath),
		Test:      strings.HasSuffix(filePath, "_test.go"),
		Generated: ast.IsGenerated(syntax),
		Lines:     strings.Count(string(source), "\n"),
		Syntax:    syntax,
		positions: positions,
		imports:   map[string]string{},
	}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		file.imports[name] = imported
	}
	return file, nil
}

// Command reports whether the file belongs to a program's main package.
func (f *File) Command() bool { return f.Syntax.Name.Name == "main" }

// Under reports whether the file is in the directory or below it.
func (f *File) Under(dir string) bool { return under(f.Dir, dir) }

func under(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }

// selector returns "path.Name" if the expression is a package's member, such as "time.Now".
func (f *File) selector(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok || f.imports[x.Name] == "" {
		return ""
	}
	return f.imports[x.Name] + "." + s.Sel.Name
}

func (f *File) finding(at ast.Node, format string, args ...any) Finding {
	return Finding{f.Path, f.positions.Position(at.Pos()).Line, fmt.Sprintf(format, args...)}
}
