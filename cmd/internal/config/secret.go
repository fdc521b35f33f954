package config

import (
	"fmt"
	"io"
	"os"

	"github.com/atolldb/atoll/internal/keyring"
)

// maxSecretBytes bounds a secret, so that a wrong file is noticed.
const maxSecretBytes = 4 << 10

// Keys reads the deployment's secret and returns its keys; nil without a secret. The file's bytes are the secret
// as they are, line ends included.
func (c *Config) Keys() (*keyring.Ring, error) {
	if c.SecretFile == "" {
		return nil, nil
	}
	f, err := os.Open(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read secret_file: %w", err)
	}
	defer f.Close()
	secret, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read secret_file: %w", err)
	}
	if len(secret) > maxSecretBytes {
		return nil, fmt.Errorf("secret_file %s has more than %d bytes", c.SecretFile, maxSecretBytes)
	}
	keys, err := keyring.New(secret)
	if err != nil {
		return nil, fmt.Errorf("secret_file %s: %w; make one by: head -c 32 /dev/urandom > FILE", c.SecretFile, err)
	}
	return keys, nil
}
