package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// watching is one watch of a test.
type watcher struct {
	t      *testing.T
	stream atollv1connect.KVWatchClientStream
	cursor []byte
}

// watch begins a watch, and returns when it follows every partition.
func (r *testRegion) watch(ctx context.Context, id topology.NodeID, q *atollv1.WatchRequest) *watcher {
	r.t.Helper()
	s, err := r.kv(id).Watch(ctx, q)
	noError(r.t, err)
	r.t.Cleanup(func() { _ = s.Close() })
	return &watcher{t: r.t, stream: s}
}

func (w *watcher) next() *atollv1.WatchResponse {
	w.t.Helper()
	msg, err := w.stream.Receive()
	noError(w.t, err)
	if len(msg.GetCursor()) > 0 {
		w.cursor = msg.GetCursor()
	}
	return msg
}

// follows waits until the watch follows every partition.
func (w *watcher) follows() *watcher {
	w.t.Helper()
	for w.next().GetHeartbeat() == nil {
	}
	return w
}

// events returns the next n events' keys, sorted.
func (w *watcher) events(n int) []string {
	w.t.Helper()
	var keys []string
	for len(keys) < n {
		if e := w.next().GetEvent(); e != nil {
			keys = append(keys, e.GetKey())
		}
	}
	slices.Sort(keys)
	return keys
}

func TestWatchTellsOfEveryKindOfChange(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	w := r.watch(ctx, "eu-0", &atollv1.WatchRequest{IncludeValue: true}).follows()
	put := mustPut(t, kv, "k", "x")
	e := w.next().GetEvent()
	equal(t, "key", e.GetKey(), "k")
	equal(t, "found", e.GetFound(), true)
	equal(t, "value", string(e.GetValue()), "x")
	equal(t, "version", e.GetVersion(), put.GetVersion())
	equal(t, "type", e.GetType(), atollv1.Type_TYPE_LWW_REGISTER)
	equal(t, "cause", e.GetCause(), atollv1.Cause_CAUSE_LOCAL)
	equal(t, "state", e.GetState(), false)
	mustUpdate(t, kv, "c", counterAdd(5))
	equal(t, "counter", w.next().GetEvent().GetTyped().GetCounter().GetValue(), 5)
	_, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k"})
	noError(t, err)
	e = w.next().GetEvent()
	equal(t, "deleted key", e.GetKey(), "k")
	equal(t, "found", e.GetFound(), false)
	for cause, want := range map[region.Cause]atollv1.Cause{
		region.CauseRemote: atollv1.Cause_CAUSE_REMOTE, region.CauseExpired: atollv1.Cause_CAUSE_EXPIRED,
		region.CauseRestored: atollv1.Cause_CAUSE_RESTORED,
	} {
		g := r.group("c")
		g.mu.Lock()
		g.changeLocked(region.Change{Namespace: defaultNamespace, Key: "c", Type: crdt.TypeCounter, Cause: cause})
		g.mu.Unlock()
		equal(t, "cause", w.next().GetEvent().GetCause(), want)
	}
}

func TestWatchIsOfWhatWasAskedFor(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	all := r.watch(ctx, "eu-0", &atollv1.WatchRequest{}).follows()
	one := r.watch(ctx, "eu-0", &atollv1.WatchRequest{Key: "ab"}).follows()
	some := r.watch(ctx, "eu-0", &atollv1.WatchRequest{Prefix: "a"}).follows()
	other := r.watch(ctx, "eu-0", &atollv1.WatchRequest{Namespace: "other"}).follows()
	for _, key := range []string{"a", "ab", "abc", "b"} {
		mustPut(t, kv, key, "x")
	}
	_, err := kv.Put(ctx, &atollv1.PutRequest{Key: "ab", Namespace: "other"})
	noError(t, err)
	for name, tc := range map[string]struct {
		w    *watcher
		want []string
	}{
		"all": {all, []string{"a", "ab", "abc", "b"}}, "key": {one, []string{"ab"}},
		"prefix": {some, []string{"a", "ab", "abc"}}, "namespace": {other, []string{"ab"}},
	} {
		if got := tc.w.events(len(tc.want)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	mustPut(t, kv, "ab", "y")
	equal(t, "value when none is asked for", len(one.next().GetEvent().GetValue()), 0)
}

func TestWatchGoesOnFromItsCursorAtAnyNode(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 4, 8, 2) // every node lacks some partitions
	kv := r.kv("eu-0")
	w := r.watch(ctx, "eu-0", &atollv1.WatchRequest{}).follows()
	var want []string
	for i := range 60 {
		key := fmt.Sprintf("k%02d", i)
		mustPut(t, kv, key, "x")
		want = append(want, key)
	}
	got := map[string]bool{}
	var cursor []byte
	for i, id := range []topology.NodeID{"eu-1", "eu-2", "eu-3"} {
		for n := 0; n < 20 || i == 2 && len(got) < len(want); n++ {
			got[w.events(1)[0]] = true // a few are told again
		}
		_ = w.stream.Close()
		if cursor = w.cursor; len(cursor) == 0 {
			t.Fatal("no cursor")
		}
		w = r.watch(ctx, id, &atollv1.WatchRequest{Cursor: cursor})
	}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		t.Errorf("%d keys, want %d", len(keys), len(want))
	}
	_ = w.stream.Close()
	again := r.watch(ctx, "eu-3", &atollv1.WatchRequest{Cursor: cursor}).follows()
	mustPut(t, kv, "last", "x")
	if got := again.events(1); got[0] != "last" {
		t.Errorf("told again: %q", got)
	}
}

func TestWatchListsWhatIsForgotten(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 2, 2)
	kv := r.kv("eu-0")
	w := r.watch(ctx, "eu-0", &atollv1.WatchRequest{}).follows()
	_ = w.stream.Close()
	want := fill(t, kv, 600, "v")
	for _, g := range r.groups {
		g.forget(0, true)
	}
	for id := range r.servers {
		again := r.watch(ctx, id, &atollv1.WatchRequest{Cursor: w.cursor, IncludeValue: true, Prefix: "key"})
		open, ended := map[uint32]bool{}, 0
		var got []string
		for ended < 2 {
			msg := again.next()
			if m := msg.GetResync(); m != nil {
				if m.GetEnd() != open[m.GetPartition()] {
					t.Fatalf("%s: mark %v", id, m)
				}
				open[m.GetPartition()] = !m.GetEnd()
				if m.GetEnd() {
					ended++
				}
			}
			if e := msg.GetEvent(); e != nil {
				if !e.GetState() || !e.GetFound() || string(e.GetValue()) != "v" || e.GetVersion() == "" || len(open) == 0 {
					t.Fatalf("%s: %v", id, e)
				}
				got = append(got, e.GetKey())
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d keys", id, len(got))
		}
		mustPut(t, kv, want[7], "v")
		if got := again.events(1); got[0] != want[7] {
			t.Errorf("%s: %q follows the list", id, got)
		}
	}
}

func TestSlowWatcherIsCutOffWithItsCursor(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	w := r.watch(ctx, "eu-0", &atollv1.WatchRequest{}).follows()
	mustPut(t, r.kv("eu-0"), "k", "x")
	w.events(1)
	r.groups[0].forget(1, true)
	for {
		_, err := w.stream.Receive()
		if err == nil {
			continue
		}
		f := wantReason(t, err, reasonOverloaded)
		cursor, err := base64.StdEncoding.DecodeString(f.metadata["cursor"])
		noError(t, err)
		if _, err := decodeWatchCursor(cursor, 1); err != nil || f.retry == 0 {
			t.Errorf("%v, retry %v", err, f.retry)
		}
		break
	}
}

func TestReplacedReplicaCutsNobodyOff(t *testing.T) {
	r := setup(t, 1, 1, 0)
	w := r.watch(testContext(t), "eu-0", &atollv1.WatchRequest{}).follows()
	r.groups[0].forget(1, false) // with nothing lost
	mustPut(t, r.kv("eu-0"), "k", "x")
	if got := w.events(1); got[0] != "k" {
		t.Errorf("got %q", got)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0, func(c *Config) { c.MaxWatchers = 2 })
	first := r.watch(ctx, "eu-0", &atollv1.WatchRequest{}).follows()
	r.watch(ctx, "eu-0", &atollv1.WatchRequest{}).follows()
	third := func() error {
		s, err := r.kv("eu-0").Watch(ctx, &atollv1.WatchRequest{})
		if err == nil {
			_, err = s.Receive()
			_ = s.Close()
		}
		return err
	}
	f := wantReason(t, third(), reasonTooManyWatchers)
	equal(t, "limit", f.metadata["limit"], "2")
	_ = first.stream.Close()
	testkit.Eventually(t, 5*time.Second, third)
}

func TestWatchShowsThatItLives(t *testing.T) {
	r := setup(t, 3, 4, 1)
	w := r.watch(testContext(t), "eu-1", &atollv1.WatchRequest{HeartbeatInterval: durationpb.New(minHeartbeat)}).follows()
	began := time.Now()
	for range 3 {
		msg := w.next()
		if msg.GetHeartbeat() == nil || len(msg.GetCursor()) == 0 {
			t.Fatalf("got %v", msg)
		}
	}
	if took := time.Since(began); took < 2*minHeartbeat {
		t.Errorf("3 heartbeats in %v", took)
	}
}

func TestWatchFollowsAnotherReplicaWhenOneIsLost(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 1, 2)
	replicas := r.servers["eu-0"].replicas(0)
	outside := topology.NodeID("")
	for id := range r.servers {
		if !slices.Contains(replicas, id) {
			outside = id
		}
	}
	w := r.watch(ctx, outside, &atollv1.WatchRequest{}).follows()
	r.servers[replicas[0]].Drain()
	r.groups[0].lead(replicas[1])
	mustPut(t, r.kv(replicas[1]), "k", "x")
	if got := w.events(1); got[0] != "k" {
		t.Errorf("got %q", got)
	}
}

func TestDrainEndsWatches(t *testing.T) {
	r := setup(t, 1, 1, 0)
	w := r.watch(testContext(t), "eu-0", &atollv1.WatchRequest{}).follows()
	r.servers["eu-0"].Drain()
	_, err := w.stream.Receive()
	f := wantReason(t, err, reasonShuttingDown)
	equal(t, "cursor", f.metadata["cursor"], base64.StdEncoding.EncodeToString(w.cursor))
}

func TestRefusedWatches(t *testing.T) {
	r := setup(t, 1, 4, 0)
	ofOne := r.watch(testContext(t), "eu-0", &atollv1.WatchRequest{Key: "k"}).follows().cursor
	for name, tc := range map[string]struct {
		q     *atollv1.WatchRequest
		field string
	}{
		"both":      {&atollv1.WatchRequest{Key: "k", Prefix: "k"}, "prefix"},
		"heartbeat": {&atollv1.WatchRequest{HeartbeatInterval: durationpb.New(time.Millisecond)}, "heartbeat_interval"},
		"nonsense":  {&atollv1.WatchRequest{Cursor: []byte("nonsense")}, "cursor"},
		"inside":    {&atollv1.WatchRequest{Key: "k", Cursor: encodeWatchCursor(map[topology.PartitionID][]byte{r.cluster.PartitionOf("default", "k"): []byte("nonsense")})}, "cursor"},
		"others'":   {&atollv1.WatchRequest{Cursor: ofOne}, "cursor"},
		"long":      {&atollv1.WatchRequest{Cursor: make([]byte, maxWatchCursor+1)}, "cursor"},
	} {
		s, err := r.kv("eu-0").Watch(testContext(t), tc.q)
		if err == nil {
			_, err = s.Receive()
			_ = s.Close()
		}
		if f := wantReason(t, err, reasonInvalidArgument); f.metadata["field"] != tc.field {
			t.Errorf("%s: field is %q", name, f.metadata["field"])
		}
	}
}

func TestLargeCursorsAreLeftOutOfSomeMessages(t *testing.T) {
	w := &watch{cursors: map[topology.PartitionID][]byte{}, partitions: []topology.PartitionID{0}}
	w.encode = func() []byte { return make([]byte, 10*cursorBytes) }
	sent, with := 0, 0
	for range 110 {
		err := w.tell(news{cursor: []byte("x"), messages: []*atollv1.WatchResponse{{}}}, func(m *atollv1.WatchResponse) error {
			sent++
			if len(m.GetCursor()) > 0 {
				with++
			}
			return nil
		})
		noError(t, err)
	}
	equal(t, "messages", sent, 110)
	equal(t, "with a cursor", with, 10)
}

func FuzzDecodeWatchCursor(f *testing.F) {
	f.Add(encodeWatchCursor(map[topology.PartitionID][]byte{0: []byte("a"), 3: nil}))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		places, err := decodeWatchCursor(b, 4)
		if err != nil {
			if !errors.Is(err, region.ErrBadCursor) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeWatchCursor(encodeWatchCursor(places), 4)
		if err != nil || !maps.EqualFunc(places, again, slices.Equal[[]byte]) {
			t.Fatalf("%v becomes %v, %v", places, again, err)
		}
	})
}
