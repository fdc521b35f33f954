package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

// buildInfo reads what the Go tool wrote into the binary.
func buildInfo() build {
	b := build{Version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Example: `  atoll version
  atoll version -o json`,
		Args: wants(0, 0, "none"),
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			return a.result(b, b.Version+"\n", []field{
				{"version", b.Version}, {"revision", b.Revision}, {"time", b.Time}, {"go", b.Go},
			})
		},
	}
}
