package raftgroup

import (
	"errors"
	"time"
)

const (
	defaultSnapshotRate = 64 << 20
	// transfersAtOnce is how many snapshots a node sends at once. Each holds a file's old pages, and
	// has its receiver do nothing else meanwhile.
	transfersAtOnce  = 2
	transferPatience = 2 * time.Second
	paceBytes        = 1 << 20
	pacesPerSecond   = 8 // at least: receivers give up who is silent
)

var errTransfersFull = errors.New("the node sends as many snapshots as it may")

// Budget bounds what the groups of one node spend on sending snapshots. It is safe for concurrent use.
type Budget struct {
	rate   int64
	pace   int64 // how much is sent between two pauses
	places chan struct{}
	line   chan struct{} // who holds it may pause; so all pauses together keep the rate
}

// NewBudget returns a budget of so many bytes per second; 0 means 64 MiB.
func NewBudget(bytesPerSecond int64) *Budget {
	if bytesPerSecond <= 0 {
		bytesPerSecond = defaultSnapshotRate
	}
	return &Budget{
		rate: bytesPerSecond, pace: min(paceBytes, bytesPerSecond/pacesPerSecond),
		places: make(chan struct{}, transfersAtOnce), line: make(chan struct{}, 1),
	}
}

// begin waits a little for the right to send a snapshot. end gives it back.
func (b *Budget) begin() error {
	timer := time.NewTimer(transferPatience)
	defer timer.Stop()
	select {
	case b.places <- struct{}{}:
		return nil
	case <-timer.C:
		return errTransfersFull
	}
}

func (b *Budget) end() { <-b.places }

// pay waits as long as n bytes take.
func (b *Budget) pay(n int64) {
	b.line <- struct{}{}
	timer := time.NewTimer(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	<-timer.C
	<-b.line
}
