package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region/store"
)

// naive is the whole set as one value: read, decoded, changed, encoded and stored for every batch, with
// the same set type, encoding and store as Atoll's own.
const naive = "one value, synced"

// peers are those that have sets like Atoll's.
func peers(dir string) []peer {
	return append([]peer{{naive, func(size int) (set, error) { return openValue(dir, size) }}}, automergePeers(dir)...)
}

// value is a set stored as one value.
type value struct {
	*store.Store
	path string
	dot  crdt.Dot
}

var valueKey = []byte("value")

// wholeSet is a set of size elements.
func wholeSet(size int) crdt.AWSet {
	var s crdt.AWSet
	for i := range size {
		s.Add(crdt.Dot{Actor: local, Seq: uint64(i) + 1}, string(element(uint64(i))))
	}
	return s
}

func openValue(dir string, size int) (set, error) {
	path := filepath.Join(dir, fmt.Sprintf("value-%d", size))
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return nil, err
	}
	v := &value{s, path, crdt.Dot{Actor: local, Seq: uint64(size)}}
	err = s.Update(func(kv replica.KV) error { return kv.Put(valueKey, wholeSet(size).Append(nil)) })
	if err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func (v *value) change(fn func(s *crdt.AWSet)) error {
	return v.Update(func(kv replica.KV) error {
		s, err := readValue(kv)
		if err != nil {
			return err
		}
		fn(&s)
		return kv.Put(valueKey, s.Append(nil))
	})
}

func readValue(kv replica.KV) (crdt.AWSet, error) {
	data, ok, err := kv.Get(valueKey)
	if err != nil || !ok {
		return crdt.AWSet{}, errors.Join(err, errors.New("no value"))
	}
	return crdt.DecodeAWSet(data)
}

func (v *value) add(elements [][]byte) error {
	return v.change(func(s *crdt.AWSet) {
		for _, e := range elements {
			v.dot.Seq++
			s.Add(v.dot, string(e))
		}
	})
}

func (v *value) remove(elements [][]byte) error {
	return v.change(func(s *crdt.AWSet) {
		for _, e := range elements {
			s.Remove(string(e))
		}
	})
}

func (v *value) contains(elements [][]byte) (int, error) {
	found := 0
	err := v.View(func(kv replica.KV) error {
		s, err := readValue(kv)
		for _, e := range elements {
			if s.Contains(string(e)) {
				found++
			}
		}
		return err
	})
	return found, err
}

// settle has nothing to do: every change is durable by itself.
func (v *value) settle() error { return nil }

func (v *value) close() error { return errors.Join(v.Close(), os.Remove(v.path)) }
