package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestTallySaysWhatMustAndMayBeThere(t *testing.T) {
	tally := newTally()
	tally.added("a", time.Second, nil)
	tally.added("b", time.Second, fmt.Errorf("late: %w", client.ErrOutcomeUnknown))
	tally.added("c", time.Second, client.ErrFenced)
	tally.added("d", time.Second, client.ErrUnavailable)
	for _, name := range []string{"deleted", "perhaps", "stays"} {
		tally.added(name, time.Second, nil)
	}
	tally.removed("deleted", nil)
	tally.removed("perhaps", client.ErrOutcomeUnknown)
	tally.removed("stays", client.ErrFenced)
	want := members{}
	tally.expect(want)
	if got := fmt.Sprint(want); got != "map[a:true b:false perhaps:false stays:true]" {
		t.Errorf("expected are %s", got)
	}
	if tally.refused != 3 || tally.fenced != 2 {
		t.Errorf("%d refused, %d of them fenced", tally.refused, tally.fenced)
	}
	for _, c := range []struct {
		found map[string]bool
		want  string
	}{
		{map[string]bool{"a": true, "stays": true}, ""},
		{map[string]bool{"a": true, "stays": true, "b": true, "perhaps": true}, ""},
		{map[string]bool{"stays": true}, `eu lacks "a"`},
		{map[string]bool{"a": true, "stays": true, "deleted": true}, `eu has "deleted"`},
		{map[string]bool{"a": true, "stays": true, "c": true}, `eu has "c"`},
	} {
		if err := compareNames("eu", c.found, want); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("found %v: %v, want %q", c.found, err, c.want)
		}
	}
}

func TestWritesAreToldApartByRegion(t *testing.T) {
	all := map[string]bool{"eu/first/0/1": true, "eu/again/1/1": true, "eu2/first/0/1": true, "no name": true}
	if got := ofRegion(all, "eu"); len(got) != 2 || !got["eu/first/0/1"] || !got["eu/again/1/1"] {
		t.Errorf("of eu are %v", got)
	}
	if are, not := split(all, map[string]bool{"eu/first/0/1": true, "other": true}); are != 1 || not != 3 {
		t.Errorf("%d and %d", are, not)
	}
}

func TestBeyondCountsWhatOneAloneHas(t *testing.T) {
	one := []uint64{7, 3, 5}
	if n := beyond(one, [][]uint64{{5, 9, 5}, {6, 0, 0}}); n != 1 {
		t.Errorf("beyond others are %d", n)
	}
	if n := beyond(one, nil); n != 15 {
		t.Errorf("beyond nobody are %d", n)
	}
}

func TestOnlyLateMessagesAboutPartitionsAreCounted(t *testing.T) {
	partition := uint32(2)
	status := &atollv1.StatusResponse{Refused: []*atollv1.Refused{
		{Source: "us", Partition: &partition, Reason: "given-up", Count: 3},
		{Partition: &partition, Reason: "other-actor", Count: 4},
		{Source: "us", Reason: "given-up", Count: 100}, // ticks
		{Source: "us", Partition: &partition, Reason: "damaged", Count: 1000},
	}}
	if n := refusals(status); n != 7 {
		t.Errorf("%d were late", n)
	}
}

func TestStatesAreReadOffTheMembership(t *testing.T) {
	status := &atollv1.StatusResponse{Membership: &atollv1.Membership{Members: []*atollv1.Member{{Region: "eu", State: "FENCED"}}}}
	if !regionIs("eu", stateFenced)(status) || regionIs("eu", stateClosed)(status) || regionIs("us", stateFenced)(status) {
		t.Error("the state of eu is read wrong")
	}
}

func TestAProcessThatMustNotStartEndsAndSaysWhy(t *testing.T) {
	r := &regionRun{stage: &stage{deployment: &deployment{settings: &settings{}}}}
	for _, c := range []struct{ program, why, want string }{
		{"false", "", ""},
		{"false", "something", "does not say"},
		{"true", "", "as if all were well"},
	} {
		r.deployment.settings.atoll = c.program
		m := &member{name: "m", log: filepath.Join(t.TempDir(), "log")}
		if err := r.startsNot(context.Background(), m, c.why); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.program, err, c.want)
		}
		if m.process != nil {
			t.Errorf("%s is still thought to run", c.program)
		}
	}
	r.deployment.settings.atoll = "/nonexistent"
	if err := r.startsNot(context.Background(), &member{log: filepath.Join(t.TempDir(), "log")}, ""); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a program that cannot be started: %v", err)
	}
}

func TestAMemberThatEndedByItselfIsNamed(t *testing.T) {
	m := &member{name: "eu-1", log: filepath.Join(t.TempDir(), "log")}
	var err error
	if m.process, err = start(m.log, "sh", "-c", "echo no disk; exit 3"); err != nil {
		t.Fatal(err)
	}
	<-m.process.ended
	if err := stillRun([]*member{m}); err == nil || !strings.Contains(err.Error(), "eu-1 ended") || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("a member that ended: %v", err)
	}
	if err := stillRun(nil); err != nil {
		t.Error(err)
	}
}
