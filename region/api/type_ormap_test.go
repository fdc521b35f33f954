package api

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func leaf(op *atollv1.Op, path ...string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_OrmapUpdate{OrmapUpdate: &atollv1.ORMapUpdate{Path: path, Op: op}}}
}

func registerPut(value string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_RegisterPut{RegisterPut: &atollv1.RegisterPut{Value: []byte(value)}}}
}

func counterAddOp(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_CounterAdd{CounterAdd: &atollv1.CounterAdd{Delta: n}}}
}

func setAddOp(elements ...string) *atollv1.Op {
	add := &atollv1.SetAdd{}
	for _, e := range elements {
		add.Elements = append(add.Elements, []byte(e))
	}
	return &atollv1.Op{Op: &atollv1.Op_SetAdd{SetAdd: add}}
}

func removePath(t atollv1.Type, path ...string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_OrmapRemove{OrmapRemove: &atollv1.ORMapRemove{Path: path, Type: t}}}
}

func askLeaf(q *atollv1.QueryOp, path ...string) *atollv1.QueryOp {
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_OrmapLeaf{OrmapLeaf: &atollv1.ORMapLeafQuery{Path: path, Query: q}}}
}

func askMap(get *atollv1.ORMapGet) *atollv1.QueryOp {
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_OrmapGet{OrmapGet: get}}
}

var (
	askForCounter = &atollv1.QueryOp{Query: &atollv1.QueryOp_Counter{Counter: &atollv1.CounterQuery{}}}
	askForSize    = &atollv1.QueryOp{Query: &atollv1.QueryOp_SetSize{SetSize: &atollv1.SetSize{}}}
)

// namesIn writes a page's names with the types of their leaves, and a slash where there is more below.
func namesIn(names []*atollv1.ORMapName) string {
	var said []string
	for _, n := range names {
		text := n.GetName()
		if n.GetBelow() {
			text += "/"
		}
		for _, l := range n.GetLeaves() {
			text += ":" + crdt.Type(l.GetType()).String()
		}
		said = append(said, text)
	}
	return strings.Join(said, " ")
}

func TestORMap(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	kv := r.kv("eu-1")
	equal(t, "visits", mustUpdate(t, kv, "u", leaf(counterAddOp(3), "42", "visits")).GetResult().GetCounter().GetValue(), 3)
	equal(t, "visits", mustUpdate(t, kv, "u", leaf(counterAddOp(4), "42", "visits")).GetResult().GetCounter().GetValue(), 7)
	equal(t, "tags", mustUpdate(t, kv, "u", leaf(setAddOp("new", "vip"), "42", "tags")).GetResult().GetSet().GetSize(), 2)
	put := mustUpdate(t, kv, "u", leaf(registerPut("Ann"), "42", "name"))
	equal(t, "result of a put", put.GetResult(), nil)
	mustUpdate(t, kv, "u", leaf(flagEnable, "43"))

	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "u"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_OR_MAP)
	equal(t, "size", got.GetTyped().GetOrmap().GetSize(), 4)
	equal(t, "names", namesIn(got.GetTyped().GetOrmap().GetNames()), "42/ 43:flag")

	res := mustQuery(t, kv, "u", askMap(&atollv1.ORMapGet{Path: []string{"42"}}))
	page := res.GetResult().GetOrmap()
	equal(t, "names below", namesIn(page.GetNames()), "name:register tags:set visits:counter")
	name := page.GetNames()[0].GetLeaves()[0]
	equal(t, "name", string(name.GetValue()), "Ann")
	equal(t, "version of the name", name.GetVersion(), put.GetVersion())
	equal(t, "tags", page.GetNames()[1].GetLeaves()[0].GetTyped().GetSet().GetSize(), 2)
	equal(t, "visits", page.GetNames()[2].GetLeaves()[0].GetTyped().GetCounter().GetValue(), 7)
	equal(t, "size", page.GetSize(), 4)
	equal(t, "found", res.GetFound() && res.GetVersion() == got.GetVersion(), true)

	visits := mustQuery(t, kv, "u", askLeaf(askForCounter, "42", "visits"))
	equal(t, "leaf", visits.GetResult().GetCounter().GetValue(), 7)
	equal(t, "found", visits.GetFound(), true)
	none := mustQuery(t, kv, "u", askLeaf(askForCounter, "42", "none"))
	equal(t, "absent leaf", none.GetResult().GetCounter().GetValue() == 0 && !none.GetFound() && none.GetVersion() == "", true)
	flag := mustQuery(t, kv, "u", askMap(&atollv1.ORMapGet{Path: []string{"43"}})).GetResult().GetOrmap()
	equal(t, "leaf at the path", len(flag.GetLeaves()) == 1 && flag.GetLeaves()[0].GetTyped().GetFlag().GetEnabled(), true)

	// Conditions are the leaf's.
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "u", Op: leaf(registerPut("Bea"), "42", "name"), Condition: ifVersion("1")})
	wantReason(t, err, reasonVersionMismatch)
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "u", Op: leaf(registerPut("Bea"), "42", "name"), Condition: ifVersion(put.GetVersion())})
	noError(t, err)

	equal(t, "removed leaf", mustUpdate(t, kv, "u", removePath(atollv1.Type_TYPE_AW_SET, "42", "tags")).GetResult().GetSet().GetChanged(), 2)
	removed := mustUpdate(t, kv, "u", removePath(0, "42")).GetResult().GetOrmap()
	equal(t, "removed", fmt.Sprint(removed.GetSize(), removed.GetChanged()), "1 2")
	deleted, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "u", Type: atollv1.Type_TYPE_OR_MAP})
	noError(t, err)
	equal(t, "existed", deleted.GetExisted(), true)
	got, err = kv.Get(ctx, &atollv1.GetRequest{Key: "u"})
	noError(t, err)
	equal(t, "found", got.GetFound(), false)
}

func ifVersion(v string) *atollv1.Condition {
	return &atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: v}}
}

func TestORMapPages(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	large := strings.Repeat("x", 300<<10)
	for i := range 150 {
		value := "small"
		if i%20 == 10 {
			value = large
		}
		mustUpdate(t, kv, "u", leaf(registerPut(value), "all", fmt.Sprintf("%03d", i)))
	}
	for _, limit := range []uint32{0, 7, 100, 1000} {
		next, pages := 0, 0
		for cursor := []byte(nil); pages == 0 || len(cursor) > 0; pages++ {
			page := mustQuery(t, kv, "u", askMap(&atollv1.ORMapGet{Path: []string{"all"}, Cursor: cursor, Limit: limit})).GetResult().GetOrmap()
			if size := proto.Size(page); size > membersPageBytes+1000 || limit > 0 && len(page.GetNames()) > int(limit) {
				t.Errorf("limit %d: page of %d bytes and %d names", limit, size, len(page.GetNames()))
			}
			for _, n := range page.GetNames() {
				equal(t, "name", n.GetName(), fmt.Sprintf("%03d", next))
				next++
			}
			cursor = page.GetCursor()
		}
		if next != 150 || pages < 3 || limit > 150 && pages > 5 {
			t.Errorf("limit %d: %d names in %d pages", limit, next, pages)
		}
	}
	got, err := kv.Get(testContext(t), &atollv1.GetRequest{Key: "u"})
	noError(t, err)
	equal(t, "names", namesIn(got.GetTyped().GetOrmap().GetNames()), "all/")
	got, err = kv.Get(testContext(t), &atollv1.GetRequest{Key: "u"})
	noError(t, err)
	equal(t, "size", got.GetTyped().GetOrmap().GetSize(), 150)
}

func TestORMapRefusals(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	mustUpdate(t, kv, "u", leaf(counterAddOp(1), "a"))
	mustUpdate(t, kv, "c", counterAddOp(1))
	long := strings.Repeat("n", crdt.MaxNameBytes+1)
	for _, c := range []struct {
		key  string
		op   *atollv1.Op
		want reason
	}{
		{"u", leaf(counterAddOp(1)), reasonInvalidArgument},
		{"u", leaf(counterAddOp(1), "a", ""), reasonInvalidArgument},
		{"u", leaf(counterAddOp(1), long), reasonInvalidArgument},
		{"u", leaf(counterAddOp(1), "a", "b", "c", "d", "e"), reasonInvalidArgument},
		{"u", leaf(nil, "a"), reasonInvalidArgument},
		{"u", leaf(leaf(counterAddOp(1), "b"), "a"), reasonInvalidArgument},
		{"u", leaf(removePath(0, "b"), "a"), reasonInvalidArgument},
		{"u", leaf(&atollv1.Op{Op: &atollv1.Op_Persist{Persist: &atollv1.Persist{}}}, "a"), reasonInvalidArgument},
		{"u", leaf(&atollv1.Op{Op: &atollv1.Op_BcounterInc{BcounterInc: &atollv1.BCounterInc{N: 1}}}, "a"), reasonInvalidArgument},
		{"u", leaf(registerPut(strings.Repeat("x", maxValueBytes+1)), "b"), reasonValueTooLarge},
		{"u", leaf(setAddOp(""), "b"), reasonInvalidArgument},
		{"u", removePath(0, long), reasonInvalidArgument},
		{"u", removePath(atollv1.Type_TYPE_COUNTER), reasonInvalidArgument},
		{"u", removePath(atollv1.Type_TYPE_OR_MAP, "a"), reasonInvalidArgument},
		{"u", removePath(99, "a"), reasonInvalidArgument},
		{"u", removePath(256+atollv1.Type_TYPE_COUNTER, "a"), reasonInvalidArgument},
		{"u", leaf(setAddOp("x"), "a"), reasonWrongType},
		{"u", setAddOp("x"), reasonWrongType},
		{"c", leaf(counterAddOp(1), "a"), reasonWrongType},
		{"c", removePath(0), reasonWrongType},
	} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: c.key, Op: c.op})
		wantReason(t, err, c.want)
	}
	for _, c := range []struct {
		key  string
		q    *atollv1.QueryOp
		want reason
	}{
		{"u", askLeaf(askForCounter), reasonInvalidArgument},
		{"u", askLeaf(nil, "a"), reasonInvalidArgument},
		{"u", askLeaf(askMap(&atollv1.ORMapGet{}), "a"), reasonInvalidArgument},
		{"u", askLeaf(askLeaf(askForCounter, "b"), "a"), reasonInvalidArgument},
		{"u", askLeaf(&atollv1.QueryOp{Query: &atollv1.QueryOp_Bcounter{Bcounter: &atollv1.BCounterQuery{}}}, "a"), reasonInvalidArgument},
		{"u", askMap(&atollv1.ORMapGet{Path: []string{long}}), reasonInvalidArgument},
		{"u", askMap(&atollv1.ORMapGet{Limit: maxMembersLimit + 1}), reasonInvalidArgument},
		{"u", askLeaf(askForSize, "a"), reasonWrongType},
		{"c", askLeaf(askForCounter, "a"), reasonWrongType},
		{"c", askMap(&atollv1.ORMapGet{}), reasonWrongType},
	} {
		_, err := kv.Query(ctx, &atollv1.QueryRequest{Key: c.key, Query: c.q})
		wantReason(t, err, c.want)
	}
}

// TestORMapMergesSubtreeRemovals has a region remove a subtree while another adds to a leaf of it, and looks
// at what the first says made the value.
func TestORMapMergesSubtreeRemovals(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	mustUpdate(t, kv, "u", leaf(counterAddOp(10), "42", "visits"))
	path, err := crdt.NewPath("42", "visits")
	noError(t, err)
	r.fromUS(replica.Op{Kind: replica.OpCounterAdd, Namespace: defaultNamespace, Key: "u", Path: path, Delta: 2})
	explained, err := r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "u"})
	noError(t, err)
	parts := explained.GetObjects()[0].GetParts().GetParts()
	equal(t, "part", fmt.Sprintf("%s = %s", parts[0].GetName(), parts[0].GetValue()), "42/visits counter = 12 = 10 + 2")
	equal(t, "events", len(parts[0].GetEvents()), 2)
	equal(t, "removed", mustUpdate(t, kv, "u", removePath(0, "42")).GetResult().GetOrmap().GetChanged(), 1)
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "u", Op: leaf(counterAddOp(5), "42", "visits"), Options: locally("id")})
	noError(t, err)
	equal(t, "visits", mustQuery(t, kv, "u", askLeaf(askForCounter, "42", "visits")).GetResult().GetCounter().GetValue(), 5)
}
