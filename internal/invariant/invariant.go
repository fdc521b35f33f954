// Package invariant stops the process when the program contradicts itself.
//
// It is for the programmer's errors only: what comes from users, peers or disks is an error value.
// The checks stay in production, because a process that went on from a state its author held to be
// impossible would spread it to other replicas.
package invariant

import "fmt"

// Check panics with the message unless ok. The message names the states that contradict each other,
// never users' keys or values.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant violated: " + fmt.Sprintf(format, args...))
	}
}
