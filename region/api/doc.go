// Package api serves Atoll's contract: the Connect services of one node, on one http.Handler.
//
// Any node takes any request. A request is served here if this node leads the key's partition, and
// is otherwise sent on as it is to the node that does, at most once (route.go): a node that was asked
// by another either serves or says who does. What no one did is tried again until a leader is there
// or the deadline; what someone may have done is tried again only with an op_id.
//
// Every error that leaves this package is in one table (errors.go), has a reason, and says what to
// do next. An error of another node is authored anew with the same code, reason and metadata.
//
//	server.go    the services, the handlers and what surrounds every call
//	errors.go    the table of errors; causes.go: which error of other packages is which of them
//	limits.go    what is refused before anything is done
//	route.go     to whom a request goes; peers.go: the other nodes of the region
//	reads.go, writes.go, batch.go, scan.go    the KV service
//	regions.go, describe.go    the Regions and Peer services
//	health.go    health for people, load balancers and grpc.health.v1
package api
