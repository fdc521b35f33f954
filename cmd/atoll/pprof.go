package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

const pprofHeaderTimeout = 5 * time.Second

// servePprof serves Go's profiles below /debug/pprof/ on an address of their own, until the function it
// returns is called. Profiles ask nobody who they are, so the address has to be a loopback one. An empty
// address means none.
func servePprof(ctx context.Context, addr string, logger *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("ATOLL_PPROF: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("ATOLL_PPROF: %s is not a loopback address, such as 127.0.0.1:6060", addr)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("ATOLL_PPROF: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: pprofHeaderTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ErrServerClosed
	}()
	logger.Info("serving profiles", "addr", listener.Addr().String())
	return func() {
		_ = server.Close() // a profile under way is cut off: the node is stopping
		<-ended
	}, nil
}
