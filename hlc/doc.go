// Package hlc is a hybrid logical clock: instants that never run backwards, follow the wall clock
// as closely as they can, and order every event after all events its author had seen.
//
// A Time is 64 bits, and its numeric order is its order:
//
//	 63                                  16 15            0
//	+--------------------------------------+---------------+
//	| milliseconds since the Unix epoch    | logical       |
//	+--------------------------------------+---------------+
//
// The logical part counts events within one millisecond; when it overflows it carries into the
// milliseconds, so that adding one is always "the next instant". 48 bits of milliseconds last until
// the year 10889.
//
// Skew between clocks decides only between concurrent events: an event always exceeds what its
// author had observed, whatever the wall clocks say.
//
// The package is pure: the wall clock is given to it. Steady keeps a wall clock that was set wrong from taking a Clock
// along: what a Clock has issued it never takes back.
//
// Ref: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks", OPODIS 2014.
package hlc
