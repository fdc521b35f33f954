package api

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Put sets a register.
func (k *kvService) Put(ctx context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	op, f := k.server().putOf(r, k.clock())
	if f != nil {
		return nil, f
	}
	return write(ctx, k.server(), &op, r.GetOptions(),
		func(out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.PutResponse {
			return &atollv1.PutResponse{Version: out.Version, Info: info}
		},
		func(ctx context.Context, p *peer) (*atollv1.PutResponse, error) { return p.put(ctx, r) })
}

// Delete removes a key.
func (k *kvService) Delete(ctx context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	op, f := k.server().deleteOf(r)
	if f != nil {
		return nil, f
	}
	return write(ctx, k.server(), &op, r.GetOptions(),
		func(out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.DeleteResponse {
			return &atollv1.DeleteResponse{Existed: out.Existed, Version: out.Version, Info: info}
		},
		func(ctx context.Context, p *peer) (*atollv1.DeleteResponse, error) { return p.delete(ctx, r) })
}

// Update runs one operation of a typed value.
func (k *kvService) Update(ctx context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	op, f := k.server().updateOf(r)
	if f != nil {
		return nil, f
	}
	return write(ctx, k.server(), &op, r.GetOptions(),
		func(out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.UpdateResponse {
			if isLocal(r.GetOptions()) || info.GetElsewhere() {
				return &atollv1.UpdateResponse{Version: out.Version, Info: info}
			}
			return &atollv1.UpdateResponse{Result: k.server().updateResult(&op, out), Version: out.Version, Info: info}
		},
		func(ctx context.Context, p *peer) (*atollv1.UpdateResponse, error) { return p.update(ctx, r) })
}

// write routes one write to its partition.
func write[T any](
	ctx context.Context, s *Server, op *replica.Op, options *atollv1.WriteOptions,
	reply func(*replica.Outcome, *atollv1.ReplyInfo) T, remote func(context.Context, *peer) (T, error),
) (T, error) {
	var zero T
	if f := s.checkWriteOptions(options); f != nil {
		return zero, f
	}
	if f := s.checkLocal(op.Namespace, isLocal(options)); f != nil {
		return zero, f
	}
	partition := s.cluster.PartitionOf(op.Namespace, op.Key)
	c := call[T]{
		partition:  partition,
		write:      true,
		anyReplica: isLocal(options),
		opID:       options.GetOpId(),
		local: func(ctx context.Context, p Partition) (T, error) {
			if isLocal(options) {
				return reply(&replica.Outcome{}, s.infos[partition]), writeLocal(ctx, p, options.GetOpId(), []replica.Op{*op})
			}
			result, info, err := s.commit(ctx, p, partition, options, []replica.Op{*op})
			if err != nil {
				return zero, err
			}
			return reply(&result.Outcomes[0], info), nil
		},
		remote: remote,
	}
	if !s.homes.has(op.Namespace) {
		return route(ctx, s, c)
	}
	return atHome(ctx, s, homeCall[T]{
		namespace: op.Namespace, partition: partition, write: true, opID: options.GetOpId(), there: remote,
		here: func(ctx context.Context) (T, error) { return route(ctx, s, c) },
	})
}

// infoOfWrite returns what the reply to a write says of who answered, and how.
func (s *Server) infoOfWrite(p topology.PartitionID, result *region.WriteResult) *atollv1.ReplyInfo {
	if !result.Elsewhere {
		return s.infos[p]
	}
	info := proto.CloneOf(s.infos[p])
	info.Elsewhere = true
	return info
}

// writeLocal has this node alone acknowledge operations.
func writeLocal(ctx context.Context, p Partition, opID string, ops []replica.Op) error {
	err := p.WriteLocal(ctx, opID, ops)
	if err != nil && ctx.Err() != nil {
		// It may be on disk by now, and what is on disk will be applied.
		return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, err)
	}
	return err
}

// SubmitQueued has a partition's leader apply writes of this node's queue of local writes, in order.
// A nil error says that each is applied, or refused for good; after any other, submit them again.
func (s *Server) SubmitQueued(ctx context.Context, id topology.PartitionID, writes [][]byte) error {
	req := &peerv1.SubmitQueuedRequest{Partition: uint32(id), Writes: writes}
	_, err := s.submitQueued(ctx, req)
	return err
}

// SubmitQueued applies writes of another node's queue, if this node leads.
func (p *peerService) SubmitQueued(ctx context.Context, r *peerv1.SubmitQueuedRequest) (*peerv1.SubmitQueuedResponse, error) {
	s := p.server()
	if f := s.checkPartition(r.GetPartition()); f != nil {
		return nil, f
	}
	if len(r.GetWrites()) > maxBatchItems {
		return nil, invalid("writes", "must be at most %d", maxBatchItems)
	}
	return s.submitQueued(ctx, r)
}

func (s *Server) submitQueued(ctx context.Context, r *peerv1.SubmitQueuedRequest) (*peerv1.SubmitQueuedResponse, error) {
	return route(ctx, s, call[*peerv1.SubmitQueuedResponse]{
		partition: topology.PartitionID(r.GetPartition()),
		local: func(ctx context.Context, p Partition) (*peerv1.SubmitQueuedResponse, error) {
			return &peerv1.SubmitQueuedResponse{}, p.SubmitQueued(ctx, r.GetWrites())
		},
		remote: func(ctx context.Context, p *peer) (*peerv1.SubmitQueuedResponse, error) {
			return p.nodes.SubmitQueued(ctx, r)
		},
	})
}
