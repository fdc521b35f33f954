package client

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Field numbers of the replies that are decoded here.
const (
	getFound   protowire.Number = 1
	getValue   protowire.Number = 2
	getType    protowire.Number = 3
	getVersion protowire.Number = 4
	getInfo    protowire.Number = 6

	putVersion protowire.Number = 1
	putInfo    protowire.Number = 2

	infoNode protowire.Number = 2
)

// decode takes the reply out of a call that is done.
func (r *request) decode(c *call) error {
	switch {
	case c.field == fieldError:
		var e atollv1.Error
		if err := proto.Unmarshal(c.buf, &e); err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		return itemError(&e)
	case c.field != fieldOf(r.msg):
		return errMalformed
	case !r.informs && r.decodeCommon(c):
		return nil
	}
	reply := newReply(c.field)
	if err := proto.Unmarshal(c.buf, reply); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	r.reply = reply
	if told, ok := reply.(informed); ok {
		r.answeredBy([]byte(told.GetInfo().GetNode()))
	}
	return nil
}

// decodeCommon decodes the replies that are most frequent where every allocation counts: those of a
// register's Get and Put whose caller does not ask who answered. It reports false for all others.
func (r *request) decodeCommon(c *call) bool {
	var info []byte
	var ok bool
	switch c.field {
	case fieldGet:
		reply := &atollv1.GetResponse{}
		info, ok = decodeGet(c.buf, reply)
		r.reply = reply
	case fieldPut:
		reply := &atollv1.PutResponse{}
		info, ok = decodePut(c.buf, reply)
		r.reply = reply
	}
	if ok {
		r.answeredBy(nodeOf(info))
	}
	return ok
}

// protoField is one field of a message. Of number and bytes it has the one of its kind.
type protoField struct {
	name   protowire.Number
	kind   protowire.Type
	number uint64
	bytes  []byte
}

// consume takes the first field off a message. It reports false if that is malformed, or of a kind
// that no reply has.
func consume(b []byte) (f protoField, rest []byte, ok bool) {
	var n int
	if f.name, f.kind, n = protowire.ConsumeTag(b); n < 0 {
		return f, nil, false
	}
	b = b[n:]
	switch f.kind {
	case protowire.VarintType:
		f.number, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		return f, nil, false
	}
	if n < 0 {
		return f, nil, false
	}
	return f, b[n:], true
}

// decodeGet decodes all of a reply but its info, which it returns as it is. It reports false if there
// is anything in it that a register without expiry does not have.
func decodeGet(b []byte, into *atollv1.GetResponse) (info []byte, ok bool) {
	for len(b) > 0 {
		var f protoField
		if f, b, ok = consume(b); !ok {
			return nil, false
		}
		isBytes := f.kind == protowire.BytesType
		switch {
		case f.name == getFound && !isBytes:
			into.Found = f.number != 0
		case f.name == getType && !isBytes:
			into.Type = atollv1.Type(f.number)
		case f.name == getValue && isBytes:
			into.Value = append([]byte{}, f.bytes...)
		case f.name == getVersion && isBytes && utf8.Valid(f.bytes):
			into.Version = string(f.bytes)
		case f.name == getInfo && isBytes && info == nil:
			info = f.bytes
		default:
			return nil, false
		}
	}
	return info, true
}

// decodePut is decodeGet for a Put.
func decodePut(b []byte, into *atollv1.PutResponse) (info []byte, ok bool) {
	for len(b) > 0 {
		var f protoField
		if f, b, ok = consume(b); !ok || f.kind != protowire.BytesType {
			return nil, false
		}
		switch {
		case f.name == putVersion && utf8.Valid(f.bytes):
			into.Version = string(f.bytes)
		case f.name == putInfo && info == nil:
			info = f.bytes
		default:
			return nil, false
		}
	}
	return info, true
}

// nodeOf returns the node that a ReplyInfo names.
func nodeOf(info []byte) []byte {
	for len(info) > 0 {
		f, rest, ok := consume(info)
		if !ok {
			return nil
		}
		if f.name == infoNode && f.kind == protowire.BytesType {
			return f.bytes
		}
		info = rest
	}
	return nil
}
