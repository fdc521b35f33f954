package client

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The streams speak Connect: messages in envelopes of one byte of flags and four of length, the last
// of them the end of the stream as JSON. They are read and written here and not by the Connect
// library because most of a small request's cost is in its handling: the requests that wait are
// written as one message straight into the buffer that HTTP/2 sends from, and an answer is decoded by
// the goroutine that waits for it.
const (
	pipelineContentType = "application/connect+proto"

	envelopeBytes = 5
	flagCompress  = 1
	flagEnd       = 2
)

// Fields of PipelineRequest and PipelineResponse.
const (
	fieldID      protowire.Number = 1
	fieldGet     protowire.Number = 2
	fieldPut     protowire.Number = 3
	fieldDelete  protowire.Number = 4
	fieldUpdate  protowire.Number = 5
	fieldQuery   protowire.Number = 6
	fieldMore    protowire.Number = 7 // of a request
	fieldTimeout protowire.Number = 8 // of a request

	fieldError       protowire.Number = 7 // of a response
	fieldMoreAnswers protowire.Number = 8 // of a response
)

var errMalformed = errors.New("the server's answer makes no sense")

// fieldOf returns the field of PipelineRequest that a request goes in, which is also the field of
// PipelineResponse that its reply comes in.
func fieldOf(msg proto.Message) protowire.Number {
	switch msg.(type) {
	case *atollv1.GetRequest:
		return fieldGet
	case *atollv1.PutRequest:
		return fieldPut
	case *atollv1.DeleteRequest:
		return fieldDelete
	case *atollv1.UpdateRequest:
		return fieldUpdate
	default:
		return fieldQuery
	}
}

func newReply(field protowire.Number) proto.Message {
	switch field {
	case fieldGet:
		return &atollv1.GetResponse{}
	case fieldPut:
		return &atollv1.PutResponse{}
	case fieldDelete:
		return &atollv1.DeleteResponse{}
	case fieldUpdate:
		return &atollv1.UpdateResponse{}
	default:
		return &atollv1.QueryResponse{}
	}
}

// appendRequest appends the fields of a PipelineRequest but for its id.
func appendRequest(b []byte, msg proto.Message, patience time.Duration) ([]byte, error) {
	b = protowire.AppendTag(b, fieldOf(msg), protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(proto.Size(msg)))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, msg)
	if ms := patience.Milliseconds(); ms > 0 {
		b = protowire.AppendTag(b, fieldTimeout, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(min(ms, 1<<32-1)))
	}
	return b, err
}

// appendMessage appends one request to a message that has others already if first is false.
func appendMessage(b []byte, first bool, id uint64, fields []byte) []byte {
	if !first {
		b = protowire.AppendTag(b, fieldMore, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(1+protowire.SizeVarint(id)+len(fields)))
	}
	b = protowire.AppendTag(b, fieldID, protowire.VarintType)
	b = protowire.AppendVarint(b, id)
	return append(b, fields...)
}

// answer is one PipelineResponse, undecoded.
type answer struct {
	id    uint64
	field protowire.Number
	body  []byte
}

// parseAnswers calls each with every answer of a message. The body is only lent.
func parseAnswers(msg []byte, each func(answer)) error { return parseAnswer(msg, each, true) }

func parseAnswer(msg []byte, each func(answer), outermost bool) error {
	var a answer
	for len(msg) > 0 {
		field, kind, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errMalformed
		}
		msg = msg[n:]
		switch {
		case field == fieldID && kind == protowire.VarintType:
			a.id, n = protowire.ConsumeVarint(msg)
		case field >= fieldGet && field <= fieldError && kind == protowire.BytesType:
			a.field = field
			a.body, n = protowire.ConsumeBytes(msg)
		case field == fieldMoreAnswers && kind == protowire.BytesType && outermost:
			var inner []byte
			inner, n = protowire.ConsumeBytes(msg)
			if n >= 0 && parseAnswer(inner, each, false) != nil {
				return errMalformed
			}
		default: // of a newer server
			n = protowire.ConsumeFieldValue(field, kind, msg)
		}
		if n < 0 {
			return errMalformed
		}
		msg = msg[n:]
	}
	if a.field != 0 {
		each(a)
	}
	return nil
}

// readEnvelope reads one message into buf, which it makes larger if need be, but only as the message
// arrives.
func readEnvelope(r *bufio.Reader, buf []byte) (flags byte, msg []byte, err error) {
	var head [envelopeBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, err
	}
	size := int(binary.BigEndian.Uint32(head[1:]))
	if size > readMaxBytes || head[0]&flagCompress != 0 {
		return 0, buf, errMalformed
	}
	const step = 1 << 20
	msg = buf[:0]
	for len(msg) < size {
		n := min(size-len(msg), step)
		at := len(msg)
		if cap(msg)-at < n {
			grown := make([]byte, at, at+n+at/2)
			copy(grown, msg)
			msg = grown
		}
		msg = msg[:at+n]
		if _, err := io.ReadFull(r, msg[at:]); err != nil {
			return 0, msg, fmt.Errorf("stream broke off: %w", io.ErrUnexpectedEOF)
		}
	}
	return head[0], msg, nil
}

// endOfStream is the last message of a stream.
type endOfStream struct {
	Error *struct {
		Code    connect.Code `json:"code"`
		Message string       `json:"message"`
		Details []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"details"`
	} `json:"error"`
}

// parseEnd returns the error that a stream ended with; nil if there was none.
func parseEnd(msg []byte) *Error {
	var end endOfStream
	if err := json.Unmarshal(msg, &end); err != nil {
		return &Error{Code: connect.CodeInternal, Message: "the stream's end makes no sense", cause: err}
	}
	if end.Error == nil {
		return nil
	}
	e := &Error{Code: end.Error.Code, Message: end.Error.Message}
	for _, d := range end.Error.Details {
		raw, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			continue
		}
		switch d.Type {
		case "google.rpc.ErrorInfo":
			var info errdetails.ErrorInfo
			if proto.Unmarshal(raw, &info) == nil && info.GetDomain() == "atoll" {
				e.Reason, e.Metadata = Reason(info.GetReason()), info.GetMetadata()
			}
		case "google.rpc.RetryInfo":
			var info errdetails.RetryInfo
			if proto.Unmarshal(raw, &info) == nil {
				e.RetryAfter = info.GetRetryDelay().AsDuration()
			}
		}
	}
	return e
}
