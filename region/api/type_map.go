package api

import (
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var mapAPI = typeAPI{
	of:        crdt.TypeLWWMap,
	operation: mapOperation,
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Map{Map: &atollv1.SetChange{Size: out.Size, Changed: out.Changed}}}
	},
	value: func(_ *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		fields, _, err := r.MapFields(o.Namespace, o.Key, nil, valueMembers, valueMemberBytes)
		if err != nil {
			return nil, err
		}
		if len(fields) == 1 && len(fields[0].Name)+len(fields[0].Value) > valueMemberBytes {
			fields = nil // a page has at least one, this has none then
		}
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Map{Map: &atollv1.MapValue{Size: o.Size, Fields: fieldsOf(fields)}}}, nil
	},
	query:  checkMapQuery,
	answer: answerMap,
}

func mapOperation(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_MapPut:
		op := replica.Op{Kind: replica.OpMapPut}
		// In order, so that a retry is the same write.
		for _, name := range slices.Sorted(maps.Keys(o.MapPut.GetFields())) {
			op.Elements = append(op.Elements, []byte(name))
			op.Values = append(op.Values, o.MapPut.GetFields()[name])
		}
		return op, checkFields("op.map_put.fields", op.Elements, op.Values), true
	case *atollv1.Op_MapRemove:
		names := fieldNames(o.MapRemove.GetFields())
		return replica.Op{Kind: replica.OpMapRemove, Elements: names}, checkElements("op.map_remove.fields", names), true
	default:
		return replica.Op{}, nil, false
	}
}

// checkFields checks fields to put.
func checkFields(field string, names, values [][]byte) *failure {
	if f := checkElements(field, names); f != nil {
		return f
	}
	total := 0
	for i, v := range values {
		if len(v) > maxValueBytes {
			return tooLong(reasonValueTooLarge, field, maxValueBytes)
		}
		total += len(names[i]) + len(v)
	}
	if total > maxBatchBytes {
		return tooLong(reasonBatchTooLarge, field, maxBatchBytes)
	}
	return nil
}

func fieldNames(texts []string) [][]byte {
	all := make([][]byte, len(texts))
	for i, text := range texts {
		all[i] = []byte(text)
	}
	return all
}

func fieldsOf(fields []replica.Field) map[string][]byte {
	m := make(map[string][]byte, len(fields))
	for _, f := range fields {
		m[string(f.Name)] = f.Value
	}
	return m
}

func checkMapQuery(q *atollv1.QueryOp) (*failure, bool) {
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_MapGet:
		return checkElements("query.map_get.fields", fieldNames(q.MapGet.GetFields())), true
	case *atollv1.QueryOp_MapAll:
		return checkPage("query.map_all", q.MapAll.GetLimit(), q.MapAll.GetCursor()), true
	default:
		return nil, false
	}
}

// answerMap answers with a page. That of named fields ends at the page's bytes too: the cursor is the
// last name that was answered, and the caller asks again for those behind it.
func answerMap(_ *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	var fields []replica.Field
	var more bool
	var err error
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_MapGet:
		fields, more, err = r.MapGet(o.Namespace, o.Key, fieldNames(q.MapGet.GetFields()), membersPageBytes)
	case *atollv1.QueryOp_MapAll:
		fields, more, err = r.MapFields(o.Namespace, o.Key, q.MapAll.GetCursor(), pageLimit(q.MapAll.GetLimit()), membersPageBytes)
	}
	if err != nil {
		return nil, err
	}
	page := &atollv1.MapPage{Fields: fieldsOf(fields), Size: o.Size}
	if more && len(fields) > 0 {
		page.Cursor = fields[len(fields)-1].Name
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_Map{Map: page}}, nil
}
