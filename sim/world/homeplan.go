package world

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// drawHomes gives a fifth of the plans a namespace with a home, which moves.
func (p *Plan) drawHomes() {
	rng := rand.New(rand.NewPCG(p.Seed, 0x40e5))
	if p.Membership && rng.IntN(2) > 0 || !p.Membership && rng.IntN(7) > 0 {
		return
	}
	p.Homes, p.FirstHome = true, rng.IntN(p.Regions)
	if rng.IntN(2) == 0 {
		p.Unhomed = time.Duration(rng.Int64N(int64(p.Length / 2)))
	}
	// A region that is restored from an old copy has lost what it did as home, until people give it a new epoch.
	p.Happenings = slices.DeleteFunc(p.Happenings, func(h Happening) bool { return h.Kind == RestoreRegion })
	for range 15 + rng.IntN(40) {
		p.Happenings = append(p.Happenings, p.drawHappening(rng, WriteHome))
	}
	for range rng.IntN(7) {
		p.Happenings = append(p.Happenings, p.drawHappening(rng, MoveHome))
	}
	if rng.IntN(2) == 0 {
		p.drawMovesInARow(rng)
	}
	switch {
	case p.Membership && rng.IntN(2) == 0:
		p.drawLastRegion(rng)
	case p.Membership && rng.IntN(2) == 0:
		p.drawReturn(rng)
	}
	slices.SortStableFunc(p.Happenings, func(a, b Happening) int { return cmp.Compare(a.At, b.At) })
}

// drawMovesInARow has a home move on soon after it has moved, to a region that hears late of what the first one wrote.
func (p *Plan) drawMovesInARow(rng *rand.Rand) {
	h := p.drawHappening(rng, MoveHome)
	if h.At /= 2; p.Regions > 2 && rng.IntN(4) > 0 {
		h.Other = (p.FirstHome + 1 + rng.IntN(p.Regions-1)) % p.Regions
	}
	next := h
	next.Other, next.Draw = (h.Other+1+rng.IntN(p.Regions-1))%p.Regions, rng.Uint64()
	next.At += time.Duration(rng.Int64N(int64(time.Second)))
	late := h
	late.Kind, late.Site, late.Other, late.For = Cut, p.FirstHome, next.Other, 2*h.For+time.Second
	late.At += time.Duration(rng.Int64N(int64(200 * time.Millisecond)))
	for _, h := range []Happening{h, next, late} {
		if h.At = min(h.At, p.Length-1); h.Kind != Cut || h.Site != h.Other {
			p.Happenings = append(p.Happenings, h)
		}
	}
	for i := range 4 { // writes while the one knows, and the other does not
		w := p.drawHappening(rng, WriteHome)
		w.At = min(h.At+time.Duration(i)*h.For/3, p.Length-1)
		p.Happenings = append(p.Happenings, w)
	}
}

// drawReturn has the first home given up and come back, while one region lacks what it wrote last, and another that has that
// is hard to reach.
func (p *Plan) drawReturn(rng *rand.Rand) {
	home := p.FirstHome
	others := rng.Perm(p.Regions)
	others = slices.DeleteFunc(others, func(i int) bool { return i == home })
	lags, has := others[0], others[1]
	at := p.Length/5 + time.Duration(rng.Int64N(int64(p.Length/5)))
	add := func(k Kind, site, other int, at, lasts time.Duration) {
		h := p.drawHappening(rng, k)
		h.Site, h.Other, h.At, h.For = site, other, min(max(at, 0), p.Length-1), lasts
		p.Happenings = append(p.Happenings, h)
	}
	add(Cut, home, lags, at-time.Second, 6*time.Second)
	for i := range 6 {
		add(WriteHome, home, has, at-time.Duration(i)*100*time.Millisecond, 0)
	}
	add(Fence, home, has, at, 0)
	add(Rejoin, home, has, at+300*time.Millisecond, 0)
	closed := at + 500*time.Millisecond + time.Duration(rng.Int64N(int64(2*time.Second)))
	add(Cut, has, home, closed, 5*time.Second)
	if rng.IntN(2) == 0 {
		add(Cut, has, lags, closed-time.Second, 5*time.Second)
	}
	for i := range 8 {
		add(WriteHome, home, has, closed+time.Duration(i)*400*time.Millisecond, 0)
	}
}

// drawLastRegion has all regions but one given up, and that one take the home over.
func (p *Plan) drawLastRegion(rng *rand.Rand) {
	last := rng.IntN(p.Regions)
	p.Returns = p.Returns && rng.IntN(2) == 0
	p.Happenings = slices.DeleteFunc(p.Happenings, func(h Happening) bool { return h.Kind == Rejoin && rng.IntN(4) > 0 })
	for i := range p.Regions {
		h := p.drawHappening(rng, Fence)
		h.Site, h.Other = i, last
		if rng.IntN(3) == 0 {
			h.Kind = Drain
		}
		if h.At = p.Length/5 + h.At/2; i == last {
			h.Kind, h.At = MoveHome, p.Length/2+h.At/4
		}
		p.Happenings = append(p.Happenings, h)
	}
}

// omitHomes makes the plan one without homes.
func (p *Plan) omitHomes() {
	p.Homes = false
	p.Happenings = slices.DeleteFunc(p.Happenings, func(h Happening) bool { return h.Kind == WriteHome || h.Kind == MoveHome })
}
