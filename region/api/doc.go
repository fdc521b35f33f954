// Package api serves Atoll's contract: the Connect services of one node, on one http.Handler.
//
// Any node takes any request. A request is served here if this node leads the key's partition, and
// is otherwise sent on as it is to the node that does, at most once (route.go): a node that was asked
// by another either serves or says who does. What no one did is tried again until a leader is there
// or the deadline; what someone may have done is tried again only with an op_id.
//
// Reads say what they need (levels.go). A linearizable one goes to the leader, and to a majority of the
// replicas when no leader is found for a second; bounded and eventual ones are served by any replica.
//
// A pipeline is the way for clients with many requests: its reads share views, its writes wait in the
// batcher and nowhere else, and its answers are packed. What this node cannot serve makes a detour
// through the unary RPC. A watch merges the feeds of partitions here and at other nodes; what a slow
// client does not take waits in the feeds, which forget.
//
// Every error that leaves this package is in one table (errors.go), has a reason, and says what to
// do next. An error of another node is authored anew with the same code, reason and metadata.
//
//	server.go    the services, the handlers and what surrounds every call
//	grpc.go      the same handlers behind grpc-go's transport, for a port of its own
//	errors.go    the table of errors; causes.go: which error of other packages is which of them
//	limits.go    what is refused before anything is done
//	route.go     to whom a request goes; peers.go: the other nodes of the region; trunk.go: the
//	             pipeline to each of them, over which clients' requests are sent on
//	levels.go    what a read can ask for, and where it is served
//	reads.go, writes.go, batch.go, scan.go    the KV service's calls
//	pipeline.go  a stream of requests; pipeline_serve.go: how they are served; pipeline_send.go: answers
//	watch.go     a stream of changes; watch_follow.go: where they come from; watch_cursor.go: its cursor
//	cluster.go   the Cluster service
//	regions.go, describe.go    the Regions and Peer services
//	health.go    health for people, load balancers and grpc.health.v1
package api
