// Package poison finds what a region wrote while its clock was far ahead, and writes it again in a sound region.
//
// A region that is sound refuses to merge events from the future, and all that follows them. Nothing can change
// their instants (ADR 0020), but what only the poisoned region has can be written anew, as ordinary writes with
// instants of the sound region's. The rest of the cure is to fence the poisoned region and to have it rejoin.
package poison
