// Package reserve watches how much space a directory's disk has left. A full disk ends a node, since
// after a failed write nobody knows what the disk holds; so writes are refused while there is still
// room to flush, to cut the log, and to delete.
package reserve
