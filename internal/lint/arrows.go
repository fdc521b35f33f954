package lint

import (
	"slices"
	"strings"
)

// arrow says what the packages at or below a directory may import of this repository, besides what
// is below them and what every package may import.
type arrow struct {
	dir     string
	imports []string
	tests   []string // for their tests in addition
}

// arrows is the layout of the repository. A directory's longest match counts.
var arrows = []arrow{
	{dir: "hlc"},
	{dir: "crdt", imports: []string{"hlc"}, tests: []string{"internal/spec"}},
	{dir: "topology", imports: []string{"crdt", "hlc"}},
	{dir: "session", imports: []string{"crdt", "hlc", "session/wire"}},
	{dir: "session/wire"},

	{dir: "region", imports: []string{"crdt", "hlc", "topology", "proto/atoll/log/v1"}, tests: []string{"region/store"}},
	{dir: "region/store", imports: []string{"crdt/replica"}},
	{dir: "region/raftlog"},
	{dir: "region/localqueue", imports: []string{"region/raftlog", "proto/atoll/log/v1"}},
	{dir: "region/reserve"},
	{dir: "region/drift", imports: []string{"hlc", "topology"}},
	{dir: "region/transport", imports: []string{"topology"}},
	{dir: "region/raftgroup", imports: []string{"region", "region/raftlog", "region/transport", "topology"}, tests: []string{"crdt/replica", "internal/loopback", "internal/wan", "region/store"}},
	{dir: "region/api", imports: []string{"crdt", "hlc", "region", "region/localqueue", "region/store", "session", "session/wire", "topology", "proto"}, tests: []string{"client"}},

	// region and crossregion never import each other: crossregion declares the Source and Sink it
	// needs, region satisfies them, and the program joins them with crossregion/partitions, which decides nothing.
	{dir: "crossregion", imports: []string{"crossregion/protocol", "crdt", "hlc", "topology", "proto/atoll/crossregion/v1"}},
	{dir: "crossregion/protocol", imports: []string{"crdt", "hlc", "topology", "proto/atoll/crossregion/v1"}},
	{dir: "crossregion/partitions", imports: []string{"crdt", "crossregion/membership", "crossregion/protocol", "region", "topology"}, tests: []string{"hlc"}},
	{dir: "crossregion/membership", imports: []string{"crdt", "topology"}},
	{dir: "crossregion/jetstream", imports: []string{"crossregion", "crossregion/protocol", "topology", "proto/atoll/crossregion/v1"}},

	{dir: "proto"},
	{dir: "client", imports: []string{"proto/atoll/v1", "session/wire"}},
	{dir: "cmd", imports: []string{"."}},
	{dir: "sim", imports: []string{"."}},
	{dir: "internal"},
	{dir: "internal/spec", imports: []string{"crdt"}},
}

// everyone may import these; only tests may import testkit.
var (
	everyone      = []string{"internal/invariant"}
	everyonesTest = []string{"internal/testkit"}
)

// nobody imports these from outside them, but for what opened names: the program runs simulations.
var (
	nobody = []string{"sim", "cmd"}
	opened = map[string]string{"sim/world": "cmd/atoll"}
)

// vendors names the only directories that import each vendor: whoever wants to replace one finds it
// in one place.
var vendors = map[string][]string{
	"github.com/cockroachdb/":         {"region/raftlog"},
	"go.etcd.io/bbolt":                {"region/store"},
	"github.com/hashicorp/":           {"region/raftgroup"},
	"github.com/nats-io/":             {"crossregion/jetstream"},
	"github.com/klauspost/":           {"crossregion/protocol"},
	"connectrpc.com/":                 {"region/api", "client", "cmd", "sim", "proto"},
	"google.golang.org/grpc":          {"region/api", "cmd"},
	"buf.build/go/":                   {"cmd", "sim"},
	"github.com/spf13/cobra":          {"cmd"},
	"charm.land/":                     {"cmd"},
	"github.com/vbauerster/mpb":       {"cmd"},
	"github.com/rogpeppe/go-internal": {"cmd"},
}

// Arrows checks what a file imports.
func Arrows(f *File) []Finding {
	var findings []Finding
	from, known := arrowOf(f.Dir)
	if !known {
		return []Finding{f.finding(f.Syntax.Name, "directory %s is not in the table of arrows.go", f.Dir)}
	}
	for _, spec := range f.Syntax.Imports {
		imported := strings.Trim(spec.Path.Value, "\"`")
		to, ours := strings.CutPrefix(imported, modulePath+"/")
		switch {
		case ours && !allowed(f, from, to):
			findings = append(findings, f.finding(spec, "%s must not import %s", f.Dir, to))
		case !ours && !vendorAllowed(f, imported):
			findings = append(findings, f.finding(spec, "%s must not import %s", f.Dir, imported))
		}
	}
	return findings
}

func arrowOf(dir string) (arrow, bool) {
	var best arrow
	for _, a := range arrows {
		if under(dir, a.dir) && len(a.dir) > len(best.dir) {
			best = a
		}
	}
	return best, best.dir != ""
}

func allowed(f *File, from arrow, to string) bool {
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(dir string) bool { return under(to, dir) })
	}
	if closed := slices.IndexFunc(nobody, func(dir string) bool { return under(to, dir) }); closed >= 0 {
		by, open := opened[to]
		return f.Under(nobody[closed]) || open && f.Under(by)
	}
	if in(everyonesTest) {
		return f.Test
	}
	target, _ := arrowOf(to)
	if target.dir == from.dir || in(everyone) || f.Test && in(from.tests) {
		return true
	}
	return slices.ContainsFunc(from.imports, func(dir string) bool {
		// "region" does not open region/store, which has arrows of its own; "proto" opens all below.
		return dir == "." || under(to, dir) && len(target.dir) <= len(dir)
	})
}

func vendorAllowed(f *File, imported string) bool {
	for vendor, dirs := range vendors {
		if !strings.HasPrefix(imported, vendor) {
			continue
		}
		return slices.ContainsFunc(dirs, f.Under)
	}
	return true
}
