package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// runs executes operations and returns their deltas.
func runs(t *testing.T, n *node, ops ...Op) []Delta {
	t.Helper()
	var all []Delta
	for i := range ops {
		_, deltas, err := n.r.Execute(n.r.LastHLC().Next(), ops[i:i+1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, deltas...)
	}
	return all
}

func merges(t *testing.T, n *node, actor crdt.Actor, deltas ...Delta) {
	t.Helper()
	if _, err := n.r.Merge(actor, deltas); err != nil {
		t.Fatal(err)
	}
}

// viewOf returns a copy of a node as of now.
func viewOf(t *testing.T, n *node) *Replica {
	t.Helper()
	if err := n.r.Flush(); err != nil {
		t.Fatal(err)
	}
	view, err := Open(n.kv.Clone(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// begins begins a resync from a view.
func begins(t *testing.T, to *node, view *Replica, id uint64) {
	t.Helper()
	d, err := view.Donor()
	if err != nil {
		t.Fatal(err)
	}
	if err := to.r.BeginResync(id, d); err != nil {
		t.Fatal(err)
	}
}

// takes joins chunks until the resync has all, and ends it. It returns how many there were.
func takes(t *testing.T, to *node, view *Replica, id uint64, maxBytes int, between func(c *Chunk)) (chunks int) {
	t.Helper()
	for {
		state, ok := to.r.Resync()
		if !ok {
			t.Fatal("no resync is under way")
		}
		if state.Cursor.End {
			break
		}
		c, err := view.Export(state.Cursor, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		chunks++
		if between != nil {
			between(&c)
		}
		if encoded := len(EncodeChunk(&c)); encoded > maxBytes+2048 {
			t.Errorf("chunk of %d bytes, wanted %d", encoded, maxBytes)
		}
		if _, err := to.r.JoinChunk(id, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.r.EndResync(id); err != nil {
		t.Fatal(err)
	}
	return chunks
}

func nodeDigest(t *testing.T, n *node) Digest {
	t.Helper()
	d, err := n.r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func adds(key string, elements ...string) Op {
	op := Op{Kind: OpSetAdd, Key: key}
	for _, e := range elements {
		op.Elements = append(op.Elements, []byte(e))
	}
	return op
}

// TestResyncCarriesRemovalsThatOvertook: a donor has heard of a removal, and not of the add that it removes. Without
// what it remembers of that, the element would stay in the region that takes over its state, for ever.
func TestResyncCarriesRemovalsThatOvertook(t *testing.T) {
	for _, left := range []bool{true, false} {
		author, remover, donor, receiver := newNode(1), newNode(2), newNode(3), newNode(4)
		added := runs(t, author, adds("s", "e"))
		merges(t, remover, 1, added...)
		removed := runs(t, remover, Op{Kind: OpSetRemove, Key: "s", Elements: [][]byte{[]byte("e")}})
		merges(t, donor, 2, removed...)
		view := viewOf(t, donor)
		begins(t, receiver, view, 7)
		takes(t, receiver, view, 7, 100, func(c *Chunk) {
			if left {
				c.objects = nil
			}
		})
		merges(t, receiver, 1, added...)
		merges(t, donor, 1, added...)
		if same := nodeDigest(t, donor) == nodeDigest(t, receiver); same == left {
			t.Errorf("without what was removed ahead: %v, same: %v", left, same)
		}
	}
}

// TestResyncFromALiveDonor: what a donor forgets while it is read is lost to the receiver, so its chunks are of one
// view. A live donor's are refused, or end in another state.
func TestResyncFromALiveDonor(t *testing.T) {
	author, remover, donor, receiver := newNode(1), newNode(2), newNode(3), newNode(4)
	added := runs(t, author, adds("s", "e"))
	merges(t, remover, 1, added...)
	removed := runs(t, remover, Op{Kind: OpSetRemove, Key: "s", Elements: [][]byte{[]byte("e")}})
	merges(t, donor, 2, removed...)
	begins(t, receiver, donor.r, 7)
	merges(t, donor, 1, added...) // it forgets that e was removed ahead
	takes(t, receiver, donor.r, 7, 100, nil)
	merges(t, receiver, 1, added...)
	if nodeDigest(t, donor) == nodeDigest(t, receiver) {
		t.Error("the removal was not lost: this test shows nothing any more")
	}
}

// TestResyncOfALargeSet splits a set over chunks, in the middle of which the receiver adds, removes and clears.
func TestResyncOfALargeSet(t *testing.T) {
	donor, receiver := newNode(1), newNode(2)
	var log []Delta
	for i := range 300 {
		log = append(log, runs(t, donor, adds("s", fmt.Sprintf("e%03d", i)))...)
	}
	merges(t, receiver, 1, log[:100]...)
	view := viewOf(t, donor)
	begins(t, receiver, view, 7)
	step := 0
	var own []Delta
	chunks := takes(t, receiver, view, 7, 300, func(*Chunk) {
		switch step++; step {
		case 3:
			own = append(own, runs(t, receiver, adds("s", "e000", "e299"), Op{Kind: OpSetRemove, Key: "s", Elements: [][]byte{[]byte("e001"), []byte("e290")}})...)
		case 5:
			own = append(own, runs(t, receiver, Op{Kind: OpSetClear, Key: "s"}, adds("s", "last"))...)
		}
	})
	if chunks < 8 {
		t.Errorf("%d chunks", chunks)
	}
	merges(t, donor, 2, own...)
	if nodeDigest(t, donor) != nodeDigest(t, receiver) {
		t.Error("the sets differ")
	}
	if members, _, err := receiver.r.SetMembers("", "s", nil, 1000, 1<<20); err != nil || !slices.Equal(texts(members), []string{"last"}) {
		t.Errorf("%q, %v", members, err)
	}
	if err := errors.Join(audit(donor), audit(receiver)); err != nil {
		t.Error(err)
	}
}

// TestResyncIsRefused names the states in which none can begin, go on or end.
func TestResyncIsRefused(t *testing.T) {
	donor, n := newNode(1), newNode(2)
	merges(t, n, 1, runs(t, donor, adds("s", "e"))...)
	same, err := donor.r.Donor()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.r.BeginResync(1, same); !errors.Is(err, ErrResyncNotNeeded) {
		t.Errorf("with all that the donor has: %v", err)
	}
	lost := same
	lost.Vector, lost.Times = lost.Vector.Clone(), map[crdt.Actor]hlc.Time{1: same.Times[1], 2: same.Times[1]}
	lost.Vector.Set(2, 1)
	if err := n.r.BeginResync(1, lost); !errors.Is(err, ErrLostEvents) {
		t.Errorf("with events of its own that are lost: %v", err)
	}
	// The donor has none of them either, but an event of another actor that had seen one.
	seen := same
	seen.Vector, seen.Times = seen.Vector.Clone(), map[crdt.Actor]hlc.Time{1: same.Times[1], 3: same.Times[1]}
	seen.Vector.Set(3, 1)
	var known crdt.VersionVector
	known.Set(2, 1)
	seen.Seen = map[crdt.Actor]crdt.VersionVector{3: known}
	if err := n.r.BeginResync(1, seen); !errors.Is(err, ErrLostEvents) {
		t.Errorf("with events that have seen what is lost: %v", err)
	}
	runs(t, donor, adds("s", "f"))
	view := viewOf(t, donor)
	begins(t, n, view, 7)
	if _, err := n.r.Donor(); !errors.Is(err, ErrResyncing) {
		t.Errorf("as a donor: %v", err)
	}
	if _, err := n.r.Export(Position{}, 100); !errors.Is(err, ErrResyncing) {
		t.Errorf("as a donor: %v", err)
	}
	if err := n.r.EndResync(7); !errors.Is(err, ErrNoResync) {
		t.Errorf("end before the end: %v", err)
	}
	c, err := view.Export(Position{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.r.JoinChunk(8, c); !errors.Is(err, ErrNoResync) {
		t.Errorf("chunk of another: %v", err)
	}
	behind := Chunk{From: Position{Object: "z"}, To: Position{End: true}}
	if _, err := n.r.JoinChunk(7, behind); !errors.Is(err, ErrNoResync) {
		t.Errorf("chunk behind the cursor: %v", err)
	}
	badChunks(t, n, view, c)
}

// badChunks joins what must be refused, and gives up.
func badChunks(t *testing.T, n *node, view *Replica, c Chunk) {
	t.Helper()
	before := fingerprint(n)
	hidden, err := view.ExportHidden(Position{}, Position{End: true}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.r.JoinChunk(7, hidden); !errors.Is(err, ErrRangeDiffers) || fingerprint(n) != before {
		t.Errorf("chunk for who has the same: %v", err)
	}
	c.objects[0].elements[0].value = crdt.DotSet{{Actor: 9, Seq: 1}}.Append(nil)
	var bad *BadDeltaError
	if _, err := n.r.JoinChunk(7, c); !errors.As(err, &bad) || fingerprint(n) != before {
		t.Errorf("chunk with what the donor has not seen: %v", err)
	}
	if err := n.r.AbandonResync(7); err != nil || n.r.Resyncing() {
		t.Errorf("given up before anything was joined: %v, %+v", err, n.r.meta.layers)
	}
}

// TestAuditNamesTheKeys: where equal vectors have unequal values, ranges and then items lead to their names.
func TestAuditNamesTheKeys(t *testing.T) {
	a, b := newNode(1), newNode(2)
	var log []Delta
	for i := range 200 {
		log = append(log, runs(t, a, adds(fmt.Sprintf("s%03d", i), "e", "f"), Op{Kind: OpMVPut, Key: fmt.Sprintf("v%03d", i), Value: []byte{1}})...)
	}
	merges(t, b, 1, log...)
	everything := Position{End: true}
	ranges, err := a.r.Fingerprints(Position{}, everything, 16, 1000)
	if err != nil {
		t.Fatal(err)
	}
	differ, err := b.r.Differing(ranges)
	if err != nil || len(differ) != 0 || len(ranges) != 600/16+1 {
		t.Fatalf("%d of %d ranges differ, %v", len(differ), len(ranges), err)
	}
	// The storage of b is damaged: an element's add is another, and a value is gone.
	h := setHeader{last: crdt.Dot{Actor: 1, Seq: 9}, count: 1, elements: elements{inside: []pair{{[]byte("e"), crdt.DotSet{{Actor: 1, Seq: 9}}.Append(nil)}}}}
	if err := errors.Join(b.kv.Put(objectKey("", "s123", crdt.TypeAWSet), h.append(nil)), b.kv.Delete(objectKey("", "v007", crdt.TypeMVRegister))); err != nil {
		t.Fatal(err)
	}
	if differ, err = b.r.Differing(ranges); err != nil || len(differ) != 2 {
		t.Fatalf("%d ranges differ, %v", len(differ), err)
	}
	var found []Difference
	for _, d := range differ {
		theirs, next, err := a.r.Items(d.From, d.To, 100)
		if err != nil || next != d.To {
			t.Fatal(err)
		}
		mine, _, err := b.r.Items(d.From, d.To, 100)
		if err != nil {
			t.Fatal(err)
		}
		more, err := Differences(mine, theirs)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, more...)
	}
	want := []Difference{{Name{"", "s123", crdt.TypeAWSet}, 0, 1, 1}, {Name{"", "v007", crdt.TypeMVRegister}, 0, 1, 0}}
	if !slices.Equal(found, want) {
		t.Errorf("%v differ, want %v", found, want)
	}
}

// TestFingerprintsAddUpToTheDigest, however ranges are cut.
func TestFingerprintsAddUpToTheDigest(t *testing.T) {
	w := newResyncWorld(5, "")
	for range 150 {
		if err := w.execute(0, w.randomOp()); err != nil {
			t.Fatal(err)
		}
		var sum Digest
		for from := (Position{}); !from.End; {
			ranges, err := w.nodes[0].r.Fingerprints(from, Position{End: true}, 1+w.IntN(4), 1+w.IntN(3))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range ranges {
				if r.From != from {
					t.Fatalf("range from %+v after %+v", r.From, from)
				}
				sum.add(&Item{Hash: r.Sum})
				sum.Items += r.Items - 1
				from = r.To
			}
		}
		if got := nodeDigest(t, w.nodes[0]); got != sum {
			t.Fatalf("sum %+v, digest %+v", sum, got)
		}
	}
}

// exampleChunk has something of every part.
func exampleChunk() Chunk {
	object := func(key string, of crdt.Type) string { return positionOf(objectKey("n", key, of)) }
	var cleared crdt.VersionVector
	cleared.Set(3, 9)
	rows := crdt.NewCounter([]crdt.Row{{Actor: 1, Entry: crdt.Entry{Gen: 2, Seq: 4, Sum: -3}}})
	return Chunk{
		From: Position{Object: object("a", crdt.TypeAWSet), Element: "e"}, To: Position{End: true},
		objects: []chunkObject{
			{object: object("a", crdt.TypeAWSet), cleared: cleared, removed: []removedAhead{{"g", crdt.Dot{Actor: 3, Seq: 8}}},
				elements: []pair{{[]byte("f"), crdt.DotSet{{Actor: 1, Seq: 3}}.Append(nil)}}},
			{object: object("b", crdt.TypeCounter), head: rows.Append(nil)},
		},
	}
}

// TestChunkEncoding pins the encodings of chunks and donors.
func TestChunkEncoding(t *testing.T) {
	golden, err := os.ReadFile("testdata/chunks_v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := exampleChunk()
	same := c
	same.objects, same.Fingerprint = nil, &Digest{Sum: [16]byte{1, 15: 2}, Items: 300}
	d := Donor{Actor: 1, Times: map[crdt.Actor]hlc.Time{1: 9, 3: 8}, Seen: map[crdt.Actor]crdt.VersionVector{}, Collected: 7}
	d.Vector.Set(1, 5)
	d.Vector.Set(3, 4)
	var seen crdt.VersionVector
	seen.Set(1, 2)
	d.Seen[3] = seen
	l := layer{id: 300, active: true, cursor: c.From, donor: d}
	got := fmt.Sprintf("chunk %x\nskipped %x\ndonor %x\nlayer %x\n", EncodeChunk(&c), EncodeChunk(&same), EncodeDonor(d), l.append(nil))
	if got != string(golden) {
		t.Errorf("encodes to\n%s, want\n%s", got, golden)
	}
	for line := range strings.Lines(string(golden)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if name == "layer" {
			continue
		}
		if again, err := reencode(name, data); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s is read as %x, %v", name, again, err)
		}
		for i := range data {
			if _, err := reencode(name, data[:i]); err == nil {
				t.Errorf("%s cut off after %d bytes is no error", name, i)
			}
		}
	}
	m := newMeta(2)
	m.layers, m.collected = []layer{l}, 7
	if back, err := decodeMeta(m.append(nil)); err != nil || !bytes.Equal(back.append(nil), m.append(nil)) || !back.layers[0].active {
		t.Errorf("%+v, %v", back, err)
	}
}

// reencode decodes and encodes a chunk or a donor.
func reencode(name string, data []byte) ([]byte, error) {
	if name == "donor" {
		d, err := DecodeDonor(data)
		return EncodeDonor(d), err
	}
	c, err := DecodeChunk(data)
	return EncodeChunk(&c), err
}

// FuzzChunks: what is decoded is encoded to the same, and whatever a donor sends changes a replica whole or not at
// all.
func FuzzChunks(f *testing.F) {
	c := exampleChunk()
	f.Add(EncodeChunk(&c))
	c.Fingerprint = &Digest{Items: 1}
	f.Add(EncodeChunk(&c))
	w := newResyncWorld(5, "")
	for range 100 {
		_ = w.execute(0, w.randomOp())
	}
	for from := (Position{}); !from.End; {
		c, err := w.nodes[0].r.Export(from, 200)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(EncodeChunk(&c))
		from = c.To
	}
	donor, err := w.nodes[0].r.Donor()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeChunk(data)
		if err != nil {
			if !errors.Is(err, crdt.ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if again := EncodeChunk(&c); !bytes.Equal(again, data) {
			t.Fatalf("%x is read as %x", data, again)
		}
		n := newNode(9)
		if err := n.r.BeginResync(1, donor); err != nil {
			t.Fatal(err)
		}
		c.From = Position{}
		before := fingerprint(n)
		_, err = n.r.JoinChunk(1, c)
		var bad *BadDeltaError
		switch {
		case errors.As(err, &bad) || errors.Is(err, ErrRangeDiffers):
			if fingerprint(n) != before {
				t.Fatal("a refused chunk changed the replica")
			}
		case err != nil:
			t.Fatal(err)
		default:
			if err := audit(n); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzDecodeDonor is the same for what a donor says of itself.
func FuzzDecodeDonor(f *testing.F) {
	n := newNode(1)
	_, _, _ = n.r.Execute(noon, []Op{adds("s", "e")})
	d, err := n.r.Donor()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(EncodeDonor(d))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeDonor(data)
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeDonor(d), data) {
			t.Fatalf("%x is read as %+v", data, d)
		}
		_ = newNode(9).r.BeginResync(1, d)
	})
}
