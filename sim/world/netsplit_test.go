package world

import (
	"flag"
	"testing"
	"time"
)

var netsplit = flag.Duration("netsplit", time.Hour, "how long the long netsplit lasts")

func TestLongNetsplit(t *testing.T) {
	n := Netsplit{Seed: 1, Regions: 3, Length: *netsplit, Every: 20 * time.Second}
	res := newRunner(t).RunNetsplit(n, nil)
	if res.Failure != nil {
		t.Fatal(res.Failure)
	}
	t.Log(&res)
	if res.Faster < 10 || res.Counts.Compared == 0 || res.OutboxEntries == 0 {
		t.Errorf("%.1f times faster: %+v", res.Faster, res)
	}
}
