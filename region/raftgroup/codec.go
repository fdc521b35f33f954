package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// What Raft says to other nodes, big-endian:
//
//	header:           protocol version u8 | server (length u8 and bytes) | address (length u8 and bytes)
//	append:           header | term u64 | previous index u64 | previous term u64 | commit index u64 |
//	                  count u32 | entries, each the one after the one before
//	entry:            term u64 | type u8 | appended at i64 | data length u32 | extensions length u32 | both
//	appended:         flags u8 | term u64 | last index u64
//	vote, pre-vote:   header | term u64 | last index u64 | last term u64 | flags u8
//	voted:            flags u8 | term u64
//	stand now:        header
//	snapshot:         header | version u8 | term u64 | last index u64 | last term u64 |
//	                  configuration's index u64 | size u64 | configuration
//	installed:        flags u8 | term u64
//
// Appended at is in Unix nanoseconds, the smallest number if there is no time.
const (
	entryHeader = 8 + 1 + 8 + 4 + 4
	noTime      = math.MinInt64

	// numberLimit is more than any term or index can be: at a million a second, it takes 100 000 years.
	// Raft believes whatever it is told, and a term that high could never be outbid.
	numberLimit = 1 << 62
	sizeLimit   = 1 << 50

	flagYes      = 1 << 0 // success, granted
	flagHurry    = 1 << 1 // of appended: the next attempt need not wait
	flagHandOver = 1 << 1 // of a vote: the leader itself asked for this election
)

var (
	errMalformed = errors.New("malformed message")
	errAbsurd    = errors.New("message that no member can have sent")
)

func encodeHeader(b []byte, h raft.RPCHeader) ([]byte, error) {
	if h.ProtocolVersion < 0 || h.ProtocolVersion > math.MaxUint8 || len(h.ID) > math.MaxUint8 || len(h.Addr) > math.MaxUint8 {
		return nil, fmt.Errorf("%w: header of server %s", errMalformed, h.ID)
	}
	b = append(b, byte(h.ProtocolVersion), byte(len(h.ID)))
	b = append(b, h.ID...)
	b = append(b, byte(len(h.Addr)))
	return append(b, h.Addr...), nil
}

func encodeAppend(r *raft.AppendEntriesRequest) ([]byte, error) {
	size := 3 + len(r.ID) + len(r.Addr) + 4*8 + 4
	for _, l := range r.Entries {
		size += entryHeader + len(l.Data) + len(l.Extensions)
	}
	b, err := encodeHeader(make([]byte, 0, size), r.RPCHeader)
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint64(b, r.Term)
	b = binary.BigEndian.AppendUint64(b, r.PrevLogEntry)
	b = binary.BigEndian.AppendUint64(b, r.PrevLogTerm)
	b = binary.BigEndian.AppendUint64(b, r.LeaderCommitIndex)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Entries)))
	for i, l := range r.Entries {
		if l.Index != r.PrevLogEntry+1+uint64(i) {
			return nil, fmt.Errorf("%w: entry %d is %d after %d", errMalformed, l.Index, i+1, r.PrevLogEntry)
		}
		appended := int64(noTime)
		if !l.AppendedAt.IsZero() {
			appended = l.AppendedAt.UnixNano()
		}
		b = binary.BigEndian.AppendUint64(b, l.Term)
		b = append(b, byte(l.Type))
		b = binary.BigEndian.AppendUint64(b, uint64(appended))
		b = binary.BigEndian.AppendUint32(b, uint32(len(l.Data)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(l.Extensions)))
		b = append(b, l.Data...)
		b = append(b, l.Extensions...)
	}
	return b, nil
}

// reader takes a message apart. After the first fault it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail(errMalformed)
	}
	if r.err != nil {
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) u8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// number is a term or an index.
func (r *reader) number() uint64 {
	n := r.u64()
	if n >= numberLimit {
		r.fail(errAbsurd)
	}
	return n
}

func (r *reader) header() raft.RPCHeader {
	h := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(r.u8())}
	h.ID = r.bytes(int(r.u8()))
	h.Addr = r.bytes(int(r.u8()))
	if len(h.ID) == 0 || len(h.Addr) == 0 {
		r.fail(errMalformed) // Raft would take the sender for nobody
	}
	return h
}

func (r *reader) flags(known uint8) uint8 {
	f := r.u8()
	if f&^known != 0 {
		r.fail(errMalformed)
	}
	return f
}

// end returns what was wrong, if only that something is left.
func (r *reader) end() error {
	if len(r.b) > 0 {
		r.fail(errMalformed)
	}
	return r.err
}

// decodeAppend fills to, whose slices share memory with the body.
func decodeAppend(body []byte, to *raft.AppendEntriesRequest) error {
	r := &reader{b: body}
	*to = raft.AppendEntriesRequest{
		RPCHeader: r.header(), Term: r.number(), PrevLogEntry: r.number(), PrevLogTerm: r.number(),
		LeaderCommitIndex: r.number(),
	}
	count := int(r.u32())
	if count > len(r.b)/entryHeader {
		r.fail(errMalformed)
	}
	if r.err == nil && count > 0 {
		to.Entries = r.entries(count, to)
	}
	return r.end()
}

// entries reads a leader's entries, which have the terms that a leader's entries can have.
func (r *reader) entries(count int, a *raft.AppendEntriesRequest) []*raft.Log {
	logs := make([]raft.Log, count)
	entries := make([]*raft.Log, count)
	term := a.PrevLogTerm
	for i := range logs {
		l := &logs[i]
		entries[i] = l
		l.Index = a.PrevLogEntry + 1 + uint64(i)
		l.Term = r.number()
		l.Type = raft.LogType(r.u8())
		if appended := int64(r.u64()); appended != noTime {
			l.AppendedAt = time.Unix(0, appended)
		}
		data, extensions := int(r.u32()), int(r.u32())
		l.Data = r.bytes(data)
		l.Extensions = r.bytes(extensions)
		if l.Index >= numberLimit || l.Term < term || l.Term > a.Term {
			r.fail(errAbsurd)
		}
		term = l.Term
		switch l.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			r.configuration(l.Data)
		default:
			r.fail(errAbsurd)
		}
		if r.err != nil {
			return nil
		}
	}
	return entries
}

// configuration checks what the library would panic over.
func (r *reader) configuration(b []byte) {
	defer func() {
		if recover() != nil {
			r.fail(errMalformed)
		}
	}()
	if r.err == nil {
		raft.DecodeConfiguration(b)
	}
}

func encodeAppended(a *raft.AppendEntriesResponse) []byte {
	var flags byte
	if a.Success {
		flags |= flagYes
	}
	if a.NoRetryBackoff {
		flags |= flagHurry
	}
	b := append(make([]byte, 0, 17), flags)
	b = binary.BigEndian.AppendUint64(b, a.Term)
	return binary.BigEndian.AppendUint64(b, a.LastLog)
}

func decodeAppended(body []byte, to *raft.AppendEntriesResponse) error {
	r := &reader{b: body}
	flags := r.flags(flagYes | flagHurry)
	*to = raft.AppendEntriesResponse{Term: r.number(), LastLog: r.number(), Success: flags&flagYes != 0, NoRetryBackoff: flags&flagHurry != 0}
	return r.end()
}

// vote is what a request for a vote and one for a pre-vote have in common.
type vote struct {
	header           raft.RPCHeader
	term             uint64
	lastIndex        uint64
	lastTerm         uint64
	leadershipPassed bool
}

func encodeVote(v vote) ([]byte, error) {
	b, err := encodeHeader(nil, v.header)
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint64(b, v.term)
	b = binary.BigEndian.AppendUint64(b, v.lastIndex)
	b = binary.BigEndian.AppendUint64(b, v.lastTerm)
	if v.leadershipPassed {
		return append(b, flagHandOver), nil
	}
	return append(b, 0), nil
}

func decodeVote(body []byte) (vote, error) {
	r := &reader{b: body}
	v := vote{header: r.header(), term: r.number(), lastIndex: r.number(), lastTerm: r.number()}
	v.leadershipPassed = r.flags(flagHandOver) != 0
	return v, r.end()
}

// encodeVerdict encodes the answer to all requests that have but these two in their answers.
func encodeVerdict(term uint64, yes bool) []byte {
	var flags byte
	if yes {
		flags = flagYes
	}
	return binary.BigEndian.AppendUint64([]byte{flags}, term)
}

func decodeVerdict(body []byte) (term uint64, yes bool, err error) {
	r := &reader{b: body}
	yes = r.flags(flagYes) != 0
	term = r.number()
	return term, yes, r.end()
}

func encodeTimeoutNow(t *raft.TimeoutNowRequest) ([]byte, error) {
	return encodeHeader(nil, t.RPCHeader)
}

func decodeTimeoutNow(body []byte) (*raft.TimeoutNowRequest, error) {
	r := &reader{b: body}
	return &raft.TimeoutNowRequest{RPCHeader: r.header()}, r.end()
}

func encodeSnapshot(s *raft.InstallSnapshotRequest) ([]byte, error) {
	b, err := encodeHeader(nil, s.RPCHeader)
	if err != nil {
		return nil, err
	}
	b = append(b, byte(s.SnapshotVersion))
	for _, n := range []uint64{s.Term, s.LastLogIndex, s.LastLogTerm, s.ConfigurationIndex, uint64(s.Size)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, s.Configuration...), nil
}

func decodeSnapshot(body []byte) (*raft.InstallSnapshotRequest, error) {
	r := &reader{b: body}
	s := &raft.InstallSnapshotRequest{
		RPCHeader: r.header(), SnapshotVersion: raft.SnapshotVersion(r.u8()), Term: r.number(),
		LastLogIndex: r.number(), LastLogTerm: r.number(), ConfigurationIndex: r.number(),
	}
	size := r.u64()
	if size >= sizeLimit || s.SnapshotVersion != raft.SnapshotVersionMax {
		r.fail(errAbsurd)
	}
	s.Size, s.Leader = int64(size), s.Addr
	s.Configuration = r.bytes(len(r.b))
	r.configuration(s.Configuration)
	return s, r.end()
}
