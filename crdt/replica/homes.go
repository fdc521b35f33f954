package replica

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// HomeNamespace is where a partition keeps whose homes its namespaces are at: a register per namespace, under the
// namespace's name, which is written by SetHome alone. No client can name it: it is no UTF-8.
const HomeNamespace = "\xffhome"

// homePrefix is what the objects of HomeNamespace begin with, after their table.
var homePrefix = string(appendName(nil, HomeNamespace))

// Home says where the writes of a namespace get their order, in one partition.
//
// The epochs of a namespace and partition rise, and each has one home. Whatever was written under an earlier epoch
// loses against what is written under a later one, by crdt.LWWRegister.Home. What the home did not have when it
// became that is late: it does not count any more, whatever it would have lost against.
type Home struct {
	Namespace string
	Epoch     uint64
	// Region is the home's number.
	Region uint32
	// Given is the actor of the region that became the home; 0 if that is not known.
	Given crdt.Actor
	// After is what whoever made it the home had applied, that event included. The home serves once it has the same.
	After crdt.VersionVector
	// Dot is the event that made it the home, and Time its instant; set by Homes only.
	Dot  crdt.Dot
	Time hlc.Time
}

// The first byte of an encoded Home: whether it says to which actor the home was given.
const (
	homeVersion      = 1
	homeVersionGiven = 2
)

// append appends the encoding, without what the register says besides: version 1 | region | After, to the end; or
// version 2 | region | Given, which is not 0 | After.
func (h *Home) append(b []byte) []byte {
	if h.Given == 0 {
		return h.After.Append(binary.AppendUvarint(append(b, homeVersion), uint64(h.Region)))
	}
	b = binary.AppendUvarint(append(b, homeVersionGiven), uint64(h.Region))
	return h.After.Append(binary.AppendUvarint(b, uint64(h.Given)))
}

func decodeHome(data []byte) (Home, error) {
	r, version := codec.NewReaderOf("home", data, homeVersionGiven)
	h := Home{Region: uint32(r.Uvarint(uint64(^uint32(0))))}
	if version == homeVersionGiven {
		if h.Given = crdt.Actor(r.Uvarint(uint64(^uint32(0)))); h.Given == 0 {
			r.Fail("a home that was given to nobody")
		}
	}
	after, err := crdt.DecodeVersionVector(r.Rest())
	if err != nil {
		r.FailWith(err)
	}
	h.After = after
	return h, r.Done()
}

// homeFault returns what about an effect in HomeNamespace no honest replica makes: whoever merged it could not read its
// homes any more.
func homeFault(e *Effect) string {
	change, ok := e.Change.(*RegisterChange)
	if !ok || !e.Path.IsRoot() {
		return "a home that is no register"
	}
	if err := checkHomeRegister(e.Key, &change.LWWRegister); err != nil {
		return err.Error()
	}
	return ""
}

// checkHome is homeFault for what a donor sends.
func (o *chunkObject) checkHome() error {
	if !strings.HasPrefix(o.object, homePrefix) {
		return nil
	}
	name, err := nameAtPosition(o.object)
	if err != nil || o.head == nil {
		return err
	}
	if name.Type != crdt.TypeLWWRegister {
		return fmt.Errorf("a home that is no register: %w", crdt.ErrCorrupt)
	}
	reg, err := crdt.DecodeLWWRegister(o.head)
	if err != nil {
		return err
	}
	return checkHomeRegister(name.Key, &reg)
}

func checkHomeRegister(namespace string, reg *crdt.LWWRegister) error {
	if reg.Deleted || reg.Expires != 0 || reg.Home == 0 || len(namespace) > MaxNamespaceBytes {
		return fmt.Errorf("no home: %w", crdt.ErrCorrupt)
	}
	_, err := decodeHome(reg.Value)
	return err
}

// checkHome refuses an operation on what has no home if it is to have one.
func (o *Op) checkHome(t crdt.Type) error {
	if o.Home != 0 && (t != crdt.TypeLWWRegister || !o.place().IsRoot()) {
		return fmt.Errorf("%w: %v", ErrNoHome, t)
	}
	return nil
}

// Homes returns the homes that this replica knows of, in ascending order of namespaces.
func (r *Replica) Homes() ([]Home, error) {
	var homes []Home
	prefix := appendName([]byte{tableObject}, HomeNamespace)
	err := r.kv.Scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		key, t, rest, err := cutObjectKey(k)
		if err != nil || len(rest) > 0 || t != crdt.TypeLWWRegister {
			return true, err
		}
		_, name, _ := readName(key[1:])
		namespace, _, _ := readName(name)
		reg, err := crdt.DecodeLWWRegister(v)
		if err != nil {
			return false, err
		}
		h, err := decodeHome(reg.Value)
		h.Namespace, h.Epoch, h.Dot, h.Time = namespace, reg.Home, reg.Dot(), reg.Time
		homes = append(homes, h)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("read homes: %w", err)
	}
	return homes, nil
}

// SetHome makes a region the home of a namespace under an epoch, as an own event: h.After becomes what is applied
// here, the event included. Whether that may be is the caller's to know.
func (r *Replica) SetHome(now hlc.Time, h Home) ([]Delta, error) {
	h.After = r.Vector()
	h.After.Set(r.Self(), r.Seq()+1)
	op := Op{Kind: OpPut, Namespace: HomeNamespace, Key: h.Namespace, Value: h.append(nil), Home: h.Epoch}
	_, deltas, err := r.Execute(now, []Op{op})
	return deltas, err
}

// UseHomes tells the replica of which namespaces its region is the home. As UseReleased's, what it is told is part
// of the state that its results are a function of.
func (r *Replica) UseHomes(homes []Home) { r.homes = homes }

// Late reports whether a delta has writes that come too late for a home: under an earlier epoch, and after what its
// After includes.
func (h *Home) Late(d *Delta) bool {
	for i := range d.Effects {
		change, ok := d.Effects[i].Change.(*RegisterChange)
		if ok && d.Effects[i].Namespace == h.Namespace && h.late(&change.LWWRegister) {
			return true
		}
	}
	return false
}

func (h *Home) late(reg *crdt.LWWRegister) bool {
	return reg.Home < h.Epoch && !h.After.Covers(reg.Dot())
}

// Knows reports whether an actor had seen an event as of its last event here, or writes no more and all of it is here.
func (r *Replica) Knows(a crdt.Actor, event crdt.Dot) bool { return r.begin(false).knows(a, event) }

// late reports whether this region is the home of a namespace, and a write of it comes too late.
func (w *work) late(namespace string, reg *crdt.LWWRegister) bool {
	for i := range w.homes {
		if w.homes[i].Namespace == namespace {
			return w.homes[i].late(reg)
		}
	}
	return false
}

// refuseLate leaves the register as it is, keeps the write as one that lost, and notes that it has to be told of.
func (w *work) refuseLate(c contest, have, reg *crdt.LWWRegister) error {
	if have.Seq != 0 {
		if _, err := w.conflict(c, have.Dot()); err != nil {
			return err
		}
	}
	if !reg.Deleted {
		w.conflicts.add(loserOf(c, reg, have))
	}
	w.insist(c.effect.Namespace, c.effect.Key)
	return nil
}

// insist notes that a key is to be written again as it is.
func (w *work) insist(namespace, key string) {
	*w.insists = append(*w.insists, Name{Namespace: strings.Clone(namespace), Key: strings.Clone(key), Type: crdt.TypeLWWRegister})
}

// Insist writes again, under the home's epoch, what late writes were about since the replica was opened, in an own
// event for each key: so all regions that took a late write for the key's value, or will, have the home's again.
// Call it in the transaction of the merge.
func (r *Replica) Insist(now hlc.Time) ([]Delta, error) {
	var all []Delta
	insists := r.insists
	r.insists = nil
	done := make(map[Name]bool, len(insists))
	for _, n := range insists {
		if done[n] {
			continue
		}
		done[n] = true
		op, err := r.again(n)
		if err != nil {
			return nil, fmt.Errorf("read what a late write was about: %w", err)
		}
		w := r.begin(false)
		o := &operation{Op: &op.Op, work: w, dot: w.nextDot(), at: w.instant(now)}
		if o.held, err = w.hold(n.Namespace, n.Key, true); err != nil {
			return nil, err
		}
		_, effects, err := o.put(op.reg)
		if err != nil {
			return nil, fmt.Errorf("write again what a late write was about: %w", err)
		}
		all = append(all, w.event(o.at, effects))
		if err := r.commit(w); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// repetition writes a register as it is.
type repetition struct {
	Op
	reg crdt.LWWRegister
}

// again returns what writes a register again; a delete, if there is none.
func (r *Replica) again(n Name) (repetition, error) {
	again := repetition{Op: Op{Kind: OpPut, Namespace: n.Namespace, Key: n.Key}}
	for i := range r.homes {
		if r.homes[i].Namespace == n.Namespace {
			again.Home = r.homes[i].Epoch
		}
	}
	data, ok, err := r.kv.Get(objectAt(n.Namespace, n.Key, crdt.Path{}, crdt.TypeLWWRegister))
	if err != nil {
		return again, err
	}
	if !ok {
		again.reg.Deleted = true
		return again, nil
	}
	reg, err := crdt.DecodeLWWRegister(data)
	again.reg = crdt.LWWRegister{Deleted: reg.Deleted, Expires: reg.Expires, Value: slices.Clone(reg.Value), Unknown: reg.Unknown}
	return again, err
}
