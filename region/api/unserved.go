package api

import (
	"context"

	"connectrpc.com/connect/v2"

	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	"github.com/atolldb/atoll/proto/atoll/peer/v1/peerv1connect"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// Watch is not served yet.
func (k *kvService) Watch(context.Context, *atollv1.WatchRequest, atollv1connect.KVWatchServerStream) error {
	return connect.NewError(connect.CodeUnimplemented, "Watch is not served by this version")
}

// WatchPartition is not served yet.
func (p *peerService) WatchPartition(context.Context, *peerv1.WatchPartitionRequest, peerv1connect.PeerWatchPartitionServerStream) error {
	return connect.NewError(connect.CodeUnimplemented, "WatchPartition is not served by this version")
}
