package replica

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// Outline is what a delta, or a run, says of itself beside its effects.
type Outline struct {
	Actor crdt.Actor
	// From and To are the first and the last event that it stands for.
	From, To uint64
	// First and Last are the instants of the first and the last event that are left. Only of a delta, and of a
	// run that has its first event, is First that of From.
	First, Last hlc.Time
}

// ReadOutline reads the outline of what EncodeDelta or EncodeRun returned, at a fraction of the cost of decoding
// it. It does not look at the effects: what it accepts may yet be damaged.
func ReadOutline(data []byte) (Outline, error) {
	if !IsRun(data) {
		r, _ := codec.NewReaderOf("delta", data, deltaVersion3)
		dot, at := readDot(r), hlc.Time(r.Uint64())
		if !r.OK() {
			return Outline{}, r.Done()
		}
		return Outline{Actor: dot.Actor, From: dot.Seq, To: dot.Seq, First: at, Last: at}, nil
	}
	r, version := newRunReader(data)
	head, n := readRunHead(r)
	last := Delta{Dot: head.before()}
	o := Outline{Actor: head.actor, From: head.from}
	for i := 0; i < n && r.OK(); i++ {
		last = readRunDelta(r, version, &last)
		if i == 0 {
			o.First = last.Time
		}
	}
	if !r.OK() {
		return Outline{}, r.Done()
	}
	o.To, o.Last = last.Dot.Seq, last.Time
	return o, nil
}

// TimeOf returns the instant of the last event that an encoded run or delta stands for. No instant of an event in it
// is later. What it can read may still be refused by Merge. The error is a *crdt.DecodeError.
func TimeOf(data []byte) (hlc.Time, error) {
	o, err := ReadOutline(data)
	return o.Last, err
}
