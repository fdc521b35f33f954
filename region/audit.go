package region

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/topology"
)

const (
	// maxAuditItems is how many items an audit looks at at once.
	maxAuditItems = 256
	// auditItemBytes is what an item counts for besides its position.
	auditItemBytes = 16
)

// OpenAudit pins one view of this replica's state for a region, which may be this one, that compares it with another
// region's, and returns its number, as OpenExport's, and its version vector. It is read with ExportFingerprints,
// ExportItems, ExportDiffering and ExportDifferences, and goes as those of OpenExport do, or when the region opens another.
// Nothing else notices: the outbox keeps nothing for it.
// Errors: ErrTooManyExports, replica.ErrResyncing: a state that is being taken over is not that of one vector.
func (p *Partition) OpenAudit(by topology.RegionID) (id uint64, at crdt.VersionVector, err error) {
	err = p.exports.closeIf(func(_ uint64, x *export) bool { return x.audit == by })
	if err != nil {
		return 0, at, err
	}
	id, err = p.exports.openView(by, func(r *replica.Replica) error {
		if r.Resyncing() {
			return replica.ErrResyncing
		}
		at = r.Vector()
		return nil
	})
	return id, at, err
}

// ExportItems returns the items that a view holds from one position to another, as many as fit in maxBytes and at least
// one, and where the next one would begin: to if there is none. Error: ErrNoExport.
func (p *Partition) ExportItems(id uint64, from, to replica.Position, maxBytes int) (items []replica.Item, next replica.Position, err error) {
	err = p.exports.read(id, func(r *replica.Replica) error {
		items, next, err = r.Items(from, to, maxAuditItems)
		for i := range items {
			maxBytes -= auditItemBytes + len(items[i].Position.Object) + len(items[i].Position.Element)
			if i > 0 && maxBytes < 0 {
				items, next = items[:i], items[i].Position
				break
			}
		}
		return err
	})
	return items, next, err
}

// ExportDiffering returns a view's fingerprints of those ranges of another region in which it differs. At equal vectors
// there are none. Error: ErrNoExport.
func (p *Partition) ExportDiffering(id uint64, theirs []replica.RangeFingerprint) (differ []replica.RangeFingerprint, err error) {
	err = p.exports.read(id, func(r *replica.Replica) error {
		differ, err = r.Differing(theirs)
		return err
	})
	return differ, err
}

// ExportDifferences returns the values of which a view does not have the same items in a range as another region, which
// has theirs there, and up to where it has looked: that is before to if the view has many more of them.
// Error: ErrNoExport.
func (p *Partition) ExportDifferences(
	id uint64, from, to replica.Position, theirs []replica.Item,
) (differ []replica.Difference, next replica.Position, err error) {
	err = p.exports.read(id, func(r *replica.Replica) error {
		mine, end, err := r.Items(from, to, len(theirs)+maxAuditItems)
		if err != nil {
			return err
		}
		n := 0
		for n < len(theirs) && theirs[n].Position.Compare(end) < 0 {
			n++
		}
		next = end
		differ, err = replica.Differences(mine, theirs[:n])
		return err
	})
	return differ, next, err
}
