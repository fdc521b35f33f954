package client

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// WriteOption changes one write.
type WriteOption interface{ applyWrite(*writeConfig) }

// ReadOption changes one read.
type ReadOption interface{ applyRead(*readConfig) }

// CallOption is an option of both reads and writes.
type CallOption interface {
	ReadOption
	WriteOption
}

type writeConfig struct {
	ttl       *durationpb.Duration
	condition *atollv1.Condition
	opID      string
	typ       atollv1.Type
	local     bool
	regions   uint32
	session   *Session
	info      *Info
}

func (c *Client) writeConfigOf(opts []WriteOption) writeConfig {
	cfg := writeConfigOf(opts)
	if cfg.session == nil && !cfg.local {
		cfg.session = c.shared.cfg.session
	}
	return cfg
}

func writeConfigOf(opts []WriteOption) writeConfig {
	if len(opts) == 0 {
		return writeConfig{opID: newOpID()}
	}
	c := new(writeConfig)
	for _, opt := range opts {
		opt.applyWrite(c)
	}
	if c.opID == "" {
		c.opID = newOpID()
	}
	return *c
}

func (c *writeConfig) options() *atollv1.WriteOptions {
	o := &atollv1.WriteOptions{OpId: c.opID, Regions: c.regions}
	if c.session != nil {
		o.Session, o.WantSession = c.session.current(), true
	}
	if c.local {
		o.Durability = atollv1.Durability_DURABILITY_LOCAL
	}
	return o
}

type readConfig struct {
	consistency  Consistency
	maxStaleness time.Duration
	strategy     Strategy
	onStale      OnStale
	linearizable bool // asked for by name
	session      *Session
	info         *Info
	home         bool
}

// inSession reports whether the read is one of consistency SESSION.
func (c *readConfig) inSession() bool {
	return c.session != nil && c.consistency == ConsistencyLinearizable && !c.linearizable
}

// level is what the read asks for: a session's read is one of consistency SESSION unless it asks for less.
func (c *readConfig) level() atollv1.Consistency {
	if c.inSession() {
		return atollv1.Consistency_CONSISTENCY_SESSION
	}
	return atollv1.Consistency(c.consistency)
}

// anywhere reports whether any replica may serve.
func (c *readConfig) anywhere() bool {
	if c.strategy == StrategyAuto {
		// A session's read that does not wait is best served by the leader, which is behind the least.
		return c.consistency != ConsistencyLinearizable || c.inSession() && c.onStale == OnStaleWait
	}
	return c.strategy != StrategyLeader
}

func (c *Client) readConfigOf(opts []ReadOption) readConfig {
	if len(opts) == 0 {
		return readConfig{session: c.shared.cfg.session} // without an allocation, as most reads
	}
	return readConfigOf(c.shared.cfg.session, opts)
}

func readConfigOf(session *Session, opts []ReadOption) readConfig {
	c := &readConfig{session: session}
	for _, opt := range opts {
		opt.applyRead(c)
	}
	return *c
}

func (c *readConfig) options() *atollv1.ReadOptions {
	if c.consistency == ConsistencyLinearizable && c.strategy == StrategyAuto && c.session == nil && !c.home {
		return nil
	}
	o := &atollv1.ReadOptions{Consistency: c.level(), Strategy: atollv1.Strategy(c.strategy), OnStale: atollv1.OnStale(c.onStale)}
	if c.home {
		o.Consistency = atollv1.Consistency_CONSISTENCY_LINEARIZABLE
	}
	if c.session != nil {
		o.Session, o.WantSession = c.session.current(), true
	}
	if c.consistency == ConsistencyBounded {
		o.MaxStaleness = durationpb.New(c.maxStaleness)
	}
	return o
}

// informs reports whether the caller, or its session, wants to know who answered.
func (c *writeConfig) informs() bool { return c.info != nil || c.session != nil }
func (c *readConfig) informs() bool  { return c.info != nil || c.session != nil }

// capture hands on what an answer says of itself.
func (c *writeConfig) capture(info *atollv1.ReplyInfo) { capture(c.info, c.session, info) }
func (c *readConfig) capture(info *atollv1.ReplyInfo)  { capture(c.info, c.session, info) }

func capture(dst *Info, session *Session, info *atollv1.ReplyInfo) {
	session.saw(info.GetSession())
	if dst != nil {
		*dst = infoOf(info)
	}
}

type writeOption func(*writeConfig)

func (o writeOption) applyWrite(c *writeConfig) { o(c) }

type readOption func(*readConfig)

func (o readOption) applyRead(c *readConfig) { o(c) }

type infoOption struct{ dst *Info }

func (o infoOption) applyRead(c *readConfig)   { c.info = o.dst }
func (o infoOption) applyWrite(c *writeConfig) { c.info = o.dst }

// WithHome has a Get of a key whose namespace has a home read there: it sees every write that was acknowledged, in
// whatever region. Other reads show what this region has, which may be older.
func WithHome() ReadOption {
	return readOption(func(c *readConfig) { c.consistency, c.home = ConsistencyLinearizable, true })
}

// WithInfo stores in dst who answered the call.
func WithInfo(dst *Info) CallOption { return infoOption{dst} }

// Eventual lets any replica answer a read with what it holds, which may be old. It works even if
// the partition has no quorum. The replicas take turns of many reads each. Reads are linearizable in their region
// without it.
func Eventual() ReadOption {
	return readOption(func(c *readConfig) { c.consistency = ConsistencyEventual })
}

// ReadBounded lets any replica answer a read that knows all that was written in the region until d
// ago. It fails with ErrStale if none does.
func ReadBounded(d time.Duration) ReadOption {
	return readOption(func(c *readConfig) { c.consistency, c.maxStaleness = ConsistencyBounded, d })
}

// WithStrategy chooses how a linearizable or bounded read is confirmed.
func WithStrategy(s Strategy) ReadOption {
	return readOption(func(c *readConfig) { c.strategy = s })
}

// WithLocalDurability has a write acknowledged when it is on the disk of one node, which sees to it
// that it is replicated as soon as there is a quorum; that node's loss before then loses the write.
// Only writes without a condition take it. Their answer has no version and no result.
func WithLocalDurability() WriteOption { return writeOption(func(c *writeConfig) { c.local = true }) }

// WithTTL makes what is written expire after d in every region. Every write takes it but those of bounded
// counters, Delete, Expire and Persist. A write without it leaves a time to live as it is, but Put and
// CompareAndSwap, which write the whole register under a key, take it away. Of a leaf of an observed-remove
// map it is the whole map's.
func WithTTL(d time.Duration) WriteOption {
	return writeOption(func(c *writeConfig) { c.ttl = durationpb.New(d) })
}

// WithOpID sets the write's operation id, at most 64 bytes, instead of a random one. Within 15
// minutes a write with an id already applied in the region returns the first answer and changes
// nothing. In another region it is done once, too: see the package's comment.
func WithOpID(id string) WriteOption { return writeOption(func(c *writeConfig) { c.opID = id }) }

// OfType limits a Delete, an Expire or a Persist to the value of one type.
func OfType(t Type) WriteOption {
	return writeOption(func(c *writeConfig) { c.typ = atollv1.Type(t) })
}

// IfAbsent makes a write fail with ErrAlreadyExists if the key exists.
//
// Conditions are linearizable within the region; a write in another region may be concurrent with
// them. A write takes one condition: the last one given counts.
func IfAbsent() WriteOption {
	return condition(&atollv1.Condition{Test: &atollv1.Condition_IfAbsent{IfAbsent: true}})
}

// IfPresent makes a write fail with ErrNotPresent if the key does not exist.
func IfPresent() WriteOption {
	return condition(&atollv1.Condition{Test: &atollv1.Condition_IfPresent{IfPresent: true}})
}

// IfVersion makes a write fail with ErrVersionMismatch unless the key has exactly this version.
func IfVersion(version string) WriteOption {
	return condition(&atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: version}})
}

// IfValue makes a write of a register fail with ErrValueMismatch unless it holds exactly this value.
func IfValue(value []byte) WriteOption {
	return condition(&atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: value}})
}

func condition(cond *atollv1.Condition) WriteOption {
	return writeOption(func(c *writeConfig) { c.condition = cond })
}

func newOpID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	return hex.EncodeToString(id[:])
}
