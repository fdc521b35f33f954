package protocol

import "errors"

// Why a frame, or what it says, is refused.
var (
	// ErrBadFrame means that a frame is damaged, or of a kind that is not known here or does not belong there.
	ErrBadFrame = errors.New("not an intact frame")
	// ErrVersion means that a frame is of a version that is not taken here.
	ErrVersion = errors.New("frame of another version")
	// ErrTooLarge means that a frame is larger than the largest.
	ErrTooLarge = errors.New("too large")
	// ErrBomb means that what is compressed is too large.
	ErrBomb = errors.New("too large when decompressed")
	// ErrForged means that who made a frame does not have the key of whom it names, or made it for another purpose.
	ErrForged = errors.New("frame not made by whom it names, or not for here")
	// ErrOtherCluster means that a frame is of another deployment.
	ErrOtherCluster = errors.New("from another cluster")
	// ErrOtherPartition means that a frame is of another partition than its subject.
	ErrOtherPartition = errors.New("of another partition than its subject")
	// ErrOtherActor means that a frame is not of the region it came from, or of a region that is not known.
	ErrOtherActor = errors.New("of an actor that is not its origin's")
	// ErrOldEpoch means that a frame is of an earlier epoch of its region.
	ErrOldEpoch = errors.New("of an epoch that is over")
	// ErrGivenUp means that a frame is of a region that was given up, or has left: what it says counts no more.
	ErrGivenUp = errors.New("of a region that was given up")
	// ErrBadCounts means that a frame contradicts itself.
	ErrBadCounts = errors.New("counts and numbers do not agree")
	// ErrSequenceJump means that sequence numbers are further ahead than any region can be.
	ErrSequenceJump = errors.New("sequence numbers are impossibly far ahead")
	// ErrFutureClock means that deltas are of a clock that is too far ahead.
	ErrFutureClock = errors.New("clock too far ahead")
	// ErrRangeDiffers means that a range is not the same here, so that it must be sent whole.
	ErrRangeDiffers = errors.New("the range is not the same here")
	// ErrNoTransfer means that the state transfer that is meant is not under way, or elsewhere.
	ErrNoTransfer = errors.New("no such state transfer is under way")
	// ErrNothingNew means that a donor has nothing that is not here.
	ErrNothingNew = errors.New("the donor has nothing that is not here")
	// ErrTransferRefused means that a donor's state cannot be taken over.
	ErrTransferRefused = errors.New("the donor's state cannot be taken over")
	// ErrNoView means that a view of a state is gone, or never was.
	ErrNoView = errors.New("no such view of the state")
)

// Reason says in a word why something was refused.
type Reason string

// The reasons. ReasonDelta is a *BadBatchError: deltas that no honest replica makes, such as a counter that shrinks.
const (
	ReasonDamaged        Reason = "damaged"
	ReasonVersion        Reason = "version"
	ReasonOversized      Reason = "oversized"
	ReasonBomb           Reason = "bomb"
	ReasonForged         Reason = "forged"
	ReasonOtherCluster   Reason = "other-cluster"
	ReasonOtherPartition Reason = "other-partition"
	ReasonOtherActor     Reason = "other-actor"
	ReasonOldEpoch       Reason = "old-epoch"
	ReasonGivenUp        Reason = "given-up"
	ReasonCounts         Reason = "counts"
	ReasonSequenceJump   Reason = "sequence-jump"
	ReasonFutureClock    Reason = "future-clock"
	ReasonBeyondHead     Reason = "beyond-head"
	ReasonDelta          Reason = "bad-delta"
	ReasonOther          Reason = "other"
)

// reasons has the causes in the order in which they are looked for: some errors match several.
var reasons = []struct {
	err    error
	reason Reason
}{
	{ErrVersion, ReasonVersion}, {ErrTooLarge, ReasonOversized}, {ErrBomb, ReasonBomb}, {ErrForged, ReasonForged},
	{ErrOtherCluster, ReasonOtherCluster}, {ErrOtherPartition, ReasonOtherPartition}, {ErrOldEpoch, ReasonOldEpoch},
	{ErrOtherActor, ReasonOtherActor}, {ErrGivenUp, ReasonGivenUp}, {ErrBadCounts, ReasonCounts}, {ErrSequenceJump, ReasonSequenceJump},
	{ErrFutureClock, ReasonFutureClock}, {ErrBeyondHead, ReasonBeyondHead}, {ErrBadFrame, ReasonDamaged},
}

// ReasonOf returns why something was refused.
func ReasonOf(err error) Reason {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	var bad *BadBatchError
	if errors.As(err, &bad) {
		return ReasonDelta
	}
	return ReasonOther
}
