package api

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/proto/atoll/peer/v1/peerv1connect"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

const (
	// hopsHeader counts how often a request was sent on. One that was is not sent on again.
	hopsHeader = "Atoll-Hops"

	peerDialTimeout  = time.Second
	peerIdleTimeout  = 90 * time.Second
	peerIdleConns    = 512
	peerReadMaxBytes = 16 << 20 // fits the largest reply, a BatchGet of maxReplyBytes

	// peerPing is for how long another node's connection may be silent before it is asked whether it
	// lives, and for how long it may be silent then.
	peerPing = 2 * time.Second

	// peerTimeout bounds one try at another node. One that hangs is given up, for it may have lost the
	// leadership without knowing.
	peerTimeout = 5 * time.Second
)

// peer is another node of the region.
type peer struct {
	id         topology.NodeID
	kv         atollv1connect.KVClient
	regions    atollv1connect.RegionsClient
	namespaces atollv1connect.NamespacesClient
	nodes      peerv1connect.PeerClient
	trunk      *trunk // nil if requests are sent one by one
}

// put, delete, update, get and query send on a client's request.
func (p *peer) put(ctx context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	if p.trunk == nil {
		return p.kv.Put(ctx, r)
	}
	res, err := p.trunk.ask(ctx, &atollv1.PipelineRequest{Request: &atollv1.PipelineRequest_Put{Put: r}})
	return res.GetPut(), err
}

func (p *peer) delete(ctx context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	if p.trunk == nil {
		return p.kv.Delete(ctx, r)
	}
	res, err := p.trunk.ask(ctx, &atollv1.PipelineRequest{Request: &atollv1.PipelineRequest_Delete{Delete: r}})
	return res.GetDelete(), err
}

func (p *peer) update(ctx context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	if p.trunk == nil {
		return p.kv.Update(ctx, r)
	}
	res, err := p.trunk.ask(ctx, &atollv1.PipelineRequest{Request: &atollv1.PipelineRequest_Update{Update: r}})
	return res.GetUpdate(), err
}

func (p *peer) get(ctx context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	if p.trunk == nil {
		return p.kv.Get(ctx, r)
	}
	res, err := p.trunk.ask(ctx, &atollv1.PipelineRequest{Request: &atollv1.PipelineRequest_Get{Get: r}})
	return res.GetGet(), err
}

func (p *peer) query(ctx context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
	if p.trunk == nil {
		return p.kv.Query(ctx, r)
	}
	res, err := p.trunk.ask(ctx, &atollv1.PipelineRequest{Request: &atollv1.PipelineRequest_Query{Query: r}})
	return res.GetQuery(), err
}

// newPeers returns the region's other nodes, and what closes the connections to them.
func newPeers(r *topology.Region, self topology.NodeID, transport http.RoundTripper) (map[topology.NodeID]*peer, func()) {
	var streams *http.Transport
	closeAll := func() {}
	if transport == nil {
		dialer := &net.Dialer{Timeout: peerDialTimeout}
		own := &http.Transport{
			DialContext:         dialer.DialContext,
			MaxIdleConnsPerHost: peerIdleConns,
			IdleConnTimeout:     peerIdleTimeout,
		}
		streams = &http.Transport{
			DialContext:     dialer.DialContext,
			IdleConnTimeout: peerIdleTimeout,
			Protocols:       new(http.Protocols),
			// A node that is gone without a word is noticed by that.
			HTTP2: &http.HTTP2Config{SendPingTimeout: peerPing, PingTimeout: peerPing},
		}
		streams.Protocols.SetUnencryptedHTTP2(true)
		transport, closeAll = own, func() { own.CloseIdleConnections(); streams.CloseIdleConnections() }
	}
	client := &http.Client{Transport: transport}
	peers := make(map[topology.NodeID]*peer, len(r.Nodes))
	for _, n := range r.Nodes {
		if n.ID == self {
			continue
		}
		conn := connect.NewClient(connecthttp.NewTransport(client, "http://"+n.API,
			connecthttp.WithReadMaxBytes(peerReadMaxBytes), connecthttp.WithCompressMinBytes(math.MaxInt32)))
		peers[n.ID] = &peer{
			id:         n.ID,
			kv:         atollv1connect.NewKVClient(conn),
			regions:    atollv1connect.NewRegionsClient(conn),
			namespaces: atollv1connect.NewNamespacesClient(conn),
			nodes:      peerv1connect.NewPeerClient(conn),
		}
		if streams != nil {
			peers[n.ID].trunk = &trunk{kv: atollv1connect.NewKVClient(connect.NewClient(connecthttp.NewTransport(
				&http.Client{Transport: streams}, "http://"+n.API, connecthttp.WithReadMaxBytes(peerReadMaxBytes), connecthttp.WithCompressors(),
			)))}
		}
	}
	return peers, func() {
		for _, p := range peers {
			if p.trunk != nil {
				p.trunk.close()
			}
		}
		closeAll()
	}
}

// ask runs one call at another node. sent reports whether the request may have left: if not, the
// other node did nothing.
func ask[T any](
	ctx context.Context, p *peer, timeout time.Duration, do func(context.Context, *peer) (T, error),
) (reply T, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx = hop(ctx)
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	reply, err = do(ctx, p)
	return reply, connected.Load() || as[*lostError](err), err
}

// hop marks a call as one that was sent on.
func hop(ctx context.Context) context.Context {
	ctx, info := connect.NewClientContext(ctx)
	info.RequestHeader().Set(hopsHeader, "1")
	return ctx
}

// wasForwarded reports whether another node sent the request on to this one.
func wasForwarded(ctx context.Context) bool {
	info, ok := connect.CallInfoForServerContext(ctx)
	return ok && info.RequestHeader().Has(hopsHeader)
}
