package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	checkpointVersion  = 1
	maxCheckpointBytes = 1 << 20
)

// checkpoint is what a run leaves for the next one, as JSON in a file. It says nothing of the input's
// bytes: the next run reads the input from the beginning, and makes the same batches of it.
type checkpoint struct {
	Version int `json:"version"`
	// Input identifies the input and the settings; Run is the random part of the operation ids.
	Input string `json:"input"`
	Run   string `json:"run"`
	// Low is the first batch not acknowledged; Done are those above it that are.
	Low  int64   `json:"low"`
	Done []int64 `json:"done,omitempty"`
	// Last is the last record that batches below Low cover.
	Last     int64     `json:"last"`
	Progress progress  `json:"progress"`
	Saved    time.Time `json:"saved"`
}

// MismatchError says that a checkpoint is of another import.
type MismatchError struct{ Path string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("checkpoint %s is of another import: the input or the flags have changed since", e.Path)
}

// CheckpointError says that a checkpoint cannot be used.
type CheckpointError struct {
	Path string
	Err  error
}

func (e *CheckpointError) Error() string { return fmt.Sprintf("checkpoint %s: %v", e.Path, e.Err) }

// Unwrap returns what is wrong with it.
func (e *CheckpointError) Unwrap() error { return e.Err }

// loadCheckpoint returns nil if there is no file at path.
func loadCheckpoint(path, input string) (*checkpoint, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &CheckpointError{path, err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCheckpointBytes))
	if err != nil {
		return nil, &CheckpointError{path, err}
	}
	var c checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, &CheckpointError{path, err}
	}
	if c.Version != checkpointVersion {
		return nil, &CheckpointError{path, fmt.Errorf("version %d is not known, only %d is", c.Version, checkpointVersion)}
	}
	if c.Input != input {
		return nil, &MismatchError{path}
	}
	if c.Low < 0 || len(c.Done) > windowSpan || c.Run == "" {
		return nil, &CheckpointError{path, errors.New("its content makes no sense")}
	}
	return &c, nil
}

// save replaces the file at path in one step: after a crash there is the old or the new one.
func (c *checkpoint) save(path string) (err error) {
	data, err := json.Marshal(c)
	if err != nil {
		return &CheckpointError{path, err}
	}
	defer func() {
		if err != nil {
			err = &CheckpointError{path, err}
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func removeCheckpoint(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &CheckpointError{path, err}
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
