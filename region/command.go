package region

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/zeebo/xxh3"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

const (
	// maxWriteBytes bounds an encoded client's write. A client's batch is at most 4 MiB, where each of
	// its items says less than its operation here.
	maxWriteBytes = 7 << 20
	// maxCommandBytes bounds a command: the largest write, queued too, and what surrounds it.
	maxCommandBytes = maxWriteBytes + 1<<10
	// maxEntryBytes bounds an entry read from the log: the largest command, with which nothing is
	// packed.
	maxEntryBytes = 8 << 20
)

// decodeEntry reads the payload of a Raft entry.
func decodeEntry(data []byte) (*logv1.LogEntry, error) {
	if len(data) > maxEntryBytes {
		return nil, fmt.Errorf("%w: entry of %d bytes", ErrBadCommand, len(data))
	}
	entry := &logv1.LogEntry{}
	if err := proto.Unmarshal(data, entry); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	return entry, nil
}

// writeCommand encodes a client's write.
func writeCommand(opID string, ops []replica.Op) *logv1.Command {
	w := &logv1.WriteCommand{OpId: opID, Operations: make([]*logv1.Operation, len(ops))}
	for i, op := range ops {
		w.Operations[i] = &logv1.Operation{
			Kind:             uint32(op.Kind),
			Namespace:        op.Namespace,
			Key:              op.Key,
			Type:             uint32(op.Type),
			Value:            op.Value,
			ExpiresHlc:       uint64(op.Expires),
			Delta:            op.Delta,
			Elements:         op.Elements,
			ConditionKind:    uint32(op.Condition.Kind),
			ConditionVersion: op.Condition.Version,
			ConditionValue:   op.Condition.Value,
			Values:           op.Values,
			Score:            op.Score,
			ToActor:          uint32(op.ToActor),
			AtHlc:            uint64(op.At),
			Restores:         op.Restores,
			Path:             []byte(op.Path.Encoded()),
		}
	}
	return &logv1.Command{Command: &logv1.Command_Write{Write: w}}
}

// decodeOperations is the reverse of writeCommand.
func decodeOperations(encoded []*logv1.Operation) ([]replica.Op, error) {
	ops := make([]replica.Op, len(encoded))
	for i, o := range encoded {
		path, err := crdt.ParsePath(o.GetPath())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadCommand, err)
		}
		ops[i] = replica.Op{
			Path:      path,
			Kind:      replica.OpKind(o.GetKind()),
			Namespace: o.GetNamespace(),
			Key:       o.GetKey(),
			Type:      crdt.Type(o.GetType()),
			Value:     o.GetValue(),
			Expires:   hlc.Time(o.GetExpiresHlc()),
			Delta:     o.GetDelta(),
			Elements:  o.GetElements(),
			Values:    o.GetValues(),
			Score:     o.GetScore(),
			ToActor:   crdt.Actor(o.GetToActor()),
			At:        hlc.Time(o.GetAtHlc()),
			Restores:  o.GetRestores(),
			Condition: replica.Condition{
				Kind:    replica.ConditionKind(o.GetConditionKind()),
				Version: o.GetConditionVersion(),
				Value:   o.GetConditionValue(),
			},
		}
	}
	return ops, nil
}

// fingerprint tells one write's operations from another's. Expiry is left out: a retry of the same
// write computes it anew.
func fingerprint(ops []*logv1.Operation) uint64 {
	var h xxh3.Hasher
	var number [8]byte
	numbers := func(n ...uint64) {
		for _, n := range n {
			binary.BigEndian.PutUint64(number[:], n)
			_, _ = h.Write(number[:])
		}
	}
	bytes := func(b []byte) {
		numbers(uint64(len(b)))
		_, _ = h.Write(b)
	}
	text := func(s string) {
		numbers(uint64(len(s)))
		_, _ = h.WriteString(s)
	}
	for _, o := range ops {
		numbers(uint64(o.GetKind()), uint64(o.GetType()), uint64(o.GetDelta()), uint64(o.GetConditionKind()), uint64(len(o.GetElements())))
		// What was added later leaves the fingerprints of before as they were.
		if len(o.GetValues()) > 0 || o.GetScore() != 0 || o.GetToActor() != 0 || o.GetAtHlc() != 0 {
			numbers(uint64(len(o.GetValues())), math.Float64bits(o.GetScore()), uint64(o.GetToActor()), o.GetAtHlc())
		}
		if len(o.GetPath()) > 0 {
			bytes(o.GetPath())
		}
		text(o.GetNamespace())
		text(o.GetKey())
		text(o.GetConditionVersion())
		bytes(o.GetValue())
		bytes(o.GetConditionValue())
		for _, e := range o.GetElements() {
			bytes(e)
		}
		for _, v := range o.GetValues() {
			bytes(v)
		}
	}
	return h.Sum64()
}

func encodeOutcomes(outcomes []replica.Outcome) []*logv1.Outcome {
	encoded := make([]*logv1.Outcome, len(outcomes))
	for i, o := range outcomes {
		encoded[i] = &logv1.Outcome{
			Version: o.Version, Existed: o.Existed, Counter: o.Counter, Size: o.Size, Changed: o.Changed, Score: o.Score,
		}
	}
	return encoded
}

func decodeOutcomes(encoded []*logv1.Outcome) []replica.Outcome {
	outcomes := make([]replica.Outcome, len(encoded))
	for i, o := range encoded {
		outcomes[i] = replica.Outcome{
			Version: o.GetVersion(), Existed: o.GetExisted(), Counter: o.GetCounter(), Size: o.GetSize(), Changed: o.GetChanged(), Score: o.GetScore(),
		}
	}
	return outcomes
}

func encodeAdditions(additions []replica.Addition) []*logv1.Addition {
	if len(additions) == 0 {
		return nil
	}
	encoded := make([]*logv1.Addition, len(additions))
	for i, a := range additions {
		encoded[i] = &logv1.Addition{
			Kind: uint32(a.Kind), Namespace: a.Namespace, Key: a.Key, Path: []byte(a.Path.Encoded()), Member: a.Member,
			Amount: a.Amount, Seq: a.Seq, Hlc: uint64(a.Time),
		}
	}
	return encoded
}

// decodeAdditions is the reverse of encodeAdditions.
func decodeAdditions(encoded []*logv1.Addition) []replica.Addition {
	additions := make([]replica.Addition, 0, len(encoded))
	for _, a := range encoded {
		path, err := crdt.ParsePath(a.GetPath())
		if err != nil {
			continue // none was written like that
		}
		additions = append(additions, replica.Addition{
			Kind: replica.OpKind(a.GetKind()), Namespace: a.GetNamespace(), Key: a.GetKey(), Path: path, Member: a.GetMember(),
			Amount: a.GetAmount(), Seq: a.GetSeq(), Time: hlc.Time(a.GetHlc()),
		})
	}
	return additions
}
