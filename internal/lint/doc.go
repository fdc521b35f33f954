// Package lint holds the rules of this repository that a tool can check. Its tests are the linter:
// each rule runs over the whole repository, and over a bad sample to prove that it can fail.
//
//   - arrows.go: which package may import which, and the one package that imports each vendor
//   - size.go: how long a function or file may get; debt.txt lists who is over it and may only shrink
//   - calls.go: clocks, sleeping, contexts, exits, panics, the default logger, skipped tests
//   - docs.go: comments on packages and on everything exported
//   - exceptions.go: where a rule may be broken; exceptions.txt lists the places with their reasons
//   - source.go: reads the repository
//
// The rules look at syntax only, so that they need no build and finish in a second or two. Generated
// files are exempt from all but the arrows.
package lint
