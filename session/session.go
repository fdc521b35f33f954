// Package session is the tokens by which clients carry what they have read and written from request to
// request, from one region to another, and through a failover.
//
// A token has one instant for each actor, that is for each region and epoch: the session depends on
// the actor's events up to it, in whichever partition. A replica of a partition that has applied every
// actor's events up to the token's instants shows all that the session has seen or done there: its
// state is a function of the events that it has applied, and the clocks of one actor's events rise. So
// a token is as large as the deployment has regions, whatever the session has touched.
//
// Reads join the replica's instants to the session's token, and writes their own; a write is stamped
// later than all that its token has, so that it wins against everything that the session had seen.
//
// Tokens are authenticated: a made-up one could hold up reads and drag clocks ahead. Each entry is by
// itself, so that tokens can be joined without the key; see package wire for the encoding. Leaving
// entries out of a token only takes guarantees away from whoever does it.
//
// The package is pure. Ref: Terry et al., "Session Guarantees for Weakly Consistent Replicated Data",
// PDIS 1994.
package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/session/wire"
)

// Purpose names the key of tokens in a keyring.
const Purpose = "session"

// MaxAhead is how far beyond the present a token's instants may be. More than that no clock of the
// deployment is ahead, and waiting for it would hold up whoever does.
const MaxAhead = 10 * time.Second

// MaxBytes bounds an encoded token.
const MaxBytes = wire.MaxBytes

// Why a token is refused.
var (
	// ErrMalformed means that something is no token of this version.
	ErrMalformed = wire.ErrMalformed
	// ErrOtherDeployment means that the token is of another deployment.
	ErrOtherDeployment = wire.ErrOtherDeployment
	// ErrForged means that an entry was not issued by this deployment, or not under its present secret.
	ErrForged = errors.New("session token not issued by this deployment")
	// ErrFuture means that the token has an instant too far beyond the present.
	ErrFuture = errors.New("session token from the future")
)

// Issuer makes and checks tokens. It is safe for concurrent use.
type Issuer struct {
	key  [32]byte
	mark [4]byte
}

// NewIssuer returns the issuer of a deployment, whose nodes all have the same key.
func NewIssuer(cluster string, key [32]byte) *Issuer {
	i := &Issuer{key: key}
	sum := sha256.Sum256([]byte("atoll session mark\x00" + cluster))
	copy(i.mark[:], sum[:])
	return i
}

// mac authenticates one entry. It covers the deployment, so that two of them that were given one
// secret by mistake do not take each other's.
func (i *Issuer) mac(actor uint32, at uint64) (mac [wire.MACBytes]byte) {
	var message [16]byte
	copy(message[:4], i.mark[:])
	binary.BigEndian.PutUint32(message[4:], actor)
	binary.BigEndian.PutUint64(message[8:], at)
	h := hmac.New(sha256.New, i.key[:])
	h.Write(message[:])
	copy(mac[:], h.Sum(nil))
	return mac
}

// Token says up to which instant of each actor a session has seen. The zero value has seen nothing.
// It is not safe for concurrent use.
type Token struct {
	issuer *Issuer
	wire   wire.Token
}

// New returns a token of a session that has seen nothing.
func (i *Issuer) New() *Token { return &Token{issuer: i, wire: wire.Token{Mark: i.mark}} }

// Open decodes and checks a token; an empty one has seen nothing. now is the present. Errors:
// ErrMalformed, ErrOtherDeployment, ErrForged, ErrFuture.
func (i *Issuer) Open(b []byte, now time.Time) (*Token, error) {
	if len(b) == 0 {
		return i.New(), nil
	}
	t, err := wire.Parse(b)
	if err != nil {
		return nil, err
	}
	if t.Mark != i.mark {
		return nil, ErrOtherDeployment
	}
	for n := range t.Entries {
		e := &t.Entries[n]
		if want := i.mac(e.Actor, e.Time); !hmac.Equal(want[:], e.MAC[:]) {
			return nil, ErrForged
		}
		if ahead := hlc.Time(e.Time).Wall().Sub(now); e.Time != wire.Drained && ahead > MaxAhead {
			return nil, fmt.Errorf("%w: by %v", ErrFuture, ahead.Round(time.Millisecond))
		}
	}
	return &Token{issuer: i, wire: t}, nil
}

// Bytes encodes the token. Equal tokens have equal bytes.
func (t *Token) Bytes() []byte { return t.wire.Bytes() }

// Saw adds that the session has seen an actor's events up to an instant. What does not fit is an
// error: a token that left it out would promise too much.
func (t *Token) Saw(actor crdt.Actor, at hlc.Time) error { return t.add(uint32(actor), uint64(at)) }

// SawAll adds that the session has seen all events of a closed actor, in some partition: from then on
// it depends on what others of them there are as well.
func (t *Token) SawAll(actor crdt.Actor) error { return t.add(uint32(actor), wire.Drained) }

func (t *Token) add(actor uint32, at uint64) error {
	if at == 0 || t.has(actor, at) {
		return nil
	}
	if !t.wire.Add(wire.Entry{Actor: actor, Time: at, MAC: t.issuer.mac(actor, at)}) {
		return fmt.Errorf("%w: more than %d entries", ErrMalformed, wire.MaxEntries)
	}
	return nil
}

func (t *Token) has(actor uint32, at uint64) bool {
	for i := range t.wire.Entries {
		if e := &t.wire.Entries[i]; e.Actor == actor && (e.Time == wire.Drained) == (at == wire.Drained) {
			return e.Time >= at
		}
	}
	return false
}

// Join adds all that another token of the same deployment says.
func (t *Token) Join(other *Token) error {
	for _, e := range other.wire.Entries {
		if !t.wire.Add(e) {
			return fmt.Errorf("%w: more than %d entries", ErrMalformed, wire.MaxEntries)
		}
	}
	return nil
}

// Covers reports whether the token says all that another says.
func (t *Token) Covers(other *Token) bool {
	for i := range other.wire.Entries {
		if e := &other.wire.Entries[i]; !t.has(e.Actor, e.Time) {
			return false
		}
	}
	return true
}

// Seen returns up to which instant the session has seen an actor's events; 0 if none.
func (t *Token) Seen(actor crdt.Actor) hlc.Time {
	for i := range t.wire.Entries {
		if e := &t.wire.Entries[i]; e.Actor == uint32(actor) && e.Time != wire.Drained {
			return hlc.Time(e.Time)
		}
	}
	return 0
}

// Max returns the latest instant in the token; 0 if there is none.
func (t *Token) Max() hlc.Time {
	var latest hlc.Time
	for i := range t.wire.Entries {
		if e := &t.wire.Entries[i]; e.Time != wire.Drained {
			latest = max(latest, hlc.Time(e.Time))
		}
	}
	return latest
}

// State is what a replica of a partition has applied.
type State interface {
	// Applied returns the instant of the last event of an actor that is applied; 0 if none is.
	Applied(actor crdt.Actor) hlc.Time
	// Closed returns the instant of the last event of an actor of which there will be no more, in this
	// partition. The actor is open if closed is false.
	Closed(actor crdt.Actor) (last hlc.Time, closed bool)
}

// Lack is a part of a token that a replica has not applied.
type Lack struct {
	Actor crdt.Actor
	// Want is up to which instant its events are missing; 0 means all of them, but it is not known here
	// that the actor is closed.
	Want hlc.Time
	// Have is up to which instant they are applied.
	Have hlc.Time
	// Lost means that they will never come: the actor was closed before them.
	Lost bool
}

// Missing returns what a replica has not applied of what the token says; nothing if it may serve the
// session. An actor that is closed and applied to its end has nothing more to come, so an instant
// beyond its end is lost: perhaps in this partition, perhaps in another.
func (t *Token) Missing(s State) []Lack {
	var missing []Lack
	for i := range t.wire.Entries {
		e := &t.wire.Entries[i]
		actor := crdt.Actor(e.Actor)
		lack := Lack{Actor: actor, Want: hlc.Time(e.Time), Have: s.Applied(actor)}
		if e.Time != wire.Drained && lack.Have >= lack.Want {
			continue
		}
		last, closed := s.Closed(actor)
		switch {
		case e.Time != wire.Drained:
			lack.Lost = closed && lack.Want > last
		case !closed:
			lack.Want = 0
		case lack.Have >= last:
			continue
		default:
			lack.Want = last
		}
		missing = append(missing, lack)
	}
	return missing
}
