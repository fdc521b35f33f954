// Package crdt holds Atoll's replicated data types.
package crdt
