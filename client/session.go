package client

import (
	"fmt"
	"sync"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/session/wire"
)

// Session is what a program has read and written, for it to be seen again: by any client, in any region, also
// after a failover. Calls with [InSession] read what the session wrote (read your writes), never read what is
// older than what it read (monotonic reads), and write what is later than both (monotonic writes, writes follow
// reads; of values that are decided by time).
//
// A removal from a set, or any other operation that is decided by what was observed, is one of what its region
// had seen: read in the session first if it must be of what the session has seen elsewhere.
//
// A Session is safe for concurrent use; calls that run at the same time do not see each other. Its token can be
// carried to another process by Bytes and ResumeSession.
type Session struct {
	mu    sync.Mutex
	token []byte
}

// NewSession returns a session that has seen nothing.
func NewSession() *Session { return &Session{} }

// ResumeSession goes on with a session whose Bytes these are. An error means that they are none; whether they
// are of the deployment is found out by the first call.
func ResumeSession(token []byte) (*Session, error) {
	if len(token) > 0 {
		if _, err := wire.Parse(token); err != nil {
			return nil, fmt.Errorf("resume session: %w", err)
		}
	}
	return &Session{token: append([]byte(nil), token...)}, nil
}

// Bytes returns the session's token, at most some kilobytes; empty if it has seen nothing. It is no secret, but
// whoever changes it gets an error.
func (s *Session) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]byte(nil), s.token...)
}

// saw joins the token of an answer to the session's.
func (s *Session) saw(token []byte) {
	if s == nil || len(token) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	joined, err := wire.Join(s.token, token)
	if err != nil {
		// Of another deployment than before: it will say so itself when it is sent what is kept.
		return
	}
	s.token = joined
}

// current returns the token to send. It is never changed.
func (s *Session) current() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// OnStale is what a read in a session does in a region that has not applied all that the session has seen.
type OnStale int32

// What a read does where its session is ahead.
const (
	// OnStaleWait waits until the region has, at most until the deadline: the default. It fails with ErrStale
	// then.
	OnStaleWait = OnStale(atollv1.OnStale_ON_STALE_UNSPECIFIED)
	// OnStaleRedirect fails with ErrStale at once; the error's metadata name the region_to_use.
	OnStaleRedirect = OnStale(atollv1.OnStale_ON_STALE_REDIRECT)
	// OnStaleServe answers with what is there, and says so in Info.
	OnStaleServe = OnStale(atollv1.OnStale_ON_STALE_SERVE)
	// OnStaleFail fails with ErrStale at once; the error's metadata have lag_ms, and the regions.
	OnStaleFail = OnStale(atollv1.OnStale_ON_STALE_FAIL)
)

type sessionOption struct{ session *Session }

func (o sessionOption) applyRead(c *readConfig)   { c.session = o.session }
func (o sessionOption) applyWrite(c *writeConfig) { c.session = o.session }

// InSession makes a call part of a session. Its reads reflect all that the session has seen, in whichever region
// they are, unless [ReadBounded] or [Eventual] ask for less; see [WithOnStale] for what they do where that has
// not arrived. Errors besides the call's own: ErrStale, and ErrSessionLost if a region was lost with something
// that the session had seen.
func InSession(s *Session) CallOption { return sessionOption{s} }

// WithSession makes all calls of a client part of a session, but for those that say another, and for writes with
// local durability, which have no place in one.
func WithSession(s *Session) Option { return func(c *config) { c.session = s } }

// Linearizable has a read in a session reflect every write acknowledged in its region before it began as well. Reads
// outside of sessions do that anyway.
func Linearizable() ReadOption {
	return readOption(func(c *readConfig) { c.consistency, c.linearizable = ConsistencyLinearizable, true })
}

// WithOnStale chooses what a read in a session does in a region that is behind it. Of a bounded read it says the
// same about the bound.
func WithOnStale(o OnStale) ReadOption {
	return readOption(func(c *readConfig) { c.onStale = o })
}

// WithRegions has a write acknowledged once so many other regions have applied it. If they have not by the
// deadline, it fails with ErrOutcomeUnknown; that the write is done in this region, and in how many others, is in
// the error's metadata: done_in, regions_reached, regions_wanted.
func WithRegions(k uint32) WriteOption { return writeOption(func(c *writeConfig) { c.regions = k }) }
