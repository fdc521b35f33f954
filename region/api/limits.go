package api

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/session"
)

// Limits of the contract. Whatever exceeds one is refused before anything is done.
const (
	maxKeyBytes       = replica.MaxKeyBytes
	maxNamespaceBytes = replica.MaxNamespaceBytes
	maxValueBytes     = 1 << 20
	maxElementBytes   = 1024
	maxElements       = replica.MaxOperationElements
	maxBatchItems     = 10_000
	maxBatchBytes     = 4 << 20
	maxOpIDBytes      = 64
	maxVersionBytes   = 256
	maxMembersLimit   = 10_000
	maxTTL            = 100 * 365 * 24 * time.Hour

	defaultNamespace = "default"
)

// invalid is a refusal of one field.
func invalid(field, format string, args ...any) *failure {
	return fail(reasonInvalidArgument, fmt.Sprintf(field+": "+format, args...), "field", field)
}

func notServed(field, what string) *failure {
	return invalid(field, "%s is not served by this version; leave it out", what)
}

func tooLong(r reason, field string, limit int) *failure {
	return fail(r, fmt.Sprintf("%s: larger than the limit of %d bytes", field, limit), "field", field, "limit", strconv.Itoa(limit))
}

func checkKey(key string) *failure {
	switch {
	case key == "":
		return fail(reasonInvalidKey, "key: must not be empty", "field", "key")
	case len(key) > maxKeyBytes:
		return tooLong(reasonInvalidKey, "key", maxKeyBytes)
	case !utf8.ValidString(key):
		return fail(reasonInvalidKey, "key: must be valid UTF-8", "field", "key")
	}
	return nil
}

// checkNamespace returns the namespace's full name.
func checkNamespace(namespace string) (string, *failure) {
	switch {
	case namespace == "":
		return defaultNamespace, nil
	case len(namespace) > maxNamespaceBytes:
		return "", tooLong(reasonInvalidArgument, "namespace", maxNamespaceBytes)
	case !utf8.ValidString(namespace):
		return "", invalid("namespace", "must be valid UTF-8")
	}
	return namespace, nil
}

// checkName checks where a key lives and returns its namespace's full name.
func checkName(namespace, key string) (string, *failure) {
	if f := checkKey(key); f != nil {
		return "", f
	}
	return checkNamespace(namespace)
}

func (s *Server) checkWriteOptions(o *atollv1.WriteOptions) *failure {
	switch o.GetDurability() {
	case atollv1.Durability_DURABILITY_UNSPECIFIED, atollv1.Durability_DURABILITY_QUORUM, atollv1.Durability_DURABILITY_LOCAL:
	default:
		return invalid("options.durability", "unknown durability %d", o.GetDurability())
	}
	switch {
	case len(o.GetOpId()) > maxOpIDBytes:
		return tooLong(reasonInvalidArgument, "options.op_id", maxOpIDBytes)
	case len(o.GetSession()) > session.MaxBytes:
		return tooLong(reasonInvalidArgument, "options.session", session.MaxBytes)
	}
	return s.checkBeyond(o)
}

// isLocal reports whether one node may acknowledge a write.
func isLocal(o *atollv1.WriteOptions) bool {
	return o.GetDurability() == atollv1.Durability_DURABILITY_LOCAL
}

// conditionOf checks a condition and returns it for the replica.
func (s *Server) conditionOf(namespace string, c *atollv1.Condition) (replica.Condition, *failure) {
	none := replica.Condition{}
	switch scope := c.GetScope(); scope {
	case atollv1.Scope_SCOPE_UNSPECIFIED, atollv1.Scope_SCOPE_REGION:
	case atollv1.Scope_SCOPE_HOME:
		if !s.homes.has(namespace) {
			return none, invalid("condition.scope", "the namespace has no home")
		}
	default:
		return none, notServed("condition.scope", scope.String())
	}
	switch t := c.GetTest().(type) {
	case *atollv1.Condition_IfAbsent:
		if !t.IfAbsent {
			return none, invalid("condition.if_absent", "must be true")
		}
		return replica.Condition{Kind: replica.CondAbsent}, nil
	case *atollv1.Condition_IfPresent:
		if !t.IfPresent {
			return none, invalid("condition.if_present", "must be true")
		}
		return replica.Condition{Kind: replica.CondPresent}, nil
	case *atollv1.Condition_IfVersion:
		if len(t.IfVersion) > maxVersionBytes {
			return none, tooLong(reasonInvalidArgument, "condition.if_version", maxVersionBytes)
		}
		return replica.Condition{Kind: replica.CondVersion, Version: t.IfVersion}, nil
	case *atollv1.Condition_IfValue:
		if len(t.IfValue) > maxValueBytes {
			return none, tooLong(reasonValueTooLarge, "condition.if_value", maxValueBytes)
		}
		return replica.Condition{Kind: replica.CondValue, Value: t.IfValue}, nil
	default:
		return none, nil
	}
}

func checkTTL(ttl *durationpb.Duration) *failure {
	if ttl == nil {
		return nil
	}
	if err := ttl.CheckValid(); err != nil || ttl.AsDuration() < 0 || ttl.AsDuration() > maxTTL {
		return fail(reasonInvalidArgument, "ttl: must be between 0 and 100 years", "field", "ttl", "limit", maxTTL.String())
	}
	return nil
}

// expiryOf returns when something expires that has ttl to live from now on. It is rounded up, so that
// a time to live below a millisecond is not none at all.
func expiryOf(now time.Time, ttl time.Duration) hlc.Time {
	return hlc.At(now.Add(ttl+time.Millisecond-1).UnixMilli(), 0)
}

func checkElements(field string, elements [][]byte) *failure {
	if len(elements) == 0 {
		return invalid(field, "must not be empty")
	}
	if len(elements) > maxElements {
		return fail(reasonBatchTooLarge, fmt.Sprintf("%s: more than %d elements; split them", field, maxElements),
			"field", field, "limit", strconv.Itoa(maxElements))
	}
	total := 0
	for _, e := range elements {
		if len(e) == 0 {
			return invalid(field, "an element must not be empty")
		}
		if len(e) > maxElementBytes {
			return tooLong(reasonValueTooLarge, field, maxElementBytes)
		}
		total += len(e)
	}
	if total > maxBatchBytes {
		return tooLong(reasonBatchTooLarge, field, maxBatchBytes)
	}
	return nil
}

func checkBatch(items int, req proto.Message) *failure {
	if items == 0 {
		return invalid("items", "must not be empty")
	}
	if items > maxBatchItems {
		return fail(reasonBatchTooLarge, fmt.Sprintf("items: more than %d; split the batch", maxBatchItems),
			"field", "items", "limit", strconv.Itoa(maxBatchItems))
	}
	if proto.Size(req) > maxBatchBytes {
		return tooLong(reasonBatchTooLarge, "items", maxBatchBytes)
	}
	return nil
}

// inItem says in which item of a batch the fault is.
func inItem(i int, f *failure) *failure {
	place := fmt.Sprintf("items[%d]", i)
	c := f.clone().with("item", strconv.Itoa(i))
	c.message = place + "." + f.message
	if field := f.metadata["field"]; field != "" {
		c.metadata["field"] = place + "." + field
	}
	return c
}
