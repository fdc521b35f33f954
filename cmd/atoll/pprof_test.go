package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/atolldb/atoll/internal/loopback"
)

func TestProfilesAreServedOnLoopbackOnly(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	for _, addr := range []string{"0.0.0.0:6060", "10.0.0.1:6060", "example.org:6060", ":6060", "127.0.0.1"} {
		if _, err := servePprof(t.Context(), addr, quiet); err == nil {
			t.Errorf("%s is taken", addr)
		}
	}
	addrs, err := loopback.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := servePprof(t.Context(), addrs[0], quiet)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + addrs[0] + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Contains(text, []byte("servePprof")) {
		t.Errorf("the profile is %q, %v", text, err)
	}
	stop()
	if _, err := client.Get("http://" + addrs[0] + "/debug/pprof/"); err == nil {
		t.Error("it goes on after it was stopped")
	}
}

func TestNoProfilesUnlessAskedFor(t *testing.T) {
	stop, err := servePprof(t.Context(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
}
