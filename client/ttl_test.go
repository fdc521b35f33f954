package client

import (
	"context"
	"testing"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// TestTimeToLiveOfAnyType: every write takes a time to live, and expire and persist are on all types or one.
func TestTimeToLiveOfAnyType(t *testing.T) {
	ctx := testContext(t)
	var last *atollv1.UpdateRequest
	f := &fakeServer{update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
		last = r
		return &atollv1.UpdateResponse{Version: "v"}, nil
	}}
	c := newClient(t, []string{serve(t, f)})
	for name, write := range map[string]func() error{
		"set":     func() error { _, err := c.Set("k").Add(ctx, [][]byte{[]byte("a")}, WithTTL(time.Minute)); return err },
		"counter": func() error { _, err := c.Counter("k").Add(ctx, 1, WithTTL(time.Minute)); return err },
		"flag":    func() error { _, err := c.Flag("k").Enable(ctx, WithTTL(time.Minute)); return err },
		"max":     func() error { _, err := c.Max("k").Raise(ctx, 1, WithTTL(time.Minute)); return err },
	} {
		noError(t, write())
		equal(t, name+"'s time to live", last.GetTtl().AsDuration(), time.Minute)
	}
	_, err := c.ORMap("k").At("a", "b").Register().Put(ctx, []byte("v"), WithTTL(time.Minute))
	noError(t, err)
	equal(t, "a leaf's time to live", last.GetTtl().AsDuration(), time.Minute)
	equal(t, "a leaf's operation", string(last.GetOp().GetOrmapUpdate().GetOp().GetRegisterPut().GetValue()), "v")
	version, err := c.Expire(ctx, "k", time.Hour)
	noError(t, err)
	equal(t, "version", version, "v")
	equal(t, "time to live", last.GetOp().GetExpire().GetTtl().AsDuration(), time.Hour)
	equal(t, "type", last.GetOp().GetExpire().GetType(), atollv1.Type_TYPE_UNSPECIFIED)
	_, err = c.Expire(ctx, "k", time.Hour, OfType(TypeSet))
	noError(t, err)
	equal(t, "type", last.GetOp().GetExpire().GetType(), atollv1.Type_TYPE_AW_SET)
	_, err = c.Persist(ctx, "k", OfType(TypeCounter))
	noError(t, err)
	equal(t, "type", last.GetOp().GetPersist().GetType(), atollv1.Type_TYPE_COUNTER)
}
