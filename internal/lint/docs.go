package lint

import (
	"go/ast"
	"slices"
	"strings"
)

// PackageComments checks that each package says what it is for, in exactly one of its files.
func PackageComments(files []*File) []Finding {
	commented := map[string][]*File{}
	first := map[string]*File{}
	for _, f := range files {
		if f.Test || f.Generated {
			continue
		}
		if first[f.Dir] == nil {
			first[f.Dir] = f
		}
		if f.Syntax.Doc == nil {
			continue
		}
		commented[f.Dir] = append(commented[f.Dir], f)
	}
	var findings []Finding
	for _, f := range first {
		docs := commented[f.Dir]
		if len(docs) != 1 {
			findings = append(findings, f.finding(f.Syntax.Name, "package %s has %d package comments, not one", f.Dir, len(docs)))
			continue
		}
		want := "Package " + f.Syntax.Name.Name + " "
		if f.Command() {
			want = "Command "
		}
		if text := docs[0].Syntax.Doc.Text(); !strings.HasPrefix(text, want) {
			findings = append(findings, docs[0].finding(docs[0].Syntax.Name, "package comment must begin %q", want))
		}
	}
	return findings
}

// standardMethods mean what the standard library says, whatever the type.
var standardMethods = []string{"Error", "Unwrap", "Is", "String"}

// DocComments checks that everything a package exports says what it is.
func DocComments(f *File) []Finding {
	if f.Test || f.Generated {
		return nil
	}
	var findings []Finding
	missing := func(name *ast.Ident) {
		findings = append(findings, f.finding(name, "exported %s has no comment", name.Name))
	}
	for _, declaration := range f.Syntax.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			receiver := receiverName(d)
			standard := receiver != "" && slices.Contains(standardMethods, d.Name.Name)
			hidden := receiver != "" && !ast.IsExported(receiver)
			if d.Name.IsExported() && d.Doc == nil && !standard && !hidden {
				missing(d.Name)
			}
		case *ast.GenDecl:
			for _, name := range undocumented(d) {
				missing(name)
			}
		}
	}
	return findings
}

// undocumented returns the exported names of a declaration that have no comment before or behind
// them. One comment serves a group of constants or variables.
func undocumented(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			if s.Doc != nil || s.Comment != nil || d.Doc != nil {
				continue
			}
			for _, name := range s.Names {
				if name.IsExported() {
					names = append(names, name)
				}
			}
		}
	}
	return names
}
