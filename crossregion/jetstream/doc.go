// Package jetstream carries package crossregion's frames over NATS JetStream: Server embeds one of a
// region's NATS servers, Link is the node's end of the streams.
//
// Every region has its own JetStream with one stream, and other regions pull from it as ordinary
// clients; no server of one region knows any of another. Names, for region 2 and partition 17:
//
//	stream   atoll-deltas-2, with metadata atoll.inc, chosen anew by whoever creates it
//	subject  atoll.delta.2.17   frames, in the stream
//	         atoll.hb.2         ticks of its nodes
//	         atoll.fetch.2.17   requests for a part of an outbox
//	         atoll.wm.2         watermarks reported to it
//
// JetStream is not trusted: an acknowledged message may be gone, a stream may be another one of the
// same name, a consumer may wait for ever. What follows from that is said where it is dealt with:
// stream.go (incarnation), inlet.go (position, gaps, silence), conn.go (half-open connections).
package jetstream
