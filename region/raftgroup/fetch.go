package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"

	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// A member whose state file is damaged, but whose log is not, takes the state from another member, all
// numbers big-endian:
//
//	the header:  least index u64, 0 for a state that is confirmed to have all that is committed
//	the answer:  0 | index u64 | term u64 | size u64 | the state | CRC-32C of it u32
//	or:          1 | length u16 | why not
const (
	kindState   = 40
	fetchHeader = 8
	stateHeader = 3 * 8
	fetchRetry  = 500 * time.Millisecond
)

var (
	errNoPeers  = errors.New("there is no other replica to take the state from")
	errRefused  = errors.New("the state was refused")
	errBehind   = errors.New("the state is too far behind")
	errChecksum = errors.New("checksum mismatch")
)

// Fetched is a state in a file.
type Fetched struct {
	// Path is the file, which is the caller's now.
	Path string
	// Index and Term are the position of the state.
	Index, Term uint64
}

// FetchState takes a partition's state from one of peers into a new file in dir, before the group is
// opened. It is for a member that has lost its state but not its log, and so can go on under its name.
// minIndex is the index before the log's first entry: all that the log has no more, the state must
// have. If the log is empty, minIndex is 0, and the state will have everything committed.
//
// It tries until ctx ends. What is fetched is what was sent; the store checks it when it is installed.
// Then call AdoptTerm before New.
func FetchState(
	ctx context.Context, layer *transport.Layer, peers []topology.NodeID, dir string, minIndex uint64,
) (Fetched, error) {
	if len(peers) == 0 {
		return Fetched{}, errNoPeers
	}
	var why error
	for {
		var failures []error
		for _, peer := range peers {
			f, err := fetchFrom(ctx, layer, peer, dir, minIndex)
			if err == nil {
				return f, nil
			}
			failures = append(failures, fmt.Errorf("from node %s: %w", peer, err))
		}
		if ctx.Err() == nil || why == nil { // an attempt that was cut short tells less than the one before
			why = errors.Join(failures...)
		}
		if !pause(ctx, fetchRetry) {
			return Fetched{}, fmt.Errorf("fetch the state: %w: %w", ctx.Err(), why)
		}
	}
}

// AdoptTerm has a log know the term of a state that came from elsewhere.
func AdoptTerm(log *raftlog.Group, term uint64) error {
	have, err := log.GetUint64([]byte(keyTerm))
	if err != nil || have >= term {
		return err
	}
	return log.SetUint64([]byte(keyTerm), term)
}

func fetchFrom(ctx context.Context, layer *transport.Layer, peer topology.NodeID, dir string, minIndex uint64) (f Fetched, err error) {
	c, err := layer.Stream(ctx, peer, kindState, binary.BigEndian.AppendUint64(nil, minIndex))
	if err != nil {
		return f, err
	}
	defer func() { _ = c.Close() }() // it is over
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	conn := guard(c, transferStall)
	size, err := readStateHeader(conn, &f)
	if err != nil {
		return f, err
	}
	if f.Index < minIndex {
		return f, errBehind
	}
	file, err := os.CreateTemp(dir, receivedPrefix+"*.db")
	if err != nil {
		return f, err
	}
	f.Path = file.Name()
	if err := errors.Join(receiveState(file, conn, size), file.Sync(), file.Close()); err != nil {
		return f, errors.Join(err, os.Remove(f.Path))
	}
	return f, nil
}

func readStateHeader(r io.Reader, f *Fetched) (size int64, err error) {
	var head [1 + stateHeader]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return 0, err
	}
	if head[0] != 0 {
		return 0, readRefusal(r)
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return 0, err
	}
	f.Index, f.Term = binary.BigEndian.Uint64(head[1:]), binary.BigEndian.Uint64(head[9:])
	announced := binary.BigEndian.Uint64(head[17:])
	if f.Index >= numberLimit || f.Term >= numberLimit || announced >= sizeLimit {
		return 0, errAbsurd
	}
	return int64(announced), nil
}

func readRefusal(r io.Reader) error {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	text := make([]byte, min(int(binary.BigEndian.Uint16(length[:])), answerBytes))
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errRefused, text)
}

// receiveState copies a state, and checks that it is what was sent.
func receiveState(w io.Writer, r io.Reader, size int64) error {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, sum)}, io.LimitReader(r, size), make([]byte, transferChunk))
	if err != nil {
		return err
	}
	var trailer [4]byte
	if _, err := io.ReadFull(r, trailer[:]); err != nil || n != size {
		return fmt.Errorf("%d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	if binary.BigEndian.Uint32(trailer[:]) != sum.Sum32() {
		return errChecksum
	}
	return nil
}

// serveState sends this member's state to others that have lost theirs, until ctx ends.
func (g *Group) serveState(ctx context.Context) {
	g.layer.HandleStream(kindState, func(from topology.NodeID, header []byte, c net.Conn) {
		network := g.trans()
		if len(header) != fetchHeader || !network.add(c) {
			return
		}
		defer network.remove(c)
		conn := guard(c, transferStall)
		state, err := g.openState(ctx, binary.BigEndian.Uint64(header))
		if err != nil {
			_ = writeRefusal(conn, err) // best effort: the other side tries elsewhere
			return
		}
		sending := g.sends.begin(from, state.size, state)
		err = sendState(conn, state, sending)
		sending.end(errors.Join(err, state.Close()))
	})
	<-ctx.Done()
	g.layer.HandleStream(kindState, nil)
}

// openState opens a state that is far enough.
func (g *Group) openState(ctx context.Context, least uint64) (*snapshotReader, error) {
	if least == 0 {
		if err := g.ConfirmFollower(ctx); err != nil {
			return nil, err
		}
	}
	state, err := g.snapshots.openOutgoing()
	if err != nil {
		return nil, err
	}
	if p := state.position; p.Index < least || p.Index == 0 {
		return nil, errors.Join(fmt.Errorf("%w: it is at %d, not %d", errBehind, p.Index, least), state.Close())
	}
	return state, nil
}

func sendState(w io.Writer, state *snapshotReader, data io.Reader) error {
	head := []byte{0}
	for _, n := range []uint64{state.position.Index, state.position.Term, uint64(state.size)} {
		head = binary.BigEndian.AppendUint64(head, n)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, sum)}, struct{ io.Reader }{data}, make([]byte, transferChunk))
	if err != nil {
		return err
	}
	_, err = w.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

func writeRefusal(w io.Writer, why error) error {
	text := why.Error()
	text = text[:min(len(text), answerBytes)]
	_, err := w.Write(append(binary.BigEndian.AppendUint16([]byte{1}, uint16(len(text))), text...))
	return err
}
