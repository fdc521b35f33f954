package main

import (
	"fmt"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// updateHLL keeps the elements, so its estimates are exact.
func (f *fakeRegion) updateHLL(at string, add *atollv1.HLLAdd) (*atollv1.UpdateResponse, error) {
	o, err := f.typed(at, atollv1.Type_TYPE_HLL)
	if err != nil {
		return nil, err
	}
	before := len(o.members)
	f.store.seq++
	for _, e := range add.GetElements() {
		o.members[string(e)] = f.store.seq
	}
	o.seq = f.store.seq
	f.store.objects[at] = o
	v := &atollv1.HLLValue{Count: uint64(len(o.members)), Changed: len(o.members) > before}
	return &atollv1.UpdateResponse{
		Version: fmt.Sprint("v", o.seq), Info: f.info(), Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Hll{Hll: v}},
	}, nil
}

func (f *fakeRegion) queryHLL(at string) (*atollv1.QueryResponse, error) {
	o, err := f.typed(at, atollv1.Type_TYPE_HLL)
	if err != nil {
		return nil, err
	}
	v := &atollv1.HLLValue{Count: uint64(len(o.members))}
	return &atollv1.QueryResponse{
		Found: o.seq > 0, Info: f.info(), Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Hll{Hll: v}},
	}, nil
}
