package crdt

import "slices"

// EWFlag is an enable-wins flag: it is enabled if some enable was not observed by a later disable. An
// enable concurrent with a disable survives it; that is the tie rule. A flag that nobody enabled is
// disabled, and to disable is to delete.
//
// The state is the dots of the enables that no later enable or disable observed, and one causal
// context, the vector of all events it includes: a dot that the context covers and the flag does not
// have was removed. A flag is thus an add-wins set of at most one element. Disabling leaves no
// tombstone, and nothing waits for garbage collection. The context may cover events that have nothing
// to do with the flag.
//
// Laws: Join is commutative, associative and idempotent; the zero EWFlag is neutral. The state after
// an operation is also its change: to join it elsewhere is to do there what was done here. Size: about
// 6 bytes per actor that enabled concurrently, and the context.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Almeida, Shoker, Baquero, "Delta State Replicated Data Types", JPDC 2018, §7.
type EWFlag struct {
	// dots has at most one dot per actor.
	dots    DotSet
	context VersionVector
	unknown Fields
}

// Enable enables the flag as event d, which the context must not cover yet: it includes all earlier
// events of d's actor. The enable takes the place of those it observed, so that a flag that is enabled
// over and over does not grow.
func (f *EWFlag) Enable(d Dot) {
	f.dots = DotSet{d}
	f.context.Set(d.Actor, d.Seq)
}

// Disable disables the flag, as far as it is known to be enabled.
func (f *EWFlag) Disable() { f.dots = nil }

// Enabled reports whether the flag is enabled.
func (f EWFlag) Enabled() bool { return len(f.dots) > 0 }

// Dots returns the surviving enables.
func (f EWFlag) Dots() DotSet { return f.dots }

// Context returns the events that the flag includes.
func (f EWFlag) Context() VersionVector { return f.context.Clone() }

// Join merges the whole state of another replica of the flag.
func (f *EWFlag) Join(o EWFlag) {
	f.dots = JoinDots(f.dots, o.dots, f.context.Covers, o.context.Covers)
	f.context.Join(o.context)
	f.unknown = f.unknown.Join(o.unknown)
}

// Equal reports whether two flags have the same dots and context.
func (f EWFlag) Equal(o EWFlag) bool {
	return f.unknown == o.unknown && f.context.Equal(o.context) && slices.Equal(f.dots, o.dots)
}

// Clone returns a copy that shares no memory that is ever changed.
func (f EWFlag) Clone() EWFlag { return EWFlag{f.dots, f.context.Clone(), f.unknown} }

// Append appends the flag's encoding:
//
//	version 1 | actors varint | that many (actor varint, seq varint): the context
//	then, to the end: actor varint | seq varint: the surviving enables
//
// Actors ascend in both lists; the context covers the enables.
func (f EWFlag) Append(b []byte) []byte {
	b = appendVersion(b, f.unknown)
	b = appendDots(b, f.context.entries)
	for _, d := range f.dots {
		b = appendDot(b, d)
	}
	return b
}

// DecodeEWFlag reads what Append wrote.
func DecodeEWFlag(data []byte) (EWFlag, error) {
	r, unknown := newReader("ewflag", data)
	f := EWFlag{context: readContext(r), unknown: unknown}
	for r.Len() > 0 {
		d := readDot(r)
		if n := len(f.dots); n > 0 && f.dots[n-1].Actor >= d.Actor {
			r.Fail("actors of enables out of order")
		}
		if !f.context.Covers(d) {
			r.Fail("enable outside of the context")
		}
		f.dots = append(f.dots, d)
	}
	if err := r.Done(); err != nil {
		return EWFlag{}, err
	}
	return f, nil
}
