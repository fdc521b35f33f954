//go:build !cgo

package main

// The library is C, so a build without cgo has none: these are not called.
const (
	automergeOpen  = ""
	automergeWhole = ""
)

func automergePeers(string) []peer { return nil }

func newAutomergeMerger(*settings, int) (merger, error) { return nil, nil }

func automergeBytes(int) (int, error) { return 0, nil }
