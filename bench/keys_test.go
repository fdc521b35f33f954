package main

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func seeded() *rand.Rand { return rand.New(rand.NewPCG(7, 7)) }

func TestWhatIsReadIsVerified(t *testing.T) {
	k := newKeySpace(10, 64)
	random := seeded()
	write := func(key int) []byte {
		n, value := k.begin(key, random, nil)
		k.end(key, n, nil)
		return value
	}
	first, second, other := write(3), write(3), write(4)
	if string(first[headerBytes:]) == string(second[headerBytes:]) {
		t.Error("two values have the same random bytes")
	}
	_, underway := k.begin(3, random, nil)
	never, forged := newKeySpace(10, 64), []byte(nil)
	for range 4 {
		_, forged = never.begin(3, random, nil)
	}
	damaged := append([]byte(nil), second...)
	damaged[40] ^= 1
	for what, c := range map[string]struct {
		value        []byte
		linearizable bool
		want         error
	}{
		"the last write":             {second, true, nil},
		"a write under way":          {underway, true, nil},
		"an older write":             {first, true, errStale},
		"an older write, eventually": {first, false, nil},
		"another key's":              {other, true, errWrongKey},
		"a write that never was":     {forged, false, errPhantom},
		"a flipped bit":              {damaged, false, errDamaged},
		"half of it":                 {second[:32], false, errDamaged},
		"nothing":                    {nil, false, errDamaged},
	} {
		if err := k.check(3, k.acknowledged(3), c.linearizable, c.value); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func TestAKeyInDoubtMayHoldAnOlderWrite(t *testing.T) {
	k := newKeySpace(1, 64)
	random := seeded()
	n, first := k.begin(0, random, nil)
	k.end(0, n, errors.New("outcome unknown"))
	n, _ = k.begin(0, random, nil)
	k.end(0, n, nil)
	if err := k.check(0, k.acknowledged(0), true, first); err != nil {
		t.Error("a write of unknown outcome may take effect late:", err)
	}
}

func TestEachKeyHasOneWriter(t *testing.T) {
	k := newKeySpace(100, 64)
	random := seeded()
	owner := map[int]int{}
	for client := range 16 {
		pick, exclusive := k.share(client, 16)
		if !exclusive {
			t.Fatal("16 clients share 100 keys")
		}
		for range 1000 {
			key := pick(random)
			if by, taken := owner[key]; taken && by != client {
				t.Fatalf("key %d is written by %d and %d", key, by, client)
			}
			owner[key] = client
		}
	}
	if len(owner) != 100 {
		t.Errorf("%d keys are written", len(owner))
	}
	if _, exclusive := k.share(0, 101); exclusive {
		t.Error("101 clients have 100 keys to themselves")
	}
}

func TestLargeValuesHaveFewerKeys(t *testing.T) {
	for bytes, want := range map[int]int{256: 100_000, 64 << 10: 4096, 1 << 20: 256} {
		if got := len(newKeySpace(100_000, bytes).names); got != want {
			t.Errorf("%d bytes: %d keys, want %d", bytes, got, want)
		}
	}
}
