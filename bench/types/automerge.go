//go:build cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/automerge/automerge-go"
)

// automerge-go in its two ways to be stored: kept open in memory, with the changes of a batch, one
// commit, appended to a file; and as one document that is loaded, changed and saved.
const (
	automergeOpen  = "automerge, kept open"
	automergeWhole = "automerge, loaded"
)

const mapKey = "set"

func automergePeers(dir string) []peer {
	saved := map[int][]byte{}
	document := func(size int) ([]byte, error) {
		if saved[size] == nil {
			doc, err := newDocument(size)
			if err != nil {
				return nil, err
			}
			saved[size] = doc.Save()
		}
		return saved[size], nil
	}
	return []peer{
		{automergeOpen, func(size int) (set, error) {
			data, err := document(size)
			if err != nil {
				return nil, err
			}
			return openIncremental(dir, data)
		}},
		{automergeWhole, func(size int) (set, error) {
			data, err := document(size)
			if err != nil {
				return nil, err
			}
			w := &wholeDocument{filepath.Join(dir, "automerge-whole")}
			return w, writeSynced(w.path, data)
		}},
	}
}

// newDocument returns a document with a set of size elements, the keys of a map.
func newDocument(size int) (*automerge.Doc, error) {
	doc := automerge.New()
	if err := doc.RootMap().Set(mapKey, automerge.NewMap()); err != nil {
		return nil, err
	}
	return doc, setAll(doc, elements(0, size))
}

// setAll adds elements in one commit.
func setAll(doc *automerge.Doc, elements [][]byte) error {
	m := doc.Path(mapKey).Map()
	for _, e := range elements {
		if err := m.Set(text(e), true); err != nil {
			return err
		}
	}
	_, err := doc.Commit("")
	return err
}

// deleteAll removes elements in one commit.
func deleteAll(doc *automerge.Doc, elements [][]byte) error {
	m := doc.Path(mapKey).Map()
	for _, e := range elements {
		if err := m.Delete(text(e)); err != nil {
			return err
		}
	}
	_, err := doc.Commit("")
	return err
}

func containsAll(doc *automerge.Doc, elements [][]byte) (int, error) {
	m := doc.Path(mapKey).Map()
	found := 0
	for _, e := range elements {
		v, err := m.Get(text(e))
		if err != nil {
			return 0, err
		}
		if v.Kind() == automerge.KindBool {
			found++
		}
	}
	return found, nil
}

// incremental is a document in memory whose changes are in a file.
type incremental struct {
	doc  *automerge.Doc
	file *os.File
}

func openIncremental(dir string, data []byte) (set, error) {
	doc, err := automerge.Load(data)
	if err != nil {
		return nil, err
	}
	doc.SaveIncremental() // all that is loaded: the next call returns what is new
	f, err := os.Create(filepath.Join(dir, "automerge-changes"))
	return &incremental{doc, f}, err
}

func (i *incremental) save(err error) error {
	if err != nil {
		return err
	}
	if _, err := i.file.Write(i.doc.SaveIncremental()); err != nil {
		return err
	}
	return i.file.Sync()
}

func (i *incremental) add(elements [][]byte) error    { return i.save(setAll(i.doc, elements)) }
func (i *incremental) remove(elements [][]byte) error { return i.save(deleteAll(i.doc, elements)) }
func (i *incremental) contains(elements [][]byte) (int, error) {
	return containsAll(i.doc, elements)
}
func (i *incremental) settle() error { return nil }
func (i *incremental) close() error {
	return errors.Join(i.file.Close(), os.Remove(i.file.Name()))
}

// wholeDocument is a document in a file.
type wholeDocument struct{ path string }

func (w *wholeDocument) load() (*automerge.Doc, error) {
	data, err := os.ReadFile(w.path)
	if err != nil {
		return nil, err
	}
	return automerge.Load(data)
}

func (w *wholeDocument) change(fn func(*automerge.Doc) error) error {
	doc, err := w.load()
	if err != nil {
		return err
	}
	if err := fn(doc); err != nil {
		return err
	}
	return writeSynced(w.path, doc.Save())
}

func (w *wholeDocument) add(elements [][]byte) error {
	return w.change(func(doc *automerge.Doc) error { return setAll(doc, elements) })
}

func (w *wholeDocument) remove(elements [][]byte) error {
	return w.change(func(doc *automerge.Doc) error { return deleteAll(doc, elements) })
}

func (w *wholeDocument) contains(elements [][]byte) (int, error) {
	doc, err := w.load()
	if err != nil {
		return 0, err
	}
	return containsAll(doc, elements)
}

func (w *wholeDocument) settle() error { return nil }
func (w *wholeDocument) close() error  { return os.Remove(w.path) }

// writeSynced puts data in the place of a file.
func writeSynced(path string, data []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// automergeMerger is a document that takes changes of another one, a fork of it.
type automergeMerger struct {
	into   *automerge.Doc
	chunks [][]byte
	size   int
}

// newAutomergeMerger makes changes of s.merged new elements, perCommit in each, by chunks.
func newAutomergeMerger(s *settings, perCommit int) (merger, error) {
	size, count, chunk := s.mergeInto, s.merged, s.mergeBatch
	from, err := newDocument(size)
	if err != nil {
		return nil, err
	}
	into, err := from.Fork()
	if err != nil {
		return nil, err
	}
	from.SaveIncremental()
	a := &automergeMerger{into: into, size: size}
	for at := 0; at < count; at += chunk {
		for n := at; n < at+chunk; n += perCommit {
			if err := setAll(from, elements(fresh+uint64(n), perCommit)); err != nil {
				return nil, err
			}
		}
		a.chunks = append(a.chunks, from.SaveIncremental())
	}
	return a, nil
}

func (a *automergeMerger) merge(chunk int) error { return a.into.LoadIncremental(a.chunks[chunk]) }
func (a *automergeMerger) settle() error         { return nil }

func (a *automergeMerger) close(merged int) error {
	if got := a.into.Path(mapKey).Map().Len(); got != a.size+merged {
		return fmt.Errorf("%d elements after merging, not %d", got, a.size+merged)
	}
	return nil
}

// automergeBytes returns how large a saved document with a set of size elements is.
func automergeBytes(size int) (int, error) {
	doc, err := newDocument(size)
	if err != nil {
		return 0, err
	}
	return len(doc.Save()), nil
}
