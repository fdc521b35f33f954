package membership

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atolldb/atoll/topology"
)

// Code says why a command was refused.
type Code uint8

// The reasons of refusals.
const (
	// Malformed: the command makes no sense whatever the state.
	Malformed Code = iota + 1
	// NotFounded: there is no membership yet.
	NotFounded
	// Foreign: it is of another deployment.
	Foreign
	// UnknownRegion: there was never such a region.
	UnknownRegion
	// IDUsed: the id, or the name, belongs or belonged to another region.
	IDUsed
	// EpochUsed: the epoch is not above all that the region had.
	EpochUsed
	// StaleEpoch: the region has gone on to another epoch.
	StaleEpoch
	// WrongState: the region is not in a state for this.
	WrongState
	// NotJoining: the region is not joining.
	NotJoining
	// NotMember: whoever confirms or reports does not take part.
	NotMember
	// LastRegion: no region would be left that takes writes.
	LastRegion
	// TooMany: there are as many regions as there can be.
	TooMany
	// Waiting: others have to do something first.
	Waiting
	// StaleRound: the closing has begun again since.
	StaleRound
	// ReportChanged: a member reports other than it did, though nothing of the actor can have moved.
	ReportChanged
	// HeirNamed: the region has another heir.
	HeirNamed
)

// String returns the code as it stands in the API.
func (c Code) String() string {
	names := [...]string{"NONE", "MALFORMED", "NOT_FOUNDED", "FOREIGN", "UNKNOWN_REGION", "ID_USED", "EPOCH_USED",
		"STALE_EPOCH", "WRONG_STATE", "NOT_JOINING", "NOT_MEMBER", "LAST_REGION", "TOO_MANY_REGIONS", "WAITING",
		"STALE_ROUND", "REPORT_CHANGED", "HEIR_NAMED"}
	if int(c) < len(names) {
		return names[c]
	}
	return "UNKNOWN"
}

// RefusedError says why a command did nothing, and what to do about it.
type RefusedError struct {
	Code   Code
	Region topology.RegionID
	Epoch  topology.Epoch
	// Waiting are the regions that have to do something first.
	Waiting RegionSet
	Why, Do string
}

// Error says what is wrong and what to do.
func (e *RefusedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "region %d, epoch %d: %s", e.Region, e.Epoch, e.Why)
	if e.Waiting != 0 {
		fmt.Fprintf(&b, " (regions %v)", e.Waiting)
	}
	if e.Do != "" {
		b.WriteString("; ")
		b.WriteString(e.Do)
	}
	return b.String()
}

// refuse returns a refusal of the command.
func (c *Command) refuse(code Code, why, do string) error {
	return &RefusedError{Code: code, Region: c.Region, Epoch: c.Epoch, Why: why, Do: do}
}

// ErrEncoding means that bytes are no command, or no state, of this version.
var ErrEncoding = errors.New("malformed membership encoding")
