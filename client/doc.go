// Package client is the Go SDK of Atoll.
//
//	c, err := client.New([]string{"http://127.0.0.1:7480"})
//	defer c.Close()
//	version, err := c.Put(ctx, "greeting", []byte("hello"))
//	value, err := c.Get(ctx, "greeting")
//	total, err := c.Counter("visits").Add(ctx, 1)
//
// # Endpoints
//
// Any node of a region serves any key, so one address is enough to begin with; more than one survive a
// node that is down just then. From them a client learns the region's nodes and leaders, and follows
// them while it is used: requests go to the leader of their key's partition, and reads that any
// replica may serve to all of them in turn. Addresses that cannot be reached from here cost nothing. All endpoints of a client must belong to one region: a write is linearizable, and a
// retried write is recognised, within a region. Use one client per region to talk to several.
//
// # Streams
//
// Gets, Puts, Deletes and the operations of all other types share one HTTP/2 stream per node. What
// waits to be sent goes out as one message, so a request's cost falls with the number of callers.
// Requests go one by one where streams do not get through, and with [WithUnary].
//
// # Outcomes and retries
//
// A write has three outcomes: done (nil error), not done, and unknown. A client gives every write an
// operation id, which lets it retry an unknown outcome without doing the write twice, and it does so
// until the context ends. What is left is an error that says which of the two it is: errors.Is(err,
// [ErrOutcomeUnknown]) means that the write may take effect, may have, or may not; every other
// error of a write, [ErrInternal] apart, means that it was not done. An unknown write can be tried
// again, safely for 15 minutes, with [WithOpID] and the id found in the error's metadata "op_id".
//
// That may be done through a client of another region, when the first one is down or cut off. If that region has
// heard of the write, it answers that it is done ([Info.Elsewhere]). If it has not, it does it, and the regions find
// out when they hear of each other: what both added to a counter, a score, a bounded counter or a timeline one of
// them takes back, and of everything else one write is left as ever. Until then both count. Not taken back are
// transfers between bounded counters' rights.
//
// Errors are of type [*Error] and match the package's sentinels with errors.Is.
package client
