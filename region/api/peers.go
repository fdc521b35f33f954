package api

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/proto/atoll/peer/v1/peerv1connect"
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

	// peerTimeout bounds one try at another node. One that hangs is given up, for it may have lost the
	// leadership without knowing.
	peerTimeout = 5 * time.Second
)

// peer is another node of the region.
type peer struct {
	id      topology.NodeID
	kv      atollv1connect.KVClient
	regions atollv1connect.RegionsClient
	nodes   peerv1connect.PeerClient
}

// newPeers returns the region's other nodes, and what closes the connections to them.
func newPeers(r *topology.Region, self topology.NodeID, transport http.RoundTripper) (map[topology.NodeID]*peer, func()) {
	closeIdle := func() {}
	if transport == nil {
		dialer := &net.Dialer{Timeout: peerDialTimeout}
		own := &http.Transport{
			DialContext:         dialer.DialContext,
			MaxIdleConnsPerHost: peerIdleConns,
			IdleConnTimeout:     peerIdleTimeout,
		}
		transport, closeIdle = own, own.CloseIdleConnections
	}
	client := &http.Client{Transport: transport}
	peers := make(map[topology.NodeID]*peer, len(r.Nodes))
	for _, n := range r.Nodes {
		if n.ID == self {
			continue
		}
		conn := connect.NewClient(connecthttp.NewTransport(client, "http://"+n.API,
			connecthttp.WithReadMaxBytes(peerReadMaxBytes), connecthttp.WithCompressMinBytes(compressMinBytes)))
		peers[n.ID] = &peer{
			id:      n.ID,
			kv:      atollv1connect.NewKVClient(conn),
			regions: atollv1connect.NewRegionsClient(conn),
			nodes:   peerv1connect.NewPeerClient(conn),
		}
	}
	return peers, closeIdle
}

// ask runs one call at another node. sent reports whether a connection was had: if not, the other
// node did nothing.
func ask[T any](
	ctx context.Context, p *peer, timeout time.Duration, do func(context.Context, *peer) (T, error),
) (reply T, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, info := connect.NewClientContext(ctx)
	info.RequestHeader().Set(hopsHeader, "1")
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	reply, err = do(ctx, p)
	return reply, connected.Load(), err
}

// wasForwarded reports whether another node sent the request on to this one.
func wasForwarded(ctx context.Context) bool {
	info, ok := connect.CallInfoForServerContext(ctx)
	return ok && info.RequestHeader().Has(hopsHeader)
}
