package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/region/raftlog"
)

const (
	// minReplicasToRejoin is from how many replicas on the others can do without one that has lost its log.
	minReplicasToRejoin = 3
	// damageNote is the file that says what is wrong with the log, if that showed after it was opened.
	damageNote = "log.damage"
)

var errGivenUp = errors.New("the log is damaged; the next start gives it up and joins the groups anew")

// openLog opens the log of a directory's node. A damaged one is set aside: with it are gone the votes that this node
// gave and entries that it helped to acknowledge, so the node goes on as another member of its groups, the next
// incarnation, which the others take in, and bring up to date, in the place of the one before. Where there are too
// few others, as said by replicas, the damage is returned.
func (d *dataDir) openLog(replicas int, options raftlog.Options) (log *raftlog.Log, incarnation uint32, err error) {
	path := d.file("log")
	if incarnation, err = d.incarnation(); err != nil {
		return nil, 0, err
	}
	why, err := os.ReadFile(d.file(damageNote))
	switch {
	case err == nil:
		err = errors.New(string(bytes.TrimSpace(why)))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("read what is wrong with the log: %w", err)
	default:
		if log, err = raftlog.Open(path, options); !canRejoin(replicas, err) {
			return log, incarnation, err
		}
	}
	options.Logger.Error("the log is damaged; this node gives it up and joins its groups anew", "log", path, "err", err)
	incarnation++
	if err := d.giveUpLog(path, incarnation); err != nil {
		return nil, 0, fmt.Errorf("set the damaged log aside: %w", err)
	}
	log, err = raftlog.Open(path, options)
	return log, incarnation, err
}

// canRejoin reports whether an error is damage of the log that the other replicas can make good.
func canRejoin(replicas int, err error) bool {
	var damage *raftlog.CorruptError
	return errors.As(err, &damage) && replicas >= minReplicasToRejoin
}

// giveUpLog moves the log out of the way, for the next incarnation. A crash at any point of it leads to another
// incarnation more.
func (d *dataDir) giveUpLog(path string, incarnation uint32) error {
	// The number first: under the old one an empty log must not vote.
	if err := d.writeFile("incarnation", strconv.AppendUint(nil, uint64(incarnation), 10)); err != nil {
		return err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(path + damagedSuffix); err != nil {
			return err
		}
		if err := os.Rename(path, path+damagedSuffix); err != nil {
			return err
		}
	}
	if err := os.Remove(d.file(damageNote)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(d.path)
}

// joined returns an error as long as a group has not taken in this incarnation of the node.
func (n *Node) joined() error {
	waiting := 0
	for _, g := range n.groups {
		if !g.Joined() {
			waiting++
		}
	}
	if waiting > 0 {
		return fmt.Errorf("%d partitions of this node have not taken it in yet, after it lost its log", waiting)
	}
	return nil
}

// noteDamage returns an error that ended the node. If it says that the log is damaged, and the other
// replicas can make that good, the next start gives up the log, and the error is errGivenUp as well.
func (n *Node) noteDamage(err error) error {
	if n.dir == nil || !canRejoin(n.cfg.Cluster.Replicas(n.region), err) {
		return err
	}
	if failed := n.dir.writeFile(damageNote, []byte(err.Error())); failed != nil {
		return errors.Join(err, failed)
	}
	return fmt.Errorf("%w: %w", errGivenUp, err)
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
