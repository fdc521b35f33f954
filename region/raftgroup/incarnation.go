package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/topology"
)

// A member's log holds its votes and what it has acknowledged. Who has lost that is not the same member
// any more: were it to vote again under its name, a leader could be elected that lacks what was
// acknowledged. So a server's name is its node's, with the number of the incarnation from the second
// one on. Its address stays the node's name. Who knows only of an older incarnation goes on asking
// at that address; it is not taken in, because the answers of later incarnations end in their number, u32.

const (
	keyIncarnation = "Incarnation"
	serverMark     = "~"
	signatureBytes = 4
)

var (
	errOtherLog    = errors.New("the log is that of another incarnation of this node")
	errOtherSigner = errors.New("another incarnation of the node has answered")
)

// serverID names an incarnation of a node.
func serverID(node topology.NodeID, incarnation uint32) raft.ServerID {
	if incarnation == 0 {
		return raft.ServerID(node)
	}
	return raft.ServerID(string(node) + serverMark + strconv.FormatUint(uint64(incarnation), 10))
}

// incarnationOf returns which incarnation of the node at an address a server is.
func incarnationOf(id raft.ServerID, node raft.ServerAddress) (incarnation uint32, ok bool) {
	rest, ok := strings.CutPrefix(string(id), string(node))
	if !ok || rest == "" {
		return 0, ok
	}
	digits, ok := strings.CutPrefix(rest, serverMark)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || serverID(topology.NodeID(node), uint32(n)) != id {
		return 0, false
	}
	return uint32(n), true
}

// ClaimLog checks that a log is an incarnation's, or makes it so if nothing is in it. A later
// incarnation must claim its log before AdoptTerm, and before New.
func ClaimLog(log *raftlog.Group, incarnation uint32) error {
	have, err := log.GetUint64([]byte(keyIncarnation))
	if err != nil || have == uint64(incarnation) {
		return err
	}
	term, err := log.GetUint64([]byte(keyTerm))
	if err != nil {
		return err
	}
	if have != 0 || term != 0 || log.LastIndex() != 0 {
		return fmt.Errorf("%w: it is of incarnation %d, not %d", errOtherLog, have, incarnation)
	}
	return log.SetUint64([]byte(keyIncarnation), uint64(incarnation))
}

// signed has answers end in who gave them.
func signed(reply func([]byte, error), incarnation uint32) func([]byte, error) {
	if incarnation == 0 {
		return reply
	}
	return func(answer []byte, err error) { reply(binary.BigEndian.AppendUint32(answer, incarnation), err) }
}

// unsign returns an answer if it is from the server that was asked. Only later incarnations sign, and
// what else is in an answer has its length.
func unsign(answer []byte, id raft.ServerID, address raft.ServerAddress) ([]byte, error) {
	incarnation, ok := incarnationOf(id, address)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %s at %s", errOtherSigner, id, address)
	case incarnation == 0:
		return answer, nil
	case len(answer) < signatureBytes || binary.BigEndian.Uint32(answer[len(answer)-signatureBytes:]) != incarnation:
		return nil, fmt.Errorf("%w, not %s", errOtherSigner, id)
	}
	return answer[:len(answer)-signatureBytes], nil
}
