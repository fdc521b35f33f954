package api

import (
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

// past has the replicas of a key run operations at an instant before the test's.
func (r *testRegion) past(ago time.Duration, ops ...replica.Op) {
	r.t.Helper()
	for i := range ops {
		if ops[i].Namespace == "" {
			ops[i].Namespace = defaultNamespace
		}
	}
	g := r.groups[r.cluster.PartitionOf(ops[0].Namespace, ops[0].Key)]
	g.mu.Lock()
	defer g.mu.Unlock()
	rep, err := replica.Open(g.memory, g.actor)
	noError(r.t, err)
	_, _, err = rep.Execute(hlc.At(testNow().Wall().Add(-ago).UnixMilli(), 0), ops)
	noError(r.t, err)
	noError(r.t, rep.Flush())
}

func secondsAgo(n int64) hlc.Time {
	return hlc.At(testNow().Wall().Add(-time.Duration(n)*time.Second).UnixMilli(), 0)
}

// entriesOf returns what a scan finds.
func entriesOf(t *testing.T, kv atollv1connect.KVClient, r *atollv1.ScanRequest) (entries []*atollv1.Entry) {
	t.Helper()
	stream, err := kv.Scan(testContext(t), r)
	noError(t, err)
	defer func() { _ = stream.Close() }()
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return entries
		}
		noError(t, err)
		entries = append(entries, msg.GetEntries()...)
	}
}

// TestTimeToLiveOfUpdates: an update sets a time to live, and one without leaves it; reads answer it.
func TestTimeToLiveOfUpdates(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0).kv("eu-0")
	for name, op := range map[string]*atollv1.Op{
		"set": setAdd("a"), "counter": counterAdd(1), "map": mapPut(map[string][]byte{"f": nil}), "zset": zsetAdd("m", 1),
	} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: name, Op: op, Ttl: durationpb.New(time.Minute)})
		noError(t, err)
		mustUpdate(t, kv, name, op)
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: name})
		noError(t, err)
		equal(t, name+"'s time to live", got.GetTtl().AsDuration(), time.Minute)
	}
	query, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "set", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_SetSize{}}})
	noError(t, err)
	equal(t, "time to live in a query", query.GetTtl().AsDuration(), time.Minute)
	entries := entriesOf(t, kv, &atollv1.ScanRequest{})
	equal(t, "entries", len(entries), 4)
	for _, e := range entries {
		equal(t, e.GetKey()+"'s time to live in a scan", e.GetTtl().AsDuration(), time.Minute)
	}
	mustUpdate(t, kv, "map", &atollv1.Op{Op: &atollv1.Op_Persist{Persist: &atollv1.Persist{Type: atollv1.Type_TYPE_LWW_MAP}}})
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "map"})
	noError(t, err)
	equal(t, "time to live", got.GetTtl(), nil)
}

// TestExpiredValuesAreNotThere: no read shows a value that has expired and was not deleted yet.
func TestExpiredValuesAreNotThere(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	r.past(time.Hour,
		replica.Op{Kind: replica.OpSetAdd, Key: "s", Elements: [][]byte{[]byte("a")}, Expires: secondsAgo(60)},
	)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "s"})
	noError(t, err)
	equal(t, "found", got.GetFound(), false)
	members := inquire(t, kv, "s", &atollv1.QueryOp{Query: &atollv1.QueryOp_SetMembers{SetMembers: &atollv1.SetMembers{}}}).GetSetMembers()
	equal(t, "members", len(members.GetMembers()), 0)
	contains := inquire(t, kv, "s", &atollv1.QueryOp{Query: &atollv1.QueryOp_SetContains{SetContains: &atollv1.SetContains{Elements: [][]byte{[]byte("a")}}}})
	equal(t, "contains", contains.GetSetContains().GetContains()[0], false)
	entries := entriesOf(t, kv, &atollv1.ScanRequest{})
	equal(t, "entries", len(entries), 0)
	// The key may become one of another type, and what is added to it again begins anew.
	equal(t, "size", mustUpdate(t, kv, "s", setAdd("b")).GetResult().GetSet().GetSize(), 1)
	explained, err := r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "s"})
	noError(t, err)
	if d := explained.GetObjects()[0].GetDeadline(); d == nil || d.GetExpiresHlc() != 0 || d.GetEvent().GetRegion() != "eu" {
		t.Errorf("deadline %v", d)
	}
}

func TestRefusedTimesToLive(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0).kv("eu-0")
	update := func(op *atollv1.Op, ttl time.Duration) func() error {
		return func() error {
			_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "k", Op: op, Ttl: durationpb.New(ttl)})
			return err
		}
	}
	inc := &atollv1.Op{Op: &atollv1.Op_BcounterInc{BcounterInc: &atollv1.BCounterInc{N: 1}}}
	mustRefuse(t, []refusedCase{
		{"ttl", reasonInvalidArgument, update(setAdd("a"), -time.Second)},
		{"ttl", reasonInvalidArgument, update(setAdd("a"), 101*365*24*time.Hour)},
		{"ttl", reasonInvalidArgument, update(expireIn(time.Minute), time.Minute)},
		{"ttl", reasonInvalidArgument, update(&atollv1.Op{Op: &atollv1.Op_Persist{}}, time.Minute)},
		{"ttl", reasonInvalidArgument, update(inc, time.Minute)},
		{"ttl", reasonInvalidArgument, update(removePath(atollv1.Type_TYPE_COUNTER, "a"), time.Minute)},
		{"op.ormap_update.op", reasonInvalidArgument, update(leaf(expireIn(time.Minute), "a"), 0)},
		{"op.expire.type", reasonInvalidArgument, update(&atollv1.Op{Op: &atollv1.Op_Expire{Expire: &atollv1.Expire{Ttl: durationpb.New(time.Second), Type: 131}}}, 0)},
		{"op.persist.type", reasonInvalidArgument, update(&atollv1.Op{Op: &atollv1.Op_Persist{Persist: &atollv1.Persist{Type: 257}}}, 0)},
	})
	mustUpdate(t, kv, "b", inc)
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "b", Op: expireIn(time.Minute)})
	wantReason(t, err, reasonInvalidArgument)
}

// TestTimeToLiveOfMaps: that of a leaf's update is the map's, and queries of leaves answer it.
func TestTimeToLiveOfMaps(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "m", Op: leaf(registerPut("v"), "a", "b"), Ttl: durationpb.New(time.Minute)})
	noError(t, err)
	mustUpdate(t, kv, "m", leaf(counterAddOp(1), "c"))
	mustUpdate(t, kv, "m", leaf(registerPut("w"), "a", "b"))
	left := func() map[string]*durationpb.Duration {
		t.Helper()
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "m"})
		noError(t, err)
		equal(t, "size", got.GetTyped().GetOrmap().GetSize(), 2)
		return map[string]*durationpb.Duration{
			"map": got.GetTtl(), "names": mustQuery(t, kv, "m", askMap(&atollv1.ORMapGet{})).GetTtl(),
			"leaf": mustQuery(t, kv, "m", askLeaf(askForCounter, "c")).GetTtl(),
		}
	}
	for of, ttl := range left() {
		equal(t, "time to live: "+of, ttl.AsDuration(), time.Minute)
	}
	equal(t, "time to live of no leaf", mustQuery(t, kv, "m", askLeaf(askForCounter, "none")).GetTtl(), nil)
	mustUpdate(t, kv, "m", &atollv1.Op{Op: &atollv1.Op_Persist{Persist: &atollv1.Persist{Type: atollv1.Type_TYPE_OR_MAP}}})
	for of, ttl := range left() {
		equal(t, "time to live: "+of, ttl, nil)
	}

	path, err := crdt.NewPath("c")
	noError(t, err)
	r.past(time.Hour, replica.Op{Kind: replica.OpCounterAdd, Key: "e", Path: path, Delta: 7, Expires: secondsAgo(60)})
	gone := mustQuery(t, kv, "e", askLeaf(askForCounter, "c"))
	equal(t, "expired leaf", gone.GetFound() || gone.GetResult().GetCounter().GetValue() != 0, false)
	begun := mustUpdate(t, kv, "e", leaf(counterAddOp(1), "c"))
	equal(t, "counter of a new map", begun.GetResult().GetCounter().GetValue(), 1)
}

// TestSeveralTypesUnderAKey: untyped reads answer the first type, untyped deletes and expiries are of all types
// but bounded counters, which refuse, and typed ones of theirs alone.
func TestSeveralTypesUnderAKey(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	several := func(key string) {
		r.past(time.Minute,
			replica.Op{Kind: replica.OpSetAdd, Key: key, Elements: [][]byte{[]byte("a")}},
			replica.Op{Kind: replica.OpCounterAdd, Key: key, Delta: 7, AnyType: true},
		)
	}
	typeAt := func(key string) atollv1.Type {
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: key})
		noError(t, err)
		return got.GetType()
	}
	several("k")
	equal(t, "type", typeAt("k"), atollv1.Type_TYPE_COUNTER)
	equal(t, "members", len(inquire(t, kv, "k", &atollv1.QueryOp{Query: &atollv1.QueryOp_SetMembers{SetMembers: &atollv1.SetMembers{}}}).GetSetMembers().GetMembers()), 1)
	_, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k", Type: atollv1.Type_TYPE_COUNTER})
	noError(t, err)
	equal(t, "type", typeAt("k"), atollv1.Type_TYPE_AW_SET)
	several("k")
	_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k"})
	noError(t, err)
	equal(t, "type", typeAt("k"), atollv1.Type_TYPE_UNSPECIFIED)

	several("e")
	mustUpdate(t, kv, "e", expireIn(time.Minute))
	for _, of := range []atollv1.Type{atollv1.Type_TYPE_COUNTER, atollv1.Type_TYPE_AW_SET} {
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "e"})
		noError(t, err)
		equal(t, "type", got.GetType(), of)
		equal(t, "time to live", got.GetTtl().AsDuration(), time.Minute)
		_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Key: "e", Type: of})
		noError(t, err)
	}

	several("b")
	r.past(time.Second, replica.Op{Kind: replica.OpBoundedInc, Key: "b", Delta: 1, AnyType: true})
	_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Key: "b"})
	wantReason(t, err, reasonInvalidArgument)
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "b", Op: expireIn(time.Minute)})
	wantReason(t, err, reasonInvalidArgument)
	equal(t, "type", typeAt("b"), atollv1.Type_TYPE_COUNTER)
}

// fixes has namespaces of one type.
func fixes(c *Config) {
	c.Cluster.Namespaces = []topology.Namespace{
		{Name: "sets", Type: crdt.TypeAWSet}, {Name: "versions", Type: crdt.TypeMVRegister}, {Name: "plain", Type: crdt.TypeLWWRegister},
	}
}

func TestNamespacesFixATypeForWrites(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 1, fixes)
	kv := r.kv("eu-1")
	for _, tc := range []struct {
		namespace string
		op        *atollv1.Op
		found     string // "" if it is served
	}{
		{"sets", setAdd("a"), ""},
		{"sets", counterAdd(1), "set"},
		{"sets", expireIn(time.Minute), ""},
		{"versions", setAdd("a"), "mvregister"},
		{"plain", setAdd("a"), "register"},
		{"plain", expireIn(time.Minute), ""},
		{"other", counterAdd(1), ""},
		{"sets", &atollv1.Op{Op: &atollv1.Op_Persist{Persist: &atollv1.Persist{Type: atollv1.Type_TYPE_COUNTER}}}, "set"},
	} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Namespace: tc.namespace, Key: "k", Op: tc.op})
		if tc.found == "" {
			noError(t, err)
			continue
		}
		if f := wantReason(t, err, reasonWrongType); f.metadata["type_found"] != tc.found {
			t.Errorf("%s: %v", tc.namespace, f.metadata)
		}
	}
	_, err := kv.Put(ctx, &atollv1.PutRequest{Namespace: "sets", Key: "k", Value: []byte("v")})
	wantReason(t, err, reasonWrongType)
	_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Namespace: "sets", Key: "k", Type: atollv1.Type_TYPE_COUNTER})
	wantReason(t, err, reasonWrongType)
	res, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Items: []*atollv1.Write{
		{Write: &atollv1.Write_Put{Put: &atollv1.PutRequest{Namespace: "sets", Key: "k", Value: []byte("v")}}},
	}})
	if err == nil {
		t.Errorf("a batch put a register: %v", res)
	} else {
		wantReason(t, err, reasonWrongType)
	}
}

// TestGrowOnlyNamespaces: nothing in them gets less.
func TestGrowOnlyNamespaces(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0, func(c *Config) {
		c.Cluster.Namespaces = []topology.Namespace{
			{Name: "clicks", Type: crdt.TypeCounter, GrowOnly: true}, {Name: "seen", Type: crdt.TypeAWSet, GrowOnly: true},
		}
	})
	kv := r.kv("eu-0")
	for _, tc := range []struct {
		namespace string
		op        *atollv1.Op
		ttl       time.Duration
		served    bool
	}{
		{"clicks", counterAdd(2), 0, true},
		{"clicks", counterAdd(0), 0, true},
		{"clicks", counterAdd(-1), 0, false},
		{"clicks", counterAdd(1), time.Minute, false},
		{"clicks", &atollv1.Op{Op: &atollv1.Op_CounterSet{CounterSet: &atollv1.CounterSet{Value: 9}}}, 0, false},
		{"clicks", &atollv1.Op{Op: &atollv1.Op_CounterReset{CounterReset: &atollv1.CounterReset{}}}, 0, false},
		{"clicks", expireIn(time.Minute), 0, false},
		{"seen", setAdd("a"), 0, true},
		{"seen", &atollv1.Op{Op: &atollv1.Op_SetRemove{SetRemove: &atollv1.SetRemove{Elements: [][]byte{{'a'}}}}}, 0, false},
		{"seen", &atollv1.Op{Op: &atollv1.Op_SetClear{SetClear: &atollv1.SetClear{}}}, 0, false},
	} {
		req := &atollv1.UpdateRequest{Namespace: tc.namespace, Key: "k", Op: tc.op}
		if tc.ttl > 0 {
			req.Ttl = durationpb.New(tc.ttl)
		}
		_, err := kv.Update(ctx, req)
		if tc.served {
			noError(t, err)
			continue
		}
		wantReason(t, err, reasonInvalidArgument)
	}
	_, err := kv.Delete(ctx, &atollv1.DeleteRequest{Namespace: "clicks", Key: "k"})
	wantReason(t, err, reasonInvalidArgument)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Namespace: "clicks", Key: "k"})
	noError(t, err)
	equal(t, "count", got.GetTyped().GetCounter().GetValue(), int64(2))
}

// TestMapsInNamespacesOfOneType: what is on a leaf is on a map, whatever the leaf's type.
func TestMapsInNamespacesOfOneType(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0, fixes, func(c *Config) {
		c.Cluster.Namespaces = append(c.Cluster.Namespaces, topology.Namespace{Name: "maps", Type: crdt.TypeORMap})
	}).kv("eu-0")
	ask := func(namespace string, q *atollv1.QueryOp) (*atollv1.QueryResponse, error) {
		return kv.Query(ctx, &atollv1.QueryRequest{Namespace: namespace, Key: "m", Query: q})
	}
	for _, op := range []*atollv1.Op{
		leaf(setAddOp("x"), "a"), leaf(registerPut("v"), "a", "b"), removePath(atollv1.Type_TYPE_LWW_REGISTER, "a", "b"),
	} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Namespace: "maps", Key: "m", Op: op})
		noError(t, err)
		for _, namespace := range []string{"sets", "versions", "plain"} {
			_, err := kv.Update(ctx, &atollv1.UpdateRequest{Namespace: namespace, Key: "m", Op: op})
			wantReason(t, err, reasonWrongType)
		}
	}
	res, err := ask("maps", askLeaf(askForSize, "a"))
	noError(t, err)
	equal(t, "size", res.GetResult().GetSetSize(), 1)
	_, err = ask("maps", askLeaf(askForCounter, "a"))
	wantReason(t, err, reasonWrongType)
	_, err = ask("maps", askForSize)
	wantReason(t, err, reasonWrongType)
	_, err = ask("sets", askLeaf(askForSize, "a"))
	wantReason(t, err, reasonWrongType)
	removed, err := kv.Update(ctx, &atollv1.UpdateRequest{Namespace: "maps", Key: "m", Op: removePath(0, "a")})
	noError(t, err)
	equal(t, "removed", removed.GetResult().GetOrmap().GetChanged(), 1)
}

// TestPutInNamespacesOfSiblings: a put writes a multi-value register, and a get answers its latest value.
func TestPutInNamespacesOfSiblings(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0, fixes)
	kv := r.kv("eu-0")
	_, err := kv.Put(ctx, &atollv1.PutRequest{Namespace: "versions", Key: "k", Value: []byte("v"), Ttl: durationpb.New(time.Minute)})
	noError(t, err)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Namespace: "versions", Key: "k"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_MV_REGISTER)
	equal(t, "value", string(got.GetValue()), "v")
	equal(t, "time to live", got.GetTtl().AsDuration(), time.Minute)
	ifValue := &atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: []byte("v")}}
	_, err = kv.Put(ctx, &atollv1.PutRequest{Namespace: "versions", Key: "k", Condition: ifValue})
	wantReason(t, err, reasonInvalidArgument)
	ifVersion := &atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: got.GetVersion()}}
	_, err = kv.Put(ctx, &atollv1.PutRequest{Namespace: "versions", Key: "k", Value: []byte("w"), Condition: ifVersion})
	noError(t, err)
	gone, err := kv.Delete(ctx, &atollv1.DeleteRequest{Namespace: "versions", Key: "k"})
	noError(t, err)
	equal(t, "existed", gone.GetExisted(), true)
}

// TestNamespacesFixATypeForReads: what other regions wrote of other types, as before the namespace had one, is not
// refused, and not shown.
func TestNamespacesFixATypeForReads(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0, fixes)
	kv := r.kv("eu-0")
	r.past(time.Minute,
		replica.Op{Kind: replica.OpPut, Namespace: "sets", Key: "k", Value: []byte("v")},
		replica.Op{Kind: replica.OpSetAdd, Namespace: "sets", Key: "k", Elements: [][]byte{[]byte("a")}, AnyType: true},
	)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Namespace: "sets", Key: "k"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_AW_SET)
	entries := entriesOf(t, kv, &atollv1.ScanRequest{Namespace: "sets"})
	if len(entries) != 1 || entries[0].GetType() != atollv1.Type_TYPE_AW_SET {
		t.Errorf("entries %v", entries)
	}
	_, err = kv.Query(ctx, &atollv1.QueryRequest{Namespace: "sets", Key: "k", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Counter{}}})
	wantReason(t, err, reasonWrongType)
	_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Namespace: "sets", Key: "k"})
	noError(t, err)
	got, err = kv.Get(ctx, &atollv1.GetRequest{Namespace: "sets", Key: "k"})
	noError(t, err)
	equal(t, "found", got.GetFound(), false)
	seen, err := atollv1connect.NewClusterClient(r.conn("eu-0")).Topology(ctx, &atollv1.TopologyRequest{})
	noError(t, err)
	if n := seen.GetTopology().GetNamespaces(); len(n) != 3 || n[0].GetName() != "sets" || n[0].GetType() != atollv1.Type_TYPE_AW_SET {
		t.Errorf("namespaces %v", n)
	}
}
