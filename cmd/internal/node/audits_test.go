package node

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region/store"
)

// damageStored changes or removes what a node that does not run has stored of some keys of its first partition.
func damageStored(t *testing.T, cfg Config, change map[string]func(*crdt.LWWRegister) bool) {
	t.Helper()
	s, err := store.Open(filepath.Join(cfg.DataDir, "partitions", "0000.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hit := 0
	err = s.Update(func(kv replica.KV) error {
		stored := map[string][]byte{}
		err := kv.Scan([]byte("K"), []byte("L"), func(k, v []byte) (bool, error) {
			stored[string(k)] = bytes.Clone(v)
			return true, nil
		})
		for k, v := range stored {
			for key, change := range change {
				if err != nil || !bytes.Contains([]byte(k), []byte(key)) {
					continue
				}
				hit++
				register, decodeErr := crdt.DecodeLWWRegister(v)
				switch err = decodeErr; {
				case err != nil:
				case change(&register):
					err = kv.Put([]byte(k), register.Append(nil))
				default:
					err = kv.Delete([]byte(k))
				}
			}
		}
		return err
	})
	if err != nil || hit != len(change) {
		t.Fatalf("%d values changed, %v", hit, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A region whose disk has changed some values tells, as does the other one, which ones, without anybody asking.
func TestDamagedValuesAreNamed(t *testing.T) {
	first := config(t)
	first.Cluster.Partitions = 1
	second := first
	second.Node, second.DataDir = first.Cluster.Regions[1].Nodes[0].ID, filepath.Join(t.TempDir(), "data")
	eu, stopEU := serveNode(t, first)
	us, stopUS := serveNode(t, second)
	awaitReady(t, first)
	awaitReady(t, second)
	c := dial(t, first)
	for i := range 700 {
		if _, err := c.Put(t.Context(), fmt.Sprintf("key %03d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, time.Minute, func() error { return sameState(t.Context(), eu, us) })
	stopUS()
	damageStored(t, second, map[string]func(*crdt.LWWRegister) bool{
		"key 042": func(r *crdt.LWWRegister) bool { r.Value = []byte("rot"); return true },
		"key 650": func(*crdt.LWWRegister) bool { return false },
	})
	us, stopUS = serveNode(t, second)
	want := func(here, there uint64) []protocol.DifferingValue {
		return []protocol.DifferingValue{
			{Namespace: "default", Key: "key 042", Type: crdt.TypeLWWRegister, Changed: 1},
			{Namespace: "default", Key: "key 650", Type: crdt.TypeLWWRegister, OnlyHere: here, OnlyThere: there},
		}
	}
	for _, end := range []struct {
		n      *Node
		values []protocol.DifferingValue
	}{{eu, want(1, 0)}, {us, want(0, 1)}} {
		testkit.Eventually(t, time.Minute, func() error {
			for _, f := range end.n.replicator.Load().Flows() {
				if f.Diverged != "" && f.Audit.State == protocol.AuditDiffers && slices.Equal(f.Audit.Values, end.values) {
					return nil
				}
			}
			return fmt.Errorf("%+v", end.n.replicator.Load().Flows())
		})
	}
	auditedByAPI(t, c)
	// Written again, they are the same.
	for _, key := range []string{"key 042", "key 650"} {
		if _, err := c.Put(t.Context(), key, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, time.Minute, func() error { return sameState(t.Context(), eu, us) })
	stopUS()
	stopEU()
}

// auditedByAPI has the client's region compared with us, and checks what that finds.
func auditedByAPI(t *testing.T, c *client.Client) {
	t.Helper()
	res, err := c.Audit(t.Context(), "us", true)
	if err != nil || len(res.GetPartitions()) != 1 || res.GetPartitions()[0].GetNumber() == 0 {
		t.Fatalf("%v, %v", res, err)
	}
	number := res.GetPartitions()[0].GetNumber()
	testkit.Eventually(t, time.Minute, func() error {
		res, err := c.Audit(t.Context(), "us", false)
		if err != nil {
			t.Fatal(err)
		}
		p := res.GetPartitions()[0]
		if p.GetNumber() < number || p.GetState() != atollv1.AuditState_AUDIT_STATE_DIFFERENT || len(p.GetValues()) != 2 || p.GetValues()[1].GetKey() != "key 650" {
			return fmt.Errorf("audit %d: %v", number, p)
		}
		return nil
	})
}
