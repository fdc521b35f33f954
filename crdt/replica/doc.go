// Package replica is one region's replica of one partition: it runs clients' operations, merges the
// deltas of other regions, and answers reads, all as a pure function over an ordered KV.
//
// A Replica lives as long as one transaction of its storage: Open reads its meta pair, Execute and
// Merge change objects, Flush writes the meta pair back, and the caller commits. Whoever applies the
// same calls in the same order has the same bytes, so a region's replicas replicate the calls by Raft.
// No clock is read: instants come with the calls.
//
// # Invariants
//
//   - A region's operations with an effect are numbered 1, 2, 3 … (their dots), and their instants
//     rise. Each makes one Delta.
//   - Merge applies an actor's deltas in order, without gaps, each once. Those of different actors may
//     arrive in any order: what a delta removes before it arrived is remembered until it arrives.
//   - The version vector covers exactly what was applied. Replicas with equal vectors hold equal
//     values, and have equal Digests.
//   - An Execute or Merge that is refused has changed nothing.
//   - After the last event with effects every replica makes at most one event more, without effects, and one for every
//     instant at which something expires. Once these have arrived everywhere, nothing is stored of what was deleted.
//
// # Storage
//
// The first byte of a key is its table; I, L, O, P and Q are left to others. "ns, key" stands for two
// names, each with 0x00 written as 0x00 0xFF and ended by 0x00 0x01, so that a scan meets keys in
// byte order whatever their type. Fixed-width integers are big-endian; dot is actor and sequence
// number as varints. Values begin with a version byte, which is 1, or 2 if a header has elements in it.
//
//	key                                        value
//	M                                          what meta.append says; version 4
//	K | ns, key | type 1                       type 1: crdt.LWWRegister
//	                                           type 2: last dot | crdt.Counter
//	                                           type 3: last dot | kid | number of elements
//	                                           types 4 and 6: last dot | (dot | time 8 | value bytes)*
//	                                           type 5: last dot | crdt.BoundedCounter
//	                                           type 7: last dot | crdt.MaxRegister
//	                                           type 8: last dot | crdt.MinRegister
//	                                           types 9, 11: fieldsHeader, which says how
//	                                           type 12: last dot | kid | members | members with rows only
//	                                           type 10: last dot | leaves that readers see | other leaves
//	                                           type 13: last dot | crdt.HLL
//	                                           type 14: last dot | kid | number of entries | mark 8
//	                                           128 more, the deadline of a value: time 8 | dot | instant 8, or nothing
//	N | ns, key | 10 | path | type 1           a leaf of the map under the key, as in table K; path stands
//	                                              for names, as ns and key do, and 0x00 0x00 behind them
//	E | kid 8 | element                        type 3: crdt.DotSet
//	                                           types 9, 11: crdt.LWWRegister, maybe a tombstone
//	                                           type 12: crdt.Counter, the member's score
//	E | kid 8 | time 8 | actor 4 | seq 8       type 14: an entry's bytes
//	Z | kid 8 | score 8 | member               1: the members of a sorted set in order of their scores
//	R | actor 4 | seq 8 | ns, key | t | elem   1: this add was removed before it arrived; t is 3, or 4
//	                                              or 6 with the empty element, or for a leaf 10 | path | t
//	A | actor 4 | by actor 4 | seq 8           1 | seq: the first event of by that had seen this event of actor,
//	                                              which is still to come
//	B | number 8                               Loser: a value that lost against a concurrent one
//	C | ns | type 1 | actor 4 | actor 4        1 | count: how often events of the two were decided between
//	U | owner 4 | reset dot 12 | key of table K or N | elem
//	                                           1: a counter's row is kept until its owner has seen the reset
//	D | ns, key | t                            crdt.VersionVector: a clear that covers adds still to arrive;
//	                                              t is 3, or for a leaf 10 | path | 3
//	G | kid 8                                  1 | the last key swept: no object has these elements any
//	                                              more; sweep them
//	X | instant 8 | key of table K             1: the register, or what the deadline is of, expires then, and nobody was
//	                                              told yet; 2: part of it is deleted. A register does
//	                                              not before it was written
//	V | instant 8 | key of table K             1: the deadline passed then; the region that set it has yet to delete
//	Y | instant 8 | key of table K or N | rest 1: the register was deleted or expired then; remove it
//	                                              once no event from before can arrive. Of types 7 and 8:
//	                                              a delete, or a write that is not the value, is of then;
//	                                              of types 9 and 11: the field that rest names was
//	                                              removed, or all of them if there is no rest; of type 14:
//	                                              before the mark; of deadlines: one that says nothing is of then
//
// The elements of a small collection (types 3, 9, 11, 12 and 14) are inside its header, at most 64 of them and
// 2 KiB: in place of a kid come, at the end, (name bytes | value bytes)* with what table E has otherwise.
// Their order by score is not stored. The first change that makes them more moves all to table E, and they
// stay there as long as there are any.
//
// There, a set's elements are under its kid, a number local to the replica's region and never reused, so
// that an operation reads and writes its own elements only, a clear takes constant time, and a long
// key is not repeated. Every Execute and Merge sweeps up to 256 elements of cleared sets.
//
// A sorted set of counters (type 12) deletes member by member, because a reset names the rows that it
// observed. A member with no addition left stays in table E while it has rows: a reset whose addition is
// still to come, or the reset row of another actor that may go on from it, because it has not told yet that
// it has seen the reset (see crdt.Counter.Settle).
// Such members have no score in table Z. There is no index backward: descend.go reads table Z from its end.
//
// A leaf of an observed-remove map (type 10) is an object of its type under a longer key, and whatever is
// said above of objects of table K holds for those of table N, but that they do not expire: the map does. So the maps
// need no context of their own, and a remove of a subtree is the deletes of its leaves in one delta, which is
// why it is bounded. The header counts leaves so that whether there is a map is known without looking.
//
// # Concurrency
//
// A delta says by how much its author's vector has risen since the last, so that a replica knows the
// vector of every actor as of its last event here. An event e of actor a has seen an event of b numbered m
// if that vector of a is at m or more when e is merged. That the event here had seen e is only possible if
// it came before e against causality; table A remembers for that what was seen ahead. Neither of the two:
// they are concurrent. Merges that have to decide between concurrent events, and not just to apply both,
// are counted in table C, and the values that lose are kept in table B (conflicts.go). Both are of this
// region only: they count the merges that happened here.
//
// # Expiry
//
// A register's write says when it expires: it is absent from then on, and goes behind the cut. All other types have
// a deadline beside the value, of which the last write holds. When it has passed, readers do not see the value, and an
// ordinary delete, an event of one region, takes it away and ends the deadline that it saw. It deletes as of the
// deadline where the type is decided by time and instants are its own affair: of maps, sorted sets and
// timelines. Maxima, minima and HyperLogLogs merge events up to the cut into one, so that no event may delete as
// of an instant before its own.
//
// # Deltas
//
// A delta's encoding is canonical like those of package crdt. "bytes" are a varint length and the
// bytes; a varint n with flag f is n<<1|f.
//
//	delta    version 1 | dot | time 8 | number of effects | effects
//	         version 2 | dot | time 8 | number of dots seen | dots | number of effects | effects | (number | bytes)*
//	         version 3 | dot | time 8 | number of dots seen | dots | number of writes | writes | and so on as in 2
//	write    operation id 16 | fingerprint 8 | sequence number less than the delta's by | time less by, unless it is
//	         the delta's | number of versions | (0: none, or 1 + (events before the write's last, with flag 1 if
//	         the version is a register's))*
//	effect   namespace bytes | key bytes | type 1 | by type; 10 | path bytes | type 1 | by type for a leaf:
//	 1       flags 1 (1 deleted, 2 expires, 4 fields, 8 home) | crdt.Fields as bytes, if flagged | expires 8, if flagged
//	         home, if flagged | value bytes
//	 2       crdt.Counter as bytes: the changed rows
//	 3       flags 1 (1 cleared) | crdt.VersionVector as bytes, if flagged | number of elements | elements
//	 4, 6    number of removed dots, with flag 1 if added | dots | value bytes, if added
//	 5       crdt.BoundedCounter as bytes: the author's row
//	 7       crdt.MaxRegister as bytes: the write and the delete before it, or the delete
//	 8       crdt.MinRegister as bytes, likewise
//	 13      crdt.HLL as bytes: the registers raised, or the delete
//	 14      0 | entry bytes, or 1 | instant of a trim 8
//	element  bytes | number of removed dots, with flag 1 if added | dots
//	 9, 11   0: put | number of fields | (name bytes | value bytes)*
//	         1: remove | number of fields | (name bytes)*
//	         2: delete all that is not after it
//	         3: delete all that is not after the instant 8
//	 12      number of members | members
//	member   bytes | crdt.Counter as bytes: the changed rows
//	128 more 0: the value stays; 1: it expires at the instant 8; 2: the deadline of time 8 | dot is ended
//
// A register's, a field's and an entry's time and dot, and the dot and time of what is added, are the
// delta's. A delta without effects is a tick (tick.go). A path's bytes are its names, each as bytes. Effects ascend by namespace, key, path, name by name,
// and type; elements, fields, members and dots ascend. What is added to types 4 and 6 takes the place of the
// actor's earlier ones, which are not named.
//
// # Writes
//
// A client that did not hear of its write may repeat it in another region. So a delta names the writes that it
// completes (writes.go), by a hash of their operation ids, and who remembers those answers a retry as done. If both
// regions executed it before they heard of each other, it matters for what adds up only, and there one of them takes
// its own addition back (undo.go): from a counter by a crdt.Void, which a reset of the addition covers, too; from a
// bounded counter by its own totals; from a timeline by removing the entry, of which nothing is left. Who remembers,
// and which region takes back, is up to the caller.
//
// # Homes
//
// The registers of a namespace can have a home: one region that all writes go to, so that conditions hold for all
// regions (homes.go). Writes carry the epoch of the home, by which they are ordered first; a home's successor has an
// epoch of its own. What a former home wrote and its successor did not have in time, it refuses where it merges it, keeps as
// a loser, and writes again what there is: an own event, so that regions that took the late write have what the home has.
//
// # Runs
//
// A run stands for the deltas of one actor from one event to another, without those of their effects that
// later ones among them make superfluous (see Fold). Merging it gives the same values, vector and digest as
// merging them, also where some were applied before: nothing moves from a later to an earlier event, and
// what is repeated is only what was removed.
//
//	run     64, or 65 with writes | actor | from | number of deltas | deltas | number of namespaces | namespaces
//	delta   sequence number less the one before and 1, at first less from, with flag 1 if extended | time |
//	        if extended: number of dots seen | dots | in a run with writes, number of writes | writes |
//	        fields of newer programs bytes
//	time    milliseconds since the one before, at first since 0 | logical part, less that of the one before
//	        and 1 if the milliseconds are the same
//	namespace  bytes | number of objects | objects
//	object  how many bytes of the key are those of the one before | the other bytes | type 1 | number of
//	        effects | effects
//	effect  place of its delta less that of the one before and 1, at first its place | as in a delta by type
//
// All numbers are varints. A counter's change that is one entry of the author alone is written as
// 0 | seq-gen | sum zigzag. Namespaces and objects ascend.
//
// # Resyncs
//
// A replica can take over the state of another region's, its donor, in chunks, in the order of Positions, while it
// goes on being written and merged into. What is at a place includes the events of the vector, and of the donors
// of all layers whose cursor is behind the place: a layer is a resync that is under way, or was given up. All that
// asks whether an add was there before asks so (meta.includes), and what a delta does where it is included already
// is left out (work.fresh). At the end the vector takes in the donor's. See resync_chunk.go for the encodings.
//
// # Files
//
// op.go, delta.go and errors.go are what callers exchange with a Replica; execute.go and merge.go are
// the two ways to change it; read.go, explain.go and digest.go read it. kind.go says what a type must
// be able to do here, elements.go keeps the elements of collections, and register.go, counter.go, set*.go, siblings*.go, timeline*.go and whole.go do it,
// the last for bounded.go and extreme.go, whose values are kept whole; for maps and sorted sets map.go,
// zset.go and fields*.go, and counterzset*.go; ormap*.go keep maps of leaves. descend.go reads backward. keys.go, meta.go and object.go are the storage;
// causality.go knows who has seen what, conflicts.go and losers.go keep what merges decided, homes.go says which region orders writes, settle.go
// drops what resets leave; tick.go tells other regions how far this one is; expiry.go and overdue.go are about what has expired, deadline.go keeps when; check.go says what a delta may be; overlay.go makes batches all
// or none; headers.go remembers what keys hold; memory.go is a KV for tests. run*.go are runs, and fold*.go say
// for each type what is superfluous in one. position.go puts all parts of a state in one order, of which fingerprint.go
// makes ranges; resync*.go transfer it, and future*.go look through it for what a clock made that was ahead.
//
// # Sources
//
// Brown, Lakhani, Place, "Big(ger) Sets: decomposed delta CRDT Sets in Riak", PaPoC 2016, for one pair
// per element. For the context, see package crdt.
package replica
