package membership

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/v1.txt and v2.txt anew")

// samples returns values of every kind, encoded.
func samples(t testing.TB) (names []string, encoded [][]byte) {
	add := func(name string, b []byte) { names, encoded = append(names, name), append(encoded, b) }
	s := founded(t, 3)
	commands := []Command{
		FoundCommand(&topology.Cluster{Name: "t", Partitions: 4, Witness: topology.Witness{Name: "w", Address: "w:2"}, Regions: []topology.Region{{ID: 1, Name: "eu", Epoch: 3}}}, map[topology.RegionID]string{1: "h:1"}),
		AddCommand(63, topology.MaxEpoch, "us", "host:1"), AckCommand(1, 2, 3), JoinCommand(1, 2, 3, 1<<40), DrainCommand(4, 5),
		FenceCommand(3, 0, "burnt down"), ReportCommand(1, 3, 0, 2, []uint64{1, 1 << 63}), CloseCommand(3, 0, 2), DrainedCommand(2, 3, 0, 2),
		RemoveCommand(3, 0), RejoinCommand(3, 1, "new:1"), SelfFenceCommand(2, 0, 1), DeclareCommand(SetOf(2, 63), 77, "dead"),
	}
	for i := range commands {
		add("command "+commands[i].Kind.String(), commands[i].Encode())
	}
	add("state empty", (&State{}).Encode())
	add("state founded", s.Encode())
	s = apply(t, s, AddCommand(9, 0, "z", "z:1"), FenceCommand(3, 0, ""), ReportCommand(1, 3, 0, 3, []uint64{3, 300}), DeclareCommand(SetOf(2), 5, "gone"))
	add("state fenced", s.Encode())
	round := s.Region(3).Actor().Round
	s = apply(t, s, ReportCommand(1, 3, 0, round, []uint64{3, 300}), ReportCommand(9, 3, 0, round, []uint64{0, 0}), CloseCommand(3, 0, round))
	add("state closed", s.Encode())
	return names, encoded
}

func TestEncodingsStayAsTheyAre(t *testing.T) {
	names, encoded := samples(t)
	var b strings.Builder
	for i := range names {
		fmt.Fprintf(&b, "%s: %s\n", names[i], hex.EncodeToString(encoded[i]))
	}
	// Version 1 is written as long as there is nothing of heirs.
	golden(t, "testdata/v1.txt", b.String())
	b.Reset()
	heirs := apply(t, founded(t, 3), FenceCommand(3, 0, ""), NameHeirCommand(3, 0, 2))
	command := NameHeirCommand(63, topology.MaxEpoch, 1)
	fmt.Fprintf(&b, "command heir: %x\nstate heirs: %x\n", command.Encode(), heirs.Encode())
	golden(t, "testdata/v2.txt", b.String())
}

func golden(t *testing.T, path, now string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != now {
		t.Errorf("the encodings have changed: what is on disk could not be read\n%s", now)
	}
}

func TestWhatIsDecodedIsWhatWasEncoded(t *testing.T) {
	names, encoded := samples(t)
	for i, data := range encoded {
		again, err := reencode(data)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: %v", names[i], err)
		}
		for cut := range data {
			if _, err := reencode(data[:cut]); !errors.Is(err, ErrEncoding) {
				t.Fatalf("%s cut to %d bytes: %v", names[i], cut, err)
			}
			flipped := bytes.Clone(data)
			flipped[cut] ^= 4
			if _, err := reencode(flipped); !errors.Is(err, ErrEncoding) {
				t.Fatalf("%s with byte %d flipped: %v", names[i], cut, err)
			}
		}
	}
}

func reencode(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte(commandMagic)) {
		c, err := DecodeCommand(data)
		if err != nil {
			return nil, err
		}
		return c.Encode(), nil
	}
	s, err := DecodeState(data)
	if err != nil {
		return nil, err
	}
	return s.Encode(), nil
}

func TestEveryFieldOfACommandIsEncoded(t *testing.T) {
	plain := (&Command{}).Encode()
	full := Command{Kind: 1, Region: 1, Epoch: 1, Member: 1, Round: 1, Name: "n", Address: "a", Note: "n", Dead: 2, Vector: []uint64{1},
		Founding: []FoundingRegion{{ID: 1, Epoch: 1, Name: "n", Address: "a"}}, Witness: topology.Witness{Name: "w", Address: "a"}}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		var c Command
		reflect.ValueOf(&c).Elem().Field(i).Set(v.Field(i))
		if v.Field(i).IsZero() || bytes.Equal(c.Encode(), plain) {
			t.Errorf("field %s is not encoded, or not in this test", v.Type().Field(i).Name)
		}
		if got, err := DecodeCommand(c.Encode()); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s came back as %+v, %v", v.Type().Field(i).Name, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	_, encoded := samples(f)
	for _, data := range encoded {
		f.Add(data[:len(data)-checksumBytes])
	}
	s := founded(f, 3)
	f.Fuzz(func(t *testing.T, body []byte) {
		data := (&writer{body}).seal()
		again, err := reencode(data)
		if err != nil {
			if !errors.Is(err, ErrEncoding) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("%x is another encoding of %x", data, again)
		}
		if c, err := DecodeCommand(data); err == nil {
			next, err := s.Apply(c)
			if _, again := reencode(next.Encode()); again != nil {
				t.Fatalf("after %+v (%v): %v", c, err, again)
			}
		} else if s, err := DecodeState(data); err == nil {
			s.Duties(1, 0, Local{Taken: 1 << 60, Applied: func(crdt.Actor) []uint64 { return nil }})
			for p := range topology.PartitionID(s.Partitions) {
				_ = s.FactsOf(p)
			}
			_ = s.CheckStart(1, 0)
			_ = s.Plan(FenceCommand(1, 0, ""), Knowledge{})
		}
	})
}
