package raftgroup

import (
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// stream is a group's part of the node's transport, as Raft wants it. A server's address is its node's
// name, which never changes; the transport knows where nodes are.
type stream struct {
	layer *transport.Layer
	self  topology.NodeID
}

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) { return s.layer.Accept() }

// Close implements net.Listener.
func (s *stream) Close() error { return s.layer.Close() }

// Addr implements net.Listener. Raft tells it to others as this server's address.
func (s *stream) Addr() net.Addr { return nodeAddr(s.self) }

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.layer.Dial(topology.NodeID(address), timeout)
}

// nodeAddr is a node's name as an address.
type nodeAddr topology.NodeID

// Network implements net.Addr.
func (nodeAddr) Network() string { return "node" }

// String implements net.Addr.
func (a nodeAddr) String() string { return string(a) }
