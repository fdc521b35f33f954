package members

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// learnEvery is how often a voter that hears of no leader asks the others what they know: it may have been
	// taken out, and nobody would tell it.
	learnEvery = 2 * time.Second
	learnTime  = 5 * time.Second
	heardName  = "membership.heard"
)

// ErrSplit means that somebody has declared regions dead by hand, and this side does not know of it or did
// the same: the two have gone different ways.
var ErrSplit = errors.New("the deployment has been split by declaring regions dead on both sides; " +
	"end all nodes of the side that is to go, and have its regions rejoin")

// recall tells view of what was heard last; on a voter it may be newer than what a leader told.
func recall(dir string, view *membership.Published) error {
	path := filepath.Join(dir, heardName)
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := membership.DecodeState(data)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	view.Publish(s)
	return nil
}

// learn asks the other voters for a newer membership, as long as there is no leader.
func (h *Host) learn(ctx context.Context) error {
	ticker := time.NewTicker(learnEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, _, known := h.group.Leader(); known {
			continue
		}
		for _, node := range h.others() {
			if err := h.learnFrom(ctx, node); errors.Is(err, ErrSplit) {
				h.cfg.Logger.Error("the membership of another region contradicts this one's", "peer", node, "err", err)
			} else if err != nil && ctx.Err() == nil {
				h.cfg.Logger.Debug("the membership was not told", "peer", node, "err", err)
			}
		}
	}
}

func (h *Host) others() []topology.NodeID {
	ids := membership.RegionSet(0)
	for id := range h.cfg.Addresses {
		ids |= membership.SetOf(id)
	}
	s, _ := h.view.Current()
	for i := range s.Regions {
		ids |= membership.SetOf(s.Regions[i].ID)
	}
	var nodes []topology.NodeID
	for id := range ids.Minus(membership.SetOf(h.cfg.Self.ID)).All() {
		nodes = append(nodes, nodeOf(id))
	}
	return nodes
}

// learnFrom asks one voter.
func (h *Host) learnFrom(ctx context.Context, node topology.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, learnTime)
	defer cancel()
	known, _ := h.view.Current()
	answer, err := h.layer.Call(ctx, node, transport.Bulk, kindState, binary.BigEndian.AppendUint64(nil, known.Epoch))
	if err != nil || len(answer) == 0 {
		return err
	}
	s, err := membership.DecodeState(answer)
	if err != nil {
		return err
	}
	if s.Cluster != h.cfg.Cluster.Name || s.Epoch <= known.Epoch {
		return nil
	}
	if !s.Knows(known) {
		return ErrSplit
	}
	if err := writeFile(filepath.Join(h.cfg.Dir, heardName), answer); err != nil {
		return err
	}
	h.view.Publish(s)
	return nil
}

// witnessTime is how long WitnessAnswers waits.
const witnessTime = time.Second

// WitnessAnswers reports whether the witness does now.
func (h *Host) WitnessAnswers(ctx context.Context) bool {
	if h.machine.state().Witness.Name == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	_, err := h.layer.Call(ctx, nodeOf(witness), transport.Bulk, kindState, binary.BigEndian.AppendUint64(nil, math.MaxUint64))
	return err == nil
}

// serveState tells what this voter knows to have been decided.
func (h *Host) serveState(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
	if len(body) != 8 {
		reply(nil, errAnswer)
		return
	}
	if s := h.machine.state(); s.Epoch > binary.BigEndian.Uint64(body) {
		reply(s.Encode(), nil)
		return
	}
	reply(nil, nil)
}

// declaration names what an operator declared by Alone: the same at every start, so that it is made once.
func (h *Host) declaration() uint64 {
	b := binary.BigEndian.AppendUint64([]byte(h.cfg.Note), uint64(h.cfg.Alone))
	return xxh3.Hash(append(b, byte(h.cfg.Self.ID))) | 1
}

// declared reports whether that is on record.
func (h *Host) declared() bool {
	s := h.machine.state()
	for i := range s.Overrides {
		if s.Overrides[i].Nonce == h.declaration() {
			return true
		}
	}
	return false
}
