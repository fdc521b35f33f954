package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// The tables of a partition's store that belong to this package; the others are the replica's.
//
//	L seq              one delta of the outbox, or a run that ends with it
//	O index            what the writes with an op_id of one log entry answered
//	I index number     which writes with an op_id the deltas of one merge told of: a delta without effects
//	P                  one record: position, outbox bounds, watermarks (MachineState)
const (
	tableOutbox       = 'L'
	tableRemembered   = 'O'
	tableElsewhere    = 'I'
	tableMachineState = 'P'
)

// errState means that a record of the store makes no sense. Its bytes passed the checksum, so this
// is a mistake of a program and not of a disk.
var errState = errors.New("the partition's state is malformed")

func outboxKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{tableOutbox}, seq)
}

func rememberedKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{tableRemembered}, index)
}

// machineState is what the state machine keeps beside the replica. It is saved once per transaction.
type machineState struct {
	position   Position
	outbox     outboxBounds
	watermarks map[watermarkKey]uint64
	evictions  map[topology.RegionID]Eviction
	remembered uint64 // op_ids kept
	elsewhere  uint64 // op_ids of other regions kept
	// owed is what is still to be taken back from bounded counters, one entry per counter.
	owed []replica.Addition
	// queues says how far each node's queue of local writes is applied.
	queues map[uint64]uint64
	facts  Facts
	// homes are what the replica has in replica.HomeNamespace.
	homes []replica.Home
}

type watermarkKey struct {
	region topology.RegionID
	actor  crdt.Actor
}

func loadMachineState(kv replica.KV) (machineState, error) {
	s := machineState{watermarks: map[watermarkKey]uint64{}, evictions: map[topology.RegionID]Eviction{}, queues: map[uint64]uint64{}}
	data, ok, err := kv.Get([]byte{tableMachineState})
	if err != nil || !ok {
		return s, err
	}
	record := &logv1.MachineState{}
	if err := proto.Unmarshal(data, record); err != nil {
		return s, fmt.Errorf("%w: %w", errState, err)
	}
	s.position = Position{
		Index: record.GetIndex(), Term: record.GetTerm(),
		Configuration: record.GetConfiguration(), ConfigurationIndex: record.GetConfigurationIndex(),
	}
	s.outbox = outboxBounds{
		trimmed: record.GetOutboxTrimmed(), head: record.GetOutboxHead(), bytes: record.GetOutboxBytes(),
		foldedBytes: record.GetOutboxFoldedBytes(), foldedEvents: record.GetOutboxFoldedEvents(),
		appended: record.GetOutboxAppended(),
	}
	s.loadEvictions(record.GetEvictions())
	for _, w := range record.GetWatermarks() {
		s.watermarks[watermarkKey{topology.RegionID(w.GetRegion()), crdt.Actor(w.GetActor())}] = w.GetSeq()
	}
	s.remembered, s.elsewhere = record.GetRemembered(), record.GetElsewhere()
	s.owed = decodeAdditions(record.GetOwed())
	for _, q := range record.GetQueues() {
		s.queues[q.GetQueue()] = q.GetSeq()
	}
	if s.facts, err = decodeFacts(record.GetMembershipEpoch(), record.GetFacts(), record.GetHeirs()); err != nil {
		return s, fmt.Errorf("%w: %w", errState, err)
	}
	s.homes, err = decodeHomes(record.GetHomes())
	return s, err
}

func (s *machineState) save(kv replica.KV) error {
	record := &logv1.MachineState{
		Index: s.position.Index, Term: s.position.Term,
		Configuration: s.position.Configuration, ConfigurationIndex: s.position.ConfigurationIndex,
		OutboxTrimmed: s.outbox.trimmed, OutboxHead: s.outbox.head, OutboxBytes: s.outbox.bytes,
		OutboxFoldedBytes: s.outbox.foldedBytes, OutboxFoldedEvents: s.outbox.foldedEvents, Evictions: s.sortedEvictions(),
		OutboxAppended: s.outbox.appended,
		Watermarks:     s.sortedWatermarks(), Remembered: s.remembered, Queues: s.sortedQueues(),
		MembershipEpoch: s.facts.Epoch, Facts: encodeFacts(s.facts), Heirs: encodeHeirs(s.facts.Heirs),
		Elsewhere: s.elsewhere, Owed: encodeAdditions(s.owed), Homes: encodeHomes(s.homes),
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode machine state: %w", err)
	}
	return kv.Put([]byte{tableMachineState}, data)
}

func (s *machineState) sortedQueues() []*logv1.QueuePosition {
	var sorted []*logv1.QueuePosition
	for _, queue := range slices.Sorted(maps.Keys(s.queues)) {
		sorted = append(sorted, &logv1.QueuePosition{Queue: queue, Seq: s.queues[queue]})
	}
	return sorted
}
