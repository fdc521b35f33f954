package api

import (
	"cmp"
	"container/heap"
	"context"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/session/wire"
	"github.com/atolldb/atoll/topology"
)

// A scan holds at most one page of each partition, and one message. Pages get smaller the more
// partitions there are, but an entry always fits in one.
const (
	scanPageEntries  = 256
	scanPageBytes    = 256 << 10
	scanMinPageBytes = 16 << 10
	scanBufferBytes  = 8 << 20 // what the pages of all partitions together should not exceed
	scanMessageBytes = 256 << 10
)

// Scan streams entries in key order over all partitions, then a cursor if more remain.
func (k *kvService) Scan(ctx context.Context, r *atollv1.ScanRequest, stream atollv1connect.KVScanServerStream) error {
	m, f := k.server().newMerge(r)
	if f != nil {
		return f
	}
	if err := m.open(ctx); err != nil {
		return err
	}
	return m.run(ctx, r.GetLimit(), stream.Send)
}

// merge is one scan under way: a heap of the partitions by their next key.
type merge struct {
	server  *Server
	request *peerv1.ScanPartitionRequest // of every page, but for partition and start
	how     reading
	sources []*source

	mu      sync.Mutex // pages are read at the same time
	session []byte     // the token, joined over all pages
}

// source is one partition's part of a scan.
type source struct {
	partition topology.PartitionID
	start     string // where the next page begins
	entries   []*atollv1.Entry
	more      bool // whether the partition has keys behind entries
}

func (s *Server) newMerge(r *atollv1.ScanRequest) (*merge, *failure) {
	namespace, f := checkNamespace(r.GetNamespace())
	if f != nil {
		return nil, f
	}
	how, f := checkReadOptions(r.GetOptions())
	if f != nil {
		return nil, f
	}
	start, end, f := scanRange(r)
	if f != nil {
		return nil, f
	}
	limit := uint64(scanPageEntries)
	if r.GetLimit() > 0 {
		limit = min(limit, r.GetLimit())
	}
	partitions := int(s.cluster.Partitions)
	m := &merge{server: s, how: how, sources: make([]*source, partitions), request: &peerv1.ScanPartitionRequest{
		Namespace: namespace,
		End:       end,
		Limit:     uint32(limit),
		KeysOnly:  r.GetKeysOnly(),
		Options:   r.GetOptions(),
		MaxBytes:  uint32(min(max(scanBufferBytes/partitions, scanMinPageBytes), scanPageBytes)),
	}}
	for i := range m.sources {
		m.sources[i] = &source{partition: topology.PartitionID(i), start: start}
	}
	return m, nil
}

// scanRange returns the range of keys that a scan covers: from start, before end; an empty end means
// no end.
func scanRange(r *atollv1.ScanRequest) (start, end string, f *failure) {
	for _, b := range []struct{ field, value string }{
		{"prefix", r.GetPrefix()}, {"start", r.GetStart()}, {"end", r.GetEnd()}, {"cursor", string(r.GetCursor())},
	} {
		if len(b.value) > maxKeyBytes+1 { // one more than a key, so that "behind the longest key" can be said
			return "", "", tooLong(reasonInvalidArgument, b.field, maxKeyBytes)
		}
		if !utf8.ValidString(b.value) {
			return "", "", invalid(b.field, "must be valid UTF-8")
		}
	}
	start, end = r.GetStart(), r.GetEnd()
	if prefix := r.GetPrefix(); prefix != "" {
		if start != "" || end != "" {
			return "", "", invalid("prefix", "cannot be combined with start and end")
		}
		start, end = prefix, prefixEnd(prefix)
	}
	if len(r.GetCursor()) > 0 {
		start = max(start, string(r.GetCursor())+"\x00")
	}
	return start, end, nil
}

// prefixEnd returns the first string behind all that begin with prefix, empty if there is none. In
// UTF-8 the order of bytes is that of code points, so the last one is raised by one.
func prefixEnd(prefix string) string {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue // nothing is behind it: raise the one before
		case last == 0xD7FF:
			return prefix + "\uE000" // surrogates, which lie between, are not in UTF-8
		default:
			return prefix + string(last+1)
		}
	}
	return ""
}

// open reads every partition's first page.
func (m *merge) open(ctx context.Context) error {
	parallel, ctx := errgroup.WithContext(ctx)
	parallel.SetLimit(batchParallel)
	for _, src := range m.sources {
		parallel.Go(func() error { return m.server.protect(func() error { return m.fetch(ctx, src) }) })
	}
	if err := parallel.Wait(); err != nil {
		return err
	}
	filled := m.sources[:0]
	for _, src := range m.sources {
		if len(src.entries) > 0 {
			filled = append(filled, src)
		}
	}
	m.sources = filled
	heap.Init(m)
	return nil
}

// fetch reads a partition's next page.
func (m *merge) fetch(ctx context.Context, src *source) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	req := proto.CloneOf(m.request)
	req.Partition, req.Start = uint32(src.partition), src.start
	page, err := m.server.scanPage(ctx, req, m.how)
	if err != nil {
		return err
	}
	src.entries, src.more = page.GetEntries(), page.GetMore()
	if err := m.join(page.GetSession()); err != nil {
		return err
	}
	if n := len(src.entries); n > 0 {
		src.start = src.entries[n-1].GetKey() + "\x00"
	}
	return nil
}

// join adds a page's session token to the scan's.
func (m *merge) join(token []byte) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session, err = wire.Join(m.session, token)
	return err
}

// next returns the next entry, nil at the end.
func (m *merge) next(ctx context.Context) (*atollv1.Entry, error) {
	if len(m.sources) == 0 {
		return nil, nil
	}
	src := m.sources[0]
	entry := src.entries[0]
	src.entries = src.entries[1:]
	if len(src.entries) == 0 && src.more {
		if err := m.fetch(ctx, src); err != nil {
			return nil, err
		}
	}
	if len(src.entries) == 0 {
		heap.Pop(m)
	} else {
		heap.Fix(m, 0)
	}
	return entry, nil
}

// run sends entries until limit or the end, and the cursor in the last message.
func (m *merge) run(ctx context.Context, limit uint64, send func(*atollv1.ScanResponse) error) error {
	msg := &atollv1.ScanResponse{}
	size, last := 0, ""
	for sent := uint64(0); limit == 0 || sent < limit; sent++ {
		entry, err := m.next(ctx)
		if err != nil {
			return err
		}
		if entry == nil {
			break
		}
		n := proto.Size(entry)
		if len(msg.Entries) > 0 && size+n > scanMessageBytes {
			msg.Session = m.session
			if err := send(msg); err != nil {
				return err
			}
			msg, size = &atollv1.ScanResponse{}, 0
		}
		msg.Entries = append(msg.Entries, entry)
		size += n
		last = entry.GetKey()
	}
	if len(m.sources) > 0 {
		msg.Cursor = []byte(last)
	}
	msg.Session = m.session
	return send(msg)
}

// Len, Less, Swap, Push and Pop make a merge a heap of its sources.
func (m *merge) Len() int { return len(m.sources) }

// Less orders sources by their next key.
func (m *merge) Less(i, j int) bool {
	return cmp.Less(m.sources[i].entries[0].GetKey(), m.sources[j].entries[0].GetKey())
}

// Swap exchanges two sources.
func (m *merge) Swap(i, j int) { m.sources[i], m.sources[j] = m.sources[j], m.sources[i] }

// Push adds a source.
func (m *merge) Push(x any) {
	if src, ok := x.(*source); ok {
		m.sources = append(m.sources, src)
	}
}

// Pop removes the last source.
func (m *merge) Pop() any {
	last := m.sources[len(m.sources)-1]
	m.sources = m.sources[:len(m.sources)-1]
	return last
}

// scanPage returns one page of one partition.
func (s *Server) scanPage(ctx context.Context, r *peerv1.ScanPartitionRequest, how reading) (*peerv1.ScanPartitionResponse, error) {
	return routeRead(ctx, s, readCall[*peerv1.ScanPartitionResponse]{
		partition: topology.PartitionID(r.GetPartition()),
		how:       how,
		local: func(ctx context.Context, p Partition, how reading) (*peerv1.ScanPartitionResponse, error) {
			page := &peerv1.ScanPartitionResponse{}
			info := &atollv1.ReplyInfo{Partition: r.GetPartition()}
			err := s.readFrom(ctx, p, how, info, func(rep *replica.Replica, now hlc.Time) error {
				return s.fillPage(rep, now, r, page)
			})
			page.Session = info.GetSession()
			return page, err
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*peerv1.ScanPartitionResponse, error) {
			req := proto.CloneOf(r)
			req.Options = o
			return p.nodes.ScanPartition(ctx, req)
		},
	})
}

// fillPage adds the keys of a range to a page until it is full.
func (s *Server) fillPage(r *replica.Replica, now hlc.Time, req *peerv1.ScanPartitionRequest, page *peerv1.ScanPartitionResponse) error {
	var found []replica.Object
	size := 0
	err := r.Only(s.namespaces[req.GetNamespace()]).Walk(req.GetNamespace(), req.GetStart(), req.GetEnd(), now, func(o replica.Object) (bool, error) {
		if page.More = len(found) == int(req.GetLimit()) || size > int(req.GetMaxBytes()); page.More {
			return false, nil
		}
		size += len(o.Key)
		if !req.GetKeysOnly() {
			size += len(o.Value)
			for _, sibling := range o.Siblings {
				size += len(sibling.Value)
			}
		}
		found = append(found, o)
		return true, nil
	})
	if err != nil {
		return err
	}
	size = 0
	for i := range found {
		o := &found[i]
		entry := &atollv1.Entry{Key: o.Key, Type: atollv1.Type(o.Type), Version: o.Version, Ttl: timeLeft(o, now)}
		if !req.GetKeysOnly() {
			entry.Value = o.Value
			if entry.Typed, err = s.typedValue(r, o); err != nil {
				return err
			}
		}
		size += proto.Size(entry)
		if size > int(req.GetMaxBytes()) && len(page.Entries) > 0 {
			page.More = true
			return nil
		}
		page.Entries = append(page.Entries, entry)
	}
	return nil
}
