package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Future looks at what is stored, at the leader; region us lacks it all.
func (r *fakeReplica) Future(ctx context.Context, q region.FutureQuery) (page region.FuturePage, err error) {
	_, err = r.Read(ctx, region.ReadOptions{}, func(rep *replica.Replica, now hlc.Time) error {
		in := replica.FutureQuery{After: q.After, Own: ^uint64(0), Values: q.Limit, Items: 1 << 20, Bytes: 1 << 20}
		if len(q.Cursor) > 0 {
			if in.From, err = replica.DecodePosition(q.Cursor); err != nil {
				return region.ErrBadCursor
			}
		}
		found, err := rep.Future(in)
		if err != nil {
			return err
		}
		page = region.FuturePage{Undated: found.Undated, Now: max(now, rep.LastHLC())}
		for _, v := range found.Values {
			page.Values = append(page.Values, region.FutureValue{FutureValue: v, Lacking: []topology.RegionID{2}, OnlyHere: true})
		}
		if !found.Next.End {
			page.Cursor = replica.EncodePosition(found.Next)
		}
		return nil
	})
	return page, err
}

// ahead has a value be written by a clock that is ahead.
func (r *testRegion) ahead(by time.Duration, ops ...replica.Op) {
	r.t.Helper()
	for _, op := range ops {
		g := r.groups[r.cluster.PartitionOf(op.Namespace, op.Key)]
		eu, err := replica.Open(g.memory, g.actor)
		noError(r.t, err)
		_, _, err = eu.Execute(hlc.At(testClock().Add(by).UnixMilli(), 0), []replica.Op{op})
		noError(r.t, err)
		noError(r.t, eu.Flush())
	}
}

func (r *testRegion) futures(req *atollv1.FutureValuesRequest) (values []*atollv1.FutureValue, last *atollv1.FutureValuesResponse) {
	r.t.Helper()
	for pages := 0; ; pages++ {
		res, err := r.regions("eu-1").FutureValues(testContext(r.t), req)
		noError(r.t, err)
		values = append(values, res.GetValues()...)
		if req.Cursor = res.GetCursor(); len(req.GetCursor()) == 0 {
			return values, res
		}
		if pages > 1000 {
			r.t.Fatal("pages without end")
		}
	}
}

func futureKeys(values []*atollv1.FutureValue) string {
	var keys []string
	for _, v := range values {
		keys = append(keys, v.GetKey())
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// Values of all partitions and namespaces are found through any node, in pages, by the bound of the configuration or the
// request's.
func TestFutureValues(t *testing.T) {
	r := setup(t, 2, 4, 0, func(c *Config) { c.MaxAhead = time.Minute })
	put := func(key, value string, ttl time.Duration) replica.Op {
		op := replica.Op{Kind: replica.OpPut, Namespace: "default", Key: key, Value: []byte(value)}
		if ttl != 0 {
			op.Expires = hlc.At(testClock().Add(time.Hour+ttl).UnixMilli(), 0)
		}
		return op
	}
	r.ahead(30*time.Second, put("near", "v", 0))
	var want []string
	for i := range 10 {
		key := fmt.Sprint("far", i)
		want = append(want, key)
		r.ahead(time.Hour, put(key, "v", 0))
	}
	r.ahead(time.Hour, put("brief", "w", 10*time.Minute), replica.Op{Kind: replica.OpDelete, Namespace: "n", Key: "none"},
		replica.Op{Kind: replica.OpPut, Namespace: "n", Key: "gone", Value: []byte("v")}, replica.Op{Kind: replica.OpDelete, Namespace: "n", Key: "gone"})
	want = append([]string{"brief"}, append(want, "gone")...)
	for _, limit := range []uint32{0, 1, 5} {
		values, last := r.futures(&atollv1.FutureValuesRequest{Limit: limit, WithValues: true})
		equal(t, "keys", futureKeys(values), strings.Join(want, " "))
		equal(t, "region", last.GetRegion(), "eu")
		equal(t, "present", int64(last.GetPresentMs()), testClock().UnixMilli())
		equal(t, "bound", last.GetAhead().AsDuration(), time.Minute)
		for _, v := range values {
			equal(t, "event and who lacks it", v.GetEvent().GetRegion()+fmt.Sprint(v.GetLacking(), v.GetOnlyHere()), "eu[us] true")
			equal(t, "partition", v.GetPartition(), uint32(r.cluster.PartitionOf(v.GetNamespace(), v.GetKey())))
			equal(t, "deleted", v.GetRegister().GetDeleted(), v.GetKey() == "gone")
			if ahead := v.GetAhead().AsDuration(); ahead < time.Hour || ahead > time.Hour+time.Second {
				t.Errorf("%s is %v ahead", v.GetKey(), ahead)
			}
			if v.GetKey() == "brief" {
				equal(t, "value", string(v.GetRegister().GetValue()), "w")
				equal(t, "time to live", v.GetRegister().GetTtl().AsDuration(), 10*time.Minute)
			}
		}
	}
	values, _ := r.futures(&atollv1.FutureValuesRequest{Ahead: durationpb.New(10 * time.Second)})
	equal(t, "with a smaller bound", futureKeys(values), "brief far0 far1 far2 far3 far4 far5 far6 far7 far8 far9 gone near")
	equal(t, "value that was not asked for", len(values[0].GetRegister().GetValue()), 0)
	values, _ = r.futures(&atollv1.FutureValuesRequest{Ahead: durationpb.New(2 * time.Hour)})
	equal(t, "with a larger bound", futureKeys(values), "")
	values, _ = r.futures(&atollv1.FutureValuesRequest{PresentMs: uint64(testClock().Add(time.Hour).UnixMilli())})
	equal(t, "by another present", futureKeys(values), "")

	r.groups[1].lead("")
	_, last := r.futures(&atollv1.FutureValuesRequest{Partitions: []uint32{1}})
	if errs := last.GetErrors(); len(errs) != 1 || errs[0].GetPartition() != 1 || errs[0].GetError().GetReason() != string(reasonNoLeader) {
		t.Errorf("a partition without a leader: %v", errs)
	}
	for name, req := range map[string]*atollv1.FutureValuesRequest{
		"cursor": {Cursor: []byte{1, 2}}, "cursor of another partition": {Partitions: []uint32{2}, Cursor: []byte{1, 0, 0, 0, 3}},
		"ahead": {Ahead: durationpb.New(-time.Second)}, "partition": {Partitions: []uint32{4}}, "present": {PresentMs: 1 << 60},
	} {
		_, err := r.regions("eu-1").FutureValues(testContext(t), req)
		if err == nil {
			t.Errorf("%s is accepted", name)
			continue
		}
		wantReason(t, err, reasonInvalidArgument)
	}
}

// The present is what the middle one of the regions' clocks reads, of two the one that is behind.
func TestPresentOfManyClocks(t *testing.T) {
	for _, c := range []struct {
		others []time.Duration
		want   time.Duration
	}{
		{nil, 0},
		{[]time.Duration{-time.Hour}, -time.Hour},
		{[]time.Duration{time.Hour}, 0},
		{[]time.Duration{-time.Hour, -time.Hour + time.Second}, -time.Hour + time.Second},
		{[]time.Duration{-time.Second, time.Hour}, 0},
		{[]time.Duration{-time.Hour, -time.Hour, 1, 2}, 0},
	} {
		r := setup(t, 1, 1, 0, func(config *Config) {
			config.Clocks = func() Clocks {
				known := Clocks{Offsets: []ClockOffset{{Region: 1, Node: "eu-9", Ahead: -24 * time.Hour}}} // of this region
				for i, ahead := range c.others {
					for range i + 1 { // however many nodes a region has
						known.Offsets = append(known.Offsets, ClockOffset{Region: topology.RegionID(i + 2), Ahead: ahead})
					}
				}
				return known
			}
		})
		res, err := r.regions("eu-0").FutureValues(testContext(t), &atollv1.FutureValuesRequest{})
		noError(t, err)
		equal(t, "the clock is ahead", res.GetClockAhead().AsDuration(), (-c.want).Round(time.Millisecond))
		equal(t, "clocks", int(res.GetClocks()), len(c.others))
	}
}

// An explanation says who is known to have applied the register's last write when they made their last event.
func TestExplainTellsWhoHadSeenTheRegister(t *testing.T) {
	r := setup(t, 1, 1, 0)
	g := r.groups[0]
	us, err := replica.Open(replica.NewMemory(), topology.Actor(2, 3))
	noError(t, err)
	do := func(rep *replica.Replica, key string) []replica.Delta {
		_, deltas, err := rep.Execute(testNow(), []replica.Op{{Kind: replica.OpPut, Namespace: "default", Key: key}})
		noError(t, err)
		noError(t, rep.Flush())
		return deltas
	}
	heard := func() string {
		res, err := r.regions("eu-0").Explain(testContext(t), &atollv1.ExplainRequest{Key: "k"})
		noError(t, err)
		var by []string
		for _, h := range res.GetHeard() {
			by = append(by, fmt.Sprintf("%s/%d#%d", h.GetRegion(), h.GetEpoch(), h.GetSeq()))
		}
		return strings.Join(by, " ")
	}
	equal(t, "before anything", heard(), "")
	eu, err := replica.Open(g.memory, g.actor)
	noError(t, err)
	early, write := do(us, "other"), do(eu, "k")
	_, err = eu.Merge(us.Self(), early)
	noError(t, err)
	noError(t, eu.Flush())
	equal(t, "us has not heard of it", heard(), "eu/0#1")
	_, err = us.Merge(g.actor, write)
	noError(t, err)
	_, err = eu.Merge(us.Self(), do(us, "more"))
	noError(t, err)
	noError(t, eu.Flush())
	equal(t, "us has", heard(), "eu/0#1 us/3#2")
}
