// Package check judges what clients saw. It knows what a register promises and nothing of how Atoll
// keeps it, and shares no code with the servers.
//
//   - rising.go: one key, rising numbers: is a read older than what was acknowledged before it began
//   - ledger.go: a key for every write: is anything lost, has anything appeared that nobody wrote
//   - session.go: calls of sessions: is there an order of writes in which none goes back
//   - history.go, linear.go: whole histories of a key, judged by porcupine
package check
