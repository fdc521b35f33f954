package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// close brings away back, upon which lost is closed, and hears of it.
func (r *regionRun) close(ctx context.Context) error {
	back := time.Now()
	if err := r.deployment.startAll(ctx, r.deployment.of(r.away)); err != nil {
		return err
	}
	r.out.note("%s is back", r.away)
	if _, err := r.awaitStatus(ctx, r.by, closedWithin, r.lost+" is closed", regionIs(r.lost, stateClosed)); err != nil {
		return err
	}
	r.out.figure(r.lost+" is closed", "%s after it was decided, %s after %s was started", ms(time.Since(r.fencedAt)), ms(time.Since(back)), r.away)
	told := time.Now()
	r.deployment.heal()
	patience, cancel := context.WithTimeout(ctx, fenceWithin)
	defer cancel()
	err := until(patience, statusEvery, func(context.Context) (bool, error) {
		_, fenced := r.loads[r.lost].so()
		return fenced > 0, nil
	})
	r.out.check("the region that was given up takes no writes once it hears of it", err)
	r.out.figure(r.lost+" takes no writes", "%s after others could be heard", ms(time.Since(told)))
	return nil
}

// refuseOld checks that lost starts neither under its epoch, nor under another with what it had.
func (r *regionRun) refuseOld(ctx context.Context) error {
	members := r.deployment.of(r.lost)
	for _, m := range members {
		m.crash()
	}
	r.loads[r.lost].finish()
	r.out.check(r.lost+" does not start under its epoch", r.startsNot(ctx, members[0], "must not start under epoch 0"))
	epoch, err := r.comesBack(ctx, r.lost, r.by)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("under epoch %d; the region gets what the others have from them", epoch)
	r.out.check(r.lost+" does not start under a new epoch with what it had", r.startsNot(ctx, members[0], what))
	return nil
}

// startsNot starts a member that has to end by itself, and to say why.
func (r *regionRun) startsNot(ctx context.Context, m *member, why string) error {
	if err := r.deployment.start(m); err != nil {
		return err
	}
	defer m.retire()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	select {
	case <-m.process.ended:
	case <-ctx.Done():
		m.process.kill()
		return fmt.Errorf("%s has started", m.name)
	}
	switch said := tail(m.log); {
	case m.process.err == nil:
		return fmt.Errorf("%s ends as if all were well", m.name)
	case !strings.Contains(said, why):
		return fmt.Errorf("%s does not say %q:%s", m.name, why, said)
	}
	return nil
}

// rejoin has lost come back with nothing, and writes to it.
func (r *regionRun) rejoin(ctx context.Context) error {
	if err := r.startEmpty(ctx, r.lost, r.by); err != nil {
		return err
	}
	r.back = &load{client: r.deployment.clients[r.lost], region: r.lost, series: again, deletes: true}
	r.back.start(ctx, r.settings.clients)
	defer r.back.finish()
	return pause(ctx, togetherTime)
}

// judge ends the load, and looks what is where.
func (r *regionRun) judge(ctx context.Context) error {
	want := members{}
	acked, unknown, refused := 0, 0, 0
	for _, region := range names(r.loads) {
		t := r.loads[region].finish()
		if region != r.lost {
			t.expect(want)
		}
		acked, unknown, refused = acked+len(t.acked), unknown+len(t.perhaps), refused+t.refused
	}
	anew := r.back.finish()
	anew.expect(want)
	r.out.figure("writes", "%d acknowledged, %d unknown, %d not done", acked+len(anew.acked), unknown, refused)
	r.out.figure("acknowledged by "+r.lost+" after it came back", "%d", len(anew.acked))
	before := r.loads[r.lost].finish()
	kept, lost := split(before.acked, r.shipped)
	r.out.figure("acknowledged by "+r.lost+" before", "%d had been shipped and must be kept, %d had not and are given up", kept, lost)
	r.out.figure("events of it that only "+r.away+" had", "%d", r.alone)
	want = want.with(names(r.shipped), nil)
	took, err := r.converge(ctx, convergeWithin)
	r.out.check("all regions have equal vectors and digests", err)
	if err == nil {
		r.out.figure("regions equal after the last write", "%s", ms(took))
	}
	for _, region := range r.deployment.regions {
		found, err := namesIn(ctx, r.deployment.clients[region])
		if err != nil {
			return fmt.Errorf("what %s has: %w", region, err)
		}
		r.out.check(fmt.Sprintf("%s has the %d writes that it must have, and none that it must not", region, len(want)), compareNames(region, found, want))
	}
	if kept == 0 || lost == 0 || r.alone == 0 || len(anew.acked) == 0 || anew.refused > 0 {
		r.out.check("every kind of write was made", errors.New("one of the figures is 0, or writes were refused after it came back"))
	}
	return nil
}

// split counts which of all are and are not among some.
func split(all, some map[string]bool) (are, not int) {
	for name := range all {
		if some[name] {
			are++
		} else {
			not++
		}
	}
	return are, not
}

// compareNames returns in what a region differs from what it must have.
func compareNames(region string, found, want members) error {
	var f faults
	compareSets(&f, region, found, want)
	return f.err()
}

// regionOf returns which region's write has that name.
func regionOf(name string) string {
	region, _, _ := strings.Cut(name, "/")
	return region
}
