package main

import (
	"strings"
	"testing"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/topology"
)

func TestDeclaringDeadIsConfirmed(t *testing.T) {
	c := &topology.Cluster{Regions: []topology.Region{{ID: 1, Name: "eu"}, {ID: 7, Name: "us"}}}
	for _, test := range []struct {
		dead deadRegions
		want membership.RegionSet
		err  string
	}{
		{deadRegions{}, 0, ""},
		{deadRegions{sure: true}, 0, ""},
		{deadRegions{names: []string{"us"}, sure: true}, membership.SetOf(7), ""},
		{deadRegions{names: []string{"us"}}, 0, "cannot be undone"},
		{deadRegions{names: []string{"nowhere"}, sure: true}, 0, "no region"},
	} {
		got, err := test.dead.resolve(c)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) || err == nil && got.Regions != test.want {
			t.Errorf("%+v: %v, %v", test.dead, got.Regions, err)
		}
	}
}
