// Package crdt holds Atoll's replicated data types: values that regions change independently and
// that merge to the same result everywhere, without losing updates. It is pure: no storage, no
// clock, no goroutines.
//
// Those of the first family are decided by time: an event's (time, actor), which rises along
// everything an author has seen, so that a writer always beats what it could see. Their deletes leave
// tombstones, which go once no earlier event can still arrive.
//
//   - LWWRegister: the write with the largest (time, actor) wins; concurrent writes lose.
//   - MaxRegister, MinRegister: the largest, the smallest number written since the last delete.
//   - LWWMap: fields, each decided by the last put, remove or delete of all.
//   - ZSet: an LWWMap from members to scores, in order of (score, member).
//   - Timeline: entries in order of time that only a trim takes away.
//   - HLL: an estimate of how many different elements were added; deletes win.
//
// Those of the second are decided by what was observed: a remove takes away what its author had seen,
// and nothing else. They have no tombstones.
//
//   - Counter: the sum of all additions that no reset has observed.
//   - BoundedCounter: a counter at or above 0, by rights that actors hold and can transfer.
//   - AWSet: the elements of which some add was not observed by a later add, remove or clear.
//   - MVRegister: every write that no later write or delete has observed.
//   - EWFlag: enabled if some enabling was not observed by a later disabling.
//   - CounterZSet: members whose scores are Counters, in order of (score, member).
//   - ORMap: paths to values of other types, with removal of whole subtrees. What is here is a model with
//     sets, counters, registers and flags, which are those whose removal depends on what was observed.
//
// # Context
//
// Every command of a region in a partition is an event named by a Dot (actor, sequence number). A
// VersionVector says which events a replica has applied; events of one actor are applied in order
// and without gaps, so one vector per partition is the whole causal context, of every key in it at
// once. An event that the vector covers and the state does not show was removed: removes from sets
// and counters leave no tombstone, and no key has a clock of its own. This holds as long as a dot
// never names two events, and the vector advances together with the effects.
//
// # Invariants
//
// Joins are commutative, associative and idempotent, and ties are broken by dots, never by arrival.
// Nothing depends on map order, time or chance. Counters are exact or refuse (ErrCounterOverflow).
//
// # Formats
//
// Each Append method draws its encoding. All begin with a version byte, and one value has one
// encoding: varints are minimal, and actors, dots and elements ascend. Decoders refuse everything
// else with ErrCorrupt, and allocate no more than a small multiple of their input. The vectors in
// testdata hold for ever; a change of format is a new version beside the old one. What can be added to
// a value without a new version are Fields: the version byte of every value but VersionVector and DotSet,
// which are causal context, may have the flag 0x80, and fields behind it as bytes.
//
// # Files
//
// dot.go and vector.go are the context, fields.go is what newer programs add; the other files are named after the types in them.
// Package crdt/replica keeps values of these types in a partition's storage.
//
// # Sources
//
// Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of Convergent and Commutative
// Replicated Data Types", INRIA RR-7506, 2011. Almeida, Shoker, Baquero, "Delta State Replicated Data
// Types", JPDC 2018. Gonçalves, Almeida, Baquero, Fonte, "Concise Server-Wide Causality Management for
// Eventually Consistent Data Stores", DAIS 2015, for one context over many keys. Weidner, Almeida, "An
// Oblivious Observed-Reset Embeddable Replicated Counter", PaPoC 2022, for what a reset should mean;
// the algorithm here is another one.
package crdt
