package replica

import (
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

var errUnwritten = errors.New("not written yet")

// EncodeDelta returns a delta's encoding.
func EncodeDelta(d Delta) []byte { return nil }

// DecodeDelta reads what EncodeDelta returned. The delta shares data's memory.
func DecodeDelta(data []byte) (Delta, error) { return Delta{}, errUnwritten }

// Memory is a KV in memory.
type Memory struct{}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{} }

// Get implements KV.
func (m *Memory) Get(key []byte) ([]byte, bool, error) { return nil, false, errUnwritten }

// Put implements KV.
func (m *Memory) Put(key, value []byte) error { return errUnwritten }

// Delete implements KV.
func (m *Memory) Delete(key []byte) error { return errUnwritten }

// Scan implements KV.
func (m *Memory) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	return errUnwritten
}

// Clone returns a copy of the present content.
func (m *Memory) Clone() *Memory { return m }

// Replica is one region's replica of one partition, over one transaction's view of its storage.
type Replica struct{}

// Open reads the replica that kv holds; an empty kv becomes a new replica of self.
func Open(kv KV, self crdt.Actor) (*Replica, error) { return nil, errUnwritten }

// Flush writes what Execute and Merge keep in memory: call it once before the transaction commits.
func (r *Replica) Flush() error { return errUnwritten }

// Self returns the actor whose events this replica issues.
func (r *Replica) Self() crdt.Actor { return 0 }

// Seq returns the sequence number of the last own event.
func (r *Replica) Seq() uint64 { return 0 }

// LastHLC returns the latest instant issued or merged.
func (r *Replica) LastHLC() hlc.Time { return 0 }

// Vector returns what this replica has applied, its own events included. It is the caller's.
func (r *Replica) Vector() crdt.VersionVector { return crdt.VersionVector{} }

// HLCOf returns the instant of the last event applied from an actor.
func (r *Replica) HLCOf(a crdt.Actor) hlc.Time { return 0 }

// Execute runs operations of clients in order, all or none.
func (r *Replica) Execute(now hlc.Time, ops []Op) ([]Outcome, []Delta, error) {
	return nil, nil, errUnwritten
}

// Merge applies deltas of another actor.
func (r *Replica) Merge(actor crdt.Actor, deltas []Delta) (applied uint64, err error) {
	return 0, errUnwritten
}

// Object is a value as a reader sees it. Its memory is the caller's.
type Object struct {
	Namespace string
	Key       string
	Type      crdt.Type
	Version   string
	// Value and Expires are a register's; Expires is 0 if it does not expire.
	Value   []byte
	Expires hlc.Time
	// Counter is a counter's value.
	Counter int64
	// Size is a set's number of elements.
	Size uint64
}

// Lookup returns the value of a key. If the key holds several types, which concurrent regions can
// bring about, it is the register, else the counter, else the set.
func (r *Replica) Lookup(namespace, key string, now hlc.Time) (Object, bool, error) {
	return Object{}, false, errUnwritten
}

// LookupType returns the value of a key of one type.
func (r *Replica) LookupType(namespace, key string, t crdt.Type, now hlc.Time) (Object, bool, error) {
	return Object{}, false, errUnwritten
}

// Walk visits the keys of a namespace in [start, end) in byte order, each once, as Lookup returns
// it. An empty end means no end.
func (r *Replica) Walk(namespace, start, end string, now hlc.Time, visit func(Object) (more bool, err error)) error {
	return errUnwritten
}

// SetContains reports for each element whether it is in the set.
func (r *Replica) SetContains(namespace, key string, elements [][]byte) ([]bool, error) {
	return nil, errUnwritten
}

// SetMembers returns the elements after the given one (nil: from the first) in byte order, at most
// limit of them and about maxBytes bytes, and whether there are more.
func (r *Replica) SetMembers(namespace, key string, after []byte, limit, maxBytes int) (members [][]byte, more bool, err error) {
	return nil, false, errUnwritten
}

// Explained is one typed object under a key: what its value is made of.
type Explained struct {
	Type    crdt.Type
	Version string
	// Register is the winner, which may be a tombstone or expired.
	Register *crdt.LWWRegister
	// Counter has all rows, reset ones too.
	Counter *crdt.Counter
	// Size is a set's number of elements, Elements the first of them.
	Size     uint64
	Elements []ExplainedElement
}

// ExplainedElement is an element of a set with the adds that keep it there.
type ExplainedElement struct {
	Element []byte
	Dots    crdt.DotSet
}

// Explain returns every typed object stored under a key, the one that Lookup prefers first.
func (r *Replica) Explain(namespace, key string) ([]Explained, error) { return nil, errUnwritten }

// Digest is a fingerprint of a replica's values. Equal vectors mean equal digests.
type Digest struct {
	// Sum is the sum modulo 2^128 of the items' xxh3-128 hashes, big-endian.
	Sum [16]byte
	// Items is the number of registers, counters and set elements.
	Items uint64
}

// Digest computes the fingerprint by reading everything.
func (r *Replica) Digest() (Digest, error) { return Digest{}, errUnwritten }
