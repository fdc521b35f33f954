package protocol

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// ResyncWant says which part of a region's state is asked for.
type ResyncWant uint32

// What is asked for. All but WantView and WantAudit is read of a view.
const (
	WantView   ResyncWant = iota + 1 // that a view be opened
	WantRanges                       // fingerprints of ranges
	WantChunk                        // what is between two positions
	WantHidden                       // the same, for who has the same items there
	WantWrites                       // clients' writes that are remembered
	WantClose                        // that the view be closed
	WantAudit                        // that a view be opened to be compared
	WantItems                        // the items between two positions
)

// ResyncRequest asks for a part of a region's state of a partition. Positions are opaque here.
type ResyncRequest struct {
	Want ResyncWant
	// View names the view that is read.
	View uint64
	// From and To are positions; of writes From is where the answer before ended.
	From, To []byte
	// Items is how many of them a range has, Ranges how many ranges are wanted at most.
	Items, Ranges int
	MaxBytes      int
	// Nonce is drawn at random for every request.
	Nonce uint64
}

// AskedResync is a request with who asks.
type AskedResync struct {
	ResyncRequest
	By topology.RegionID
}

// ResyncRefusal says why a part of a state is not given.
type ResyncRefusal uint32

// The refusals; 0 is none.
const (
	RefusedView ResyncRefusal = iota + 1 // the view is gone, or never was
	RefusedNow                           // later, perhaps
)

// StateRange is the fingerprint of what a state holds from one position to another.
type StateRange struct {
	From, To []byte
	Sum      [16]byte
	Items    uint64
}

// ResyncResponse is a part of a region's state, by what was asked for.
type ResyncResponse struct {
	Refused ResyncRefusal
	// View names the view that was opened, and Donor is what it includes: its version vector, encoded, if it is to be
	// compared.
	View  uint64
	Donor []byte
	// Vector is what Donor says of a view that is to be compared. It is not sent.
	Vector crdt.VersionVector
	// Ranges follow each other.
	Ranges []StateRange
	Items  []StateItem
	// Data is a chunk, or writes; Next is where the next writes or items begin, nil behind the last.
	Data, Next []byte
}

// StateItem is the hash of one item that a state holds.
type StateItem struct {
	Position []byte
	Hash     [16]byte
}

// bytes is how much of a response counts.
func (r *ResyncResponse) bytes() int {
	n := len(r.Donor) + len(r.Data)
	for i := range r.Ranges {
		n += len(r.Ranges[i].To) + len(r.Ranges[i].Sum)
	}
	for i := range r.Items {
		n += len(r.Items[i].Position) + len(r.Items[i].Hash)
	}
	return n
}

const (
	// maxPositionBytes is more than any position takes.
	maxPositionBytes = 32 << 10
	// maxRanges bounds the ranges of one response, maxRangeItems all items of them.
	maxRanges     = 256
	maxRangeItems = 1 << 20
	maxChunkBytes = 512 << 10
	// maxItems bounds the items of one response.
	maxItems = 1024
)

// EncodeResyncRequest returns a frame that asks a region for a part of its state of a partition.
func (k *Keys) EncodeResyncRequest(p topology.PartitionID, to topology.RegionID, r ResyncRequest) ([]byte, error) {
	return k.Seal(FrameResyncRequest, Scope{To: to}, &crossregionv1.ResyncRequest{
		Cluster: k.cluster, Partition: uint32(p), Nonce: r.Nonce, View: r.View, Want: uint32(r.Want), From: r.From, To: r.To,
		Items: uint32(r.Items), Ranges: uint32(r.Ranges), MaxBytes: uint32(r.MaxBytes),
	})
}

// DecodeResyncRequest reads what EncodeResyncRequest returned for this region, and refuses what is not about the
// partition, or asks for what no region asks for.
func (k *Keys) DecodeResyncRequest(p topology.PartitionID, frame []byte) (AskedResync, error) {
	var m crossregionv1.ResyncRequest
	speaker, err := k.Open(FrameResyncRequest, 0, Scope{To: k.region()}, frame, &m)
	if err != nil {
		return AskedResync{}, err
	}
	by, _ := topology.ActorRegion(speaker)
	switch want := ResyncWant(m.Want); {
	case m.Cluster != k.cluster:
		return AskedResync{}, fmt.Errorf("request %w: %q", ErrOtherCluster, m.Cluster)
	case m.Partition != uint32(p):
		return AskedResync{}, fmt.Errorf("request %w: %d", ErrOtherPartition, m.Partition)
	case by == k.region():
		return AskedResync{}, fmt.Errorf("request %w: this region", ErrOtherActor)
	case want < WantView || want > WantItems || (want == WantView || want == WantAudit) != (m.View == 0):
		return AskedResync{}, fmt.Errorf("request: %w: %d of view %d", ErrBadCounts, m.Want, m.View)
	case len(m.From) > maxPositionBytes || len(m.To) > maxPositionBytes:
		return AskedResync{}, fmt.Errorf("request: %w: a position of %d bytes", ErrTooLarge, max(len(m.From), len(m.To)))
	case want == WantRanges && (m.Items == 0 || m.Ranges == 0):
		return AskedResync{}, fmt.Errorf("request: %w: %d ranges of %d items", ErrBadCounts, m.Ranges, m.Items)
	}
	r := ResyncRequest{
		Want: ResyncWant(m.Want), View: m.View, From: m.From, To: m.To, Ranges: int(min(m.Ranges, maxRanges)),
		MaxBytes: int(min(m.MaxBytes, maxChunkBytes)), Nonce: m.Nonce,
	}
	r.Items = min(int(m.Items), maxRangeItems/max(r.Ranges, 1))
	return AskedResync{r, by}, nil
}

// EncodeResyncResponse returns this region's answer to a request.
func (k *Keys) EncodeResyncResponse(asked AskedResync, res ResyncResponse) ([]byte, error) {
	m := &crossregionv1.ResyncResponse{
		Refused: uint32(res.Refused), View: res.View, Donor: res.Donor, Data: res.Data, Next: res.Next,
	}
	for i := range res.Items {
		m.Items = append(m.Items, &crossregionv1.StateItem{Position: res.Items[i].Position, Hash: res.Items[i].Hash[:]})
	}
	for i := range res.Ranges {
		r := &res.Ranges[i]
		m.Ranges = append(m.Ranges, &crossregionv1.StateRange{To: r.To, Sum: r.Sum[:], Items: r.Items})
	}
	return k.Seal(FrameResyncResponse, Scope{To: asked.By, Nonce: asked.Nonce}, m)
}

// DecodeResyncResponse reads what EncodeResyncResponse returned in the region from, for a request of this one.
func (k *Keys) DecodeResyncResponse(from topology.RegionID, asked ResyncRequest, frame []byte) (ResyncResponse, error) {
	var m crossregionv1.ResyncResponse
	scope := Scope{To: k.region(), Nonce: asked.Nonce}
	if _, err := k.openFrom(from, FrameResyncResponse, scope, frame, &m); err != nil {
		return ResyncResponse{}, err
	}
	res := ResyncResponse{Refused: ResyncRefusal(m.Refused), View: m.View, Donor: m.Donor, Data: m.Data}
	if len(m.Next) > 0 {
		res.Next = m.Next
	}
	if res.Refused != 0 {
		return ResyncResponse{Refused: res.Refused}, nil
	}
	if err := checkResync(asked, &m); err != nil {
		return ResyncResponse{}, err
	}
	var err error
	if asked.Want == WantAudit {
		if res.Vector, err = crdt.DecodeVersionVector(m.Donor); err != nil {
			return ResyncResponse{}, fmt.Errorf("%w: vector: %w", ErrBadFrame, err)
		}
	}
	for _, i := range m.Items {
		res.Items = append(res.Items, StateItem{i.Position, [16]byte(i.Hash)})
	}
	if res.Ranges, err = rangesFrom(asked.From, m.Ranges); err != nil {
		return ResyncResponse{}, err
	}
	return res, nil
}

// checkResync returns what is wrong with the numbers and sizes of an answer.
func checkResync(asked ResyncRequest, m *crossregionv1.ResyncResponse) error {
	opens := asked.Want == WantView || asked.Want == WantAudit
	switch {
	case len(m.Ranges) > asked.Ranges, asked.Want == WantRanges && len(m.Ranges) == 0:
		return fmt.Errorf("response: %w: %d ranges", ErrBadCounts, len(m.Ranges))
	case opens && (m.View == 0 || len(m.Donor) == 0), len(m.Next) > maxPositionBytes:
		return fmt.Errorf("response: %w: view %d", ErrBadCounts, m.View)
	case (asked.Want == WantChunk || asked.Want == WantHidden) && len(m.Data) == 0:
		return fmt.Errorf("response: %w: no chunk", ErrBadCounts)
	}
	return checkItems(asked, m)
}

func checkItems(asked ResyncRequest, m *crossregionv1.ResyncResponse) error {
	switch n := len(m.Items); {
	case n > maxItems, n > 0 && asked.Want != WantItems, n == 0 && asked.Want == WantItems && len(m.Next) > 0:
		return fmt.Errorf("response: %w: %d items", ErrBadCounts, n)
	}
	for _, i := range m.Items {
		if len(i.Position) == 0 || len(i.Position) > maxPositionBytes || len(i.Hash) != 16 {
			return fmt.Errorf("response: %w: item of %d and %d bytes", ErrBadCounts, len(i.Position), len(i.Hash))
		}
	}
	return nil
}

// rangesFrom returns ranges that follow each other from a position on.
func rangesFrom(at []byte, sent []*crossregionv1.StateRange) (ranges []StateRange, err error) {
	for _, r := range sent {
		if len(r.Sum) != 16 || len(r.To) == 0 || len(r.To) > maxPositionBytes {
			return nil, fmt.Errorf("response: %w: range of %d and %d bytes", ErrBadCounts, len(r.To), len(r.Sum))
		}
		ranges = append(ranges, StateRange{at, r.To, [16]byte(r.Sum), r.Items})
		at = r.To
	}
	return ranges, nil
}
