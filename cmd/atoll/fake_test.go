package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/session/wire"
)

// object is a value in the fake store.
type object struct {
	typ      atollv1.Type
	value    []byte
	counter  int64
	rights   map[string]int64  // of a bounded counter, by region
	members  map[string]uint64 // with the number of the event that added each
	fields   map[string][]byte
	scores   map[string]float64
	counted  map[string]int64 // scores that are counters
	seq      uint64
	ttl      *durationpb.Duration
	siblings []*atollv1.Sibling       // the latest first; of a flag, its enables
	entries  []*atollv1.TimelineEntry // the oldest first
}

// fakeStore is what a fake region holds. Regions that share one hold the same.
type fakeStore struct {
	mu      sync.Mutex
	objects map[string]*object
	seq     uint64
	audits  uint64 // requests for audits
	seen    map[string]bool
	batches chan struct{} // gets a token before each batch is answered, if not nil
}

func newStore() *fakeStore { return &fakeStore{objects: map[string]*object{}, seen: map[string]bool{}} }

// fakeRegion serves a store as a region of one node would.
type fakeRegion struct {
	atollv1connect.UnimplementedKVHandler
	name    string
	store   *fakeStore
	regions []*atollv1.Region
	// refuse, if not nil, is the answer to everything but Status.
	refuse error
	// moves counts calls of MoveHome.
	moves atomic.Int64
}

// deployment starts regions; those with the same store agree.
func deployment(t interface{ Cleanup(func()) }, stores map[string]*fakeStore, refuse error) (address string) {
	var regions []*atollv1.Region
	var fakes []*fakeRegion
	var servers []*httptest.Server
	for i, name := range slices.Sorted(maps.Keys(stores)) {
		f := &fakeRegion{name: name, store: stores[name], refuse: refuse}
		rpc := connect.NewServer()
		atollv1connect.RegisterKVHandler(rpc, f)
		atollv1connect.RegisterRegionsHandler(rpc, f)
		atollv1connect.RegisterClusterHandler(rpc, f)
		atollv1connect.RegisterNamespacesHandler(rpc, f)
		mux := http.NewServeMux()
		connecthttp.Mount(mux, rpc, connecthttp.WithReadMaxBytes(8<<20))
		s := httptest.NewUnstartedServer(mux)
		t.Cleanup(s.Close)
		servers, fakes = append(servers, s), append(fakes, f)
		at := s.Listener.Addr().String()
		regions = append(regions, &atollv1.Region{
			Name: name, Id: uint32(i + 1), State: atollv1.RegionState_REGION_STATE_ACTIVE,
			Nodes: []*atollv1.Node{{Name: name + "-1", Address: at, Zone: "a"}},
		})
		if address == "" {
			address = "http://" + at
		}
	}
	for i, f := range fakes {
		f.regions = regions
		servers[i].Start()
	}
	return address
}

// deadAddress returns an address that refuses connections.
func deadAddress() string {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func refusal(code connect.Code, reason client.Reason, metadata map[string]string) error {
	detail, err := connectproto.NewErrorDetail(&errdetails.ErrorInfo{Domain: "atoll", Reason: string(reason), Metadata: metadata})
	if err != nil {
		panic(err)
	}
	return connect.NewError(code, "refused with reason "+string(reason)).WithDetail(detail)
}

func (f *fakeRegion) info() *atollv1.ReplyInfo {
	return &atollv1.ReplyInfo{Region: f.name, Node: f.name + "-1", Partition: 1}
}

func place(ns, key string) string {
	if ns == "" {
		ns = "default"
	}
	return ns + "\x00" + key
}

// session returns a token that has seen one more event than another one has.
func (f *fakeRegion) session(token []byte) []byte {
	seen := wire.Token{}
	if parsed, err := wire.Parse(token); err == nil {
		seen = parsed
	}
	last := uint64(0)
	if len(seen.Entries) > 0 {
		last = seen.Entries[0].Time
	}
	seen.Add(wire.Entry{Actor: 1, Time: last + 1})
	return seen.Bytes()
}

func (f *fakeRegion) Get(_ context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	if r.GetKey() == "" {
		return nil, refusal(connect.CodeInvalidArgument, client.ReasonInvalidKey, map[string]string{"field": "key"})
	}
	o := f.store.objects[place(r.GetNamespace(), r.GetKey())]
	if o == nil {
		return &atollv1.GetResponse{Info: f.info()}, nil
	}
	e := entryOf(r.GetKey(), o, 3)
	info := f.info()
	info.Session = f.session(r.GetOptions().GetSession())
	if info.Served = r.GetOptions().GetConsistency(); info.Served == atollv1.Consistency_CONSISTENCY_BOUNDED {
		info.Staleness = durationpb.New(1500 * time.Microsecond)
	}
	return &atollv1.GetResponse{Found: true, Value: e.GetValue(), Type: e.GetType(), Version: e.GetVersion(), Ttl: e.GetTtl(), Typed: e.GetTyped(), Info: info}, nil
}

// entryOf shows at most `members` members, as a server shows at most 1000.
func entryOf(key string, o *object, members int) *atollv1.Entry {
	e := &atollv1.Entry{Key: key, Type: o.typ, Version: fmt.Sprint("v", o.seq), Ttl: o.ttl}
	switch o.typ {
	case atollv1.Type_TYPE_COUNTER:
		e.Typed = &atollv1.TypedValue{Value: &atollv1.TypedValue_Counter{Counter: &atollv1.CounterValue{Value: o.counter}}}
	case atollv1.Type_TYPE_AW_SET:
		set := &atollv1.SetValue{Size: uint64(len(o.members))}
		for _, m := range slices.Sorted(maps.Keys(o.members)) {
			if len(set.Members) < members {
				set.Members = append(set.Members, []byte(m))
			}
		}
		e.Typed = &atollv1.TypedValue{Value: &atollv1.TypedValue_Set{Set: set}}
	case atollv1.Type_TYPE_EW_FLAG, atollv1.Type_TYPE_MV_REGISTER:
		addSiblings(e, o)
	case atollv1.Type_TYPE_TIMELINE:
		e.Typed = shownEntries(o, members)
	case atollv1.Type_TYPE_LWW_MAP, atollv1.Type_TYPE_ZSET:
		e.Typed = o.typedFields(members)
	case atollv1.Type_TYPE_HLL:
		e.Typed = &atollv1.TypedValue{Value: &atollv1.TypedValue_Hll{Hll: &atollv1.HLLValue{Count: uint64(len(o.members))}}}
	case atollv1.Type_TYPE_COUNTER_ZSET:
		e.Typed = o.countedValue(members)
	default:
		if e.Typed = o.typedWhole(); e.Typed == nil {
			e.Value = o.value
		}
	}
	return e
}

// typed returns the object under a key, made if absent.
func (f *fakeRegion) typed(at string, t atollv1.Type) (*object, error) {
	o := f.store.objects[at]
	if o == nil {
		return &object{typ: t, members: map[string]uint64{}}, nil
	}
	if o.typ != t {
		return nil, refusal(connect.CodeFailedPrecondition, client.ReasonWrongType, map[string]string{"type_found": o.typ.String()})
	}
	return o, nil
}

func (f *fakeRegion) check(at string, c *atollv1.Condition) error {
	o := f.store.objects[at]
	switch test := c.GetTest().(type) {
	case *atollv1.Condition_IfAbsent:
		if o != nil {
			return refusal(connect.CodeAlreadyExists, client.ReasonAlreadyExists, nil)
		}
	case *atollv1.Condition_IfPresent:
		if o == nil {
			return refusal(connect.CodeFailedPrecondition, client.ReasonNotPresent, nil)
		}
	case *atollv1.Condition_IfVersion:
		if o == nil || fmt.Sprint("v", o.seq) != test.IfVersion {
			return refusal(connect.CodeFailedPrecondition, client.ReasonVersionMismatch, nil)
		}
	case *atollv1.Condition_IfValue:
		if o == nil || string(o.value) != string(test.IfValue) {
			return refusal(connect.CodeFailedPrecondition, client.ReasonValueMismatch, nil)
		}
	}
	return nil
}

func (f *fakeRegion) Put(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return f.put(r)
}

func (f *fakeRegion) put(r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	at := place(r.GetNamespace(), r.GetKey())
	if f.refuse != nil {
		return nil, f.refuse
	}
	if err := f.check(at, r.GetCondition()); err != nil {
		return nil, err
	}
	o, err := f.typed(at, atollv1.Type_TYPE_LWW_REGISTER)
	if err != nil {
		return nil, err
	}
	f.store.seq++
	o.value, o.ttl, o.seq = r.GetValue(), r.GetTtl(), f.store.seq
	f.store.objects[at] = o
	if r.GetOptions().GetDurability() == atollv1.Durability_DURABILITY_LOCAL {
		return &atollv1.PutResponse{Info: f.info()}, nil
	}
	return &atollv1.PutResponse{Version: fmt.Sprint("v", o.seq), Info: f.info()}, nil
}

func (f *fakeRegion) Delete(_ context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	at := place(r.GetNamespace(), r.GetKey())
	if err := f.check(at, r.GetCondition()); err != nil {
		return nil, err
	}
	_, existed := f.store.objects[at]
	delete(f.store.objects, at)
	return &atollv1.DeleteResponse{Existed: existed, Info: f.info()}, nil
}

func (f *fakeRegion) Update(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return f.updateFor(r)
}

// updateFor does an update and sets its time to live, a leaf's beside the leaf.
func (f *fakeRegion) updateFor(r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	res, err := f.update(r)
	if o := f.store.objects[place(r.GetNamespace(), r.GetKey())]; err == nil && o != nil && r.GetTtl().AsDuration() > 0 {
		o.ttl = r.GetTtl()
	}
	return res, err
}

func (f *fakeRegion) update(r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	at := place(r.GetNamespace(), r.GetKey())
	if onORMap(r.GetOp()) {
		return f.updateORMap(r)
	}
	if err := f.check(at, r.GetCondition()); err != nil {
		return nil, err
	}
	switch op := r.GetOp(); {
	case op.GetRegisterPut() != nil:
		put, err := f.put(&atollv1.PutRequest{
			Key: r.GetKey(), Namespace: r.GetNamespace(), Value: op.GetRegisterPut().GetValue(), Condition: r.GetCondition(), Options: r.GetOptions(),
		})
		return &atollv1.UpdateResponse{Version: put.GetVersion(), Info: f.info()}, err
	case op.GetExpire() != nil, op.GetPersist() != nil:
		return f.changeExpiry(at, op)
	case onSiblings(op):
		return f.updateSiblings(at, r)
	case op.GetTimelineAdd() != nil, op.GetTimelineTrim() != nil:
		return f.updateTimeline(at, r)
	case isAdditive(op):
		return f.updateCounted(at, op)
	case op.GetHllAdd() != nil:
		return f.updateHLL(at, op.GetHllAdd())
	case fieldsType(op) != 0:
		return f.updateFields(at, fieldsType(op), r)
	case wholeType(op) != 0:
		return f.updateWhole(at, wholeType(op), op)
	default:
		return f.updateCounterOrSet(at, r)
	}
}

func (f *fakeRegion) updateCounterOrSet(at string, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	t := atollv1.Type_TYPE_AW_SET
	if r.GetOp().GetCounterAdd() != nil || r.GetOp().GetCounterSet() != nil {
		t = atollv1.Type_TYPE_COUNTER
	}
	o, err := f.typed(at, t)
	if err != nil {
		return nil, err
	}
	f.store.seq++
	o.seq = f.store.seq
	f.store.objects[at] = o
	size := len(o.members)
	switch op := r.GetOp().GetOp().(type) {
	case *atollv1.Op_CounterAdd:
		o.counter += op.CounterAdd.GetDelta()
	case *atollv1.Op_CounterSet:
		o.counter = op.CounterSet.GetValue()
	case *atollv1.Op_SetAdd:
		for _, e := range op.SetAdd.GetElements() {
			o.members[string(e)] = o.seq
		}
	case *atollv1.Op_SetRemove:
		for _, e := range op.SetRemove.GetElements() {
			delete(o.members, string(e))
		}
	}
	res := &atollv1.UpdateResponse{Version: fmt.Sprint("v", o.seq), Info: f.info()}
	if t == atollv1.Type_TYPE_COUNTER {
		res.Result = &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Counter{Counter: &atollv1.CounterValue{Value: o.counter}}}
	} else {
		changed := max(len(o.members)-size, size-len(o.members))
		res.Result = &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Set{Set: &atollv1.SetChange{Size: uint64(len(o.members)), Changed: uint64(changed)}}}
	}
	return res, nil
}

func (f *fakeRegion) changeExpiry(at string, op *atollv1.Op) (*atollv1.UpdateResponse, error) {
	o := f.store.objects[at]
	if o == nil {
		return &atollv1.UpdateResponse{Info: f.info()}, nil
	}
	f.store.seq++
	o.seq, o.ttl = f.store.seq, op.GetExpire().GetTtl()
	return &atollv1.UpdateResponse{Version: fmt.Sprint("v", o.seq), Info: f.info()}, nil
}

// Query serves values of every type that has queries, and pages of timelines and set members, two to a
// page.
func (f *fakeRegion) Query(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if get := r.GetQuery().GetOrmapGet(); get != nil {
		return f.queryORMap(r.GetKey(), get), nil
	}
	if leaf := r.GetQuery().GetOrmapLeaf(); leaf != nil {
		r = &atollv1.QueryRequest{Key: leafPlace(r.GetKey(), leaf.GetPath()), Namespace: r.GetNamespace(), Query: leaf.GetQuery()}
	}
	at := place(r.GetNamespace(), r.GetKey())
	if res := f.queryCounted(at, r.GetQuery()); res != nil {
		return &atollv1.QueryResponse{Found: true, Result: res, Info: f.info()}, nil
	}
	if r.GetQuery().GetHllCount() != nil {
		return f.queryHLL(at)
	}
	o := f.store.objects[at]
	for _, query := range []func(*atollv1.QueryOp, *object) *atollv1.QueryResult{siblingsQuery, queryFields} {
		if res := query(r.GetQuery(), o); res != nil {
			return &atollv1.QueryResponse{Result: res, Info: f.info()}, nil
		}
	}
	if q := r.GetQuery().GetTimelineRange(); q != nil {
		return queryTimeline(q, o), nil
	}
	if r.GetQuery().GetBcounter() != nil {
		if o == nil {
			return &atollv1.QueryResponse{Info: f.info()}, nil
		}
		return &atollv1.QueryResponse{Found: true, Info: f.info(), Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Bounded{Bounded: o.boundedOf()}}}, nil
	}
	page := &atollv1.SetMembersPage{}
	if o := f.store.objects[place(r.GetNamespace(), r.GetKey())]; o != nil {
		page.Size = uint64(len(o.members))
		for _, m := range slices.Sorted(maps.Keys(o.members)) {
			if m <= string(r.GetQuery().GetSetMembers().GetCursor()) {
				continue
			}
			if len(page.Members) == 2 {
				page.Cursor = page.Members[1]
				break
			}
			page.Members = append(page.Members, []byte(m))
		}
	}
	return &atollv1.QueryResponse{Found: true, Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_SetMembers{SetMembers: page}}}, nil
}

// BatchWrite has one partition per key, and knows each operation id.
func (f *fakeRegion) BatchWrite(ctx context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
	if f.store.batches != nil {
		select {
		case f.store.batches <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	res := &atollv1.BatchWriteResponse{}
	repeated := f.store.seen[r.GetOptions().GetOpId()]
	f.store.seen[r.GetOptions().GetOpId()] = true
	for _, w := range r.GetItems() {
		item := &atollv1.BatchWriteItem{}
		var err error
		switch w := w.GetWrite().(type) {
		case *atollv1.Write_Put:
			if !repeated {
				_, err = f.put(w.Put)
			}
		case *atollv1.Write_Update:
			if !repeated {
				_, err = f.updateFor(w.Update)
			}
		}
		if err != nil {
			item.Error = &atollv1.Error{Code: "failed_precondition", Reason: string(client.ReasonWrongType), Message: "the key holds another type"}
		}
		res.Items = append(res.Items, item)
	}
	return res, nil
}

func (f *fakeRegion) Scan(_ context.Context, r *atollv1.ScanRequest, s atollv1connect.KVScanServerStream) error {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	n, last := uint64(0), ""
	for _, at := range slices.Sorted(maps.Keys(f.store.objects)) {
		key, ok := strings.CutPrefix(at, place(r.GetNamespace(), ""))
		if !ok || !strings.HasPrefix(key, r.GetPrefix()) || (len(r.GetCursor()) > 0 && key <= string(r.GetCursor())) {
			continue
		}
		e := entryOf(key, f.store.objects[at], 3)
		if whole, _, leaf := strings.Cut(key, "\x01"); leaf {
			if whole == last {
				continue
			}
			e = f.mapEntry(r.GetNamespace(), whole)
		}
		last = e.GetKey()
		if r.GetKeysOnly() {
			e = &atollv1.Entry{Key: key, Type: e.GetType(), Version: e.GetVersion()}
		}
		if err := s.Send(&atollv1.ScanResponse{Entries: []*atollv1.Entry{e}}); err != nil {
			return err
		}
		if n++; n == r.GetLimit() {
			break
		}
	}
	return nil
}

func (f *fakeRegion) Status(context.Context, *atollv1.StatusRequest) (*atollv1.StatusResponse, error) {
	partitions := []uint32{0, 1}
	res := &atollv1.StatusResponse{
		Region: f.name, Node: f.name + "-1", Cluster: "test", Regions: f.regions, Membership: f.members(),
		Partitions: []*atollv1.PartitionStatus{
			{Partition: 0, Leader: f.name + "-1", Unshipped: 3, OutboxEntries: 2, OutboxBytes: 100, Vector: f.vector(),
				Garbage: &atollv1.Garbage{HeldBy: "us", Since: durationpb.New(90 * time.Second), Count: 3, Bytes: 60, More: true}},
			{Partition: 1, Unshipped: 1, OutboxEntries: 1, OutboxBytes: 50,
				Garbage: &atollv1.Garbage{HeldBy: "us", Since: durationpb.New(time.Second), Count: 1, Bytes: 20}},
		},
		Refused: []*atollv1.Refused{
			{Source: "us", Partition: &partitions[0], Reason: "forged", Count: 2}, {Source: "us", Partition: &partitions[1], Reason: "forged", Count: 3},
			{Reason: "other-cluster", Count: 1},
		},
	}
	for _, source := range f.regions {
		for _, destination := range f.regions {
			if source == destination {
				continue
			}
			operations, bytes := uint64(2), uint64(64)
			for p := range uint32(2) {
				flow := &atollv1.Flow{
					Source: source.GetName(), Destination: destination.GetName(), Partition: p, LastHeard: durationpb.New(40 * time.Millisecond),
					Lag: &atollv1.Lag{Time: durationpb.New(time.Duration(p+1) * 15 * time.Millisecond), Operations: &operations, Bytes: &bytes},
				}
				if source.GetName() == f.name {
					unshipped := uint64(p + 1)
					flow.Unshipped = &unshipped
				}
				if p == 1 && source.GetName() == "us" {
					flow.Diverged, flow.Audit = "digests differ", &atollv1.PartitionAudit{}
					audited(flow.Audit, "us")
					flow.Audit.Partition = p
				}
				if source.GetName() == "us" {
					flow.Lag, flow.LastHeard = &atollv1.Lag{Unknown: true}, nil
				}
				res.Flows = append(res.Flows, flow)
			}
		}
	}
	return res, nil
}

func (f *fakeRegion) vector() []*atollv1.VectorEntry {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return []*atollv1.VectorEntry{{Region: "eu", Seq: f.store.seq}}
}

func (f *fakeRegion) Digest(context.Context, *atollv1.DigestRequest) (*atollv1.DigestResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	sum := binary.BigEndian.AppendUint64(make([]byte, 8), f.store.seq)
	return &atollv1.DigestResponse{Region: f.name, Partitions: []*atollv1.PartitionDigest{
		{Partition: 0, Digest: make([]byte, 16)},
		{Partition: 1, Digest: sum, Items: uint64(len(f.store.objects))},
	}}, nil
}

func (f *fakeRegion) Explain(_ context.Context, r *atollv1.ExplainRequest) (*atollv1.ExplainResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	res := &atollv1.ExplainResponse{Region: f.name, Info: f.info()}
	o := f.store.objects[place(r.GetNamespace(), r.GetKey())]
	if o == nil {
		return res, nil
	}
	made := &atollv1.Event{Region: "eu", Seq: o.seq, Hlc: 1_700_000_000_000<<16 | 2}
	ex := &atollv1.ExplainedObject{Type: o.typ, Version: f.name}
	if o.ttl.AsDuration() > 0 {
		ex.Deadline = &atollv1.ExplainDeadline{ExpiresHlc: 1_700_000_000_000 << 16, Event: made}
	}
	switch o.typ {
	case atollv1.Type_TYPE_COUNTER:
		ex.Detail = &atollv1.ExplainedObject_Counter{Counter: &atollv1.ExplainCounter{Value: o.counter, Parts: []*atollv1.ExplainCounterPart{
			{Last: made, Sum: o.counter, Effective: o.counter},
		}}}
	case atollv1.Type_TYPE_AW_SET:
		set := &atollv1.ExplainSet{Size: uint64(len(o.members))}
		for _, m := range slices.Sorted(maps.Keys(o.members)) {
			set.Elements = append(set.Elements, &atollv1.ExplainElement{Element: []byte(m), Dots: []*atollv1.Event{{Region: "eu", Seq: o.members[m]}}})
		}
		ex.Detail = &atollv1.ExplainedObject_Set{Set: set}
	case atollv1.Type_TYPE_EW_FLAG, atollv1.Type_TYPE_MV_REGISTER:
		ex.Detail = explainSiblings(o)
	case atollv1.Type_TYPE_TIMELINE:
		ex.Detail = explainEntries(o)
	case atollv1.Type_TYPE_LWW_MAP, atollv1.Type_TYPE_ZSET:
		ex.Detail = o.explainFields()
	default:
		ex.Detail = &atollv1.ExplainedObject_Register{Register: &atollv1.ExplainRegister{Winner: made, Value: o.value}}
	}
	res.Objects = []*atollv1.ExplainedObject{ex}
	if r.GetKey() == "torn" {
		res.Losers = []*atollv1.Loser{tornLoser()}
	}
	return res, nil
}
