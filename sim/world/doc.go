// Package world runs two to five regions against each other in one event loop with one seeded source of chance,
// while everything goes wrong: the same seed gives the same run, bit for bit.
//
// What runs is the real code: the step functions of crossregion/protocol with their frames, region.Machine and what
// its leader decides (region.Steps), crdt/replica over a Memory, and hlc. What is made up is what surrounds it:
//
//   - group.go: Raft in a region, as a log that cannot be lost, whose leaders change, whose proposals are done,
//     not done or have an unknown outcome, and whose replicas lag, crash, and are set up from snapshots;
//   - network.go: links that lose, repeat, delay, reorder, damage and hold frames, in each direction by itself;
//   - stream.go: JetStream, which loses what it has acknowledged, and readers that know only a position;
//   - site.go: nodes with clocks of their own, which lose what was not flushed when they crash;
//   - session.go, watermark.go, relay.go, outbox.go and transfer.go: the loops of package crossregion, and that of a leader for its
//     outbox. What a partition answers is read through crossregion/partitions, as in the program;
//   - membership.go and rejoin.go: the voters of crossregion/membership, as a log of which regions hear late, what a region
//     does about it as cmd does, and operators;
//   - homeplan.go, homes.go and homemove.go: clients of a namespace that has a home, and operators who move it, as region/api does.
//
// A quarter of the plans bounds outboxes so tightly that regions are evicted, and take over states. A third folds outboxes
// past some hundred bytes, a few entries at a time, and their runs again. In a third, regions that miss what an origin does not give
// soon ask third ones, for envelopes and then for states: there a healed majority must come to share what any of it has, also
// of regions that are away. In a fifth regions are given up or leave, and come back under another epoch. In a fifth a namespace has
// a home that moves; in half of these, clients write to it before they know of that, so that writes come too late. Where regions are given
// up, too, in half of them only one is left, and takes the home over.
//
// A seed draws a Plan (plan.go): how many regions, what types of values, which faults and how often. Half of the
// plans have no disasters. Faults last as long as the plan says (faults.go), then only a majority of the regions is healed and must
// converge, then all are (phases.go). workload.go draws what clients write.
//
// # Invariants
//
// The ledger (ledger.go, meaning.go) is what truly happened, kept apart from the code under test. After every entry
// of a region's log check.go holds the region against it: a dot names one event for ever; events are applied in
// order, each once; no watermark, and no trimming, goes beyond what is applied; instants rise; replicas of a region
// that applied the same are equal byte for byte, also after a crash; equal vectors mean equal digests; collecting garbage
// changes no value; and, where nothing was applied ahead of its causes, values are what internal/spec says.
// What regions promise each other when one of them is given up is in closing.go: a cut is the most that any has that takes
// part; nothing beyond it is anywhere among them; an actor is released when all are at its cut; no outbox waits for one that
// is, nor passes what a region that joins needs; and who knows that it is given up issues nothing.
// What a home promises is in homebook.go and homecheck.go: there is a single copy of each key, which one region at a time writes to, under an
// epoch of its own; every condition, and every read at a home, is about that copy; whoever acts as home has all that homes before
// acknowledged; a home is taken over only by who is alone; and that copy is what all regions have in the end. What was given up with
// a region never was in it.
// In the end everything has arrived everywhere, and nothing is left of what was deleted.
//
// # Adding to it
//
// A mechanism gets a file with what the world does for it, a Kind of what can happen to it if there is one (plan.go,
// faults.go), and what it promises in check.go or phases.go.
package world
