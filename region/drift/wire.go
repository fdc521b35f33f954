package drift

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A question is a version, 1, alone. The answer is the version and the time, in microseconds since the Unix epoch. What
// follows either is of a newer version, and ignored.
const wireVersion = 1

var errMalformed = errors.New("malformed message about clocks")

func question() []byte { return []byte{wireVersion} }

func checkQuestion(b []byte) error {
	if len(b) == 0 || b[0] == 0 {
		return fmt.Errorf("%w: question of %d bytes", errMalformed, len(b))
	}
	return nil
}

func encodeAnswer(wall time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{wireVersion}, uint64(wall.UnixMicro()))
}

func decodeAnswer(b []byte) (time.Time, error) {
	if len(b) < 1+8 || b[0] == 0 {
		return time.Time{}, fmt.Errorf("%w: answer of %d bytes", errMalformed, len(b))
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b[1:]))), nil
}
