package restart

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
)

var (
	restarts = flag.Int("restarts", 20, "how often nodes are restarted")
	seed     = flag.Uint64("seed", 1, "which nodes, how, and when")
)

// checkEvery is after how many restarts the replicas are compared.
const checkEvery = 25

// Whatever is stopped and crashed, one node, two or all: all replicas end with the same bytes, outbox
// included, and with what was acknowledged, once each.
func TestReplicasAgreeAfterRestarts(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 0))
	c := newCluster(t)
	k := &clients{c: c}
	ctx, cancel := context.WithCancel(t.Context())
	wait := k.run(ctx)
	ended := map[string]int{}
	for done := 0; done < *restarts && !t.Failed(); {
		before := done / checkEvery
		kind, nodes := c.harm(rng, ended)
		done += nodes
		if done/checkEvery != before || done >= *restarts {
			k.settle()
		}
		if done%100 < nodes {
			t.Logf("%d restarts, the last %s, %d writes", done, kind, k.done.Load())
		}
	}
	cancel()
	wait()
	t.Logf("%v; %d writes acknowledged, %d local ones in doubt", ended, k.done.Load(), k.doubt.Load())
	c.end(c.nodes, (*node).stop)
}

// harm restarts one node or more at a random moment.
func (c *cluster) harm(rng *rand.Rand, ended map[string]int) (kind string, nodes int) {
	c.t.Helper()
	victims := slices.Clone(c.nodes)
	rng.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	pause(time.Duration(rng.IntN(60)) * time.Millisecond)
	end, count := (*node).crash, 1
	kind = "crash"
	switch pick := rng.IntN(20); {
	case pick < 6:
		kind, end = "stop", (*node).stop
	case pick < 9:
		kind = "crash of the leader"
		slices.SortStableFunc(victims, func(a, b *node) int { return b.leads() - a.leads() })
	case pick < 11:
		kind, count = "crash of two", 2
	case pick < 13:
		kind, count = "crash of all", 3
	}
	victims = victims[:count]
	c.end(victims, end)
	pause(time.Duration(rng.IntN(40)) * time.Millisecond)
	for _, n := range victims {
		c.start(n)
	}
	ended[kind] += count
	return kind, count
}

func (n *node) leads() int {
	if leading, _ := n.partition.Leadership(); leading {
		return 1
	}
	return 0
}

func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// settle pauses the clients until all replicas agree, and compares them with what was acknowledged.
func (k *clients) settle() {
	k.c.t.Helper()
	k.pause.Lock()
	defer k.pause.Unlock()
	testkit.Eventually(k.c.t, patient, func() error {
		for _, n := range k.c.nodes {
			if s := n.queue.Stats(); s.Writes > 0 {
				return fmt.Errorf("node %s has %d local writes", n.id, s.Writes)
			}
		}
		return nil
	})
	// One more write, so that all are at a command's entry.
	k.write(k.c.t.Context(), addition("settled", 1))
	var least uint64
	for _, n := range k.c.nodes {
		least = max(least, n.machine.Position().Index)
	}
	testkit.Eventually(k.c.t, patient, func() error { return k.c.agree(least) })
	for _, n := range k.c.nodes {
		if err := k.check(n.partition); err != nil {
			k.c.t.Errorf("node %s: %v", n.id, err)
		}
	}
}
