package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const (
	// laneRuns is how many views of one partition a stream's reads of one kind may wait for. Reads that
	// come meanwhile share the next. With two, a read need not wait for the proof that was begun before
	// it came.
	laneRuns = 2
	// pipelineChunkBytes bounds the values that are read before they wait to be sent.
	pipelineChunkBytes = 1 << 20
)

// lane names the reads that can share a view and a proof that it is recent enough.
type lane struct {
	partition topology.PartitionID
	how       reading
}

type laneState struct {
	waiting []want
	runs    int
}

// want is a read that waits for a view.
type want struct {
	request   *atollv1.PipelineRequest
	namespace string
	due       int64
}

// accept begins to serve a message's requests.
func (p *pipeline) accept(ctx context.Context, msg *atollv1.PipelineRequest) *failure {
	all, f := unpack(msg)
	if f != nil {
		return f
	}
	held := int64(0)
	for _, r := range all {
		held += bytesOf(r)
	}
	p.mu.Lock()
	if p.mu.closed {
		p.mu.Unlock()
		return nil
	}
	p.mu.requests += len(all)
	p.mu.held += held
	p.mu.packs = p.mu.packs || len(all) > 1
	p.server.pipelined.Add(held)
	draining := p.mu.draining
	p.mu.Unlock()
	now := p.server.clock()
	for _, r := range all {
		r.More = nil // those are requests of their own
		if draining {
			p.refuse(r, fail(reasonShuttingDown, "this node is shutting down; try another node"))
			continue
		}
		if f := p.dispatch(ctx, r, now); f != nil {
			p.refuse(r, f)
		}
	}
	p.runLanes(ctx)
	return nil
}

// dispatch begins to serve one request. A failure is one of the request itself.
func (p *pipeline) dispatch(ctx context.Context, r *atollv1.PipelineRequest, now time.Time) *failure {
	var op replica.Op
	var f *failure
	switch q := r.GetRequest().(type) {
	case *atollv1.PipelineRequest_Get:
		return p.read(ctx, r, now, q.Get)
	case *atollv1.PipelineRequest_Query:
		if _, f := queried(q.Query.GetQuery()); f != nil {
			return f
		}
		return p.read(ctx, r, now, q.Query)
	case *atollv1.PipelineRequest_Put:
		op, f = p.server.putOf(q.Put, now)
	case *atollv1.PipelineRequest_Delete:
		op, f = p.server.deleteOf(q.Delete)
	case *atollv1.PipelineRequest_Update:
		op, f = p.server.updateOf(q.Update)
	default:
		return invalid("request", "must be set to a request that this version serves")
	}
	if f == nil {
		f = p.server.checkWriteOptions(writeOptionsOf(r))
	}
	if f != nil {
		return f
	}
	p.write(ctx, r, &op, now)
	return nil
}

func writeOptionsOf(r *atollv1.PipelineRequest) *atollv1.WriteOptions {
	switch q := r.GetRequest().(type) {
	case *atollv1.PipelineRequest_Put:
		return q.Put.GetOptions()
	case *atollv1.PipelineRequest_Delete:
		return q.Delete.GetOptions()
	default:
		return r.GetUpdate().GetOptions()
	}
}

// read has a request wait in its lane.
func (p *pipeline) read(ctx context.Context, r *atollv1.PipelineRequest, now time.Time, q interface {
	GetNamespace() string
	GetKey() string
	GetOptions() *atollv1.ReadOptions
}) *failure {
	namespace, how, f := checkRead(q.GetNamespace(), q.GetKey(), q.GetOptions())
	if f != nil {
		return f
	}
	if how.byName && p.server.homes.has(namespace) {
		p.mu.Lock()
		due := p.mu.until.at(ctx, now.Sub(p.began), r.GetTimeoutMs())
		p.mu.Unlock()
		p.detour(ctx, r, due)
		return nil
	}
	l := lane{p.server.cluster.PartitionOf(namespace, q.GetKey()), how}
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.mu.lanes[l]
	if state == nil {
		state = &laneState{}
		p.mu.lanes[l] = state
	}
	due := p.mu.until.at(ctx, now.Sub(p.began), r.GetTimeoutMs())
	state.waiting = append(state.waiting, want{request: r, namespace: namespace, due: due})
	return nil
}

// runLanes has every lane run in which something waits.
func (p *pipeline) runLanes(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return
	}
	for l, state := range p.mu.lanes {
		if len(state.waiting) > 0 && state.runs < laneRuns {
			state.runs++
			batch := state.waiting
			state.waiting = nil
			p.tasks.Go(func() { p.run(ctx, l, state, batch) })
		}
	}
}

// run serves what waits in a lane until nothing does.
func (p *pipeline) run(ctx context.Context, l lane, state *laneState, batch []want) {
	for len(batch) > 0 {
		p.serve(ctx, l, batch)
		p.mu.Lock()
		batch, state.waiting = state.waiting, nil
		if len(batch) == 0 {
			if state.runs--; state.runs == 0 {
				delete(p.mu.lanes, l)
			}
		}
		p.mu.Unlock()
	}
}

// serve answers reads of one lane, in one view unless their answers are large.
func (p *pipeline) serve(ctx context.Context, l lane, batch []want) {
	s := p.server
	part, err := s.hosted(l.partition)
	due := int64(0)
	for i := range batch {
		due = max(due, batch[i].due)
		if batch[i].due == 0 {
			due = 0
			break
		}
	}
	until := p.contextOf(ctx, due)
	for len(batch) > 0 {
		n := 0
		if err == nil {
			if !p.await(ctx, func() bool { return p.mu.waiting < pipelineBytes }) {
				return
			}
			err = s.protect(func() (err error) {
				n, err = p.view(until, part, l, batch)
				return err
			})
		}
		if err != nil {
			p.unserved(ctx, l.how, batch, err)
			return
		}
		batch = batch[n:]
	}
}

// view answers reads in one view: at least one of them, and as many as it should.
func (p *pipeline) view(ctx context.Context, part Partition, l lane, batch []want) (int, error) {
	info := p.server.replyInfo(l.partition)
	answers := make([]outgoing, 0, len(batch))
	held := int64(0)
	err := p.server.readFrom(ctx, part, l.how, info, func(rep *replica.Replica, now hlc.Time) error {
		answers, held = answers[:0], 0
		bytes := int64(0)
		for i := range batch {
			if bytes >= pipelineChunkBytes {
				break
			}
			answers = append(answers, p.lookup(rep, now, &batch[i], info))
			held += bytesOf(batch[i].request)
			bytes += answers[i].bytes
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	p.answer(held, answers...)
	return len(answers), nil
}

// lookup answers one read.
func (p *pipeline) lookup(rep *replica.Replica, now hlc.Time, w *want, info *atollv1.ReplyInfo) outgoing {
	out := &atollv1.PipelineResponse{Id: w.request.GetId()}
	if get := w.request.GetGet(); get != nil {
		res, err := p.server.lookup(rep, now, w.namespace, get.GetKey(), info)
		if err != nil {
			return failed(out.Id, p.server.noted(failureOf(err), "KV/Get"))
		}
		out.Response = &atollv1.PipelineResponse_Get{Get: res}
		if res.GetTyped() == nil {
			return outgoing{out, requestOverhead + int64(len(res.GetValue()))}
		}
		return outgoing{out, requestOverhead + int64(proto.Size(res))}
	}
	res := &atollv1.QueryResponse{Info: info}
	if err := p.server.answer(rep, now, w.namespace, w.request.GetQuery(), res); err != nil {
		return failed(out.Id, p.server.noted(failureOf(err), "KV/Query"))
	}
	out.Response = &atollv1.PipelineResponse_Query{Query: res}
	return outgoing{out, requestOverhead + int64(proto.Size(res))}
}

// unserved answers reads that this node cannot serve, or has them make a detour.
func (p *pipeline) unserved(ctx context.Context, how reading, batch []want, err error) {
	f := failureOf(err)
	elsewhere := canTryAgain(f, "") || f.reason == reasonStale && how.onStale != atollv1.OnStale_ON_STALE_FAIL
	for i := range batch {
		if elsewhere && !p.forwarded {
			p.detour(ctx, batch[i].request, batch[i].due)
			continue
		}
		p.refuse(batch[i].request, p.server.conclude(ctx, p.server.noted(f, "KV/Pipeline"), "", false))
	}
}

// write hands a write to its partition.
func (p *pipeline) write(ctx context.Context, r *atollv1.PipelineRequest, op *replica.Op, now time.Time) {
	s := p.server
	p.mu.Lock()
	due := p.mu.until.at(ctx, now.Sub(p.began), r.GetTimeoutMs())
	p.mu.Unlock()
	partition := s.cluster.PartitionOf(op.Namespace, op.Key)
	if s.homes.has(op.Namespace) {
		p.detour(ctx, r, due)
		return
	}
	o := writeOptionsOf(r)
	if isLocal(o) || o.GetRegions() > 0 {
		// It waits for the disk, and others that wait at the same time share a sync; or for other regions. So
		// many may.
		p.start(func() { p.alone(p.contextOf(ctx, due), r) })
		return
	}
	part, err := s.hosted(partition)
	if err != nil {
		p.unwritten(ctx, r, due, failureOf(err).with("node", string(s.replicas(partition)[0])))
		return
	}
	until := p.contextOf(ctx, due)
	token, err := s.beginWrite(part, o)
	if err != nil {
		p.refuse(r, failureOf(err))
		return
	}
	ops := []replica.Op{*op}
	part.WriteAsync(until, o.GetOpId(), ops, func(result region.WriteResult, err error) {
		var info *atollv1.ReplyInfo
		if err == nil && len(result.Outcomes) == 1 {
			if info, err = s.writtenInfo(part, partition, token, ops, &result); err == nil {
				res := s.written(r, op, &result.Outcomes[0], info)
				p.answer(bytesOf(r), outgoing{res, requestOverhead})
				return
			}
		}
		p.unwritten(ctx, r, due, failureOfWrite(until, err))
	})
}

// unwritten answers a write that failed, or has it make a detour.
func (p *pipeline) unwritten(ctx context.Context, r *atollv1.PipelineRequest, due int64, f *failure) {
	opID := writeOptionsOf(r).GetOpId()
	if canTryAgain(f, opID) && !p.forwarded {
		p.detour(ctx, r, due)
		return
	}
	p.refuse(r, p.server.conclude(ctx, p.server.noted(f, "KV/Pipeline"), opID, false))
}

// written is the answer to a write that was done.
func (s *Server) written(r *atollv1.PipelineRequest, op *replica.Op, out *replica.Outcome, info *atollv1.ReplyInfo) *atollv1.PipelineResponse {
	res := &atollv1.PipelineResponse{Id: r.GetId()}
	switch r.GetRequest().(type) {
	case *atollv1.PipelineRequest_Put:
		res.Response = &atollv1.PipelineResponse_Put{Put: &atollv1.PutResponse{Version: out.Version, Info: info}}
	case *atollv1.PipelineRequest_Delete:
		res.Response = &atollv1.PipelineResponse_Delete{Delete: &atollv1.DeleteResponse{
			Existed: out.Existed, Version: out.Version, Info: info,
		}}
	default:
		update := &atollv1.UpdateResponse{Version: out.Version, Info: info}
		if !info.GetElsewhere() {
			update.Result = s.updateResult(op, out)
		}
		res.Response = &atollv1.PipelineResponse_Update{Update: update}
	}
	return res
}

// detour serves a request as the unary RPC would, which finds the node that can.
func (p *pipeline) detour(ctx context.Context, r *atollv1.PipelineRequest, due int64) {
	p.start(func() {
		ctx := p.contextOf(ctx, due)
		select {
		case p.detours <- struct{}{}:
			defer func() { <-p.detours }()
		case <-ctx.Done():
			p.refuse(r, failureOf(ctx.Err()))
			return
		}
		p.alone(ctx, r)
	})
}

// alone serves a request by its own RPC.
func (p *pipeline) alone(ctx context.Context, r *atollv1.PipelineRequest) {
	var res *atollv1.PipelineResponse
	err := p.server.protect(func() (err error) {
		res, err = p.server.unary(ctx, r)
		return err
	})
	if err != nil {
		p.refuse(r, p.server.noted(failureOf(err), "KV/Pipeline"))
		return
	}
	p.answer(bytesOf(r), outgoing{res, requestOverhead + int64(proto.Size(res))})
}

// unary serves a request of a stream as if it had come alone.
func (s *Server) unary(ctx context.Context, r *atollv1.PipelineRequest) (*atollv1.PipelineResponse, error) {
	k := (*kvService)(s)
	out := &atollv1.PipelineResponse{Id: r.GetId()}
	switch q := r.GetRequest().(type) {
	case *atollv1.PipelineRequest_Get:
		res, err := k.Get(ctx, q.Get)
		out.Response = &atollv1.PipelineResponse_Get{Get: res}
		return out, err
	case *atollv1.PipelineRequest_Put:
		res, err := k.Put(ctx, q.Put)
		out.Response = &atollv1.PipelineResponse_Put{Put: res}
		return out, err
	case *atollv1.PipelineRequest_Delete:
		res, err := k.Delete(ctx, q.Delete)
		out.Response = &atollv1.PipelineResponse_Delete{Delete: res}
		return out, err
	case *atollv1.PipelineRequest_Update:
		res, err := k.Update(ctx, q.Update)
		out.Response = &atollv1.PipelineResponse_Update{Update: res}
		return out, err
	default:
		res, err := k.Query(ctx, r.GetQuery())
		out.Response = &atollv1.PipelineResponse_Query{Query: res}
		return out, err
	}
}
