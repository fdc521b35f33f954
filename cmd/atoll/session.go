package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/client"
)

// maxSessionBytes is more than the largest token has.
const maxSessionBytes = 16 << 10

// sessionFile returns the file of the session that this command is part of; empty if it is part of none.
func (a *app) sessionFile() string {
	if a.flags.session != "" {
		return a.flags.session
	}
	return a.getenv("ATOLL_SESSION")
}

// openSession goes on with the session in the file, or begins one if there is no file yet.
func (a *app) openSession() error {
	path := a.sessionFile()
	if path == "" || a.session != nil {
		return nil
	}
	token, err := readSession(path)
	if err != nil {
		return fmt.Errorf("read session: %w", err)
	}
	if a.session, err = client.ResumeSession(token); err != nil {
		return withHint(&usageError{err: fmt.Errorf("%s: %w", path, err)}, "remove the file to begin another session")
	}
	a.kept = token
	return nil
}

func readSession(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSessionBytes))
}

// keepSession puts what the session has seen meanwhile into its file, whole or not at all.
func (a *app) keepSession() error {
	if a.session == nil || bytes.Equal(a.session.Bytes(), a.kept) {
		return nil
	}
	path := a.sessionFile()
	f, err := os.CreateTemp(filepath.Dir(path), ".session-*")
	if err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	_, err = f.Write(a.session.Bytes())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep session: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
