package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// naive is RFC 5869 written down, for one block.
func naive(secret []byte, salt, purpose string) []byte {
	extract := hmac.New(sha256.New, []byte(salt))
	extract.Write(secret)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write([]byte(purpose))
	expand.Write([]byte{1})
	return expand.Sum(nil)
}

func TestKeysAreThoseOfTheRFC(t *testing.T) {
	ring, err := New(secret)
	if err != nil {
		t.Fatal(err)
	}
	public, err := Public("demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []string{"", "session", "envelope eu 3"} {
		if key := ring.Key(purpose); !bytes.Equal(key[:], naive(secret, salt, purpose)) {
			t.Errorf("key for %q is %x", purpose, key)
		}
		if key := public.Key(purpose); !bytes.Equal(key[:], naive([]byte("demo"), publicSalt, purpose)) {
			t.Errorf("public key for %q is %x", purpose, key)
		}
	}
	if !ring.Authenticates() || public.Authenticates() {
		t.Error("only the keys of a secret authenticate")
	}
}

// TestGoldenKeys pins the keys: other ones would refuse every token and frame of other programs.
func TestGoldenKeys(t *testing.T) {
	ring, err := New(secret)
	if err != nil {
		t.Fatal(err)
	}
	const want = "d7d32942"
	if key := ring.Key("session"); hex.EncodeToString(key[:4]) != want {
		t.Errorf("key for sessions begins %x, want %s", key[:4], want)
	}
}

func TestKeysDiffer(t *testing.T) {
	other := bytes.Clone(secret)
	other[31] ^= 1
	seen := map[[32]byte]string{}
	add := func(what string, ring *Ring, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, purpose := range []string{"session", "sessio", "envelope"} {
			key := ring.Key(purpose)
			if was, again := seen[key]; again {
				t.Errorf("%s and %s for %s have one key", was, what, purpose)
			}
			seen[key] = what + " for " + purpose
			if ring.Key(purpose) != key {
				t.Errorf("%s for %s: another key the second time", what, purpose)
			}
		}
	}
	ring, err := New(secret)
	add("secret", ring, err)
	ring, err = New(other)
	add("other secret", ring, err)
	ring, err = Public(string(secret))
	add("name that is the secret", ring, err)
	ring, err = Public("demo")
	add("name", ring, err)
}

func TestShortSecretsAreRefused(t *testing.T) {
	for _, short := range [][]byte{nil, {}, secret[:31]} {
		if _, err := New(short); err == nil {
			t.Errorf("a secret of %d bytes is taken", len(short))
		}
	}
}

func TestTheSecretIsNotKept(t *testing.T) {
	given := bytes.Clone(secret)
	ring, err := New(given)
	if err != nil {
		t.Fatal(err)
	}
	want := ring.Key("session")
	clear(given)
	if ring.Key("session") != want {
		t.Error("the keys changed with the caller's copy of the secret")
	}
}

func TestKeysStayOutOfTexts(t *testing.T) {
	ring, err := New(secret)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("keys", "ring", ring)
	fmt.Fprintf(&out, "%v %+v %#v %s", ring, ring, ring, ring)
	for _, secret := range []string{hex.EncodeToString(ring.extracted), fmt.Sprint(ring.extracted), string(ring.extracted)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("printed: %q", out.String())
		}
	}
	if got := strings.Count(out.String(), "secret"); got != 5 {
		t.Errorf("printed: %q", out.String())
	}
}
