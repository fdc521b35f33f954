package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

// mergeFromUS has another region's writes, which have seen nothing, arrive in the partitions of their keys.
func (r *testRegion) mergeFromUS(at hlc.Time, ops ...replica.Op) {
	r.t.Helper()
	for _, op := range ops {
		g := r.groups[r.cluster.PartitionOf(op.Namespace, op.Key)]
		if g.us == nil {
			us, err := replica.Open(replica.NewMemory(), topology.Actor(2, 3))
			noError(r.t, err)
			g.us = us
		}
		_, deltas, err := g.us.Execute(at, []replica.Op{op})
		noError(r.t, err)
		g.mu.Lock()
		eu, err := replica.Open(g.memory, g.actor)
		noError(r.t, err)
		_, err = eu.Merge(g.us.Self(), deltas)
		noError(r.t, err)
		noError(r.t, eu.Flush())
		g.mu.Unlock()
	}
}

func (r *testRegion) conflicts(id topology.NodeID, req *atollv1.ConflictsRequest) *atollv1.ConflictsResponse {
	r.t.Helper()
	res, err := r.regions(id).Conflicts(testContext(r.t), req)
	noError(r.t, err)
	return res
}

// TestRestoreLoserInMap: a losing leaf is listed and explained with its path, and restored there.
func TestRestoreLoserInMap(t *testing.T) {
	r := setup(t, 2, 2, 0)
	kv, regions := r.kv("eu-0"), r.regions("eu-1")
	mustUpdate(t, kv, "u", leaf(registerPut("ours"), "42", "name"))
	mustUpdate(t, kv, "u", leaf(mapPut(map[string][]byte{"f": []byte("ours")}), "42"))
	at := func(names ...string) crdt.Path {
		p, err := crdt.NewPath(names...)
		noError(t, err)
		return p
	}
	r.mergeFromUS(testNow()+1<<20,
		replica.Op{Kind: replica.OpPut, Namespace: "default", Key: "u", Path: at("42", "name"), Value: []byte("theirs")},
		replica.Op{Kind: replica.OpMapPut, Namespace: "default", Key: "u", Path: at("42"), Elements: [][]byte{[]byte("f")}, Values: [][]byte{[]byte("theirs")}})
	leaves := func() string {
		name := mustQuery(t, kv, "u", askMap(&atollv1.ORMapGet{Path: []string{"42", "name"}})).GetResult().GetOrmap().GetLeaves()
		fields := mustQuery(t, kv, "u", askMap(&atollv1.ORMapGet{Path: []string{"42"}})).GetResult().GetOrmap().GetLeaves()
		if len(name) != 1 || len(fields) != 1 {
			t.Fatalf("leaves %v, %v", name, fields)
		}
		return string(name[0].GetValue()) + " " + string(fields[0].GetTyped().GetMap().GetFields()["f"])
	}
	equal(t, "leaves", leaves(), "theirs theirs")
	explained, err := regions.Explain(testContext(t), &atollv1.ExplainRequest{Key: "u"})
	noError(t, err)
	listed := r.conflicts("eu-1", &atollv1.ConflictsRequest{Key: "u"}).GetLosers()
	if len(listed) != 2 || len(explained.GetLosers()) != 2 {
		t.Fatalf("losers %v, explained %v", listed, explained.GetLosers())
	}
	for i, l := range listed {
		want := map[bool][]string{false: {"42", "name"}, true: {"42"}}[len(l.GetField()) > 0]
		if !slices.Equal(l.GetPath(), want) || !slices.Equal(explained.GetLosers()[i].GetPath(), want) {
			t.Errorf("loser %v, explained %v", l, explained.GetLosers()[i])
		}
		res, err := regions.RestoreLoser(testContext(t), &atollv1.RestoreLoserRequest{Partition: l.GetPartition(), Id: l.GetId()})
		noError(t, err)
		if !slices.Equal(res.GetLoser().GetPath(), want) || res.GetVersion() == "" {
			t.Errorf("restored %v", res)
		}
	}
	equal(t, "leaves", leaves(), "ours ours")
}

// losersAre compares losers, written KEY or KEY/FIELD, in any order.
func losersAre(t *testing.T, losers []*atollv1.Loser, want ...string) {
	t.Helper()
	var got []string
	for _, l := range losers {
		name := l.GetKey()
		if len(l.GetField()) > 0 {
			name += "/" + string(l.GetField())
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("losers %v, want %v", got, want)
	}
}

func TestConflicts(t *testing.T) {
	r := setup(t, 3, 4, 1)
	for _, id := range []topology.NodeID{"eu-0", "eu-2"} {
		res := r.conflicts(id, &atollv1.ConflictsRequest{})
		equal(t, "conflicts of nothing", len(res.GetCounts())+len(res.GetLosers())+len(res.GetCursor()), 0)
	}
	kv := r.kv("eu-1")
	var all []string
	for i := range 9 {
		key := fmt.Sprintf("k%d", i)
		mustPut(t, kv, key, "ours")
		r.mergeFromUS(testNow()-1000, replica.Op{Kind: replica.OpPut, Namespace: "default", Key: key, Value: []byte("theirs")})
		all = append(all, key)
	}
	mustUpdate(t, kv, "m", mapPut(map[string][]byte{"f": []byte("x")}))
	r.mergeFromUS(testNow()+1<<30,
		replica.Op{Kind: replica.OpMapPut, Namespace: "default", Key: "m", Elements: [][]byte{[]byte("f"), []byte("g")}, Values: [][]byte{[]byte("y"), []byte("z")}},
		replica.Op{Kind: replica.OpPut, Namespace: "other", Key: "k0", Value: []byte("alone")})
	all = append(all, "m/f")

	for _, id := range []topology.NodeID{"eu-0", "eu-2"} {
		res := r.conflicts(id, &atollv1.ConflictsRequest{})
		losersAre(t, res.GetLosers(), all...)
		equal(t, "cursor", len(res.GetCursor()), 0)
		if n := len(res.GetCounts()); n != 2 {
			t.Fatalf("%d counts: %v", n, res.GetCounts())
		}
		registers, maps := res.GetCounts()[0], res.GetCounts()[1]
		equal(t, "type", registers.GetType(), atollv1.Type_TYPE_LWW_REGISTER)
		equal(t, "registers", registers.GetCount(), 9)
		equal(t, "between", fmt.Sprint(registers.GetRegionA(), registers.GetEpochA(), registers.GetRegionB(), registers.GetEpochB()), "eu0us3")
		equal(t, "maps", maps.GetCount(), 1)
	}
	equal(t, "counts of another namespace", len(r.conflicts("eu-0", &atollv1.ConflictsRequest{Namespace: "other"}).GetCounts()), 0)
	equal(t, "counts of all", len(r.conflicts("eu-0", &atollv1.ConflictsRequest{AllNamespaces: true}).GetCounts()), 2)
	losersAre(t, r.conflicts("eu-0", &atollv1.ConflictsRequest{Key: "k3"}).GetLosers(), "k3")
	losersAre(t, r.conflicts("eu-0", &atollv1.ConflictsRequest{Prefix: "m"}).GetLosers(), "m/f")

	// Page by page it is the same, and only the first has counts.
	for _, limit := range []uint32{1, 2, 3, 4, 10} {
		var paged []*atollv1.Loser
		for page := (&atollv1.ConflictsRequest{Limit: limit}); ; {
			res := r.conflicts("eu-1", page)
			equal(t, "has counts", len(res.GetCounts()) > 0, len(page.GetCursor()) == 0)
			paged = append(paged, res.GetLosers()...)
			if page.Cursor = res.GetCursor(); len(page.GetCursor()) == 0 {
				break
			}
			equal(t, "size of a page", len(res.GetLosers()), int(limit))
		}
		losersAre(t, paged, all...)
	}
	explained, err := r.regions("eu-2").Explain(testContext(t), &atollv1.ExplainRequest{Key: "m"})
	noError(t, err)
	losersAre(t, explained.GetLosers(), "m/f")
	equal(t, "lost", string(explained.GetLosers()[0].GetValue()), "x")
}

func TestConflictsRefuses(t *testing.T) {
	r := setup(t, 1, 2, 0)
	for _, req := range []*atollv1.ConflictsRequest{
		{Namespace: "n", AllNamespaces: true},
		{Key: "k", Prefix: "p"},
		{Namespace: string(make([]byte, 256))},
		{Key: string(make([]byte, 1025))},
		{Cursor: []byte{1}},
		{Cursor: []byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{Cursor: []byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0}},
	} {
		_, err := r.regions("eu-0").Conflicts(testContext(t), req)
		wantReason(t, err, reasonInvalidArgument)
	}
	for _, req := range []*atollv1.RestoreLoserRequest{
		{Partition: 2},
		{IfVersion: string(make([]byte, 257))},
		{Options: &atollv1.WriteOptions{Durability: atollv1.Durability_DURABILITY_LOCAL}},
	} {
		_, err := r.regions("eu-0").RestoreLoser(testContext(t), req)
		wantReason(t, err, reasonInvalidArgument)
	}
}

// TestConflictsOfPartsThatAreThere looks at a region of which one partition has no leader.
func TestConflictsOfPartsThatAreThere(t *testing.T) {
	r := setup(t, 1, 2, 0)
	r.groups[0].readsFail(func() error { return crdt.ErrCorrupt })
	res := r.conflicts("eu-0", &atollv1.ConflictsRequest{})
	if len(res.GetErrors()) != 1 || res.GetErrors()[0].GetPartition() != 0 || res.GetErrors()[0].GetError().GetReason() != string(reasonCorrupt) {
		t.Errorf("errors %v", res.GetErrors())
	}
}

func TestRestoreLoser(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 2, 1)
	kv, regions := r.kv("eu-0"), r.regions("eu-2")
	first := mustPut(t, kv, "k", "ours").GetVersion()
	mustUpdate(t, kv, "m", mapPut(map[string][]byte{"f": []byte("ours")}))
	mustUpdate(t, kv, "z", &atollv1.Op{Op: &atollv1.Op_ZsetAdd{ZsetAdd: &atollv1.ZSetAdd{Member: []byte("f"), Score: -2.5}}})
	mustPut(t, kv, "e", "ours")
	r.mergeFromUS(testNow()-1<<30, replica.Op{Kind: replica.OpPut, Namespace: "default", Key: "e", Value: []byte("short"), Expires: testNow() - 1<<20})
	r.mergeFromUS(testNow()+1<<20,
		replica.Op{Kind: replica.OpPut, Namespace: "default", Key: "k", Value: []byte("theirs")},
		replica.Op{Kind: replica.OpMapPut, Namespace: "default", Key: "m", Elements: [][]byte{[]byte("f")}, Values: [][]byte{[]byte("theirs")}},
		replica.Op{Kind: replica.OpZSetAdd, Type: crdt.TypeZSet, Namespace: "default", Key: "z", Elements: [][]byte{[]byte("f")}, Score: 9})
	losers := map[string]*atollv1.Loser{}
	for _, l := range r.conflicts("eu-1", &atollv1.ConflictsRequest{}).GetLosers() {
		losers[l.GetKey()] = l
	}
	restore := func(key, version string) (*atollv1.RestoreLoserResponse, error) {
		l := losers[key]
		return regions.RestoreLoser(ctx, &atollv1.RestoreLoserRequest{
			Partition: l.GetPartition(), Id: l.GetId(), IfVersion: version, Options: &atollv1.WriteOptions{OpId: key + version},
		})
	}
	read := func(key string) *atollv1.GetResponse {
		res, err := kv.Get(ctx, &atollv1.GetRequest{Key: key})
		noError(t, err)
		return res
	}
	equal(t, "the later write", string(read("k").GetValue()), "theirs")
	_, err := restore("k", first)
	wantReason(t, err, reasonVersionMismatch)
	res, err := restore("k", read("k").GetVersion())
	noError(t, err)
	equal(t, "version", res.GetVersion(), read("k").GetVersion())
	equal(t, "value", string(read("k").GetValue()), "ours")
	equal(t, "named", res.GetLoser().GetKey()+" "+res.GetLoser().GetLost().GetRegion(), "k eu")
	_, err = restore("m", "")
	noError(t, err)
	equal(t, "field", string(read("m").GetTyped().GetMap().GetFields()["f"]), "ours")
	equal(t, "score that lost", losers["z"].GetScore(), -2.5)
	_, err = restore("z", "")
	noError(t, err)
	equal(t, "score", read("z").GetTyped().GetZset().GetMembers()[0].GetScore(), -2.5)
	_, err = restore("e", "")
	if f := wantReason(t, err, reasonInvalidArgument); f.message == "" {
		t.Error("no message")
	}
	_, err = regions.RestoreLoser(ctx, &atollv1.RestoreLoserRequest{Partition: 1, Id: 99})
	wantReason(t, err, reasonNotPresent)

	// A repetition of the request is the same write.
	again, err := restore("m", "")
	noError(t, err)
	equal(t, "version after a repetition", again.GetVersion(), read("m").GetVersion())
	// A key of another type by now.
	_, err = kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k"})
	noError(t, err)
	mustUpdate(t, kv, "k", counterAdd(1))
	losers["k2"] = losers["k"]
	_, err = restore("k2", "")
	wantReason(t, err, reasonWrongType)
}
