package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// TestBadDeadlinesAreRefused: a delta says of deadlines only what an honest region can.
func TestBadDeadlinesAreRefused(t *testing.T) {
	set := crdt.TypeAWSet
	for reason, c := range map[string]*DeadlineChange{
		"ended and set":       {Expires: 1, Ended: crdt.Dot{Actor: 1, Seq: 1}, EndedAt: 1},
		"no event's deadline": {EndedAt: 1},
		"from after it":       {Ended: crdt.Dot{Actor: 1, Seq: 1}, EndedAt: noon},
		"still to come":       {Ended: crdt.Dot{Actor: 2, Seq: 1}, EndedAt: 1},
	} {
		refuseDelta(t, reason, Effect{Key: "k", Type: deadlineOf(set), Change: c})
	}
	refuseDelta(t, "it knows event 9", Effect{Key: "k", Type: deadlineOf(set), Change: &DeadlineChange{Ended: crdt.Dot{Actor: 1, Seq: 9}, EndedAt: 1}})
	refuseDelta(t, "without its change", Effect{Key: "k", Type: deadlineOf(set), Change: &SetChange{}})
	refuseDelta(t, "without its change", Effect{Key: "k", Type: set, Change: &DeadlineChange{}})
	for _, of := range []crdt.Type{crdt.TypeLWWRegister, crdt.TypeBoundedCounter, 0, 0x7f} {
		refuseDelta(t, "without its change", Effect{Key: "k", Type: deadlineOf(of), Change: &DeadlineChange{}})
	}
	const head = "01" + "0105" + "0000000100000000" + "01" + "00016b" + "83"
	for hexed, reason := range map[string]string{
		"03":                               "unknown deadline flags",
		"01" + "0000000000000000":          "flagged but 0",
		"02" + "0000000000000001" + "0100": "no event's deadline",
		"01" + "00000000":                  "ends early",
	} {
		data, err := hex.DecodeString(head + hexed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeDelta(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", hexed, err)
		}
	}
}

// auditDeadlines checks what must hold of deadlines: each is of an event, and in one of the tables of instants, which
// have no others.
func auditDeadlines(n *node) error {
	wanted, found := map[string]bool{}, map[string]bool{}
	err := n.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		switch k[0] {
		case tableObject:
			if t := crdt.Type(k[len(k)-1]); t&deadlineBit != 0 {
				s, err := kindOf(t).decode(v)
				if err != nil || !bytes.Equal(s.append(nil), v) {
					return false, fmt.Errorf("deadline %x: %w", v, err)
				}
				d := s.(*deadline)
				at := instantKey(tableExpiry, d.expires, k)
				if d.expires == 0 {
					at = instantKey(tableSpent, d.at, k)
				}
				wanted[string(at)] = true
			}
		case tableExpiry, tableOverdue, tableSpent:
			_, t, _, err := cutObjectKey(k[1+instantBytes:])
			if err != nil {
				return false, err
			}
			key := slices.Clone(k)
			if key[0] == tableOverdue {
				key[0] = tableExpiry // it is in one of them
			}
			if t&deadlineBit != 0 {
				if found[string(key)] {
					return false, fmt.Errorf("instant %x is in two tables", k)
				}
				found[string(key)] = true
			}
		}
		return true, nil
	})
	if err == nil && !maps.Equal(wanted, found) {
		err = fmt.Errorf("deadlines %x, instants %x", slices.Collect(maps.Keys(wanted)), slices.Collect(maps.Keys(found)))
	}
	return err
}

// goldenDeadlines are what a replica makes of deadlines.
func goldenDeadlines(t testing.TB) (names []string, deltas []Delta) {
	t.Helper()
	n := newNode(1)
	add := func(name string, d []Delta) {
		names, deltas = append(names, name), append(deltas, d...)
	}
	flag := Op{Kind: OpFlagEnable, Namespace: "n", Key: "f"}
	_, d := do(t, n.r, until(flag, 1<<40))
	add("flag enable with a time to live", d)
	_, d = do(t, n.r, Op{Kind: OpPersist, Namespace: "n", Key: "f"})
	add("persist", d)
	_, d = do(t, n.r, until(Op{Kind: OpExpire, Namespace: "n", Key: "f"}, 1<<41))
	add("expire", d)
	_, d = do(t, n.r, Op{Kind: OpFlagDisable, Namespace: "n", Key: "f"})
	add("flag disable before it expires", d)
	_, d = do(t, n.r, until(Op{Kind: OpMapPut, Namespace: "n", Key: "m", Elements: [][]byte{[]byte("a")}, Values: [][]byte{nil}}, 1<<41))
	add("map put with a time to live", d)
	found, err := n.r.Expire(Expiry{Now: at(1 << 42), Limit: 9})
	if err != nil {
		t.Fatal(err)
	}
	add("map expires", found.Deltas)
	return names, deltas
}
