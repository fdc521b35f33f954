package members

import (
	"context"
	"errors"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// kindLoss tells another node of the region of a loss: region u8 | why. The answer is empty.
	kindLoss     = 61
	maxWhyBytes  = 1 << 10
	maxLossBytes = 1 + maxWhyBytes
)

// Loss says that a region has lost some of what it wrote: another region knows of it.
type Loss struct {
	By  topology.RegionID
	Why string
}

// Lose tells every node of the region that it has lost some of what it wrote, and, by way of its voter, the other regions,
// which then close it at what they have. It returns an error if some node was not reached: tell it again, until the
// membership says so.
func (s *Share) Lose(ctx context.Context, l Loss) error {
	l.Why = l.Why[:min(len(l.Why), maxWhyBytes)]
	s.lose(l)
	var errs []error
	for i := range s.cfg.Region.Nodes {
		node := s.cfg.Region.Nodes[i].ID
		if node == s.cfg.Self {
			continue
		}
		callCtx, cancel := context.WithTimeout(ctx, takeTime)
		_, err := s.cfg.Layer.Call(callCtx, node, transport.Bulk, kindLoss, append([]byte{byte(l.By)}, l.Why...))
		cancel()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Share) lose(l Loss) {
	if s.lost.CompareAndSwap(nil, &l) {
		s.cfg.OnLoss(l)
	}
}

func (s *Share) serveLoss(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
	if len(body) < 1 || len(body) > maxLossBytes {
		reply(nil, errAnswer)
		return
	}
	s.lose(Loss{By: topology.RegionID(body[0]), Why: string(body[1:])})
	reply(nil, nil)
}

// tellLoss has the regions decide that this one is fenced, by its own word.
func (s *Share) tellLoss(ctx context.Context, known *membership.State) {
	lost, self := s.lost.Load(), s.cfg.Region
	if lost == nil || !known.Living().Has(self.ID) || known.Region(self.ID).Actor().Epoch != self.Epoch {
		return
	}
	err := s.cfg.Host.Propose(ctx, membership.SelfFenceCommand(self.ID, self.Epoch, lost.By))
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Error("this region has lost some of what it wrote, and the others have not taken note yet", "err", err)
	}
}
