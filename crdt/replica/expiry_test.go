package replica

import (
	"errors"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

const expiryNS = "default"

func at(ms int64) hlc.Time { return hlc.At(ms, 0) }

// expiring is a replica and the storage under it.
type expiring struct {
	t  *testing.T
	kv *Memory
	r  *Replica
}

func newExpiring(t *testing.T) *expiring {
	t.Helper()
	kv := NewMemory()
	r, err := Open(kv, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &expiring{t, kv, r}
}

func (e *expiring) do(ms int64, op Op) Outcome {
	e.t.Helper()
	op.Namespace = expiryNS
	outcomes, _, err := e.r.Execute(at(ms), []Op{op})
	if err != nil {
		e.t.Fatal(err)
	}
	return outcomes[0]
}

func (e *expiring) expire(now, cut int64) []string {
	e.t.Helper()
	found, err := e.r.Expire(Expiry{Now: at(now), Cut: at(cut), Limit: 100})
	if err != nil {
		e.t.Fatal(err)
	}
	keys := make([]string, len(found.Names))
	for i, n := range found.Names {
		keys[i] = n.Key
	}
	return keys
}

// pairs counts what the storage holds of registers.
func (e *expiring) pairs() (objects, expiries, spent int) {
	e.t.Helper()
	err := e.kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
		switch k[0] {
		case tableObject:
			objects++
		case tableExpiry:
			expiries++
		case tableSpent:
			spent++
		}
		return true, nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return objects, expiries, spent
}

func (e *expiring) wantPairs(objects, expiries, spent int) {
	e.t.Helper()
	if o, x, y := e.pairs(); o != objects || x != expiries || y != spent {
		e.t.Fatalf("%d objects, %d expiries, %d spent; want %d, %d, %d", o, x, y, objects, expiries, spent)
	}
}

func TestExpireTellsOnceAndRemovesBehindTheCut(t *testing.T) {
	e := newExpiring(t)
	e.do(1000, Op{Kind: OpPut, Key: "a", Value: []byte("1"), Expires: at(2000)})
	e.do(1001, Op{Kind: OpPut, Key: "b", Value: []byte("1"), Expires: at(3000)})
	if due, err := e.r.Due(Expiry{Now: at(1999), Cut: at(1999)}); due || err != nil {
		t.Fatalf("due before anything expired: %v, %v", due, err)
	}
	if due, err := e.r.Due(Expiry{Now: at(2000)}); !due || err != nil {
		t.Fatalf("not due at the expiry: %v, %v", due, err)
	}
	if got := e.expire(2000, 1500); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("expired %v, want a", got)
	}
	e.wantPairs(2, 1, 1) // an event from before 2000 may still come: the register has to meet it
	if got := e.expire(2500, 1999); len(got) != 0 {
		t.Fatalf("told of %v again", got)
	}
	e.wantPairs(2, 1, 1)
	e.expire(2500, 2000)
	e.wantPairs(1, 1, 0)
	if _, found, err := e.r.Lookup(expiryNS, "b", at(2500)); !found || err != nil {
		t.Fatalf("b is gone: %v", err)
	}
}

func TestExpireForgetsWhatWasWrittenOver(t *testing.T) {
	e := newExpiring(t)
	e.do(1000, Op{Kind: OpPut, Key: "a", Value: []byte("1"), Expires: at(2000)})
	e.do(1001, Op{Kind: OpPut, Key: "a", Value: []byte("2")})
	e.wantPairs(1, 0, 0)
	e.do(1002, Op{Kind: OpPut, Key: "a", Value: []byte("3"), Expires: at(2000)})
	e.expire(2000, 1000)
	e.do(2001, Op{Kind: OpPut, Key: "a", Value: []byte("4")})
	e.wantPairs(1, 0, 0)
	if got := e.expire(9000, 9000); len(got) != 0 {
		t.Fatalf("told of %v, which does not expire", got)
	}
	e.wantPairs(1, 0, 0)
}

func TestExpireRemovesTombstonesBehindTheCut(t *testing.T) {
	e := newExpiring(t)
	e.do(1000, Op{Kind: OpPut, Key: "a", Value: []byte("1")})
	e.do(1001, Op{Kind: OpDelete, Key: "a"})
	e.wantPairs(1, 0, 1)
	before, err := e.r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	e.expire(5000, 1000)
	e.wantPairs(1, 0, 1)
	e.expire(5000, 1001)
	e.wantPairs(0, 0, 0)
	if after, err := e.r.Digest(); err != nil || after != before {
		t.Fatalf("removing a tombstone changed the digest: %v", err)
	}
}

func TestMergedRegistersExpireToo(t *testing.T) {
	e := newExpiring(t)
	other := newExpiring(t)
	other.r.meta.self = 2
	_, deltas, err := other.r.Execute(at(1000), []Op{{Kind: OpPut, Namespace: expiryNS, Key: "a", Value: []byte("1"), Expires: at(2000)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.r.Merge(2, deltas); err != nil {
		t.Fatal(err)
	}
	e.wantPairs(1, 1, 0)
	e.do(2500, Op{Kind: OpPut, Key: "b", Value: []byte("1")})
	_, own, err := other.r.Execute(at(2600), []Op{{Kind: OpPut, Namespace: expiryNS, Key: "a", Value: []byte("2")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.r.Merge(2, own); err != nil {
		t.Fatal(err)
	}
	e.wantPairs(2, 0, 0)
}

func TestDigestLeavesOutWhatAReplicaMayHaveRemoved(t *testing.T) {
	e := newExpiring(t)
	e.do(1000, Op{Kind: OpPut, Key: "a", Value: []byte("1"), Expires: at(2000)})
	e.do(3000, Op{Kind: OpPut, Key: "b", Value: []byte("1")})
	before, err := e.r.Digest()
	if err != nil || before.Items != 1 {
		t.Fatalf("%d items, want b alone: %v", before.Items, err)
	}
	e.expire(3000, 3000)
	if after, err := e.r.Digest(); err != nil || after != before {
		t.Fatalf("removing an expired register changed the digest: %v", err)
	}
}

func TestExpireAndPersist(t *testing.T) {
	e := newExpiring(t)
	if out := e.do(1000, Op{Kind: OpExpire, Key: "a", Expires: at(2000)}); out.Existed || out.Version != "" {
		t.Fatalf("an absent register got an expiry: %+v", out)
	}
	put := e.do(1001, Op{Kind: OpPut, Key: "a", Value: []byte("1")})
	out := e.do(1002, Op{Kind: OpExpire, Key: "a", Expires: at(2000)})
	if !out.Existed || out.Version == put.Version {
		t.Fatalf("outcome %+v", out)
	}
	o, found, err := e.r.Lookup(expiryNS, "a", at(1999))
	if err != nil || !found || string(o.Value) != "1" || o.Expires != at(2000) {
		t.Fatalf("%+v, %v, %v", o, found, err)
	}
	if out := e.do(1003, Op{Kind: OpPersist, Key: "a"}); !out.Existed {
		t.Fatalf("outcome %+v", out)
	}
	if o, found, err := e.r.Lookup(expiryNS, "a", at(9999)); err != nil || !found || o.Expires != 0 || string(o.Value) != "1" {
		t.Fatalf("%+v, %v, %v", o, found, err)
	}
}

func TestExpireAndPersistAreRefused(t *testing.T) {
	e := newExpiring(t)
	e.do(10000, Op{Kind: OpPut, Key: "a", Value: []byte("1"), Expires: at(10001)})
	if out := e.do(10002, Op{Kind: OpPersist, Key: "a"}); out.Existed {
		t.Fatalf("persisted what had expired: %+v", out)
	}
	_, _, err := e.r.Execute(at(10003), []Op{{Kind: OpExpire, Namespace: expiryNS, Key: "a"}})
	var refused *OpError
	if !errors.As(err, &refused) {
		t.Fatalf("an expiry without an instant: %v", err)
	}

}

// TestExpiredWhenWritten: a write that expired before it was made replaces what is earlier than it, also what
// arrives after its expiry and is later than that.
func TestExpiredWhenWritten(t *testing.T) {
	a, b, c := open(t, NewMemory(), 1), open(t, NewMemory(), 2), open(t, NewMemory(), 3)
	execute := func(r *Replica, ms int64, op Op) []Delta {
		op.Key = "k"
		_, deltas, err := r.Execute(at(ms), []Op{op})
		if err != nil {
			t.Fatal(err)
		}
		return deltas
	}
	early := execute(a, 2000, Op{Kind: OpPut, Value: []byte("early")})
	late := execute(b, 3000, until(Op{Kind: OpPut, Value: []byte("late")}, 1000))
	merge(t, c, late...)
	if _, err := c.Expire(Expiry{Now: at(3000), Cut: at(1500), Limit: 9}); err != nil {
		t.Fatal(err)
	}
	merge(t, c, early...)
	if _, found, err := c.Lookup("", "k", at(3000)); found || err != nil {
		t.Errorf("an earlier write is there again, %v", err)
	}
	if _, err := c.Expire(Expiry{Now: at(3000), Cut: at(3000), Limit: 9}); err != nil {
		t.Fatal(err)
	}
	if _, found, err := c.kv.Get(objectKey("", "k", crdt.TypeLWWRegister)); found || err != nil {
		t.Errorf("a register is left, %v", err)
	}
}
