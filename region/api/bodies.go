package api

import (
	"errors"
	"net/http"

	"golang.org/x/sync/semaphore"
)

const (
	// bodyBytes bounds the bodies of unary requests that a node holds at once. A request waits until its
	// body fits, before any of it is read: a thousand clients with large values take turns.
	bodyBytes = 96 << 20
	// Bodies smaller than this are not counted: they are held for a moment, and counting costs more.
	smallBody = 32 << 10
	// bodyCopies is how often a body is in memory at once: as it came, decoded, and on its way on.
	bodyCopies = 3
)

// boundBodies returns a handler that has large bodies wait for their turn. Streams have no length of
// their own, and bounds of their own.
func boundBodies(next http.Handler) http.Handler {
	places := semaphore.NewWeighted(bodyBytes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < smallBody {
			next.ServeHTTP(w, r)
			return
		}
		weight := min(bodyCopies*r.ContentLength, bodyBytes)
		if err := places.Acquire(r.Context(), weight); err != nil {
			// The client is gone, or its time is over: nobody hears why.
			http.Error(w, errors.Join(errNoTurn, err).Error(), http.StatusServiceUnavailable)
			return
		}
		defer places.Release(weight)
		next.ServeHTTP(w, r)
	})
}

var errNoTurn = errors.New("the node holds as many large requests as it may")
