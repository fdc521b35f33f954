// Package loopback finds addresses on this machine that a deployment can listen on.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports are below those that kernels give to outgoing connections (from 32768 on): one of these may
// be taken by a connection between the moment it is chosen and the moment somebody listens on it, or
// while its owner is restarted.
const (
	firstPort = 10000
	lastPort  = 31999
)

const ports = lastPort - firstPort + 1

// first is where this process begins to look, at random, so that processes that look at once hardly ever find the
// same; looked is how many ports it has looked at.
var (
	first  = rand.IntN(ports)
	looked atomic.Int64
)

// Free returns n different host:port addresses on which nothing listened just now, and which this process was not
// given lately: somebody may be about to listen there.
func Free(n int) (addrs []string, err error) {
	for i := 0; i < ports && len(addrs) < n; i++ {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+(int64(first)+looked.Add(1))%ports)
		listener, listenErr := net.Listen("tcp", addr)
		if listenErr != nil {
			continue // taken
		}
		if closeErr := listener.Close(); closeErr != nil {
			return nil, fmt.Errorf("find a free port: %w", closeErr)
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) < n {
		return nil, errors.New("find a free port: none is left on loopback")
	}
	return addrs, nil
}
