// Package ingest streams records out of files and into Atoll.
//
// A [Reader] takes NDJSON, a JSON array or CSV apart into records, each of bounded length, and names
// what it cannot read by line instead of stopping. A [Mapper] makes writes of a record. Batches of
// writes go to a [Sink], several at once, each under an operation id that is the same whenever the
// batch is sent again, so that a counter counts every record once:
//
//	input -> Reader -> Mapper -> batcher -> window -> workers -> Sink
//	                                          |                   |
//	                                      checkpoint <---- acknowledged
//
// Everything before the window is a pure function of the input and the settings. That is what makes
// an import resumable: a second run reads the input again, makes the same batches, and leaves out
// those that the checkpoint says were acknowledged.
//
// Files: format, lines, ndjson, array, csv (readers); template, mapping, entry (records to writes);
// batch; window, checkpoint (what is acknowledged); importer, deliver (the run).
package ingest
