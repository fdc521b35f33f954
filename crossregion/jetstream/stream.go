package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

const (
	// streamAge is how long frames are kept. Who was away for longer fetches from the outbox.
	streamAge          = 72 * time.Hour
	defaultStreamBytes = 4 << 30
	// incarnationKey is the metadata that tells two streams of one name apart.
	incarnationKey = "atoll.inc"
)

func streamName(r topology.RegionID) string { return fmt.Sprintf("atoll-deltas-%d", r) }

func deltaSubject(r topology.RegionID, p topology.PartitionID) string {
	return fmt.Sprintf("atoll.delta.%d.%d", r, p)
}

func fetchSubject(r topology.RegionID, p topology.PartitionID) string {
	return fmt.Sprintf("atoll.fetch.%d.%d", r, p)
}

func tickSubject(r topology.RegionID) string { return fmt.Sprintf("atoll.hb.%d", r) }

func watermarkSubject(r topology.RegionID) string { return fmt.Sprintf("atoll.wm.%d", r) }

// subjectPartition returns the partition that a subject ends with.
func subjectPartition(subject string) (topology.PartitionID, bool) {
	n, err := strconv.ParseUint(subject[strings.LastIndexByte(subject, '.')+1:], 10, 32)
	return topology.PartitionID(n), err == nil && n < topology.MaxPartitions
}

// streamConfig is what a region's stream has to be like. Old frames give way to new ones: a stream
// that refused new ones would stop replication to all regions because of one.
func streamConfig(r topology.RegionID, replicas int, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:      streamName(r),
		Subjects:  []string{fmt.Sprintf("atoll.delta.%d.*", r)},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld,
		Replicas: replicas,
		MaxAge:   streamAge, MaxBytes: maxBytes, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		AllowDirect: true, DenyDelete: true, DenyPurge: true,
	}
}

// streamFaults returns in what a stream is weaker than it has to be.
func streamFaults(have, want jetstream.StreamConfig) []string {
	var faults []string
	fault := func(weak bool, format string, args ...any) {
		if weak {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	unlimited := func(n int64) bool { return n <= 0 }
	fault(have.Replicas < want.Replicas, "replicas is %d: must be %d", have.Replicas, want.Replicas)
	fault(have.Storage != want.Storage, "storage is %s: must be %s", have.Storage, want.Storage)
	fault(have.Retention != want.Retention, "retention is %s: must be %s", have.Retention, want.Retention)
	fault(have.Discard != want.Discard, "discard is %s: must be %s", have.Discard, want.Discard)
	fault(have.MaxAge != 0 && have.MaxAge < want.MaxAge, "max_age is %v: must be %v or 0", have.MaxAge, want.MaxAge)
	fault(!unlimited(have.MaxBytes) && have.MaxBytes < want.MaxBytes, "max_bytes is %d: must be %d", have.MaxBytes, want.MaxBytes)
	fault(!unlimited(have.MaxMsgs), "max_msgs is %d: must be unlimited", have.MaxMsgs)
	fault(!unlimited(have.MaxMsgsPerSubject), "max_msgs_per_subject is %d: must be unlimited", have.MaxMsgsPerSubject)
	fault(!unlimited(int64(have.MaxMsgSize)) && int(have.MaxMsgSize) < protocol.MaxFrameBytes, "max_msg_size is %d: must be %d", have.MaxMsgSize, protocol.MaxFrameBytes)
	fault(!unlimited(int64(have.MaxConsumers)), "max_consumers is %d: must be unlimited", have.MaxConsumers)
	fault(!slicesEqual(have.Subjects, want.Subjects), "subjects are %v: must be %v", have.Subjects, want.Subjects)
	fault(have.NoAck, "no_ack is set: publications must be acknowledged")
	fault(have.Sealed, "it is sealed")
	fault(have.Mirror != nil || len(have.Sources) > 0, "it mirrors or sources another stream")
	fault(!have.AllowDirect, "allow_direct is not set")
	return faults
}

func slicesEqual(a, b []string) bool { return strings.Join(a, " ") == strings.Join(b, " ") }

// ensureStream returns the stream, made if it does not exist. One that is weaker than it has to be
// is changed if that is possible.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want.Metadata = map[string]string{incarnationKey: nuid.Next()}
		s, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			s, err = js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	have := s.CachedInfo().Config
	if faults := streamFaults(have, want); len(faults) > 0 {
		want.Metadata = have.Metadata
		if s, err = js.UpdateStream(ctx, want); err != nil {
			return nil, fmt.Errorf("stream %s: %s: %w", want.Name, strings.Join(faults, "; "), err)
		}
	}
	return s, nil
}

// incarnation differs between any two streams. The time of creation also covers a stream that was
// made by hand without metadata.
func incarnation(info *jetstream.StreamInfo) string {
	return fmt.Sprintf("%d/%s", info.Created.UnixNano(), info.Config.Metadata[incarnationKey])
}
