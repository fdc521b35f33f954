package poison

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Outcome says what became of a value.
type Outcome string

// What can become of a value.
const (
	// Written means that the sound region has it now, by a write of its own; Would that it would get it, in a dry run.
	Written Outcome = "WRITTEN"
	Would   Outcome = "WOULD BE WRITTEN"
	// Same means that the sound region holds the same already.
	Same Outcome = "ALREADY THERE"
	// Taken means that the sound region has applied the event, and needs no help.
	Taken Outcome = "TAKEN"
	// Expired means that the poisoned region does not show the value any more.
	Expired Outcome = "EXPIRED"
	// Changed means that the sound region holds something that the poisoned one had not seen when it wrote. It is kept.
	Changed Outcome = "CHANGED SINCE"
	// OtherType means that the sound region holds a value of another type under the key. It is kept.
	OtherType Outcome = "OTHER TYPE"
	// NoRegister means that values of this type are merged by hand.
	NoRegister Outcome = "NO REGISTER"
	// Home means that one region orders the writes of the namespace, and only it can write the value.
	Home Outcome = "HAS A HOME"
)

// Kept reports whether only the poisoned region has the value, still.
func (o Outcome) Kept() bool {
	return o == Changed || o == OtherType || o == NoRegister || o == Home
}

// Rewriter writes registers again in a sound region.
type Rewriter struct {
	// Sound is a client of the region, and Region its name.
	Sound  *client.Client
	Region string
	// Overwrite has values written also if the region holds something else that the poisoned one had not seen.
	Overwrite bool
	// DryRun has nothing written.
	DryRun bool
}

// Rewrite writes a value again that was listed with what it holds, and says what became of it.
//
// A register is written if what the sound region has of it is what its author had applied then, or nothing, on the
// condition that it stays so until then. The operation id is made of the key and the event: so repeating a write
// whose outcome is unknown does it once. A delete is done again, too. The time to live is what was left of it in the
// poisoned region when it was listed, by that region's clock.
//
// An error means that nothing is known of the value's fate but that it can be tried again.
func (w *Rewriter) Rewrite(ctx context.Context, v *atollv1.FutureValue) (Outcome, error) {
	if outcome := w.alone(v); outcome != "" {
		return outcome, nil
	}
	in := w.Sound.Namespace(v.GetNamespace())
	there, err := in.Explain(ctx, v.GetKey())
	if err != nil {
		return "", fmt.Errorf("read what %s holds: %w", w.Region, err)
	}
	now, err := in.Get(ctx, v.GetKey())
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		return "", fmt.Errorf("read what %s holds: %w", w.Region, err)
	}
	exists := err == nil
	switch {
	case exists && now.Type != client.TypeRegister:
		return OtherType, nil
	case holdsSame(v.GetRegister(), exists, now.Bytes):
		return Same, nil
	case !w.Overwrite && !hadSeen(v, there):
		return Changed, nil
	case w.DryRun:
		return Would, nil
	}
	version := ""
	if o := registerOf(there); exists && w.Overwrite {
		version = now.Version
	} else if exists && o != nil {
		// What was judged, should something else have been written before it was read.
		version = o.GetVersion()
	}
	return w.write(ctx, in, v, version)
}

// alone returns what becomes of a value whatever the sound region holds; empty if that matters.
func (w *Rewriter) alone(v *atollv1.FutureValue) Outcome {
	switch {
	case !slices.Contains(v.GetLacking(), w.Region):
		return Taken
	case v.GetHome():
		return Home
	case v.GetRegister() == nil:
		return NoRegister
	case v.GetRegister().GetExpired():
		return Expired
	default:
		return ""
	}
}

// holdsSame reports whether a region holds what a register does: its value, or nothing.
func holdsSame(reg *atollv1.FutureRegister, exists bool, value []byte) bool {
	return exists != reg.GetDeleted() && (!exists || bytes.Equal(value, reg.GetValue()))
}

// write writes a register on the condition that what is there has a version, or that nothing is if that is empty.
func (w *Rewriter) write(ctx context.Context, in *client.Client, v *atollv1.FutureValue, version string) (Outcome, error) {
	reg := v.GetRegister()
	opts := []client.WriteOption{client.WithOpID(OpID(v))}
	if version == "" {
		opts = append(opts, client.IfAbsent())
	} else {
		opts = append(opts, client.IfVersion(version))
	}
	var err error
	if reg.GetDeleted() {
		_, err = in.Delete(ctx, v.GetKey(), append(opts, client.OfType(client.TypeRegister))...)
	} else {
		if reg.GetTtl() != nil {
			opts = append(opts, client.WithTTL(max(reg.GetTtl().AsDuration(), time.Millisecond)))
		}
		_, err = in.Put(ctx, v.GetKey(), reg.GetValue(), opts...)
	}
	var refused *client.Error
	switch {
	case err == nil:
		return Written, nil
	case errors.Is(err, client.ErrVersionMismatch), errors.Is(err, client.ErrAlreadyExists), errors.Is(err, client.ErrNotPresent):
		return Changed, nil
	case errors.Is(err, client.ErrWrongType):
		return OtherType, nil
	case errors.As(err, &refused) && refused.Metadata["field"] == "options.op_id":
		return Changed, nil // it was written a moment ago, and somebody has written over that
	default:
		return "", fmt.Errorf("write in %s: %w", w.Region, err)
	}
}

// OpID returns the operation id under which a value is written again: the same for the same event of the same key.
func OpID(v *atollv1.FutureValue) string {
	h := sha256.New()
	text := func(s string) { h.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)) }
	text(v.GetNamespace())
	text(v.GetKey())
	text(v.GetEvent().GetRegion())
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, v.GetEvent().GetEpoch()), v.GetEvent().GetSeq()))
	return "poison-" + hex.EncodeToString(h.Sum(nil)[:16])
}

func registerOf(there *atollv1.ExplainResponse) *atollv1.ExplainedObject {
	for _, o := range there.GetObjects() {
		if o.GetRegister() != nil {
			return o
		}
	}
	return nil
}

// hadSeen reports whether whoever wrote a value is known to have applied what the sound region has of the register.
//
// The outbox tells what was applied since its first event, and the sound region what had been by an event before this
// one: together that is all, unless the sound region has been evicted from the outbox. Then too little is known.
func hadSeen(v *atollv1.FutureValue, there *atollv1.ExplainResponse) bool {
	o := registerOf(there)
	if o == nil {
		return true
	}
	winner, event := o.GetRegister().GetWinner(), v.GetEvent()
	for _, seen := range v.GetRegister().GetSeen() {
		if seen.GetRegion() == winner.GetRegion() && seen.GetEpoch() == winner.GetEpoch() && seen.GetSeq() >= winner.GetSeq() {
			return true
		}
	}
	for _, heard := range there.GetHeard() {
		if heard.GetRegion() == event.GetRegion() && heard.GetEpoch() == event.GetEpoch() && heard.GetSeq() < event.GetSeq() {
			return true
		}
	}
	return false
}

// ErrUnsound means that a region has events from the future itself: what it writes would be of the future, too.
var ErrUnsound = errors.New("the region has values from the future itself")

// Present returns a region's name, and what it takes for the present, if it is sound.
// Error: ErrUnsound.
func Present(ctx context.Context, c *client.Client) (region string, present time.Time, err error) {
	for page, err := range c.FutureValues(ctx, client.FutureQuery{Limit: 1}) {
		if err != nil {
			return "", time.Time{}, err
		}
		region = cmp.Or(region, page.GetRegion())
		present = time.UnixMilli(int64(page.GetPresentMs()))
		if errs := page.GetErrors(); len(errs) > 0 {
			return region, present, fmt.Errorf("partition %d of %s: %s: %w", errs[0].GetPartition(), region, errs[0].GetError().GetMessage(), client.ErrUnavailable)
		}
		if ahead := page.GetClockAhead().AsDuration(); ahead > page.GetAhead().AsDuration() {
			return region, present, fmt.Errorf("%w: its clock is %v ahead", ErrUnsound, ahead)
		}
		if len(page.GetValues()) > 0 {
			v := page.GetValues()[0]
			return region, present, fmt.Errorf("%w: %q of %s, %v ahead", ErrUnsound, v.GetKey(), v.GetNamespace(), v.GetAhead().AsDuration())
		}
	}
	return region, present, nil
}
