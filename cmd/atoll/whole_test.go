package main

import (
	"testing"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestEventsWithoutANumberAreNamedByTheirRegion(t *testing.T) {
	for want, e := range map[string]*atollv1.Event{
		"eu":     {Region: "eu"},
		"eu/2":   {Region: "eu", Epoch: 2},
		"eu#7":   {Region: "eu", Seq: 7},
		"eu/2#7": {Region: "eu", Epoch: 2, Seq: 7},
	} {
		if got := event(e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNumbersAreShown(t *testing.T) {
	rights := []client.RegionRights{{Region: "eu", Rights: 2}, {Region: "us", Rights: 5}}
	for want, v := range map[string]client.Value{
		"7 (eu may take 2, us 5)": {Type: client.TypeBoundedCounter, Counter: 7, Rights: rights},
		"3":                       {Type: client.TypeBoundedCounter, Counter: 3},
		"-4":                      {Type: client.TypeMin, Counter: -4},
		"9":                       {Type: client.TypeMax, Counter: 9},
	} {
		if got := shown(v, 100); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
