package world

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/region"
)

// Plan is everything that is decided about a schedule before it runs. The same plan gives the same run.
type Plan struct {
	Seed                       uint64
	Regions, Partitions, Nodes int
	Rates                      Rates
	// Types are those of the values that are written to.
	Types []crdt.Type
	// HotKeys says how many writes out of ten go to the hot keys; all others are to many cold ones.
	HotKeys int
	// Expiry says that values expire, too.
	Expiry bool
	// Length is how long there are writes and faults.
	Length time.Duration
	// Skew bounds how wrong clocks are from the beginning.
	Skew time.Duration
	// Core are the regions that are healed first, a majority; the others stay broken then.
	Core []int
	// Happenings are the writes and faults, in order.
	Happenings []Happening
	// Quota bounds outboxes, in bytes; 0 for as much as the program has.
	Quota uint64
	// Fold says what of outboxes is folded; nil for as the program does, which is nothing of what so few writes make.
	Fold *region.FoldBounds
	// Relay says that regions soon ask each other for what an origin does not give. In all other plans only its return helps,
	// so that errors do not hide behind repairs.
	Relay bool
	// Membership says that regions are given up, and come back under other epochs; Returns that all of them have in the end.
	Membership, Returns bool
	// Homes says that a namespace has a home, at first in region FirstHome; Unhomed is until when clients write there without
	// knowing so, in some regions for longer than in others.
	Homes     bool
	FirstHome int
	Unhomed   time.Duration
	// small makes buffers and merges small, so that they fill.
	small bool
	// operation draws what is written, if it is not nil.
	operation func(w *World, rng *rand.Rand) operation
}

// Rates say how often things go wrong by chance, as probabilities.
type Rates struct {
	Loss, Duplicate, Reorder, Flip float64 // of a frame between regions
	PublishLost, AckLost           float64 // of a publication
	NotDone, Unknown               float64 // of a proposal in a region
	Lag                            float64 // of a follower, at an entry
	Flush                          float64 // of a replica, at an entry
}

// Kind says what happens.
type Kind int

// What happens in a schedule.
const (
	Write Kind = iota
	WriteHome
	ChangeLeader
	Crash
	CrashRegion
	FallBehind
	InstallSnapshot
	Cut
	CutOneWay
	Isolate
	Flap
	Clog
	Deafen
	StopStream
	PurgeStream
	TruncateStream
	RecreateStream
	JumpClock
	RestoreRegion
	Fence
	Drain
	Rejoin
	MoveHome
	kinds
)

var kindNames = [kinds]string{
	"write", "write at a home", "leader change", "node crash", "region crash", "replica lag", "snapshot", "netsplit",
	"one-way netsplit", "isolation", "flapping", "swizzle-clog", "half-open stream", "stream down", "stream purged",
	"stream rolled back", "stream recreated", "clock jump", "region restored from an old copy",
	"region given up", "region leaving", "region coming back", "move of a home",
}

// String returns the kind in words.
func (k Kind) String() string { return kindNames[k] }

// disasters are what half of the schedules do without.
var disasters = []Kind{CrashRegion, PurgeStream, TruncateStream, RecreateStream, RestoreRegion}

// Happening is one write or fault. What its numbers mean depends on its kind.
type Happening struct {
	At                           time.Duration
	Kind                         Kind
	Site, Other, Node, Partition int
	For                          time.Duration
	// Draw is a seed for what is decided when it happens, so that leaving out another changes nothing here.
	Draw uint64
}

const (
	leastLength, mostLength = 3 * time.Second, 14 * time.Second
	leastWrites, mostWrites = 20, 120
	mostFaults              = 24
)

// Draw returns the plan of a seed.
func Draw(seed uint64) *Plan {
	rng := rand.New(rand.NewPCG(seed, 0xa7011))
	p := &Plan{
		Seed: seed, Regions: 2 + skewed(rng, 4), Partitions: 1, Nodes: 2, HotKeys: 2 + rng.IntN(8),
		Length: leastLength + time.Duration(rng.Int64N(int64(mostLength-leastLength))),
		Expiry: rng.IntN(3) == 0, small: rng.IntN(4) == 0,
	}
	if rng.IntN(6) == 0 {
		p.Partitions = 2
	}
	if rng.IntN(5) == 0 {
		p.Nodes = 1 + 2*rng.IntN(2)
	}
	if rng.IntN(2) == 0 {
		p.Skew = 2 * time.Second
	}
	p.Types = drawTypes(rng)
	p.Rates = drawRates(rng)
	p.Core = rng.Perm(p.Regions)[:p.Regions/2+1]
	slices.Sort(p.Core)
	p.drawHappenings(rng)
	if rng.IntN(4) == 0 {
		p.Quota = 300 + uint64(rng.IntN(2500))
	}
	if rng.IntN(3) == 0 {
		p.Fold = drawFolding(rng)
	}
	p.Relay = rng.IntN(3) == 0
	p.drawMembership()
	p.drawHomes()
	return p
}

// drawFolding draws bounds of folding so small that the outbox of a region that is away for some seconds is folded, and
// its runs again.
func drawFolding(rng *rand.Rand) *region.FoldBounds {
	window := 2 + rng.IntN(8)
	return &region.FoldBounds{
		FromBytes: uint64(rng.IntN(600)), KeepBytes: uint64(rng.IntN(200)), KeepEvents: uint64(rng.IntN(4)),
		KeepAge: time.Duration(rng.Int64N(int64(time.Second))), WindowBytes: uint64(window) * 100, WindowPairs: window,
		InputBytes: 4000, InputPairs: 4 + rng.IntN(30), RunBytes: 500 + rng.IntN(4000),
	}
}

// transfers reports whether regions take over states, so that they hear how far third ones are.
func (p *Plan) transfers() bool { return p.Quota > 0 || p.Relay || p.Membership }

// skewed draws a number below n, small ones more often.
func skewed(rng *rand.Rand, n int) int { return min(rng.IntN(n), rng.IntN(n)) }

// writable are the types whose values are written to.
var writable = []crdt.Type{
	crdt.TypeLWWRegister, crdt.TypeCounter, crdt.TypeAWSet, crdt.TypeMVRegister, crdt.TypeBoundedCounter, crdt.TypeEWFlag,
	crdt.TypeMaxRegister, crdt.TypeMinRegister, crdt.TypeLWWMap, crdt.TypeORMap, crdt.TypeZSet, crdt.TypeCounterZSet,
	crdt.TypeHLL, crdt.TypeTimeline,
}

func drawTypes(rng *rand.Rand) []crdt.Type {
	var types []crdt.Type
	for _, t := range writable {
		if rng.IntN(2) == 0 {
			types = append(types, t)
		}
	}
	if len(types) == 0 {
		types = append(types, writable[rng.IntN(len(writable))])
	}
	return types
}

func drawRates(rng *rand.Rand) Rates {
	some := func(most float64) float64 {
		if rng.IntN(2) == 0 {
			return 0
		}
		return most * rng.Float64()
	}
	return Rates{
		Loss: some(0.3), Duplicate: some(0.5), Reorder: some(0.4), Flip: some(0.1),
		PublishLost: some(0.2), AckLost: some(0.2), NotDone: some(0.1), Unknown: some(0.15),
		Lag: some(0.3), Flush: 0.02 + some(0.1),
	}
}

func (p *Plan) drawHappenings(rng *rand.Rand) {
	var on []Kind
	calm := rng.IntN(2) == 0
	for k := ChangeLeader; k < Fence; k++ {
		if rng.IntN(2) == 0 && !(calm && slices.Contains(disasters, k)) {
			on = append(on, k)
		}
	}
	for range leastWrites + rng.IntN(mostWrites-leastWrites) {
		p.Happenings = append(p.Happenings, p.drawHappening(rng, Write))
	}
	restored := false
	for range rng.IntN(mostFaults) {
		if len(on) == 0 {
			break
		}
		h := p.drawHappening(rng, on[rng.IntN(len(on))])
		if h.Kind == RestoreRegion {
			// One that is restored is of no use any more: the others must be a majority.
			if restored || p.Regions < 3 {
				continue
			}
			restored = true
		}
		p.Happenings = append(p.Happenings, h)
	}
	slices.SortStableFunc(p.Happenings, func(a, b Happening) int { return cmp.Compare(a.At, b.At) })
}

func (p *Plan) drawHappening(rng *rand.Rand, k Kind) Happening {
	h := Happening{
		At: time.Duration(rng.Int64N(int64(p.Length))), Kind: k, Site: rng.IntN(p.Regions), Node: rng.IntN(p.Nodes),
		Partition: rng.IntN(p.Partitions), For: 50*time.Millisecond + time.Duration(rng.ExpFloat64()*float64(1500*time.Millisecond)),
		Draw: rng.Uint64(),
	}
	h.Other = (h.Site + 1 + rng.IntN(p.Regions-1)) % p.Regions
	return h
}
