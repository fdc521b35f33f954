package main

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// fakePresent is what the fake regions take for the present.
const fakePresent = 1_700_000_000_000

// FutureValues finds things in eu only, on two pages; of partition 1 it knows nothing, and us has what partition 2 has.
func (f *fakeRegion) FutureValues(_ context.Context, r *atollv1.FutureValuesRequest) (*atollv1.FutureValuesResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	res := &atollv1.FutureValuesResponse{
		Region: f.name, PresentMs: fakePresent, Ahead: durationpb.New(10 * time.Second), Clocks: 1, ClockAhead: durationpb.New(0),
	}
	if f.name != "eu" {
		return res, nil
	}
	future := func(key string, of atollv1.Type) *atollv1.FutureValue {
		seq := uint64(len(key))
		return &atollv1.FutureValue{
			Partition: 3, Namespace: "default", Key: key, Type: of, Ahead: durationpb.New(time.Hour), Lacking: []string{"ap", "us"}, OnlyHere: true,
			Event: &atollv1.Event{Region: "eu", Epoch: 1, Seq: seq, Hlc: (fakePresent + 3_600_000) << 16},
		}
	}
	register := func(key, value string) *atollv1.FutureValue {
		v := future(key, atollv1.Type_TYPE_LWW_REGISTER)
		v.Register = &atollv1.FutureRegister{Version: "v", Deleted: value == "", Ttl: durationpb.New(time.Minute)}
		if r.GetWithValues() {
			v.Register.Value = []byte(value)
		}
		return v
	}
	taken := register("taken", "2")
	taken.Lacking, taken.OnlyHere = nil, false
	switch {
	case len(r.GetPartitions()) == 1 && r.GetPartitions()[0] == 1:
		res.Errors = []*atollv1.PartitionError{{Partition: 1, Error: &atollv1.Error{Message: "no leader"}}}
	case len(r.GetPartitions()) == 1 && r.GetPartitions()[0] == 2:
		res.Values = []*atollv1.FutureValue{taken}
	case len(r.GetPartitions()) == 1:
		res.Values = []*atollv1.FutureValue{register("new", "2"), register("same", "1"), register("gone", "")}
	case len(r.GetCursor()) == 0:
		res.Values, res.Cursor = []*atollv1.FutureValue{register("new", "2"), register("changed", "2"), future("count", atollv1.Type_TYPE_COUNTER)}, []byte{1}
	default:
		again := future("count", atollv1.Type_TYPE_COUNTER)
		again.Lacking, again.OnlyHere = []string{"us"}, false
		home := register("locked", "2")
		home.Home, home.Namespace = true, "locks"
		res.Values, res.Undated = []*atollv1.FutureValue{again, home, taken}, 7
		res.ClockAhead = durationpb.New(time.Hour)
	}
	return res, nil
}
