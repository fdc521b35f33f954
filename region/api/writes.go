package api

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Put sets a register.
func (k *kvService) Put(ctx context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	op, f := putOf(r, k.clock())
	if f != nil {
		return nil, f
	}
	return write(ctx, k.server(), &op, r.GetOptions(),
		func(out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.PutResponse {
			return &atollv1.PutResponse{Version: out.Version, Info: info}
		},
		func(ctx context.Context, p *peer) (*atollv1.PutResponse, error) { return p.kv.Put(ctx, r) })
}

// Delete removes a key.
func (k *kvService) Delete(ctx context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	op, f := deleteOf(r)
	if f != nil {
		return nil, f
	}
	return write(ctx, k.server(), &op, r.GetOptions(),
		func(out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.DeleteResponse {
			return &atollv1.DeleteResponse{Existed: out.Existed, Version: out.Version, Info: info}
		},
		func(ctx context.Context, p *peer) (*atollv1.DeleteResponse, error) { return p.kv.Delete(ctx, r) })
}

// Update runs one operation of a typed value.
func (k *kvService) Update(ctx context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	op, f := updateOf(r)
	if f != nil {
		return nil, f
	}
	return write(ctx, k.server(), &op, r.GetOptions(),
		func(out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.UpdateResponse {
			return &atollv1.UpdateResponse{Result: updateResult(&op, out), Version: out.Version, Info: info}
		},
		func(ctx context.Context, p *peer) (*atollv1.UpdateResponse, error) { return p.kv.Update(ctx, r) })
}

// write routes one write to its partition.
func write[T any](
	ctx context.Context, s *Server, op *replica.Op, options *atollv1.WriteOptions,
	reply func(*replica.Outcome, *atollv1.ReplyInfo) T, remote func(context.Context, *peer) (T, error),
) (T, error) {
	var zero T
	if f := checkWriteOptions(options); f != nil {
		return zero, f
	}
	partition := s.cluster.PartitionOf(op.Namespace, op.Key)
	return route(ctx, s, call[T]{
		partition: partition,
		write:     true,
		opID:      options.GetOpId(),
		local: func(ctx context.Context, p Partition) (T, error) {
			result, err := p.Write(ctx, options.GetOpId(), []replica.Op{*op})
			if err != nil {
				return zero, err
			}
			if len(result.Outcomes) != 1 {
				return zero, fmt.Errorf("one operation has %d outcomes", len(result.Outcomes))
			}
			return reply(&result.Outcomes[0], s.infos[partition]), nil
		},
		remote: remote,
	})
}
