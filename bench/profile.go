package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/bench/figures"
)

// fileName names what belongs to one turn.
func fileName(contender string, row figures.Row, round int) string {
	name := fmt.Sprintf("%s-%d-%dc-%s-r%d", row.Work, row.Bytes, row.Clients, contender, round)
	return strings.NewReplacer(" ", "-", "/", "-").Replace(name)
}

// profile takes CPU profiles of the servers and of this process while a measurement lasts. Without a
// directory for them it does nothing.
func profile(ctx context.Context, s *settings, c *cluster, name string) error {
	if s.profile == "" {
		return nil
	}
	if err := os.MkdirAll(s.profile, 0o755); err != nil {
		return err
	}
	own, err := os.Create(filepath.Join(s.profile, name+"-client.pprof"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(own); err != nil {
		return errors.Join(err, own.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, url := range c.profiles() {
		url = fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", url, max(1, int(s.measure.Seconds())))
		file := filepath.Join(s.profile, fmt.Sprintf("%s-server%d.pprof", name, i))
		group.Go(func() error { return fetch(ctx, url, file) })
	}
	err = group.Wait()
	pprof.StopCPUProfile()
	return errors.Join(err, own.Close())
}

// fetch saves what a URL answers.
func fetch(ctx context.Context, url, file string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s from %s", response.Status, url)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, response.Body)
	return errors.Join(err, f.Close())
}
