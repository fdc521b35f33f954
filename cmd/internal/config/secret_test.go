package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/atolldb/atoll/internal/keyring"
)

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte("s"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	want, err := keyring.New(bytes.Repeat([]byte("s"), 32))
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&Config{SecretFile: file("good", 32)}).Keys()
	if err != nil || got.Key("x") != want.Key("x") {
		t.Errorf("other keys than those of the secret, %v", err)
	}
	if none, err := (&Config{}).Keys(); none != nil || err != nil {
		t.Errorf("without a secret: %v, %v", none, err)
	}
	for _, bad := range []string{filepath.Join(dir, "absent"), file("short", 31), file("long", maxSecretBytes+1)} {
		if keys, err := (&Config{SecretFile: bad}).Keys(); err == nil || keys != nil {
			t.Errorf("%s is taken", filepath.Base(bad))
		}
	}
}
