package raftgroup

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func testHeader() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1~2"), Addr: []byte("n1")}
}

func testAppend() *raft.AppendEntriesRequest {
	configuration := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "n1"}}})
	return &raft.AppendEntriesRequest{
		RPCHeader: testHeader(), Term: 9, PrevLogEntry: 41, PrevLogTerm: 7, LeaderCommitIndex: 40,
		Entries: []*raft.Log{
			{Index: 42, Term: 7, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("more"), AppendedAt: time.Unix(3, 4)},
			{Index: 43, Term: 9, Type: raft.LogNoop},
			{Index: 44, Term: 9, Type: raft.LogConfiguration, Data: configuration},
			{Index: 45, Term: 9, Type: raft.LogBarrier},
		},
	}
}

func mustEncode(t testing.TB, body []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestRequestsComeOutAsTheyWentIn(t *testing.T) {
	want := testAppend()
	body, err := encodeAppend(want)
	var got raft.AppendEntriesRequest
	if err := decodeAppend(mustEncode(t, body, err), &got); err != nil {
		t.Fatal(err)
	}
	for _, l := range got.Entries { // nothing and no bytes mean the same
		if len(l.Data) == 0 {
			l.Data = nil
		}
		if len(l.Extensions) == 0 {
			l.Extensions = nil
		}
	}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	v := vote{testHeader(), 5, 6, 4, true}
	body, err = encodeVote(v)
	if got, err := decodeVote(mustEncode(t, body, err)); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("got %+v, %v, want %+v", got, err, v)
	}
	s := &raft.InstallSnapshotRequest{
		RPCHeader: testHeader(), SnapshotVersion: raft.SnapshotVersionMax, Term: 8, Leader: []byte("n1"), LastLogIndex: 7, LastLogTerm: 6,
		Configuration: want.Entries[2].Data, ConfigurationIndex: 5, Size: 1 << 40,
	}
	body, err = encodeSnapshot(s)
	if got, err := decodeSnapshot(mustEncode(t, body, err)); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, %v, want %+v", got, err, s)
	}
	now := &raft.TimeoutNowRequest{RPCHeader: testHeader()}
	body, err = encodeTimeoutNow(now)
	if got, err := decodeTimeoutNow(mustEncode(t, body, err)); err != nil || !reflect.DeepEqual(got, now) {
		t.Errorf("got %+v, %v, want %+v", got, err, now)
	}
}

func TestAnswersComeOutAsTheyWentIn(t *testing.T) {
	for _, want := range []raft.AppendEntriesResponse{{}, {Term: 3, LastLog: 9, Success: true}, {Term: 4, NoRetryBackoff: true}} {
		var got raft.AppendEntriesResponse
		if err := decodeAppended(encodeAppended(&want), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	for _, yes := range []bool{true, false} {
		if term, got, err := decodeVerdict(encodeVerdict(7, yes)); err != nil || term != 7 || got != yes {
			t.Errorf("%d %v %v", term, got, err)
		}
	}
}

// Raft believes what it is told, so that one absurd number would end a group for good.
func TestAbsurdNumbersAreRefused(t *testing.T) {
	for what, spoil := range map[string]func(*raft.AppendEntriesRequest){
		"term":                        func(a *raft.AppendEntriesRequest) { a.Term = 1 << 62 },
		"previous term":               func(a *raft.AppendEntriesRequest) { a.PrevLogTerm = 1 << 63 },
		"commit index":                func(a *raft.AppendEntriesRequest) { a.LeaderCommitIndex = 1<<64 - 1 },
		"entry of a later term":       func(a *raft.AppendEntriesRequest) { a.Entries[3].Term = 10 },
		"entry of an earlier term":    func(a *raft.AppendEntriesRequest) { a.Entries[0].Term = 6 },
		"entry of a term before that": func(a *raft.AppendEntriesRequest) { a.Entries[1].Term = 8; a.Entries[2].Term = 7 },
		"type":                        func(a *raft.AppendEntriesRequest) { a.Entries[0].Type = raft.LogAddPeerDeprecated },
		"no type at all":              func(a *raft.AppendEntriesRequest) { a.Entries[0].Type = 200 },
		"configuration":               func(a *raft.AppendEntriesRequest) { a.Entries[2].Data = []byte("\xdf\xff\xff\xff\xff") },
		"nobody's":                    func(a *raft.AppendEntriesRequest) { a.ID = nil },
		"from nowhere":                func(a *raft.AppendEntriesRequest) { a.Addr = nil },
		"index": func(a *raft.AppendEntriesRequest) {
			a.PrevLogEntry = 1<<62 - 2
			for i, l := range a.Entries {
				l.Index = a.PrevLogEntry + 1 + uint64(i)
			}
		},
	} {
		a := testAppend()
		spoil(a)
		body, err := encodeAppend(a)
		err = decodeAppend(mustEncode(t, body, err), new(raft.AppendEntriesRequest))
		if !errors.Is(err, errAbsurd) && !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	body, err := encodeVote(vote{testHeader(), 1 << 62, 1, 1, false})
	if _, err := decodeVote(mustEncode(t, body, err)); !errors.Is(err, errAbsurd) {
		t.Errorf("vote in an absurd term: %v", err)
	}
	if _, _, err := decodeVerdict(encodeVerdict(1<<62, true)); !errors.Is(err, errAbsurd) {
		t.Errorf("answer in an absurd term: %v", err)
	}
	if err := decodeAppended(encodeAppended(&raft.AppendEntriesResponse{LastLog: 1 << 62}), new(raft.AppendEntriesResponse)); !errors.Is(err, errAbsurd) {
		t.Errorf("answer with an absurd index: %v", err)
	}
	s := &raft.InstallSnapshotRequest{RPCHeader: testHeader(), SnapshotVersion: raft.SnapshotVersionMax, Size: 1 << 50, Configuration: testAppend().Entries[2].Data}
	body, err = encodeSnapshot(s)
	if _, err := decodeSnapshot(mustEncode(t, body, err)); !errors.Is(err, errAbsurd) {
		t.Errorf("absurd snapshot: %v", err)
	}
}

func TestTruncatedMessagesAreRefused(t *testing.T) {
	body, err := encodeAppend(testAppend())
	body = mustEncode(t, body, err)
	for n := range len(body) {
		if err := decodeAppend(body[:n], new(raft.AppendEntriesRequest)); err == nil {
			t.Errorf("the first %d of %d bytes are taken", n, len(body))
		}
	}
	if err := decodeAppend(append(body, 0), new(raft.AppendEntriesRequest)); !errors.Is(err, errMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
}

// A gap would go unseen: entries are numbered by their place.
func TestEntriesWithAGapAreNotSent(t *testing.T) {
	a := testAppend()
	a.Entries[2].Index++
	if _, err := encodeAppend(a); !errors.Is(err, errMalformed) {
		t.Errorf("a gap: %v", err)
	}
}

func TestCountsAreNotAllocated(t *testing.T) {
	body, err := encodeAppend(&raft.AppendEntriesRequest{RPCHeader: testHeader(), Term: 1})
	body = mustEncode(t, body, err)
	binary.BigEndian.PutUint32(body[len(body)-4:], 1<<32-1)
	got := testing.AllocsPerRun(10, func() {
		if err := decodeAppend(body, new(raft.AppendEntriesRequest)); !errors.Is(err, errMalformed) {
			t.Error(err)
		}
	})
	if got > 4 {
		t.Errorf("%v allocations for a claim", got)
	}
}

func TestLargeRequestsAreShortened(t *testing.T) {
	a := &raft.AppendEntriesRequest{PrevLogEntry: 10, LeaderCommitIndex: 100}
	for i := range uint64(5) {
		a.Entries = append(a.Entries, &raft.Log{Index: 11 + i, Data: make([]byte, appendBytes/3)})
	}
	shorten(a)
	if len(a.Entries) != 2 || a.LeaderCommitIndex != 12 {
		t.Errorf("%d entries, committed to %d", len(a.Entries), a.LeaderCommitIndex)
	}
	a = &raft.AppendEntriesRequest{LeaderCommitIndex: 1, Entries: []*raft.Log{{Index: 1, Data: make([]byte, 2*appendBytes)}, {Index: 2}}}
	shorten(a)
	if len(a.Entries) != 1 || a.LeaderCommitIndex != 1 {
		t.Errorf("%d entries, committed to %d", len(a.Entries), a.LeaderCommitIndex)
	}
	a = &raft.AppendEntriesRequest{PrevLogEntry: 10, LeaderCommitIndex: 11}
	if shorten(a); a.LeaderCommitIndex != 10 {
		t.Errorf("nothing sent, committed to %d", a.LeaderCommitIndex)
	}
}

func FuzzCodec(f *testing.F) {
	body, err := encodeAppend(testAppend())
	f.Add(mustEncode(f, body, err))
	body, err = encodeVote(vote{testHeader(), 5, 6, 4, true})
	f.Add(mustEncode(f, body, err))
	body, err = encodeSnapshot(&raft.InstallSnapshotRequest{
		RPCHeader: testHeader(), SnapshotVersion: raft.SnapshotVersionMax, Size: 9, Configuration: testAppend().Entries[2].Data,
	})
	f.Add(mustEncode(f, body, err))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a raft.AppendEntriesRequest
		if decodeAppend(data, &a) == nil {
			again, err := encodeAppend(&a)
			if err != nil || string(again) != string(data) {
				t.Errorf("%q became %q, %v", data, again, err)
			}
		}
		_, _ = decodeVote(data)
		_, _ = decodeTimeoutNow(data)
		_, _ = decodeSnapshot(data)
		_, _, _ = decodeVerdict(data)
		_ = decodeAppended(data, new(raft.AppendEntriesResponse))
	})
}
