// Package transport connects the nodes of a region: one listener per node carries the connections of
// all its Raft groups. It knows nothing of Raft.
//
// A connection begins with the dialer's hello, which the listener answers with one byte before
// anything else is said (handshake.go). Strangers, nodes of other deployments, and connections meant
// for another node are refused there, logged with the reason, and closed.
package transport
