package api

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const (
	// batchParallel bounds how many partitions one request works on at a time.
	batchParallel = 16
	// maxReplyBytes bounds the reply to a BatchGet: what does not fit is left to another request.
	maxReplyBytes = 8 << 20
)

// group is the part of a batch that belongs to one partition.
type group struct {
	partition topology.PartitionID
	items     []int // places in the batch, in order
}

// groupBy sorts n items by partition, in the order of each partition's first item.
func groupBy(n int, partitionOf func(int) topology.PartitionID) []group {
	var groups []group
	place := map[topology.PartitionID]int{}
	for i := range n {
		p := partitionOf(i)
		g, ok := place[p]
		if !ok {
			g = len(groups)
			place[p] = g
			groups = append(groups, group{partition: p})
		}
		groups[g].items = append(groups[g].items, i)
	}
	return groups
}

// eachGroup runs do for every group, some at a time. A group's failure is its own affair.
func (s *Server) eachGroup(groups []group, do func(int, *group) error, failed func(int, *group, *failure)) {
	var parallel errgroup.Group
	parallel.SetLimit(batchParallel)
	for i := range groups {
		parallel.Go(func() error {
			if err := s.protect(func() error { return do(i, &groups[i]) }); err != nil {
				failed(i, &groups[i], failureOf(err))
			}
			return nil
		})
	}
	_ = parallel.Wait() // no group returns an error
}

// BatchWrite runs several writes, atomically per partition.
func (k *kvService) BatchWrite(ctx context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
	s := k.server()
	if f := s.checkWriteOptions(r.GetOptions()); f != nil {
		return nil, f
	}
	if f := checkBatch(len(r.GetItems()), r); f != nil {
		return nil, f
	}
	ops := make([]replica.Op, len(r.GetItems()))
	for i, item := range r.GetItems() {
		var f *failure
		if ops[i], f = s.batchOp(item); f != nil {
			return nil, inItem(i, f)
		}
	}
	if f := s.checkHomeBatch(ops); f != nil {
		return nil, f
	}
	if f := s.checkLocal(ops[0].Namespace, isLocal(r.GetOptions())); f != nil {
		return nil, f
	}
	groups := groupBy(len(ops), func(i int) topology.PartitionID { return s.cluster.PartitionOf(ops[i].Namespace, ops[i].Key) })
	if (wasForwarded(ctx) || fromAbroad(ctx)) && len(groups) == 1 {
		// The node that asks wants the group's one failure, not a copy for each item.
		return s.writeGroup(ctx, r, ops, &groups[0])
	}
	res := &atollv1.BatchWriteResponse{
		Items:  make([]*atollv1.BatchWriteItem, len(ops)),
		Groups: make([]*atollv1.BatchGroup, len(groups)),
	}
	do := func(n int, g *group) error {
		sub, err := s.writeGroup(ctx, r, ops, g)
		if err != nil {
			return err
		}
		res.Groups[n] = sub.GetGroups()[0]
		for i, place := range g.items {
			res.Items[place] = sub.GetItems()[i]
			res.Items[place].Group = uint32(n)
		}
		return nil
	}
	s.eachGroup(groups, do, func(n int, g *group, f *failure) {
		res.Groups[n] = &atollv1.BatchGroup{Partition: uint32(g.partition)}
		f = inBatch(f, g)
		for _, place := range g.items {
			res.Items[place] = &atollv1.BatchWriteItem{Error: f.item(), Group: uint32(n)}
		}
	})
	return res, nil
}

// batchOp checks one item of a batch and returns it for the replica.
func (s *Server) batchOp(w *atollv1.Write) (replica.Op, *failure) {
	switch w := w.GetWrite().(type) {
	case *atollv1.Write_Put:
		if w.Put.GetOptions() != nil {
			return replica.Op{}, invalid("put.options", "a batch has its own options; leave the item's out")
		}
		return s.putOf(w.Put, s.clock())
	case *atollv1.Write_Delete:
		if w.Delete.GetOptions() != nil {
			return replica.Op{}, invalid("delete.options", "a batch has its own options; leave the item's out")
		}
		return s.deleteOf(w.Delete)
	case *atollv1.Write_Update:
		if w.Update.GetOptions() != nil {
			return replica.Op{}, invalid("update.options", "a batch has its own options; leave the item's out")
		}
		return s.updateOf(w.Update)
	default:
		return replica.Op{}, invalid("write", "must be a put, a delete or an update")
	}
}

// writeGroup runs the writes of one partition, all or none. Its reply has one group, and one item for
// each of the group's. A refused item is named in the failure's metadata by its place in the group.
func (s *Server) writeGroup(
	ctx context.Context, r *atollv1.BatchWriteRequest, all []replica.Op, g *group,
) (*atollv1.BatchWriteResponse, error) {
	ops := make([]replica.Op, len(g.items))
	sub := &atollv1.BatchWriteRequest{Items: make([]*atollv1.Write, len(g.items)), Options: r.GetOptions()}
	for i, place := range g.items {
		ops[i], sub.Items[i] = all[place], r.GetItems()[place]
	}
	opID := r.GetOptions().GetOpId()
	c := call[*atollv1.BatchWriteResponse]{
		partition:  g.partition,
		write:      true,
		anyReplica: isLocal(r.GetOptions()),
		opID:       opID,
		local: func(ctx context.Context, p Partition) (*atollv1.BatchWriteResponse, error) {
			if isLocal(r.GetOptions()) {
				return s.acknowledged(g), writeLocal(ctx, p, opID, ops)
			}
			result, info, err := s.commit(ctx, p, g.partition, r.GetOptions(), ops)
			if err != nil {
				f := failureOfWrite(ctx, err)
				if op, ok := asOpError(err); ok {
					f = f.clone().with("item", strconv.Itoa(op.Index))
				}
				return nil, f
			}
			return s.groupReply(g.partition, ops, result, info), nil
		},
		remote: func(ctx context.Context, p *peer) (*atollv1.BatchWriteResponse, error) {
			res, err := p.kv.BatchWrite(ctx, sub)
			if err == nil && (len(res.GetItems()) != len(ops) || len(res.GetGroups()) != 1) {
				return nil, fmt.Errorf("node %s answered %d items for %d", p.id, len(res.GetItems()), len(ops))
			}
			return res, err
		},
	}
	if !s.homes.has(ops[0].Namespace) {
		return route(ctx, s, c)
	}
	return atHome(ctx, s, homeCall[*atollv1.BatchWriteResponse]{
		namespace: ops[0].Namespace, partition: g.partition, write: true, opID: opID, there: c.remote,
		here: func(ctx context.Context) (*atollv1.BatchWriteResponse, error) { return route(ctx, s, c) },
	})
}

func (s *Server) groupReply(
	p topology.PartitionID, ops []replica.Op, result region.WriteResult, info *atollv1.ReplyInfo,
) *atollv1.BatchWriteResponse {
	res := &atollv1.BatchWriteResponse{
		Items: make([]*atollv1.BatchWriteItem, len(ops)),
		Groups: []*atollv1.BatchGroup{{
			Partition: uint32(p), Committed: true, Info: info,
		}},
	}
	for i := range ops {
		out := &result.Outcomes[i]
		item := &atollv1.BatchWriteItem{Version: out.Version}
		switch {
		case ops[i].Kind == replica.OpPut, result.Elsewhere:
		case ops[i].Kind == replica.OpDelete:
			item.Existed = out.Existed
		default:
			item.Result = s.updateResult(&ops[i], out)
		}
		res.Items[i] = item
	}
	return res
}

// acknowledged is the reply to a group that one node has acknowledged.
func (s *Server) acknowledged(g *group) *atollv1.BatchWriteResponse {
	res := &atollv1.BatchWriteResponse{
		Items:  make([]*atollv1.BatchWriteItem, len(g.items)),
		Groups: []*atollv1.BatchGroup{{Partition: uint32(g.partition), Committed: true, Info: s.infos[g.partition]}},
	}
	for i := range res.Items {
		res.Items[i] = &atollv1.BatchWriteItem{}
	}
	return res
}

// inBatch says which item of the whole batch made its group fail, if it was one.
func inBatch(f *failure, g *group) *failure {
	i, err := strconv.Atoi(f.metadata["item"])
	if err != nil || i < 0 || i >= len(g.items) {
		return f
	}
	c := f.clone().with("item", strconv.Itoa(g.items[i]))
	c.message = fmt.Sprintf("items[%d]: %s; nothing of its partition's part of the batch was done", g.items[i], f.message)
	return c
}

// BatchGet runs several Gets.
func (k *kvService) BatchGet(ctx context.Context, r *atollv1.BatchGetRequest) (*atollv1.BatchGetResponse, error) {
	s := k.server()
	how, f := checkReadOptions(r.GetOptions())
	if f == nil {
		f = checkBatch(len(r.GetItems()), r)
	}
	if f != nil {
		return nil, f
	}
	for i, item := range r.GetItems() {
		if item.GetOptions() != nil {
			return nil, inItem(i, invalid("options", "a batch has its own options; leave the item's out"))
		}
		if _, f := checkName(item.GetNamespace(), item.GetKey()); f != nil {
			return nil, inItem(i, f)
		}
	}
	groups := groupBy(len(r.GetItems()), func(i int) topology.PartitionID {
		namespace, _ := checkNamespace(r.GetItems()[i].GetNamespace())
		return s.cluster.PartitionOf(namespace, r.GetItems()[i].GetKey())
	})
	b := &batchGet{server: s, how: how, all: r.GetItems()}
	if wasForwarded(ctx) && len(groups) == 1 {
		return b.group(ctx, &groups[0])
	}
	res := &atollv1.BatchGetResponse{Items: make([]*atollv1.BatchGetItem, len(r.GetItems()))}
	do := func(_ int, g *group) error {
		sub, err := b.group(ctx, g)
		if err != nil {
			return err
		}
		for i, place := range g.items {
			res.Items[place] = sub.GetItems()[i]
		}
		return nil
	}
	s.eachGroup(groups, do, func(_ int, g *group, f *failure) {
		for _, place := range g.items {
			res.Items[place] = &atollv1.BatchGetItem{Error: f.item()}
		}
	})
	return res, nil
}

// batchGet is one BatchGet under way.
type batchGet struct {
	server *Server
	how    reading
	all    []*atollv1.GetRequest
	bytes  atomic.Int64 // of the reply so far
}

// group reads the keys of one partition, in one view of it.
func (b *batchGet) group(ctx context.Context, g *group) (*atollv1.BatchGetResponse, error) {
	items := make([]*atollv1.GetRequest, len(g.items))
	for i, place := range g.items {
		items[i] = b.all[place]
	}
	return routeRead(ctx, b.server, readCall[*atollv1.BatchGetResponse]{
		partition: g.partition,
		how:       b.how,
		local: func(ctx context.Context, p Partition, how reading) (*atollv1.BatchGetResponse, error) {
			var res *atollv1.BatchGetResponse
			info := b.server.replyInfo(g.partition)
			err := b.server.readFrom(ctx, p, how, info, func(r *replica.Replica, now hlc.Time) (err error) {
				res, err = b.lookup(r, now, info, items)
				return err
			})
			return res, err
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*atollv1.BatchGetResponse, error) {
			res, err := p.kv.BatchGet(ctx, &atollv1.BatchGetRequest{Items: items, Options: o})
			if err != nil {
				return nil, err
			}
			if len(res.GetItems()) != len(items) {
				return nil, fmt.Errorf("node %s answered %d items for %d", p.id, len(res.GetItems()), len(items))
			}
			for i, item := range res.GetItems() {
				res.Items[i] = b.fit(item)
			}
			return res, nil
		},
	})
}

func (b *batchGet) lookup(
	r *replica.Replica, now hlc.Time, info *atollv1.ReplyInfo, items []*atollv1.GetRequest,
) (*atollv1.BatchGetResponse, error) {
	res := &atollv1.BatchGetResponse{Items: make([]*atollv1.BatchGetItem, len(items))}
	for i, item := range items {
		if b.bytes.Load() >= maxReplyBytes {
			res.Items[i] = replyFull()
			continue
		}
		namespace, f := checkNamespace(item.GetNamespace())
		if f != nil {
			return nil, f
		}
		got, err := b.server.lookup(r, now, namespace, item.GetKey(), info)
		if err != nil {
			return nil, err
		}
		res.Items[i] = b.fit(&atollv1.BatchGetItem{Response: got})
	}
	return res, nil
}

// fit returns the item if the reply has room for it, and an error in its place if not.
func (b *batchGet) fit(item *atollv1.BatchGetItem) *atollv1.BatchGetItem {
	size := int64(proto.Size(item))
	if b.bytes.Add(size) <= maxReplyBytes {
		return item
	}
	b.bytes.Add(-size)
	return replyFull()
}

func replyFull() *atollv1.BatchGetItem {
	return &atollv1.BatchGetItem{Error: fail(reasonBatchTooLarge,
		"the reply has no room for this item; ask for it in another batch", "limit", strconv.Itoa(maxReplyBytes)).item()}
}
