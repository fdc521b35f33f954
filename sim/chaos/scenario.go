package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// answersLate is how long answers between the nodes take where that matters: a heartbeat's is then on
// its way nearly all the time.
const answersLate = 40 * time.Millisecond

// scenario is one way to do harm.
type scenario struct {
	name string
	play func(*stage, context.Context) error
	// inside means that it is played in the first region alone.
	inside bool
	// prepare changes the deployment before its configurations are written, if that is needed.
	prepare func(*deployment, context.Context) error
	// canFail means that there is a build with which it must fail.
	canFail bool
	// full and quick are the sizes of a run.
	full, quick size
}

// size is how much a scenario does.
type size struct {
	// regions is how many there are in a deployment made for the scenario, of so many nodes each; 0 means that the
	// examples are played with.
	regions, nodes int
	partitions     uint
	cycles         int
	clients        int
	operations     int
	replyDelay     time.Duration
	duration       time.Duration
}

func scenarios() []scenario {
	return []scenario{
		{name: "import", play: (*stage).imports},
		{name: "netsplit", play: (*stage).netsplit, prepare: (*deployment).addLinks},
		{
			name: "distance", play: (*stage).distance, prepare: (*deployment).addNet,
			full: size{clients: 64, duration: time.Minute}, quick: size{clients: 64, duration: 10 * time.Second},
		},
		{
			name: "sums", play: (*stage).sumsUp, prepare: (*deployment).addLinks,
			full: size{clients: 96, operations: 1_000_000}, quick: size{clients: 48, operations: 30_000},
		},
		{name: "jetstream", play: (*stage).jetStream, full: size{cycles: 20}, quick: size{cycles: 4}},
		{
			name: "sessions", play: (*stage).sessions, prepare: (*deployment).addLinks,
			full: size{clients: 48, duration: 2 * time.Minute}, quick: size{clients: 12, duration: 12 * time.Second},
		},
		{
			name: "region", play: (*stage).region, prepare: (*deployment).addVoteLinks,
			full:  size{regions: 5, nodes: 1, partitions: 16, clients: 6},
			quick: size{regions: 5, nodes: 1, partitions: 4, clients: 2},
		},
		{
			name: "wipe", play: (*stage).wipe, prepare: (*deployment).addVoteLinks,
			full:  size{regions: 3, nodes: 3, partitions: 16, clients: 16, duration: 30 * time.Second},
			quick: size{regions: 3, nodes: 1, partitions: 4, clients: 8, duration: 10 * time.Second},
		},
		{
			name: "catchup", play: (*stage).catchUp, prepare: (*deployment).addVoteLinks,
			full:  size{regions: 3, nodes: 3, partitions: 16, clients: 64, duration: time.Minute},
			quick: size{regions: 3, nodes: 1, partitions: 4, clients: 32, duration: 20 * time.Second},
		},
		{
			name: "stale", play: (*stage).stale, inside: true, prepare: (*deployment).addLinksInside, canFail: true,
			full: size{partitions: 16, cycles: 60, clients: 48, replyDelay: answersLate}, quick: size{partitions: 16, cycles: 4, clients: 48, replyDelay: answersLate},
		},
		{
			name: "kill", play: (*stage).kill, inside: true,
			full: size{partitions: 16, cycles: 200, clients: 64}, quick: size{partitions: 16, cycles: 4, clients: 64},
		},
		{
			name: "linearizable", play: (*stage).linearizable, inside: true, prepare: (*deployment).addLinksInside,
			full:  size{partitions: 16, clients: 48, operations: 300_000},
			quick: size{partitions: 16, clients: 48, operations: 15_000},
		},
		{
			name: "large", play: (*stage).large, inside: true,
			full:  size{partitions: 4, clients: 1000, cycles: downWrites, duration: largeTime},
			quick: size{partitions: 4, clients: 100, cycles: 16, duration: 2 * time.Second},
		},
		{
			name: "diskfull", play: (*stage).diskFull, inside: true, prepare: (*deployment).mountDisks,
			full:  size{partitions: 16, clients: 32, duration: 10 * time.Second},
			quick: size{partitions: 16, clients: 16, duration: 3 * time.Second},
		},
		{
			name: "corrupt", play: (*stage).corrupt, inside: true,
			full: size{partitions: 16, cycles: 60}, quick: size{partitions: 16, cycles: 6},
		},
	}
}

func scenarioOf(name string) (scenario, bool) {
	for _, s := range scenarios() {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// stage is one run of a scenario.
type stage struct {
	settings   *settings
	deployment *deployment
	out        *report
	// random is what the scenario chooses by; one goroutine uses it.
	random  *rand.Rand
	writers *writers
	kills   []kill
}
