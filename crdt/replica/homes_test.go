package replica

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// TestHomesEncoding pins what the value of a home's register is.
func TestHomesEncoding(t *testing.T) {
	h := Home{Region: 300}
	h.After.Set(1, 7)
	h.After.Set(4, 2)
	const want = "01ac020101070402"
	if got := hex.EncodeToString(h.append(nil)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	back, err := decodeHome(h.append(nil))
	if err != nil || back.Region != 300 || back.Given != 0 || !back.After.Equal(h.After) {
		t.Errorf("%+v, %v", back, err)
	}
	h.Given = 364
	const given = "02ac02ec020101070402"
	if got := hex.EncodeToString(h.append(nil)); got != given {
		t.Errorf("%s, want %s", got, given)
	}
	back, err = decodeHome(h.append(nil))
	if err != nil || back.Region != 300 || back.Given != 364 || !back.After.Equal(h.After) {
		t.Errorf("%+v, %v", back, err)
	}
}

// TestAHomeWritesOverWhatItHasSeen: a later home was given up, and with it all that told of it, but for a value.
func TestAHomeWritesOverWhatItHasSeen(t *testing.T) {
	n := newNode(2)
	lost := crdt.LWWRegister{Actor: 1, Seq: 1, Time: 9, Home: 5, Value: []byte("lost")}
	d := Delta{Dot: lost.Dot(), Time: lost.Time, Effects: []Effect{
		{Namespace: "locks", Key: "k", Type: crdt.TypeLWWRegister, Change: &RegisterChange{lost}},
	}}
	if _, err := n.r.Merge(1, []Delta{d}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ epoch, want uint64 }{{4, 5}, {6, 6}} {
		_, deltas, err := n.r.Execute(10, []Op{{Kind: OpPut, Namespace: "locks", Key: "k", Value: []byte("new"), Home: c.epoch}})
		if err != nil {
			t.Fatal(err)
		}
		wrote := deltas[0].Effects[0].Change.(*RegisterChange).LWWRegister
		if wrote.Compare(lost) <= 0 || wrote.Home != c.want {
			t.Errorf("under epoch %d: %+v", c.epoch, wrote)
		}
	}
}

// homeFaults are registers that a region could not read its homes with.
func homeFaults() map[string]crdt.LWWRegister {
	good := (&Home{Region: 2}).append(nil)
	return map[string]crdt.LWWRegister{
		"of no epoch":      {Value: good},
		"deleted":          {Home: 1, Deleted: true},
		"that expires":     {Home: 1, Expires: 1 << 60, Value: good},
		"of no version":    {Home: 1},
		"of a new version": {Home: 1, Value: append([]byte{homeVersionGiven + 1}, good[1:]...)},
		"given to nobody":  {Home: 1, Value: append([]byte{homeVersionGiven, 2, 0}, good[2:]...)},
		"cut short":        {Home: 1, Value: good[:1]},
		"with a rest":      {Home: 1, Value: append(good[:len(good):len(good)], 9)},
	}
}

// TestBrokenHomesAreRefused: by whoever merges them, who could not read which homes there are any more.
func TestBrokenHomesAreRefused(t *testing.T) {
	for name, reg := range homeFaults() {
		n := newNode(2)
		reg.Actor, reg.Seq, reg.Time = 1, 1, 9
		d := Delta{Dot: reg.Dot(), Time: reg.Time, Effects: []Effect{
			{Namespace: HomeNamespace, Key: "locks", Type: crdt.TypeLWWRegister, Change: &RegisterChange{reg}},
		}}
		var bad *BadDeltaError
		if _, err := n.r.Merge(1, []Delta{d}); !errors.As(err, &bad) {
			t.Errorf("a home %s is merged: %v", name, err)
		}
		if _, err := DecodeDelta(EncodeDelta(d)); err == nil {
			t.Errorf("a home %s is read", name)
		}
		var donor Donor
		donor.Actor, donor.Times = 1, map[crdt.Actor]hlc.Time{1: 9}
		donor.Vector.Set(1, 1)
		if err := n.r.BeginResync(1, donor); err != nil {
			t.Fatal(err)
		}
		c := Chunk{To: Position{End: true}, objects: []chunkObject{
			{object: positionOf(objectKey(HomeNamespace, "locks", crdt.TypeLWWRegister)), head: reg.Append(nil)},
		}}
		if _, err := n.r.JoinChunk(1, c); !errors.As(err, &bad) {
			t.Errorf("a home %s is taken over: %v", name, err)
		}
		if homes, err := n.r.Homes(); len(homes) != 0 || err != nil {
			t.Errorf("afterwards there are %v, %v", homes, err)
		}
	}
	counter := Delta{Dot: crdt.Dot{Actor: 1, Seq: 1}, Time: 9, Effects: []Effect{
		{Namespace: HomeNamespace, Key: "locks", Type: crdt.TypeAWSet, Change: &SetChange{}},
	}}
	if _, err := newNode(2).r.Merge(1, []Delta{counter}); err == nil {
		t.Error("a home that is a set is merged")
	}
}
