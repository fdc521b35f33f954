package members

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const refusalHeader = 1 + 1 + 1 + 8 + 4 + 2

var errAnswer = errors.New("malformed answer")

// encodeAnswer encodes what a command has come to.
func encodeAnswer(err error) []byte {
	var refused *membership.RefusedError
	switch {
	case err == nil:
		return []byte{answerDone}
	case errors.As(err, &refused):
		b := []byte{answerRefused, byte(refused.Code), byte(refused.Region)}
		b = binary.BigEndian.AppendUint64(b, uint64(refused.Waiting))
		b = binary.BigEndian.AppendUint32(b, uint32(refused.Epoch))
		b = binary.BigEndian.AppendUint16(b, uint16(len(refused.Why)))
		return append(append(b, refused.Why...), refused.Do...)
	case errors.Is(err, ErrNoMajority):
		return []byte{answerNotLeader}
	default:
		return []byte{answerUnknown}
	}
}

// decodeAnswer is the reverse of encodeAnswer.
func decodeAnswer(b []byte) error {
	switch {
	case len(b) == 1 && b[0] == answerDone:
		return nil
	case len(b) == 1 && b[0] == answerNotLeader:
		return ErrNoMajority
	case len(b) == 1 && b[0] == answerUnknown:
		return region.ErrOutcomeUnknown
	case len(b) >= refusalHeader && b[0] == answerRefused:
		r := &membership.RefusedError{
			Code: membership.Code(b[1]), Region: topology.RegionID(b[2]), Waiting: membership.RegionSet(binary.BigEndian.Uint64(b[3:])),
			Epoch: topology.Epoch(binary.BigEndian.Uint32(b[11:])),
		}
		why, rest := int(binary.BigEndian.Uint16(b[15:])), b[refusalHeader:]
		if why > len(rest) {
			return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, errAnswer)
		}
		r.Why, r.Do = string(rest[:why]), string(rest[why:])
		return r
	}
	return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, errAnswer)
}
