// Package wan puts distance between processes on one machine: a TCP proxy that delivers bytes late,
// and not at all while it is cut.
//
// A Link stands for the path between two regions. Every byte takes Delay one way, and a new
// connection costs a round trip before that, as TCP's handshake would. Cut drops the path silently, as
// a netsplit does: nobody is told, connections stay open, bytes wait, and whoever dials waits too. Heal
// lets everything that waited go on in order. Either way can be cut alone. What one direction of one
// connection may hold is bounded; past it the sender feels back pressure, as from a full TCP window.
//
// A Net does the same for packets: network namespaces joined so that each packet is late and some get
// lost, and the kernel's TCP has to cope.
//
//   - link.go: listening, cutting and healing
//   - pipe.go: one connection
//   - net.go: namespaces
package wan
