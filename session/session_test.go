package session

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/session/wire"
)

var (
	key = [32]byte{1, 2, 3}
	now = time.UnixMilli(1_700_000_000_000)
)

func at(offset time.Duration) hlc.Time { return hlc.At(now.Add(offset).UnixMilli(), 0) }

func saw(t interface{ Fatal(...any) }, token *Token, actor crdt.Actor, at hlc.Time) {
	if err := token.Saw(actor, at); err != nil {
		t.Fatal(err)
	}
}

// TestGolden pins version 1: tokens live in clients, which outlive servers.
func TestGolden(t *testing.T) {
	issuer := NewIssuer("demo", key)
	token := issuer.New()
	saw(t, token, 65, at(0))
	saw(t, token, 2, hlc.At(now.UnixMilli(), 7))
	if err := token.SawAll(2); err != nil {
		t.Fatal(err)
	}
	const want = "014513120100000002018bcfe568000007e57f1471bb3d15c800000002ffffffffffffffffd4a67b4c9beaa58500000041018bcfe568000000061e4bcc8eae1e85"
	if got := hex.EncodeToString(token.Bytes()); got != want {
		t.Errorf("token is %s, want %s", got, want)
	}
	again, err := issuer.Open(token.Bytes(), now)
	if err != nil {
		t.Fatal(err)
	}
	if again.Seen(65) != at(0) || again.Seen(2) != hlc.At(now.UnixMilli(), 7) || again.Max() != hlc.At(now.UnixMilli(), 7) {
		t.Errorf("read back as %v, %v, at most %v", again.Seen(65), again.Seen(2), again.Max())
	}
}

func TestRefusedTokens(t *testing.T) {
	issuer := NewIssuer("demo", key)
	token := func(i *Issuer, offset time.Duration) []byte {
		made := i.New()
		saw(t, made, 1, at(offset))
		return made.Bytes()
	}
	good := token(issuer, 0)
	changed := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		token []byte
		want  error
	}{
		"good":                      {good, nil},
		"none":                      {nil, nil},
		"as far ahead as may be":    {token(issuer, MaxAhead), nil},
		"from the future":           {token(issuer, MaxAhead+time.Millisecond), ErrFuture},
		"other deployment":          {token(NewIssuer("other", key), 0), ErrOtherDeployment},
		"other secret":              {token(NewIssuer("demo", [32]byte{9}), 0), ErrForged},
		"other version":             {changed(0), ErrMalformed},
		"other actor":               {changed(8), ErrForged},
		"other instant":             {changed(16), ErrForged},
		"other code":                {changed(24), ErrForged},
		"cut off":                   {good[:len(good)-1], ErrMalformed},
		"entry twice":               {append(append([]byte(nil), good...), good[5:]...), ErrMalformed},
		"longer than any token":     {make([]byte, MaxBytes+20), ErrMalformed},
		"header of another mistake": {[]byte{1, 2}, ErrMalformed},
	} {
		if _, err := issuer.Open(c.token, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// One secret for two deployments, and an entry carried over into a token with the right mark.
	foreign := token(NewIssuer("other", key), 0)
	copy(foreign[1:5], good[1:5])
	if _, err := issuer.Open(foreign, now); !errors.Is(err, ErrForged) {
		t.Errorf("entry of another deployment: %v", err)
	}
}

func TestATokenHasABound(t *testing.T) {
	token := NewIssuer("demo", key).New()
	for a := range crdt.Actor(wire.MaxEntries) {
		saw(t, token, a, 1)
	}
	if len(token.Bytes()) != MaxBytes {
		t.Errorf("%d bytes", len(token.Bytes()))
	}
	if err := token.Saw(wire.MaxEntries, 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("one too many: %v", err)
	}
	saw(t, token, 5, 2) // no further entry
}

// model is a token as a map; drained instants are under the actor plus drainedActor.
type model map[crdt.Actor]hlc.Time

const drainedActor = crdt.Actor(1000)

func drawToken(t *rapid.T, issuer *Issuer, label string) (*Token, model) {
	token, m := issuer.New(), model{}
	for range rapid.IntRange(0, 8).Draw(t, label) {
		actor := crdt.Actor(rapid.IntRange(0, 5).Draw(t, "actor"))
		if rapid.IntRange(0, 4).Draw(t, "all") == 0 {
			if err := token.SawAll(actor); err != nil {
				t.Fatal(err)
			}
			m[drainedActor+actor] = 1
			continue
		}
		instant := at(time.Duration(rapid.IntRange(0, 9).Draw(t, "at")) * time.Millisecond)
		saw(t, token, actor, instant)
		m[actor] = max(m[actor], instant)
	}
	return token, m
}

func (m model) covers(o model) bool {
	for k, v := range o {
		if m[k] < v {
			return false
		}
	}
	return true
}

func (m model) with(o model) model {
	joined := model{}
	for _, from := range []model{m, o} {
		for k, v := range from {
			joined[k] = max(joined[k], v)
		}
	}
	return joined
}

// TestLaws compares tokens with maps: join is the least upper bound, and joining without the key is
// the same as with it.
func TestLaws(t *testing.T) {
	issuer := NewIssuer("demo", key)
	rapid.Check(t, func(t *rapid.T) {
		a, am := drawToken(t, issuer, "a")
		b, bm := drawToken(t, issuer, "b")
		if a.Covers(b) != am.covers(bm) || b.Covers(a) != bm.covers(am) {
			t.Fatalf("covers: %v %v", am, bm)
		}
		aBytes, bBytes := a.Bytes(), b.Bytes()
		outside, err := wire.Join(aBytes, bBytes)
		if err != nil {
			t.Fatal(err)
		}
		mirrored, err := wire.Join(bBytes, aBytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Join(b); err != nil {
			t.Fatal(err)
		}
		want := am.with(bm)
		if got := string(a.Bytes()); got != string(outside) || got != string(mirrored) {
			t.Fatalf("joined %x, without the key %x and %x", got, outside, mirrored)
		}
		again, err := issuer.Open(outside, now)
		if err != nil {
			t.Fatalf("joined token refused: %v", err)
		}
		for actor := range crdt.Actor(6) {
			if again.Seen(actor) != want[actor] {
				t.Fatalf("actor %d: %v, want %v", actor, again.Seen(actor), want[actor])
			}
		}
		if !again.Covers(b) || string(again.Bytes()) != string(outside) {
			t.Fatal("not canonical")
		}
	})
}

// state is a replica in a test: what it has applied, and what is closed where.
type state struct{ applied, closed map[crdt.Actor]hlc.Time }

func (s state) Applied(a crdt.Actor) hlc.Time { return s.applied[a] }
func (s state) Closed(a crdt.Actor) (hlc.Time, bool) {
	last, closed := s.closed[a]
	return last, closed
}

func TestMissing(t *testing.T) {
	issuer := NewIssuer("demo", key)
	for _, c := range []struct {
		name   string
		seen   hlc.Time
		all    bool
		state  state
		want   Lack
		serves bool
	}{
		{"nothing seen", 0, false, state{}, Lack{}, true},
		{"applied", 5, false, state{applied: map[crdt.Actor]hlc.Time{1: 5}}, Lack{}, true},
		{"behind", 5, false, state{applied: map[crdt.Actor]hlc.Time{1: 4}}, Lack{Actor: 1, Want: 5, Have: 4}, false},
		{"nothing applied", 5, false, state{}, Lack{Actor: 1, Want: 5}, false},
		{"closed, still to come", 5, false,
			state{map[crdt.Actor]hlc.Time{1: 4}, map[crdt.Actor]hlc.Time{1: 5}}, Lack{Actor: 1, Want: 5, Have: 4}, false},
		{"closed before", 5, false,
			state{map[crdt.Actor]hlc.Time{1: 3}, map[crdt.Actor]hlc.Time{1: 4}}, Lack{Actor: 1, Want: 5, Have: 3, Lost: true}, false},
		{"closed before, at its end", 5, false,
			state{map[crdt.Actor]hlc.Time{1: 4}, map[crdt.Actor]hlc.Time{1: 4}}, Lack{Actor: 1, Want: 5, Have: 4, Lost: true}, false},
		{"all, at the end", 0, true, state{map[crdt.Actor]hlc.Time{1: 4}, map[crdt.Actor]hlc.Time{1: 4}}, Lack{}, true},
		{"all, of none", 0, true, state{nil, map[crdt.Actor]hlc.Time{1: 0}}, Lack{}, true},
		{"all, behind", 0, true,
			state{map[crdt.Actor]hlc.Time{1: 3}, map[crdt.Actor]hlc.Time{1: 4}}, Lack{Actor: 1, Want: 4, Have: 3}, false},
		{"all, of an actor that is open here", 0, true, state{applied: map[crdt.Actor]hlc.Time{1: 9}}, Lack{Actor: 1, Have: 9}, false},
	} {
		token := issuer.New()
		saw(t, token, 1, c.seen)
		if c.all {
			if err := token.SawAll(1); err != nil {
				t.Fatal(err)
			}
		}
		missing := token.Missing(c.state)
		if c.serves != (len(missing) == 0) || !c.serves && missing[0] != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, missing, c.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	issuer := NewIssuer("demo", key)
	token := issuer.New()
	saw(f, token, 1, at(0))
	f.Add(token.Bytes())
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := wire.Parse(b)
		if err == nil && string(parsed.Bytes()) != string(b) {
			t.Fatalf("%x is written back as %x", b, parsed.Bytes())
		}
		opened, openErr := issuer.Open(b, now)
		if openErr == nil && len(b) > 0 && (err != nil || string(opened.Bytes()) != string(b)) {
			t.Fatalf("%x opens, but: %v", b, err)
		}
		if joined, err := wire.Join(b, token.Bytes()); err == nil {
			if _, err := wire.Parse(joined); err != nil {
				t.Fatalf("%x joined: %v", b, err)
			}
		}
	})
}
