package crossregion_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/linktest"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// shelf is the states of one node's partitions as others compare them: a value for every key. All are alike, whatever was
// written, but for what is damaged. It holds nothing to take over.
type shelf struct {
	node *linktest.Node
	mu   sync.Mutex
	// damaged has what a key is in place of what it is elsewhere; "" if it is gone.
	damaged map[topology.PartitionID]map[string]string
	views   map[uint64]map[string]string
	by      map[topology.RegionID]uint64
	last    uint64
}

func newShelf(node *linktest.Node, number uint64) *shelf {
	return &shelf{
		node: node, damaged: map[topology.PartitionID]map[string]string{}, last: number << 32,
		views: map[uint64]map[string]string{}, by: map[topology.RegionID]uint64{},
	}
}

const shelfEnd = "~"

var errNotHere = errors.New("there is nothing to take over")

func (s *shelf) damage(p topology.PartitionID, values map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged[p] = values
}

func (s *shelf) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.views)
}

func (s *shelf) PinView(p topology.PartitionID, by topology.RegionID) (uint64, crdt.VersionVector, error) {
	at, _ := s.node.State(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	values := map[string]string{}
	for i := range 1000 {
		values[fmt.Sprintf("k%03d", i)] = "v"
	}
	for k, v := range s.damaged[p] {
		if values[k] = v; v == "" {
			delete(values, k)
		}
	}
	delete(s.views, s.by[by])
	s.last++
	s.views[s.last], s.by[by] = values, s.last
	return s.last, at, nil
}

// cut returns the keys of a view in a range, in order.
func (s *shelf) cut(view uint64, from, to []byte) (values map[string]string, keys []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	values, ok := s.views[view]
	if !ok {
		return nil, nil, protocol.ErrNoView
	}
	keys = slices.DeleteFunc(slices.Sorted(maps.Keys(values)), func(k string) bool { return k < string(from) || k >= string(to) })
	return values, keys, nil
}

func hashOf(texts ...string) [16]byte {
	h := fnv.New128a()
	fmt.Fprintf(h, "%q", texts)
	return [16]byte(h.Sum(nil))
}

func sumOf(values map[string]string, keys []string) [16]byte {
	var all []string
	for _, k := range keys {
		all = append(all, k, values[k])
	}
	return hashOf(all...)
}

func (s *shelf) CompareRanges(_ topology.PartitionID, view uint64, ranges []protocol.StateRange) (same []bool, atEnd bool, err error) {
	for _, r := range ranges {
		values, keys, err := s.cut(view, r.From, r.To)
		if err != nil {
			return nil, false, err
		}
		same, atEnd = append(same, sumOf(values, keys) == r.Sum), string(r.To) == shelfEnd
	}
	return same, atEnd, nil
}

func (s *shelf) CompareItems(_ topology.PartitionID, view uint64, w protocol.ItemWindow) (differ []protocol.DifferingValue, next []byte, err error) {
	values, keys, err := s.cut(view, w.From, w.To)
	theirs := map[string][16]byte{}
	for _, i := range w.Items {
		theirs[string(i.Position)] = i.Hash
	}
	for _, k := range keys {
		hash, both := theirs[k]
		if delete(theirs, k); !both {
			differ = append(differ, protocol.DifferingValue{Key: k, OnlyHere: 1})
		} else if hash != hashOf(values[k]) {
			differ = append(differ, protocol.DifferingValue{Key: k, Changed: 1})
		}
	}
	for k := range theirs {
		differ = append(differ, protocol.DifferingValue{Key: k, OnlyThere: 1})
	}
	return differ, w.To, err
}

func (s *shelf) ReadView(_ topology.PartitionID, want protocol.ResyncRequest) (res protocol.ResyncResponse, err error) {
	if want.Want == protocol.WantClose {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.views, want.View)
		return res, nil
	}
	to := want.To
	if want.Want == protocol.WantRanges {
		to = []byte(shelfEnd)
	}
	values, keys, err := s.cut(want.View, want.From, to)
	if err != nil {
		return res, err
	}
	if want.Want == protocol.WantItems {
		if len(keys) > 100 {
			res.Next, keys = []byte(keys[100]), keys[:100]
		}
		for _, k := range keys {
			res.Items = append(res.Items, protocol.StateItem{Position: []byte(k), Hash: hashOf(values[k])})
		}
		return res, nil
	}
	for len(res.Ranges) < want.Ranges {
		n, end := min(want.Items, len(keys)), shelfEnd
		if n < len(keys) {
			end = keys[n]
		}
		res.Ranges = append(res.Ranges, protocol.StateRange{To: []byte(end), Sum: sumOf(values, keys[:n]), Items: uint64(n)})
		if keys = keys[n:]; end == shelfEnd {
			break
		}
	}
	return res, nil
}

func (s *shelf) Transfer(topology.PartitionID) (protocol.Transfer, bool) {
	return protocol.Transfer{}, false
}
func (s *shelf) Lacks(topology.PartitionID) bool { return false }
func (s *shelf) Same(topology.PartitionID, []protocol.StateRange) ([]bool, error) {
	return nil, errNotHere
}

func (s *shelf) Step(context.Context, topology.PartitionID, protocol.TransferStep) (protocol.Transfer, error) {
	return protocol.Transfer{}, errNotHere
}

func (s *shelf) OpenView(context.Context, topology.PartitionID, topology.RegionID) (uint64, []byte, error) {
	return 0, nil, errNotHere
}

// deployShelves is deploy of regions whose states can be compared: those of the nodes that lead.
func deployShelves(t *testing.T, regions int) (*deployment, []*shelf) {
	var shelves []*shelf
	d := deployWith(t, regions, func(c *crossregion.Config) {
		s := newShelf(c.Source.(*linktest.Node), uint64(len(shelves)+1))
		shelves = append(shelves, s)
		c.Transfers, c.Audits = s, s
	})
	var leading []*shelf
	for i := 0; i < len(shelves); i += 2 {
		leading = append(leading, shelves[i])
	}
	return d, leading
}

// auditOf returns what a flow into a node's region says of how the two ends differ.
func (d *deployment) auditOf(node int, source topology.RegionID, p topology.PartitionID) (diverged bool, r protocol.AuditReport) {
	for _, f := range d.replicators[node].Flows() {
		if f.Source == source && f.Destination != source && f.Partition == p {
			return f.Diverged != "", f.Audit
		}
	}
	return false, r
}

// TestAlarmNamesTheKeys: two regions that have applied the same events and differ find out in what by themselves, each
// seen from its own side; a third one that is well says the same of the one that is not; and nobody keeps views open.
func TestAlarmNamesTheKeys(t *testing.T) {
	d, shelves := deployShelves(t, 3)
	d.write(60)
	d.converge()
	const p topology.PartitionID = 2
	shelves[1].damage(p, map[string]string{"k007": "", "k500": "other", "k999x": "more"})
	d.regions[1].Rot(p, "a flipped bit")
	there := []protocol.DifferingValue{{Key: "k007", OnlyHere: 1}, {Key: "k500", Changed: 1}, {Key: "k999x", OnlyThere: 1}}
	here := []protocol.DifferingValue{{Key: "k007", OnlyThere: 1}, {Key: "k500", Changed: 1}, {Key: "k999x", OnlyHere: 1}}
	for _, c := range []struct {
		node   int
		source topology.RegionID
		want   []protocol.DifferingValue
	}{{0, 2, there}, {4, 2, there}, {2, 1, here}, {2, 3, here}} {
		d.until(fmt.Sprint("it is known in what region ", c.source, " differs"), func() bool {
			diverged, r := d.auditOf(c.node, c.source, p)
			return diverged && r.State == protocol.AuditDiffers && slices.Equal(r.Values, c.want) && r.Ranges == 4 && !r.More
		})
	}
	if s := d.replicators[2].Stats(); s.Audits != 2 || s.AuditsDiffer != 2 || s.AuditBytes == 0 {
		t.Errorf("%+v", s)
	}
	d.until("all views are closed", func() bool { return shelves[0].open()+shelves[1].open()+shelves[2].open() == 0 })
	d.regions[1].Rot(p, "")
	d.until("it is mended", func() bool { return len(d.divergedFlows()) == 0 })
	if _, r := d.auditOf(0, 2, p); r.State != 0 || len(r.Values) != 0 {
		t.Errorf("mended, and yet %+v", r)
	}
}

// TestAuditOnDemand finds what the digests have not seen yet, and says so if all is the same.
func TestAuditOnDemand(t *testing.T) {
	d, shelves := deployShelves(t, 2)
	d.write(10)
	d.converge()
	audit := func(p topology.PartitionID) (r protocol.AuditReport) {
		number, err := d.replicators[0].Audit(p, 2)
		if err != nil {
			t.Fatal(err)
		}
		d.until("the audit has ended", func() bool {
			n, now, err := d.replicators[0].Audited(p, 2)
			r = now
			return err == nil && n >= number && r.State > protocol.AuditRunning
		})
		return r
	}
	if r := audit(1); r.State != protocol.AuditEqual || r.Items != 1000 || r.Vector.Len() == 0 {
		t.Errorf("%+v", r)
	}
	shelves[0].damage(1, map[string]string{"k123": "other"})
	if r := audit(1); r.State != protocol.AuditDiffers || len(r.Values) != 1 || r.Values[0].Key != "k123" {
		t.Errorf("%+v", r)
	}
	if r := audit(3); r.State != protocol.AuditEqual {
		t.Errorf("another partition: %+v", r)
	}
	if _, err := d.replicators[1].Audit(1, 2); !errors.Is(err, crossregion.ErrNotLed) {
		t.Errorf("at a node that does not lead: %v", err)
	}
	if _, err := d.replicators[0].Audit(1, 1); !errors.Is(err, crossregion.ErrUnknownRegion) {
		t.Errorf("with itself: %v", err)
	}
}
