package api

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

// fill puts n keys and returns them in order.
func fill(t *testing.T, kv atollv1connect.KVClient, n int, value string) []string {
	t.Helper()
	req := &atollv1.BatchWriteRequest{}
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("key-%05d", i))
		req.Items = append(req.Items, putItem(keys[i], value))
	}
	for chunk := range slices.Chunk(req.Items, 1000) {
		res, err := kv.BatchWrite(testContext(t), &atollv1.BatchWriteRequest{Items: chunk})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range res.GetItems() {
			if item.GetError() != nil {
				t.Fatal(item.GetError())
			}
		}
	}
	return keys
}

// scanAll returns the keys of one request and its cursor, and checks the messages' sizes.
func scanAll(t *testing.T, kv atollv1connect.KVClient, r *atollv1.ScanRequest) (keys []string, cursor []byte) {
	t.Helper()
	stream, err := kv.Scan(testContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return keys, cursor
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(cursor) > 0 {
			t.Error("a message follows the cursor")
		}
		if size := proto.Size(msg); size > scanMessageBytes+maxKeyBytes && len(msg.GetEntries()) > 1 {
			t.Errorf("message of %d bytes", size)
		}
		cursor = msg.GetCursor()
		for _, e := range msg.GetEntries() {
			keys = append(keys, e.GetKey())
		}
	}
}

func TestScanMergesPartitionsInKeyOrder(t *testing.T) {
	r := setup(t, 3, 8, 1) // every node must ask the others
	keys := fill(t, r.kv("eu-0"), 3000, "v")
	for _, id := range []topology.NodeID{"eu-0", "eu-1", "eu-2"} {
		got, cursor := scanAll(t, r.kv(id), &atollv1.ScanRequest{})
		if !slices.Equal(got, keys) || len(cursor) > 0 {
			t.Errorf("%s: %d keys, cursor %q", id, len(got), cursor)
		}
	}
	if got, _ := scanAll(t, r.kv("eu-0"), &atollv1.ScanRequest{Namespace: "other"}); len(got) > 0 {
		t.Errorf("other namespace has %d keys", len(got))
	}
}

func TestScanPagesExactly(t *testing.T) {
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	keys := fill(t, kv, 100, "v")
	for _, limit := range []uint64{1, 7, 33, 99, 100, 101} {
		var got []string
		var cursor []byte
		for {
			page, next := scanAll(t, kv, &atollv1.ScanRequest{Limit: limit, Cursor: cursor})
			got = append(got, page...)
			if len(next) == 0 {
				break
			}
			if uint64(len(page)) != limit || string(next) != page[len(page)-1] {
				t.Fatalf("limit %d: page of %d, cursor %q", limit, len(page), next)
			}
			cursor = next
		}
		if !slices.Equal(got, keys) {
			t.Errorf("limit %d: %d keys", limit, len(got))
		}
	}
}

func TestScanRanges(t *testing.T) {
	kv := setup(t, 1, 4, 0).kv("eu-0")
	all := []string{"a", "a\x00", "aa", "ab", "b", "ba", "\uD7FF", "\uD7FFx", "\uE000", "\U0010FFFF", "\U0010FFFFz"}
	for _, key := range all {
		mustPut(t, kv, key, "v")
	}
	slices.Sort(all)
	within := func(keep func(string) bool) []string {
		return slices.DeleteFunc(slices.Clone(all), func(k string) bool { return !keep(k) })
	}
	for _, prefix := range []string{"a", "aa", "b", "\uD7FF", "\uE000", "\U0010FFFF", "none"} {
		got, _ := scanAll(t, kv, &atollv1.ScanRequest{Prefix: prefix})
		if want := within(func(k string) bool { return strings.HasPrefix(k, prefix) }); !slices.Equal(got, want) {
			t.Errorf("prefix %q: %q, want %q", prefix, got, want)
		}
	}
	got, _ := scanAll(t, kv, &atollv1.ScanRequest{Start: "aa", End: "ba"})
	if want := []string{"aa", "ab", "b"}; !slices.Equal(got, want) {
		t.Errorf("range: %q", got)
	}
	got, _ = scanAll(t, kv, &atollv1.ScanRequest{Prefix: "a", Cursor: []byte("a")})
	if want := []string{"a\x00", "aa", "ab"}; !slices.Equal(got, want) {
		t.Errorf("behind a: %q", got)
	}
}

func TestScanBoundsMessagesAndCarriesValues(t *testing.T) {
	kv := setup(t, 1, 4, 0).kv("eu-0")
	keys := fill(t, kv, 100, strings.Repeat("x", 20<<10))
	if got, _ := scanAll(t, kv, &atollv1.ScanRequest{}); !slices.Equal(got, keys) {
		t.Errorf("%d keys", len(got))
	}
	mustUpdate(t, kv, "counter", counterAdd(4))
	mustUpdate(t, kv, "set", setAdd("e"))
	stream, err := kv.Scan(testContext(t), &atollv1.ScanRequest{Start: "c", Cursor: []byte("key-00098")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	msg, err := stream.Receive()
	if err != nil || len(msg.GetEntries()) != 2 {
		t.Fatalf("got %v, %v", msg, err)
	}
	if e := msg.GetEntries(); len(e[0].GetValue()) != 20<<10 || e[1].GetTyped().GetSet().GetSize() != 1 {
		t.Errorf("got %v", e)
	}
	stream, err = kv.Scan(testContext(t), &atollv1.ScanRequest{Prefix: "c", KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	msg, err = stream.Receive()
	if e := msg.GetEntries(); err != nil || len(e) != 1 || e[0].GetTyped() != nil || e[0].GetVersion() == "" {
		t.Errorf("got %v, %v", msg, err)
	}
}

func TestRefusedScans(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	for field, req := range map[string]*atollv1.ScanRequest{
		"prefix":              {Prefix: "a", Start: "b"},
		"start":               {Start: strings.Repeat("s", maxKeyBytes+2)},
		"cursor":              {Cursor: []byte{0xff}},
		"options.consistency": {Options: &atollv1.ReadOptions{Consistency: 99}},
		"options.session":     {Options: &atollv1.ReadOptions{Session: []byte("s")}},
	} {
		stream, err := kv.Scan(testContext(t), req)
		if err == nil {
			_, err = stream.Receive()
			_ = stream.Close()
		}
		if f := wantReason(t, err, reasonInvalidArgument); f.metadata["field"] != field {
			t.Errorf("%s: field is %q", field, f.metadata["field"])
		}
	}
}
