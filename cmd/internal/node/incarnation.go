package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/region/raftlog"
)

// minReplicasToRejoin is from how many replicas on the others can do without one that has lost its log.
const minReplicasToRejoin = 3

// openLog opens the node's log. A damaged one is set aside: with it are gone the votes that this node
// gave and entries that it helped to acknowledge, so the node goes on as another member of its groups,
// which the others take in, and bring up to date, in the place of the one before. Where there are too
// few others the damage is returned.
func (n *Node) openLog(replicas int) error {
	path := n.dir.file("log")
	options := raftlog.Options{Logger: n.cfg.Logger, OnFailure: n.fail}
	var err error
	if n.incarnation, err = n.dir.incarnation(); err != nil {
		return err
	}
	n.log, err = raftlog.Open(path, options)
	var damage *raftlog.CorruptError
	if !errors.As(err, &damage) || replicas < minReplicasToRejoin {
		return err
	}
	n.cfg.Logger.Error("the log is damaged; this node gives it up and joins its groups anew", "log", path, "err", err)
	// The number first: under the old one an empty log must not vote.
	n.incarnation++
	if err := n.dir.setIncarnation(n.incarnation); err != nil {
		return errors.Join(damage, err)
	}
	if err := os.RemoveAll(path + damagedSuffix); err != nil {
		return errors.Join(damage, fmt.Errorf("set the damaged log aside: %w", err))
	}
	if err := os.Rename(path, path+damagedSuffix); err != nil {
		return errors.Join(damage, fmt.Errorf("set the damaged log aside: %w", err))
	}
	n.log, err = raftlog.Open(path, options)
	return err
}

// incarnation returns how often the node has lost its log.
func (d *dataDir) incarnation() (uint32, error) {
	data, err := os.ReadFile(d.file("incarnation"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read incarnation: %w", err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: the file incarnation is damaged: %w", ErrForeignDataDir, err)
	}
	return uint32(number), nil
}

func (d *dataDir) setIncarnation(number uint32) error {
	return d.writeFile("incarnation", strconv.AppendUint(nil, uint64(number), 10))
}
