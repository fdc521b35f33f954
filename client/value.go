package client

import (
	"maps"
	"slices"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Type is the type of a value.
type Type int32

// The types of values.
const (
	TypeRegister = Type(atollv1.Type_TYPE_LWW_REGISTER)
	TypeCounter  = Type(atollv1.Type_TYPE_COUNTER)
	TypeSet      = Type(atollv1.Type_TYPE_AW_SET)

	TypeMVRegister     = Type(atollv1.Type_TYPE_MV_REGISTER)
	TypeBoundedCounter = Type(atollv1.Type_TYPE_BOUNDED_COUNTER)
	TypeFlag           = Type(atollv1.Type_TYPE_EW_FLAG)
	TypeMax            = Type(atollv1.Type_TYPE_MAX_REGISTER)
	TypeMin            = Type(atollv1.Type_TYPE_MIN_REGISTER)
	TypeMap            = Type(atollv1.Type_TYPE_LWW_MAP)
	TypeZSet           = Type(atollv1.Type_TYPE_ZSET)
	TypeCounterZSet    = Type(atollv1.Type_TYPE_COUNTER_ZSET)
	TypeHLL            = Type(atollv1.Type_TYPE_HLL)
	TypeTimeline       = Type(atollv1.Type_TYPE_TIMELINE)
	TypeORMap          = Type(atollv1.Type_TYPE_OR_MAP)
)

var typeNames = map[Type]string{
	TypeRegister: "register", TypeCounter: "counter", TypeSet: "set", TypeMVRegister: "mvregister",
	TypeBoundedCounter: "bcounter", TypeFlag: "flag", TypeMax: "max", TypeMin: "min", TypeMap: "map",
	TypeZSet: "zset", TypeCounterZSet: "countzset", TypeHLL: "hll", TypeTimeline: "timeline",
	TypeORMap: "ormap",
}

// Types returns the types that there are, ascending.
func Types() []Type { return slices.Sorted(maps.Keys(typeNames)) }

// String returns a type's name, such as "register", "counter" or "set", or "unknown".
func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return "unknown"
}

// Value is the value of a key.
type Value struct {
	Type Type
	// Bytes is the value of a register, or the latest one of a multi-value register.
	Bytes []byte
	// Siblings are all values of a multi-value register, the latest first.
	Siblings []Sibling
	// Enabled is the value of a flag.
	Enabled bool
	// Counter is the value of a counter, a bounded counter, a maximum or a minimum.
	Counter int64
	// Rights says how much of a bounded counter each region may take without asking.
	Rights []RegionRights
	// Size is the number of members of a set or the like, or of entries of a timeline, and the estimate of a
	// HyperLogLog.
	Size uint64
	// Members are the first members of a set in byte order, at most 1000 of them and 256 KiB.
	// [Set.Members] yields all.
	Members [][]byte
	// Entries are the newest entries of a timeline, the newest first, at most 1000 of them and 256 KiB.
	// [Timeline.Entries] yields all.
	Entries []TimelineEntry
	// Fields are the first fields of a map in byte order, at most 1000 of them and 256 KiB; Size is the
	// number of all. [Map.Fields] yields all.
	Fields []MapField
	// Scored are the first members of a sorted set by score, at most 1000 of them and 256 KiB; Size is the
	// number of all. [ZSet.Range] yields all.
	Scored []ScoredMember
	// Counted are the first members of a sorted set with counters as scores, by score, at most 1000 of
	// them and 256 KiB; Size is the number of all. [CounterZSet.Range] yields all.
	Counted []CountedMember
	// Names are the first names of an observed-remove map in byte order, at most 1000 of them and 256 KiB;
	// Size is the number of all leaves. [ORMap.Names] yields all names.
	Names []ORMapName
	// Version changes on every effective write. Compare it for equality only.
	Version string
	// TTL is the time left to live; 0 if the value does not expire.
	TTL time.Duration
}

// Entry is one key found by a scan.
type Entry struct {
	Key string
	Value
}

// Consistency is what a read promises.
type Consistency int32

// What reads promise.
const (
	// ConsistencyLinearizable reflects every write acknowledged in the region before the read began.
	ConsistencyLinearizable = Consistency(atollv1.Consistency_CONSISTENCY_UNSPECIFIED)
	// ConsistencyBounded is no older than a bound.
	ConsistencyBounded = Consistency(atollv1.Consistency_CONSISTENCY_BOUNDED)
	// ConsistencySession is all that the call's session has seen.
	ConsistencySession = Consistency(atollv1.Consistency_CONSISTENCY_SESSION)
	// ConsistencyEventual is what some replica holds.
	ConsistencyEventual = Consistency(atollv1.Consistency_CONSISTENCY_EVENTUAL)
)

// String returns "linearizable", "session", "bounded", "eventual", or "unknown".
func (c Consistency) String() string {
	switch c {
	case ConsistencyLinearizable:
		return "linearizable"
	case ConsistencySession:
		return "session"
	case ConsistencyBounded:
		return "bounded"
	case ConsistencyEventual:
		return "eventual"
	default:
		return "unknown"
	}
}

// Strategy is how a linearizable or bounded read is confirmed.
type Strategy int32

// How reads are confirmed.
const (
	// StrategyAuto leaves it to the server.
	StrategyAuto = Strategy(atollv1.Strategy_STRATEGY_UNSPECIFIED)
	// StrategyLeader has the partition's leader answer.
	StrategyLeader = Strategy(atollv1.Strategy_STRATEGY_LEADER)
	// StrategyFollower has any replica answer, which asks the leader how far it has to be.
	StrategyFollower = Strategy(atollv1.Strategy_STRATEGY_FOLLOWER)
	// StrategyMajority has any replica answer, which asks a majority how far it has to be; it needs no
	// leader.
	StrategyMajority = Strategy(atollv1.Strategy_STRATEGY_MAJORITY)
)

// Info says who answered a request, and what a read promises.
type Info struct {
	// Region and Node are the names of who answered.
	Region, Node string
	// Partition is the key's partition.
	Partition uint32
	// Served is what the answer to a read promises.
	Served Consistency
	// Staleness is how old the answer to a read may be, if StalenessKnown.
	Staleness      time.Duration
	StalenessKnown bool
	// Elsewhere says of a write that its operation id was that of one that another region had executed: it is done,
	// once. Nothing but its version is known here of what it answered, so that what the call returned of it, such as
	// a counter's value, is zero.
	Elsewhere bool
	// Stale says that the answer to a read is older than what it asked for, and that it asked for that.
	Stale bool
}

func valueOf(v *atollv1.GetResponse) Value {
	return withTyped(Value{
		Type:    Type(v.GetType()),
		Bytes:   v.GetValue(),
		Version: v.GetVersion(),
		TTL:     v.GetTtl().AsDuration(),
	}, v.GetTyped())
}

func entryOf(e *atollv1.Entry) Entry {
	return Entry{Key: e.GetKey(), Value: withTyped(Value{
		Type:    Type(e.GetType()),
		Bytes:   e.GetValue(),
		Version: e.GetVersion(),
		TTL:     e.GetTtl().AsDuration(),
	}, e.GetTyped())}
}

func withTyped(v Value, typed *atollv1.TypedValue) Value {
	v.Counter = numberOf(typed.GetCounter(), typed.GetBounded(), typed.GetExtreme())
	v.Rights = rightsOf(typed.GetBounded())
	v.Size = max(typed.GetSet().GetSize(), typed.GetTimeline().GetSize())
	v.Members = typed.GetSet().GetMembers()
	v.Enabled = typed.GetFlag().GetEnabled()
	v.Siblings = siblingsOf(typed.GetSiblings())
	v.Entries = timelineEntries(typed.GetTimeline().GetEntries())
	switch v.Type {
	case TypeMap:
		v.Size, v.Fields = typed.GetMap().GetSize(), mapFields(typed.GetMap().GetFields())
	case TypeZSet:
		v.Size, v.Scored = typed.GetZset().GetSize(), scoredMembers(typed.GetZset().GetMembers())
	case TypeORMap:
		v.Size, v.Names = typed.GetOrmap().GetSize(), ormapNames(typed.GetOrmap().GetNames())
	case TypeHLL:
		v.Size = typed.GetHll().GetCount()
	case TypeCounterZSet:
		v.Size, v.Counted = typed.GetZset().GetSize(), countedMembers(typed.GetZset().GetMembers())
	}
	return v
}

// numberOf returns the number that an answer has; the parts that it does not have are nil.
func numberOf(c *atollv1.CounterValue, b *atollv1.BoundedValue, e *atollv1.ExtremeValue) int64 {
	return c.GetValue() + b.GetValue() + e.GetValue()
}

func infoOf(i *atollv1.ReplyInfo) Info {
	served := Consistency(i.GetServed())
	if i.GetServed() == atollv1.Consistency_CONSISTENCY_LINEARIZABLE {
		served = ConsistencyLinearizable
	}
	return Info{
		Region: i.GetRegion(), Node: i.GetNode(), Partition: i.GetPartition(),
		Served: served, Staleness: i.GetStaleness().AsDuration(), StalenessKnown: i.GetStaleness() != nil,
		Elsewhere: i.GetElsewhere(),
		Stale:     i.GetStale(),
	}
}
