package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// Watch tells of every object written since the event whose number is the cursor, from the first one
// on without a cursor, and then waits. With cursor "old" it lists all of them.
func (f *fakeRegion) Watch(ctx context.Context, r *atollv1.WatchRequest, s atollv1connect.KVWatchServerStream) error {
	since, err := strconv.ParseUint(cmp.Or(string(r.GetCursor()), "0"), 10, 64)
	state := string(r.GetCursor()) == "old"
	if err != nil && !state {
		return refusal(connect.CodeInvalidArgument, client.ReasonInvalidArgument, map[string]string{"field": "cursor"})
	}
	messages := []*atollv1.WatchResponse{}
	if state {
		messages = append(messages, &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Resync{Resync: &atollv1.Resync{Partition: 1}}})
	}
	messages = append(messages, f.events(r, since, state)...)
	if state {
		messages = append(messages, &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Resync{Resync: &atollv1.Resync{Partition: 1, End: true}}})
	}
	messages = append(messages, &atollv1.WatchResponse{Message: &atollv1.WatchResponse_Heartbeat{Heartbeat: &atollv1.Heartbeat{}}})
	for _, m := range messages {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (f *fakeRegion) events(r *atollv1.WatchRequest, since uint64, state bool) []*atollv1.WatchResponse {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	var out []*atollv1.WatchResponse
	keys := slices.SortedFunc(maps.Keys(f.store.objects), func(x, y string) int {
		return cmp.Compare(f.store.objects[x].seq, f.store.objects[y].seq)
	})
	for _, at := range keys {
		o := f.store.objects[at]
		key, ok := strings.CutPrefix(at, place(r.GetNamespace(), ""))
		if !ok || o.seq <= since || !strings.HasPrefix(key, r.GetPrefix()) || r.GetKey() != "" && key != r.GetKey() {
			continue
		}
		e := entryOf(key, o, 3)
		event := &atollv1.WatchEvent{Key: key, Type: e.GetType(), Found: true, Version: e.GetVersion(), Cause: atollv1.Cause_CAUSE_LOCAL, State: state}
		if r.GetIncludeValue() {
			event.Value, event.Typed = e.GetValue(), e.GetTyped()
		}
		out = append(out, &atollv1.WatchResponse{
			Message: &atollv1.WatchResponse_Event{Event: event}, Cursor: strconv.AppendUint(nil, o.seq, 10),
		})
	}
	return out
}

func (f *fakeRegion) topology() *atollv1.Topology {
	own := f.regions[slices.IndexFunc(f.regions, func(r *atollv1.Region) bool { return r.GetName() == f.name })]
	return &atollv1.Topology{
		Cluster: "test", Region: f.name, Epoch: 7,
		Namespaces: []*atollv1.TopologyNamespace{{Name: "carts", Type: atollv1.Type_TYPE_AW_SET}},
		Nodes:      []*atollv1.TopologyNode{{Name: f.name + "-1", Zone: "a", Address: own.GetNodes()[0].GetAddress()}},
		Partitions: []*atollv1.TopologyPartition{
			{Partition: 0, Leader: f.name + "-1", Term: 3, Replicas: []string{f.name + "-1"}, State: atollv1.PartitionState_PARTITION_STATE_ACTIVE},
			{Partition: 1, Term: 4, Replicas: []string{f.name + "-1"}, State: atollv1.PartitionState_PARTITION_STATE_NO_LEADER},
		},
	}
}

// WatchStatus shows it twice, and refuses to go on.
func (f *fakeRegion) WatchStatus(ctx context.Context, _ *atollv1.WatchStatusRequest, s atollv1connect.RegionsWatchStatusServerStream) error {
	for range 2 {
		status, err := f.Status(ctx, nil)
		if err == nil {
			err = s.Send(&atollv1.WatchStatusResponse{Status: status})
		}
		if err != nil {
			return err
		}
	}
	return refusal(connect.CodePermissionDenied, client.ReasonDenied, nil)
}

func (f *fakeRegion) Topology(context.Context, *atollv1.TopologyRequest) (*atollv1.TopologyResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	return &atollv1.TopologyResponse{Topology: f.topology()}, nil
}

// WatchTopology shows it twice, and refuses to go on.
func (f *fakeRegion) WatchTopology(_ context.Context, _ *atollv1.WatchTopologyRequest, s atollv1connect.ClusterWatchTopologyServerStream) error {
	for range 2 {
		if err := s.Send(&atollv1.WatchTopologyResponse{Topology: f.topology()}); err != nil {
			return err
		}
	}
	return refusal(connect.CodePermissionDenied, client.ReasonDenied, nil)
}
