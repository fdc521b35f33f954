package protocol

import (
	"time"

	"github.com/atolldb/atoll/topology"
)

// viewKept is for how long a view that was opened, and not read yet, is given to its region again: the answer that
// named it may have been lost.
const viewKept = 20 * time.Second

// Donations are the views of one partition's state that were opened for other regions and not read yet. The zero
// value is ready. It is not safe for concurrent use.
type Donations struct {
	opened map[topology.RegionID]donation
}

type donation struct {
	view  uint64
	donor []byte
	at    time.Time
}

// Opened tells of a view that was opened for a region.
func (d *Donations) Opened(by topology.RegionID, view uint64, donor []byte, now time.Time) {
	if d.opened == nil {
		d.opened = map[topology.RegionID]donation{}
	}
	d.opened[by] = donation{view, donor, now}
}

// Of returns the view that a region has not read yet; ok is false if there is none.
func (d *Donations) Of(by topology.RegionID, now time.Time) (view uint64, donor []byte, ok bool) {
	found, ok := d.opened[by]
	if !ok || now.Sub(found.at) > viewKept {
		return 0, nil, false
	}
	return found.view, found.donor, true
}

// Read tells that a region reads a view.
func (d *Donations) Read(by topology.RegionID, view uint64) {
	if d.opened[by].view == view {
		delete(d.opened, by)
	}
}
