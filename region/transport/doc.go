// Package transport connects the nodes of a region: a few connections between two nodes carry the
// messages of all their Raft groups. It knows nothing of Raft.
//
// A node dials its own connections to each other node: one for control, two for bulk, and one for each
// transfer. It asks on them, and the listener answers. So what is large never holds up what is urgent,
// and a connection lost means the same to both ends.
//
// A connection begins with the dialer's hello, which the listener answers with one byte before
// anything else is said (handshake.go). Strangers, nodes of other deployments, and connections meant
// for another node are refused there, logged with the reason, and closed. Then frames go both ways
// (frame.go): each carries all messages that wait at its sender (wire.go). A malformed frame closes the
// connection; a message for a group that is not there is answered with an error.
//
// Nothing waits for ever: queues are bounded and refuse, calls are given up after seconds, and so are
// connections to nodes that fall silent. A node that cannot be reached is tried again when there is
// something to say to it, after a pause that grows to half a second (link.go).
package transport
