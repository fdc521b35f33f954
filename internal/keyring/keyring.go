// Package keyring derives the keys of a deployment from its one secret.
//
// Every purpose has a key of its own, so that what is authenticated for one purpose proves nothing
// for another, and a key that leaks does not give away the secret or the other keys. Keys are
// derived by HKDF with SHA-256: the same secret gives the same keys on every node of every region.
//
// Ref: RFC 5869; NIST SP 800-56C.
package keyring

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"

	"github.com/atolldb/atoll/internal/invariant"
)

// MinSecretBytes is the length of the shortest secret: as many bits as the keys have.
const MinSecretBytes = 32

const (
	// salt makes the keys those of this program and of this way to derive them.
	salt = "atoll keyring v1"
	// publicSalt is for keys that are no secret. It differs, so that a name that happens to be a
	// deployment's secret does not give its keys.
	publicSalt = "atoll keyring v1 public"
)

// Ring gives the keys of one deployment. It is safe for concurrent use.
type Ring struct {
	extracted     []byte
	authenticates bool
}

// New returns the keys of a secret, which must have MinSecretBytes at least and must be drawn at
// random: it is no password. The secret is not kept and may be overwritten after the call.
func New(secret []byte) (*Ring, error) {
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("secret has %d bytes, needs %d", len(secret), MinSecretBytes)
	}
	return extract(secret, salt, true)
}

// Public returns the keys of a deployment without a secret. Anybody who knows its name has them:
// they tell damage and mistakes, such as what belongs to another deployment, and stop no attacker.
func Public(cluster string) (*Ring, error) {
	return extract([]byte(cluster), publicSalt, false)
}

func extract(secret []byte, salt string, authenticates bool) (*Ring, error) {
	extracted, err := hkdf.Extract(sha256.New, secret, []byte(salt))
	if err != nil {
		return nil, fmt.Errorf("extract: %w", err)
	}
	return &Ring{extracted: extracted, authenticates: authenticates}, nil
}

// Key returns the key for a purpose. The same purpose gives the same key, another one gives another.
// Deriving takes microseconds: who uses a key often keeps it.
func (r *Ring) Key(purpose string) [32]byte {
	var key [32]byte
	derived, err := hkdf.Expand(sha256.New, r.extracted, purpose, len(key))
	// Expand refuses only keys longer than 255 hashes, and short secrets in FIPS mode: what was
	// extracted has the length of a hash.
	invariant.Check(err == nil, "expand a key: %v", err)
	copy(key[:], derived)
	return key
}

// Authenticates says whether the keys are secret: false for those of Public.
func (r *Ring) Authenticates() bool { return r.authenticates }

// LogValue keeps the keys out of logs.
func (*Ring) LogValue() slog.Value { return slog.StringValue("secret") }

// String keeps the keys out of texts.
func (*Ring) String() string { return "secret" }

// GoString keeps the keys out of texts made with %#v.
func (*Ring) GoString() string { return "secret" }
