package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Get returns the value of a key, whatever its type.
//
// Consistency: linearizable within the region; see [ReadBounded] and [Eventual]. Errors: ErrNotFound
// if the key does not exist, ErrStale if the bound cannot be met.
func (c *Client) Get(ctx context.Context, key string, opts ...ReadOption) (Value, error) {
	cfg := c.readConfigOf(opts)
	res, err := do[*atollv1.GetResponse](ctx, c.shared, "", &request{
		namespace: c.namespace, key: key, anywhere: cfg.anywhere(), informs: cfg.informs(),
		msg: &atollv1.GetRequest{Key: key, Namespace: c.namespace, Options: cfg.options()},
	})
	if err != nil {
		return Value{}, err
	}
	cfg.capture(res.GetInfo())
	if !res.GetFound() {
		return Value{}, notFound(c.namespace, key)
	}
	return valueOf(res), nil
}

// Put sets a register and returns its new version. A nil error promises that the write is on disk on
// a majority of the partition's replicas in the region; see [WithLocalDurability].
//
// Errors: ErrWrongType if the key holds a value of another type, and those of its conditions.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...WriteOption) (version string, err error) {
	if len(c.path) > 0 {
		return c.putLeaf(ctx, key, value, opts)
	}
	cfg := c.writeConfigOf(opts)
	req := c.putRequest(key, value, &cfg)
	req.Options = cfg.options()
	res, err := do[*atollv1.PutResponse](ctx, c.shared, cfg.opID, &request{namespace: c.namespace, key: key, informs: cfg.informs(), msg: req})
	if err != nil {
		return "", err
	}
	cfg.capture(res.GetInfo())
	return res.GetVersion(), nil
}

// CompareAndSwap sets a register to new if it holds exactly old, and returns its new version.
//
// Errors: ErrValueMismatch if it holds something else or does not exist.
func (c *Client) CompareAndSwap(ctx context.Context, key string, old, new []byte, opts ...WriteOption) (version string, err error) {
	return c.Put(ctx, key, new, append(opts[:len(opts):len(opts)], IfValue(old))...)
}

// Delete removes a key and reports whether it existed. Deleting what is absent is no error.
// Without [OfType] it removes the key's values of all types.
func (c *Client) Delete(ctx context.Context, key string, opts ...WriteOption) (existed bool, err error) {
	cfg := c.writeConfigOf(opts)
	if len(c.path) > 0 {
		return c.deleteLeaf(ctx, key, cfg.typ, opts)
	}
	req := c.deleteRequest(key, &cfg)
	req.Options = cfg.options()
	res, err := do[*atollv1.DeleteResponse](ctx, c.shared, cfg.opID, &request{namespace: c.namespace, key: key, informs: cfg.informs(), msg: req})
	if err != nil {
		return false, err
	}
	cfg.capture(res.GetInfo())
	return res.GetExisted(), nil
}

// Expire makes what a key has expire after ttl, in every region, and returns its version: a register's new one;
// that of other values stays. It has no effect on a key that does not exist. [OfType] limits it to one of
// several types under the key.
//
// Errors: ErrInvalidArgument if the key holds a bounded counter, ErrWrongType if it holds no value of the type.
func (c *Client) Expire(ctx context.Context, key string, ttl time.Duration, opts ...WriteOption) (version string, err error) {
	op := &atollv1.Expire{Ttl: durationpb.New(ttl), Type: writeConfigOf(opts).typ}
	res, err := c.update(ctx, key, &atollv1.Op{Op: &atollv1.Op_Expire{Expire: op}}, opts)
	return res.GetVersion(), err
}

// Persist takes the expiry of what a key has away, and returns its version as Expire does. It has no effect on a
// key that does not exist. [OfType] limits it to one of several types under the key.
//
// Errors: ErrWrongType if the key holds no value of the type.
func (c *Client) Persist(ctx context.Context, key string, opts ...WriteOption) (version string, err error) {
	op := &atollv1.Persist{Type: writeConfigOf(opts).typ}
	res, err := c.update(ctx, key, &atollv1.Op{Op: &atollv1.Op_Persist{Persist: op}}, opts)
	return res.GetVersion(), err
}

func (c *Client) putRequest(key string, value []byte, cfg *writeConfig) *atollv1.PutRequest {
	return &atollv1.PutRequest{Key: key, Namespace: c.namespace, Value: value, Ttl: cfg.ttl, Condition: cfg.condition}
}

func (c *Client) deleteRequest(key string, cfg *writeConfig) *atollv1.DeleteRequest {
	return &atollv1.DeleteRequest{Key: key, Namespace: c.namespace, Type: cfg.typ, Condition: cfg.condition}
}

func (c *Client) updateRequest(key string, op *atollv1.Op, cfg *writeConfig) *atollv1.UpdateRequest {
	return &atollv1.UpdateRequest{Key: key, Namespace: c.namespace, Op: op, Condition: cfg.condition, Ttl: cfg.ttl}
}

// update runs one operation of a typed value.
func (c *Client) update(ctx context.Context, key string, op *atollv1.Op, opts []WriteOption) (*atollv1.UpdateResponse, error) {
	cfg := c.writeConfigOf(opts)
	req := c.updateRequest(key, c.leafOp(op), &cfg)
	req.Options = cfg.options()
	res, err := do[*atollv1.UpdateResponse](ctx, c.shared, cfg.opID, &request{namespace: c.namespace, key: key, informs: cfg.informs(), msg: req})
	if err != nil {
		return nil, err
	}
	cfg.capture(res.GetInfo())
	return res, nil
}

func (c *Client) query(ctx context.Context, key string, q *atollv1.QueryOp, opts []ReadOption) (*atollv1.QueryResult, error) {
	return c.ask(ctx, key, c.leafQuery(q), opts)
}

func (c *Client) ask(ctx context.Context, key string, q *atollv1.QueryOp, opts []ReadOption) (*atollv1.QueryResult, error) {
	cfg := c.readConfigOf(opts)
	res, err := do[*atollv1.QueryResponse](ctx, c.shared, "", &request{
		namespace: c.namespace, key: key, anywhere: cfg.anywhere(), informs: cfg.informs(),
		msg: &atollv1.QueryRequest{Key: key, Namespace: c.namespace, Query: q, Options: cfg.options()},
	})
	if err != nil {
		return nil, err
	}
	cfg.capture(res.GetInfo())
	return res.GetResult(), nil
}
