package client

import (
	"context"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Write is one write of a batch. Make it with NewPut, NewDelete, NewCounterAdd or another function of
// such a name. Its options may be conditions, WithTTL and OfType; others are those of the batch.
type Write struct {
	key   string
	build func(c *Client, cfg *writeConfig) *atollv1.Write
	opts  []WriteOption
}

// NewPut returns a write that sets a register.
func NewPut(key string, value []byte, opts ...WriteOption) Write {
	return Write{key: key, opts: opts, build: func(c *Client, cfg *writeConfig) *atollv1.Write {
		return &atollv1.Write{Write: &atollv1.Write_Put{Put: c.putRequest(key, value, cfg)}}
	}}
}

// NewDelete returns a write that removes a key.
func NewDelete(key string, opts ...WriteOption) Write {
	return Write{key: key, opts: opts, build: func(c *Client, cfg *writeConfig) *atollv1.Write {
		return &atollv1.Write{Write: &atollv1.Write_Delete{Delete: c.deleteRequest(key, cfg)}}
	}}
}

// NewCounterAdd returns a write that adds n to a counter.
func NewCounterAdd(key string, n int64, opts ...WriteOption) Write {
	return newUpdate(key, counterAdd(n), opts)
}

// NewCounterSet returns a write that makes a counter n as the region sees it.
func NewCounterSet(key string, n int64, opts ...WriteOption) Write {
	return newUpdate(key, counterSet(n), opts)
}

// NewSetAdd returns a write that adds elements to a set.
func NewSetAdd(key string, elements [][]byte, opts ...WriteOption) Write {
	return newUpdate(key, setAdd(elements), opts)
}

// NewSetRemove returns a write that removes elements from a set.
func NewSetRemove(key string, elements [][]byte, opts ...WriteOption) Write {
	return newUpdate(key, setRemove(elements), opts)
}

func newUpdate(key string, op *atollv1.Op, opts []WriteOption) Write {
	return Write{key: key, opts: opts, build: func(c *Client, cfg *writeConfig) *atollv1.Write {
		return &atollv1.Write{Write: &atollv1.Write_Update{Update: c.updateRequest(key, op, cfg)}}
	}}
}

// WriteResult is the result of one write of a batch.
type WriteResult struct {
	// Key is the key written.
	Key string
	// Err is nil if the write was done; otherwise it is of type *Error.
	Err error
	// Version is the key's new version.
	Version string
	// Existed says whether a deleted key existed.
	Existed bool
	// Counter is the value of a counter, a bounded counter, a maximum or a minimum after the write.
	Counter int64
	// Set is what the write did to a set.
	Set SetChange
	// Timeline is what the write did to a timeline.
	Timeline SetChange
	// Map and ZSet are what the write did to a map or a sorted set.
	Map  MapChange
	ZSet ZSetChange
	// Counted is what the write did to a sorted set with counters as scores.
	Counted CounterZSetChange
	// ORMap is what the write removed from an observed-remove map.
	ORMap SetChange
	// HLL is what the write did to a HyperLogLog.
	HLL HLLChange
}

// Batch runs several writes, at most 10 000 and 4 MiB together. Those of one partition take effect
// together or not at all; each has its own result, in the order given. The error is that of the
// batch as a whole; a batch that was answered has only results, whose errors are their own.
//
// Retries: the batch as a whole while no answer came. A result may still be ErrOutcomeUnknown or
// ErrUnavailable: repeat the same writes in the same order with WithOpID and the same id, and those
// that were done are not done twice.
func (c *Client) Batch(ctx context.Context, writes []Write, opts ...WriteOption) ([]WriteResult, error) {
	cfg := c.writeConfigOf(opts)
	req := &atollv1.BatchWriteRequest{Items: make([]*atollv1.Write, len(writes)), Options: cfg.options()}
	for i := range writes {
		var item writeConfig
		for _, opt := range writes[i].opts {
			opt.applyWrite(&item)
		}
		req.Items[i] = writes[i].build(c, &item)
	}
	res, err := invoke(ctx, c.shared, cfg.opID, func(ctx context.Context, e *endpoint) (*atollv1.BatchWriteResponse, error) {
		return e.kv.BatchWrite(ctx, req)
	})
	if err != nil {
		return nil, err
	}
	if len(res.GetItems()) != len(writes) {
		return nil, wrongCount(len(res.GetItems()), len(writes))
	}
	for i, group := range res.GetGroups() {
		cfg.session.saw(group.GetInfo().GetSession())
		if i == 0 {
			cfg.capture(group.GetInfo())
		}
	}
	results := make([]WriteResult, len(writes))
	for i, item := range res.GetItems() {
		results[i] = WriteResult{
			Key:      writes[i].key,
			Err:      itemError(item.GetError()),
			Version:  item.GetVersion(),
			Existed:  item.GetExisted(),
			Counter:  numberOf(item.GetResult().GetCounter(), item.GetResult().GetBounded(), item.GetResult().GetExtreme()),
			Set:      changeOf(item.GetResult().GetSet()),
			Timeline: changeOf(item.GetResult().GetTimeline()),
			Map:      mapChange(item.GetResult()),
			ZSet:     zsetChange(item.GetResult()),
			Counted:  counterZSetChange(item.GetResult().GetZset()),
			ORMap:    changeOf(item.GetResult().GetOrmap()),
			HLL:      hllChange(item.GetResult().GetHll()),
		}
	}
	return results, nil
}

// GetResult is the result of one key of a GetMany.
type GetResult struct {
	Key   string
	Value Value
	// Err is ErrNotFound if the key does not exist.
	Err error
}

// GetMany returns the values of several keys, at most 10 000, in the order given. The error is that
// of the request as a whole. Each value is linearizable by itself; together they are no snapshot.
func (c *Client) GetMany(ctx context.Context, keys []string, opts ...ReadOption) ([]GetResult, error) {
	cfg := c.readConfigOf(opts)
	req := &atollv1.BatchGetRequest{Items: make([]*atollv1.GetRequest, len(keys)), Options: cfg.options()}
	for i, key := range keys {
		req.Items[i] = &atollv1.GetRequest{Key: key, Namespace: c.namespace}
	}
	res, err := invoke(ctx, c.shared, "", func(ctx context.Context, e *endpoint) (*atollv1.BatchGetResponse, error) {
		return e.kv.BatchGet(ctx, req)
	})
	if err != nil {
		return nil, err
	}
	if len(res.GetItems()) != len(keys) {
		return nil, wrongCount(len(res.GetItems()), len(keys))
	}
	results := make([]GetResult, len(keys))
	for i, item := range res.GetItems() {
		results[i] = GetResult{Key: keys[i], Err: itemError(item.GetError())}
		cfg.session.saw(item.GetResponse().GetInfo().GetSession()) // that a key is absent was seen as well
		switch {
		case item.GetResponse().GetFound():
			results[i].Value = valueOf(item.GetResponse())
			cfg.capture(item.GetResponse().GetInfo())
		case results[i].Err == nil:
			results[i].Err = notFound(c.namespace, keys[i])
		}
	}
	return results, nil
}
