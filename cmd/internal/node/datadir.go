package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/topology"
)

// The layout of a data directory:
//
//	LOCK            held by the running server
//	identity.json   whose directory this is
//	incarnation     how often the log was lost; absent for never
//	log/            the Raft logs of all partitions
//	log.damage      what is wrong with the log; the next start does without it
//	partitions/     one state file per partition
//	membership      what this region's vote knows to be decided about regions
//	membership.heard  the same, as others told it
//	nats/           JetStream of the embedded NATS server; may be deleted while the server is stopped
//	tmp/            snapshots on their way in; emptied at start
//	*.damaged       what was found damaged and replaced; nothing reads it again

// ErrDataDirLocked means that another server runs on the data directory.
var ErrDataDirLocked = errors.New("the data directory is in use by another server")

// ErrForeignDataDir means that the data directory belongs to another node or deployment.
var ErrForeignDataDir = errors.New("the data directory belongs to another node or deployment")

// OverError means that the data directory has what the region wrote under an earlier epoch. It matches ErrForeignDataDir.
type OverError struct {
	Path        string
	Had, Wanted topology.Epoch
}

// Error says what to do.
func (e *OverError) Error() string {
	return fmt.Sprintf("%s has what its region had under epoch %d, which is over: set it aside for salvage, and start with an empty data_dir "+
		"under epoch %d; the region gets what the others have from them", e.Path, e.Had, e.Wanted)
}

// Unwrap makes it match ErrForeignDataDir.
func (e *OverError) Unwrap() error { return ErrForeignDataDir }

// dataDir is a locked data directory.
type dataDir struct {
	path string
	lock *os.File
}

// identity says whose directory it is. What it holds must never change under the data.
type identity struct {
	Cluster    string            `json:"cluster"`
	Region     string            `json:"region"`
	RegionID   topology.RegionID `json:"region_id"`
	Node       topology.NodeID   `json:"node"`
	Partitions uint32            `json:"partitions"`
	// Epoch is in the names of all events that the region has issued.
	Epoch topology.Epoch `json:"epoch"`
	// Nodes and ReplicationFactor say who votes in which group. Were they to change under a group that
	// has voted, two sets of nodes could elect two leaders.
	Nodes             []topology.NodeID `json:"nodes"`
	ReplicationFactor int               `json:"replication_factor"`
}

func (i *identity) String() string {
	return fmt.Sprintf("cluster %s, region %s (id %d, epoch %d), node %s, %d partitions, replication factor %d, nodes %v",
		i.Cluster, i.Region, i.RegionID, i.Epoch, i.Node, i.Partitions, i.ReplicationFactor, i.Nodes)
}

// openDataDir creates the directory if it is absent, locks it, and checks that it is this node's.
func openDataDir(path string, want identity) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = errors.Join(d.Close(), err)
		return nil, fmt.Errorf("%w: %s: stop it, or give this server a data_dir of its own (%w)", ErrDataDirLocked, path, err)
	}
	if err := errors.Join(d.identify(want), d.emptyTemp()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// identify compares the directory's identity with want, or writes it into a new directory.
func (d *dataDir) identify(want identity) error {
	data, err := os.ReadFile(d.file("identity.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(d.file("log")); err == nil {
			return fmt.Errorf("%w: %s has data but no identity.json; restore that file or use an empty directory", ErrForeignDataDir, d.path)
		}
		return d.writeIdentity(want)
	}
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	var have identity
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%w: identity.json is damaged: %w", ErrForeignDataDir, err)
	}
	if earlier := have.Epoch; earlier < want.Epoch {
		have.Epoch = want.Epoch
		if reflect.DeepEqual(have, want) {
			return &OverError{Path: d.path, Had: earlier, Wanted: want.Epoch}
		}
		have.Epoch = earlier
	}
	if !reflect.DeepEqual(have, want) {
		return fmt.Errorf("%w: %s is of %v; the configuration says %v; correct data_dir, or set back in the configuration "+
			"what cannot change in this version", ErrForeignDataDir, d.path, &have, &want)
	}
	return nil
}

func (d *dataDir) writeIdentity(want identity) error {
	data, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	return d.writeFile("identity.json", data)
}

// writeFile writes a small file whole or not at all, and syncs it.
func (d *dataDir) writeFile(name string, data []byte) error {
	temp := d.file(name + ".new")
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(temp, d.file(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := syncDir(d.path); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// emptyTemp removes what a crash left of snapshots on their way in.
func (d *dataDir) emptyTemp() error {
	if err := os.RemoveAll(d.file("tmp")); err != nil {
		return fmt.Errorf("empty tmp: %w", err)
	}
	for _, sub := range []string{"tmp", "partitions"} {
		if err := os.MkdirAll(d.file(sub), 0o700); err != nil {
			return fmt.Errorf("create %s: %w", sub, err)
		}
	}
	return nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) partitionFile(p topology.PartitionID) string {
	return filepath.Join(d.path, "partitions", fmt.Sprintf("%04d.db", p))
}

// Close gives up the lock.
func (d *dataDir) Close() error { return d.lock.Close() }
