// Command chaos runs Atoll as real processes, does them harm while they are written to and read from,
// and checks that nothing promised was broken. It ends with a table of figures and PASS or FAIL.
//
// Scenarios of the nine example nodes in three regions:
//
//   - import: a public dataset is imported into one region while kill -9 hits one node per region in
//     turn, leaders first, and one region is stopped, its JetStream deleted, and started again.
//   - netsplit: one region is cut off for a while, and all regions go on writing.
//   - distance: the regions are in network namespaces of their own, joined by a network that delivers
//     packets late and loses some. How long writes take to be seen elsewhere is measured under a steady
//     load, and whether the other regions keep up with as many writes as one takes. It needs root.
//   - sums: counters are incremented in all regions, what fails in one again in another, while nodes are killed
//     and regions cut off; in the end every sum must be exact.
//   - jetstream: the JetStream of one region after the other is wiped, deleted while it runs, rolled back to
//     what it was before, or has bits turned over on all its nodes.
//   - sessions: clients read and write in sessions that move from region to region, while regions are cut
//     off in turn; no session may read or write backwards. The same without the sessions' tokens must be
//     found out.
//
// Afterwards all regions must have equal digests, and every acknowledged write must be in all of
// them.
//
// Scenarios of regions that vote on which regions there are, --nodes each:
//
//   - region: of five regions one is cut off and stopped, and given up while another is down, which alone has some of
//     what it wrote. It goes on, knowing nothing, and must be refused; it must not start again as it was, and comes back
//     under a new epoch with nothing. What it had shipped to anybody must be in all regions in the end, and what it had not
//     in none.
//   - wipe: all processes of one of three regions are killed under load, what they had stored is deleted, and it is given
//     up. What it had acknowledged with regions=1 must be in both others, though one of them could hear of it from the
//     other only, and in the region itself once it has come back with nothing.
//   - catchup: one of three regions is cut off while another is written to, some writes a second or as many as it takes, to
//     few keys or to new ones. It must catch up many times as fast as the backlog arose.
//
// Scenarios of one region of three nodes:
//
//   - stale: leaders are stopped and continued by signals while answers between the nodes take 40 ms,
//     and 48 readers look for a linearizable read that is older than what was acknowledged before it
//     began. With --must-fail the nodes are built with the tag verifyleader, and the run passes only
//     if such a read is found.
//   - kill: kill -9 of leaders and others under 1 000 writes a second and more; no acknowledged write
//     may be lost, none may appear that nobody made, and how long writes pause is measured.
//   - linearizable: 48 clients put, get, delete, and write under conditions, while nodes are killed,
//     stopped and cut off from each other, wholly or one way; the histories of all keys must be
//     linearizable. If one is not, a page in the run's directory shows why.
//   - large: 1 000 clients write values of 1 MiB, the most there may be, and read, scan and batch them;
//     a node is killed until its peers have cut what it lacks from their logs. The nodes' memory must
//     stay under --memory-bound.
//   - diskfull: the nodes' disks are filled, first one, then all, then one to the last byte. Writes must
//     be refused with DISK_FULL, reads go on, and writes resume by themselves. It mounts file systems
//     in memory and so needs root.
//   - corrupt: files of a stopped node are damaged. The node must get what it lost from its peers, if
//     need be at a second start after it has named the damage; nothing wrong may be read.
//
// What must be there is worked out here and in package check, from the dataset and from what was
// acknowledged, by code that shares nothing with the servers. What a scenario chooses at random it
// chooses by --seed, which is printed; when the processes get to run is up to the machine.
//
// Run a scenario with make chaos ARGS="--scenario kill", in short with --quick in addition.
//
//   - main.go, settings.go, scenario.go: the program
//   - deployment.go, inside.go, process.go, links.go: the nodes, made of examples/three-regions, and the ways between them
//   - spread.go, status.go, comeback.go: other deployments, what the regions say of themselves, and having them changed
//   - faults.go: harm to one node of a region, and its undoing
//   - acks.go, memory.go, hotkeys.go: what is measured, and what is written to
//   - writers.go, unique.go, lag.go: the load on several regions and its ledger
//   - import.go, netsplit.go, distance.go, sums.go, jetstream.go, sessions.go, region.go, rejoin.go, wipe.go,
//     catchup.go, stale.go, kill.go, linearizable.go, large.go, diskfull.go, corrupt.go: the scenarios
//   - expect.go, verify.go, equal.go: what must be there, and whether it is
//   - report.go: figures and checks
package main
