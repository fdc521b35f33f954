package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// aloneTime is how long the region that will be lost is heard by one other only, and then by none.
	aloneTime = 1500 * time.Millisecond
	// foundWithin bounds the founding of the membership, closedWithin and activeWithin a closing and a joining.
	foundWithin  = time.Minute
	fenceWithin  = time.Minute
	closedWithin = 2 * time.Minute
	activeWithin = 4 * time.Minute
	// staysFenced is how long it is watched that nothing is closed without the region that is down.
	staysFenced = 3 * time.Second
	lateWithin  = time.Minute
)

// regionRun loses a region while another is down, and has it come back.
type regionRun struct {
	*stage
	// lost is the region that is given up, away the one that is down meanwhile, by the one that is asked to decide.
	lost, away, by string
	// others are all but lost and away.
	others []string
	loads  map[string]*load
	back   *load
	// shipped are the writes of lost that some other region had when lost was given up.
	shipped map[string]bool
	alone   uint64
	// fencedAt is when it was decided to give it up.
	fencedAt time.Time
}

// region plays the scenario of the same name.
func (s *stage) region(ctx context.Context) error {
	r := &regionRun{stage: s, loads: map[string]*load{}, shipped: map[string]bool{}}
	order := s.random.Perm(len(s.deployment.regions))
	r.lost, r.away = s.deployment.regions[order[0]], s.deployment.regions[order[1]]
	for _, i := range order[2:] {
		r.others = append(r.others, s.deployment.regions[i])
	}
	r.by = r.others[0]
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	if err := s.founded(ctx); err != nil {
		return err
	}
	for _, region := range s.deployment.regions {
		l := &load{client: s.deployment.clients[region], region: region, series: "first", deletes: region != r.lost}
		l.start(ctx, s.settings.clients)
		defer l.finish()
		r.loads[region] = l
	}
	s.out.note("all regions are written to; %s will be lost while %s is down", r.lost, r.away)
	for _, step := range []func(context.Context) error{r.separate, r.giveUp, r.comeLate, r.close, r.refuseOld, r.rejoin, r.judge} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.reportUse(ctx)
}

// founded waits until all regions know that all are active.
func (s *stage) founded(ctx context.Context) error {
	for _, region := range s.deployment.regions {
		_, err := s.awaitStatus(ctx, region, foundWithin, "all regions are active", func(status *atollv1.StatusResponse) bool {
			members := status.GetMembership().GetMembers()
			return len(members) == len(s.deployment.regions) &&
				!slices.ContainsFunc(members, func(m *atollv1.Member) bool { return m.GetState() != stateActive })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// separate has lost write what only away has, then what nobody has, and stops it.
func (r *regionRun) separate(ctx context.Context) error {
	d := r.deployment
	if err := pause(ctx, togetherTime); err != nil {
		return err
	}
	for _, other := range r.others {
		d.cutBetween(r.lost, other)
		d.cutBetween(r.away, other)
	}
	if err := pause(ctx, aloneTime); err != nil {
		return err
	}
	d.cutBetween(r.lost, r.away)
	if err := pause(ctx, aloneTime); err != nil {
		return err
	}
	if err := signalAll(d.of(r.lost), syscall.SIGSTOP); err != nil {
		return err
	}
	d.deafen(r.lost, true)
	acked, _ := r.loads[r.lost].so()
	had, err := r.rest(ctx, r.away, r.lost)
	if err != nil {
		return err
	}
	var have [][]uint64
	for _, other := range append([]string{r.away}, r.others...) {
		if other != r.away {
			at, err := r.rest(ctx, other, r.lost)
			if err != nil {
				return err
			}
			have = append(have, at)
		}
		found, err := namesIn(ctx, d.clients[other])
		if err != nil {
			return fmt.Errorf("what %s has: %w", other, err)
		}
		maps.Copy(r.shipped, ofRegion(found, r.lost))
	}
	r.alone = beyond(had, have)
	r.out.note("%s is stopped with %d writes acknowledged; others have %d of them, and %s alone has %d events of it", r.lost, acked, len(r.shipped), r.away, r.alone)
	for _, m := range d.of(r.away) {
		m.crash()
	}
	r.out.note("%s is down", r.away)
	return nil
}

// ofRegion returns the names of a region's writes.
func ofRegion(names map[string]bool, region string) map[string]bool {
	found := map[string]bool{}
	for name := range names {
		if regionOf(name) == region {
			found[name] = true
		}
	}
	return found
}

func signalAll(members []*member, s syscall.Signal) error {
	for _, m := range members {
		if err := m.process.signal(s); err != nil {
			return fmt.Errorf("%v to %s: %w", s, m.name, err)
		}
	}
	return nil
}

// giveUp fences lost. Nothing is closed as long as away is down.
func (r *regionRun) giveUp(ctx context.Context) error {
	asked := time.Now()
	if err := r.fence(ctx, r.lost, r.by); err != nil {
		return err
	}
	r.fencedAt = time.Now()
	r.out.figure("decided to give "+r.lost+" up, with "+r.away+" down", "%s after it was asked for", ms(r.fencedAt.Sub(asked)))
	_, err := r.awaitStatus(ctx, r.by, fenceWithin, "only "+r.away+" is waited for", func(s *atollv1.StatusResponse) bool {
		return regionIs(r.lost, stateFenced)(s) && slices.Equal(memberIn(s, r.lost).GetWaiting(), []string{r.away})
	})
	return err
}

// comeLate continues lost, which knows nothing of what was decided, and takes writes. What it sends must be refused.
func (r *regionRun) comeLate(ctx context.Context) error {
	before, _ := r.loads[r.lost].so()
	refused := map[string]uint64{}
	for _, other := range r.others {
		var err error
		if refused[other], err = r.refusedIn(ctx, other); err != nil {
			return err
		}
		r.deployment.healBetween(r.lost, other)
		r.deployment.healBetween(r.away, other)
	}
	if err := signalAll(r.deployment.of(r.lost), syscall.SIGCONT); err != nil {
		return err
	}
	began := time.Now()
	patience, cancel := context.WithTimeout(ctx, lateWithin)
	defer cancel()
	counts := map[string]uint64{}
	err := until(patience, statusEvery, func(ctx context.Context) (bool, error) {
		if err := stillRun(r.deployment.of(r.lost)); err != nil {
			return false, err
		}
		for _, other := range r.others {
			now, err := r.refusedIn(ctx, other)
			if err != nil {
				return false, err
			}
			counts[other] = now - refused[other]
		}
		acked, _ := r.loads[r.lost].so()
		return acked > before && least(counts) > 0 && time.Since(began) > staysFenced, nil
	})
	r.out.check("every other region refuses what the region that was given up sends late", err)
	if err := stillRun(r.deployment.of(r.lost)); err != nil {
		return err
	}
	for _, other := range r.others {
		r.out.figure("late messages refused in "+other, "%d", counts[other])
	}
	acked, fenced := r.loads[r.lost].so()
	r.out.figure("acknowledged by "+r.lost+" while it did not know", "%d", acked-before)
	if fenced > 0 {
		r.out.check(r.lost+" is kept from knowing", fmt.Errorf("it has refused %d writes", fenced))
	}
	status, err := r.deployment.clients[r.by].Status(ctx)
	if err == nil && !regionIs(r.lost, stateFenced)(status) {
		err = fmt.Errorf("it is %v", memberIn(status, r.lost))
	}
	r.out.check(r.lost+" is not closed while "+r.away+", which may have something of it, is down", err)
	return nil
}

// stillRun returns an error if a member has ended by itself.
func stillRun(members []*member) error {
	for _, m := range members {
		if !m.process.running() {
			return fmt.Errorf("%s ended: %w%s", m.name, m.process.err, tail(m.log))
		}
	}
	return nil
}

func least(counts map[string]uint64) uint64 {
	return slices.Min(slices.Collect(maps.Values(counts)))
}
