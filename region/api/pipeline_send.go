package api

import (
	"context"
	"runtime"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// pipelineMessageBytes ends a message of packed answers. One answer alone may be larger.
const pipelineMessageBytes = 256 << 10

// answer hands over answers to requests of this stream, which took that many bytes.
func (p *pipeline) answer(held int64, answers ...outgoing) {
	waiting := int64(0)
	for i := range answers {
		waiting += answers[i].bytes
	}
	p.mu.Lock()
	if p.mu.closed {
		p.mu.Unlock()
		return
	}
	p.mu.held -= held
	p.mu.waiting += waiting
	p.mu.ready = append(p.mu.ready, answers...)
	p.server.pipelined.Add(waiting - held)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// refuse answers a request with its failure.
func (p *pipeline) refuse(r *atollv1.PipelineRequest, f *failure) {
	p.answer(bytesOf(r), failed(r.GetId(), f))
}

func failed(id uint64, f *failure) outgoing {
	res := &atollv1.PipelineResponse{Id: id, Response: &atollv1.PipelineResponse_Error{Error: f.item()}}
	return outgoing{res, requestOverhead + int64(len(f.message))}
}

// send sends answers until ctx ends. It waits for nothing but the first: what is ready by the time
// that the last message is on its way goes into the next.
func (p *pipeline) send(ctx context.Context, send func(*atollv1.PipelineResponse) error) error {
	var spare []outgoing
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		runtime.Gosched() // what is about to be answered goes into the same message
		batch, packs := p.take(spare)
		spare = batch[:0]
		for len(batch) > 0 {
			msg, n, bytes := pack(batch, packs)
			if err := send(msg); err != nil {
				return err
			}
			p.sent(n, bytes)
			clear(batch[:n])
			batch = batch[n:]
		}
	}
}

// take returns all that is ready, and leaves an empty slice for what comes next.
func (p *pipeline) take(spare []outgoing) (batch []outgoing, packs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	batch, p.mu.ready = p.mu.ready, spare
	return batch, p.mu.packs
}

// pack makes one message of the first answers, and says how many and how large they are.
func pack(batch []outgoing, packs bool) (msg *atollv1.PipelineResponse, n int, bytes int64) {
	msg, n, bytes = batch[0].response, 1, batch[0].bytes
	if !packs {
		return msg, n, bytes
	}
	for n < len(batch) && bytes+batch[n].bytes <= pipelineMessageBytes {
		bytes += batch[n].bytes
		n++
	}
	if n > 1 {
		msg.More = make([]*atollv1.PipelineResponse, n-1)
		for i := range msg.More {
			msg.More[i] = batch[i+1].response
		}
	}
	return msg, n, bytes
}

// sent notes that answers have left.
func (p *pipeline) sent(n int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return
	}
	p.mu.requests -= n
	p.mu.waiting -= bytes
	p.server.pipelined.Add(-bytes)
	p.freedLocked()
}
