package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Scored is a member of a sorted set in an entry. One of Member and MemberBase64 is set.
type Scored struct {
	Member       string `json:"member,omitempty"`
	MemberBase64 []byte `json:"member_base64,omitempty"`
	Score        Score  `json:"score"`
}

// NewScored returns a member with its score.
func NewScored(member []byte, score float64) Scored {
	if utf8.Valid(member) {
		return Scored{Member: string(member), Score: Score(score)}
	}
	return Scored{MemberBase64: member, Score: Score(score)}
}

func (s *Scored) member() ([]byte, error) {
	if (s.Member != "") == (len(s.MemberBase64) > 0) {
		return nil, errors.New("a score without its member, or with two")
	}
	if s.Member != "" {
		return []byte(s.Member), nil
	}
	return s.MemberBase64, nil
}

// Score is a score in JSON: a number, or one of the strings "+Inf" and "-Inf", for which JSON has no
// numbers.
type Score float64

// MarshalJSON implements json.Marshaler.
func (s Score) MarshalJSON() ([]byte, error) {
	if f := float64(s); math.IsInf(f, 0) {
		return json.Marshal(strconv.FormatFloat(f, 'g', -1, 64))
	}
	return json.Marshal(float64(s))
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Score) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"+Inf"`:
		*s = Score(math.Inf(1))
		return nil
	case `"-Inf"`:
		*s = Score(math.Inf(-1))
		return nil
	case "null":
		return errors.New("a score is null")
	}
	return json.Unmarshal(data, (*float64)(s))
}

// maxWhole is the largest score of a sorted set with counters.
const maxWhole = 1 << 53

// whole returns the score of a sorted set with counters.
func (s Score) whole() (int64, error) {
	f := float64(s)
	if f != math.Trunc(f) || math.Abs(f) > maxWhole {
		return 0, fmt.Errorf("score %v is not a whole number from -2^53 to 2^53", f)
	}
	return int64(f), nil
}
