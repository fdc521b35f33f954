package region

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/topology"
)

const (
	// maxExports bounds the views that a partition keeps open for others, each of which holds pages of the state
	// file that could be used again.
	maxExports = 2
	// maxAudits does so for the views that regions compare with others, each of which has one at most.
	maxAudits = 4
	// exportIdle is how long a view is kept that nobody asks for, and exportAge how long at most. A receiver whose
	// view is gone gives its resync up and begins another.
	exportIdle = time.Minute
	exportAge  = 30 * time.Minute
)

var (
	// ErrTooManyExports means that as many views of the partition are open as may be.
	ErrTooManyExports = errors.New("too many regions read the partition's state")
	// ErrNoExport means that there is no such view, or not any more.
	ErrNoExport = errors.New("the view of the partition's state is gone")
)

// exports are the views of one partition's state that other regions read.
type exports struct {
	machine *Machine
	wall    func() time.Time
	mu      struct {
		sync.Mutex
		last uint64
		open map[uint64]*export
	}
}

// export is a view of the state.
type export struct {
	sync.Mutex // one reads at a time
	// audit is the region that compares it; 0 if it is for one that takes the state over.
	audit    topology.RegionID
	snapshot StoreSnapshot
	replica  *replica.Replica
	opened   time.Time
	used     time.Time // guarded by exports.mu
}

// newExports returns none. proposer is a random number that names this process: no two views have one number, wherever
// they are, so that nobody goes on reading another one.
func newExports(m *Machine, wall func() time.Time, proposer uint64) *exports {
	const spread = 0x9e3779b97f4a7c15 // odd, so that processes with numbers close by have views far apart
	e := &exports{machine: m, wall: wall}
	e.mu.last = proposer * spread
	e.mu.open = map[uint64]*export{}
	return e
}

// OpenExport pins one view of this replica's state, and returns its number, which no other view has, and what it includes, for BeginResync
// in another region. Any replica can be asked. A view that is not read for a minute, or is open for half an hour, goes.
// Errors: ErrTooManyExports, replica.ErrResyncing.
func (p *Partition) OpenExport() (id uint64, donor []byte, err error) {
	id, err = p.exports.openView(0, func(r *replica.Replica) error {
		d, err := r.Donor()
		donor = replica.EncodeDonor(d)
		return err
	})
	return id, donor, err
}

// ExportChunk returns what the view holds from one position to another, encoded for ResyncChunk, and where the next
// chunk begins: that may be before to. Error: ErrNoExport.
func (p *Partition) ExportChunk(id uint64, from, to replica.Position, maxBytes int) (chunk []byte, next replica.Position, err error) {
	err = p.exports.read(id, func(r *replica.Replica) error {
		c, err := r.ExportRange(from, to, maxBytes)
		chunk, next = replica.EncodeChunk(&c), c.To
		return err
	})
	return chunk, next, err
}

// ExportHidden returns what the view holds in a range, for a replica that holds the same items there: see Differing.
// The chunk may end before to. Error: ErrNoExport.
func (p *Partition) ExportHidden(id uint64, from, to replica.Position, maxBytes int) (chunk []byte, next replica.Position, err error) {
	err = p.exports.read(id, func(r *replica.Replica) error {
		c, err := r.ExportHidden(from, to, maxBytes)
		chunk, next = replica.EncodeChunk(&c), c.To
		return err
	})
	return chunk, next, err
}

// ExportFingerprints divides what the view holds from a position on into ranges of a number of items each, at most
// limit of them. Error: ErrNoExport.
func (p *Partition) ExportFingerprints(id uint64, from replica.Position, items, limit int) (ranges []replica.RangeFingerprint, err error) {
	err = p.exports.read(id, func(r *replica.Replica) error {
		ranges, err = r.Fingerprints(from, replica.Position{End: true}, items, limit)
		return err
	})
	return ranges, err
}

// CloseExport lets a view go. To close one that is gone is no error.
func (p *Partition) CloseExport(id uint64) error {
	return p.exports.closeIf(func(n uint64, _ *export) bool { return n == id })
}

// openView opens a view for an audit by a region, or for a transfer if that is 0. about is told what is in it.
func (e *exports) openView(audit topology.RegionID, about func(r *replica.Replica) error) (uint64, error) {
	if err := e.closeOld(); err != nil {
		return 0, err
	}
	if e.full(audit) {
		return 0, ErrTooManyExports
	}
	snapshot, err := e.machine.store.Snapshot()
	if err != nil {
		return 0, err
	}
	r, err := replica.Open(snapshot.KV(), e.machine.self)
	if err == nil {
		err = about(r)
	}
	if err != nil {
		return 0, errors.Join(err, snapshot.Close())
	}
	now := e.wall()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fullLocked(audit) {
		return 0, errors.Join(ErrTooManyExports, snapshot.Close())
	}
	if e.mu.last++; e.mu.last == 0 {
		e.mu.last++
	}
	e.mu.open[e.mu.last] = &export{audit: audit, snapshot: snapshot, replica: r, opened: now, used: now}
	return e.mu.last, nil
}

func (e *exports) full(audit topology.RegionID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fullLocked(audit)
}

// fullLocked reports whether no more views of the kind may be open: those of audits do not keep transfers from theirs.
func (e *exports) fullLocked(audit topology.RegionID) bool {
	same := 0
	for _, x := range e.mu.open {
		if (x.audit == 0) == (audit == 0) {
			same++
		}
	}
	if audit == 0 {
		return same >= maxExports
	}
	return same >= maxAudits
}

// read calls fn with a view.
func (e *exports) read(id uint64, fn func(r *replica.Replica) error) error {
	return e.readKV(id, func(_ replica.KV, r *replica.Replica) error { return fn(r) })
}

// readKV calls fn with a view, and with all that its storage has.
func (e *exports) readKV(id uint64, fn func(kv replica.KV, r *replica.Replica) error) error {
	e.mu.Lock()
	x := e.mu.open[id]
	if x != nil {
		x.used = e.wall()
	}
	e.mu.Unlock()
	if x == nil {
		return ErrNoExport
	}
	x.Lock()
	defer x.Unlock()
	if x.snapshot == nil {
		return ErrNoExport
	}
	if err := fn(x.snapshot.KV(), x.replica); err != nil {
		return fmt.Errorf("read a view of the state: %w", err)
	}
	return nil
}

// closeOld closes the views that nobody reads, or that are too old.
func (e *exports) closeOld() error {
	now := e.wall()
	return e.closeIf(func(_ uint64, x *export) bool { return now.Sub(x.used) > exportIdle || now.Sub(x.opened) > exportAge })
}

// closeIf closes those views of which a function says so, once nobody reads them.
func (e *exports) closeIf(which func(id uint64, x *export) bool) error {
	var leaving []*export
	e.mu.Lock()
	for id, x := range e.mu.open {
		if which(id, x) {
			delete(e.mu.open, id)
			leaving = append(leaving, x)
		}
	}
	e.mu.Unlock()
	var err error
	for _, x := range leaving {
		x.Lock()
		err = errors.Join(err, x.snapshot.Close())
		x.snapshot = nil
		x.Unlock()
	}
	return err
}
