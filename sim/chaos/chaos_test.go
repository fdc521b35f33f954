package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const examples = "../../examples/three-regions"

func TestExamplesAreOneDeployment(t *testing.T) {
	configs, err := loadConfigs(examples)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(examples, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if len(configs) != 9 {
		t.Errorf("%d configurations", len(configs))
	}
	cluster := configs[0].GetCluster()
	if cluster.GetName() != "three-regions" || cluster.GetPartitions() != 16 || len(cluster.GetRegions()) != 3 {
		t.Errorf("the cluster is %v", cluster)
	}
	for _, c := range configs {
		if c.GetCluster().String() != cluster.String() {
			t.Errorf("%s describes another cluster than %s", c.GetNode(), configs[0].GetNode())
		}
		if want := "run/" + c.GetNode() + "/data"; c.GetDataDir() != want {
			t.Errorf("%s keeps its data in %s, not %s", c.GetNode(), c.GetDataDir(), want)
		}
	}
	for _, r := range cluster.GetRegions() {
		for _, n := range r.GetNodes() {
			row := fmt.Sprintf("| %s | %s (%d) | %s | %s | %s | %s |\n", n.GetName(), r.GetName(), r.GetId(),
				n.GetApi(), n.GetRaft(), n.GetNats(), n.GetNatsCluster())
			if !strings.Contains(string(readme), row) {
				t.Errorf("README.md lacks the row %s", row)
			}
		}
	}
}

func TestDeploymentHasPortsAndDirectoriesOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	d, err := newDeployment(context.Background(), &settings{configs: examples}, dir)
	if err != nil {
		t.Fatal(err)
	}
	written, err := loadConfigs(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range written[0].GetCluster().GetRegions() {
		for _, n := range r.GetNodes() {
			for _, addr := range []string{n.GetApi(), n.GetRaft(), n.GetNats(), n.GetNatsCluster()} {
				if seen[addr] || !strings.HasPrefix(addr, "127.0.0.1:") {
					t.Errorf("%s of %s is used twice or not on loopback", addr, n.GetName())
				}
				seen[addr] = true
			}
		}
	}
	for _, c := range written {
		if c.GetCluster().String() != written[0].GetCluster().String() || c.GetDataDir() != filepath.Join(dir, c.GetNode()) {
			t.Errorf("configuration of %s: %v", c.GetNode(), c)
		}
	}
	if len(d.members) != 9 || len(d.of("us")) != 3 || d.partitions != 16 {
		t.Errorf("the deployment has %d members, %d in us, %d partitions", len(d.members), len(d.of("us")), d.partitions)
	}
}

func TestNetsplitGoesThroughLinks(t *testing.T) {
	d, err := newDeployment(context.Background(), &settings{configs: examples, scenario: scenarioNamed(t, "netsplit")}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = d.run(context.Background(), func(context.Context) error {
		if len(d.links) != 18 {
			t.Errorf("%d links, want one per reading region and node of another", len(d.links))
		}
		checkURLs(t, d)
		d.cut("ap")
		for _, l := range d.links {
			if l.IsCut() != (l.from == "ap" || l.to == "ap") {
				t.Errorf("link %s to %s: cut is %v", l.from, l.to, l.IsCut())
			}
		}
		d.heal()
		for _, l := range d.links {
			if l.IsCut() {
				t.Errorf("link %s to %s is cut after healing", l.from, l.to)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func checkURLs(t *testing.T, d *deployment) {
	t.Helper()
	links := map[string]link{}
	for _, l := range d.links {
		links["nats://"+l.Addr()] = l
	}
	for _, m := range d.members {
		for _, r := range m.config.GetCluster().GetRegions() {
			if r.GetName() == m.region && len(r.GetNatsUrls()) != 0 {
				t.Errorf("%s reads its own region through links", m.name)
			}
			for _, url := range r.GetNatsUrls() {
				if l := links[url]; l.Link == nil || l.from != m.region || l.to != r.GetName() {
					t.Errorf("%s reads %s at %s", m.name, r.GetName(), url)
				}
			}
		}
	}
}

func TestProbeKeysReachEveryPartition(t *testing.T) {
	for p, keys := range findKeys([]string{"eu", "us"}, 16) {
		for _, key := range []string{keys.counter, keys.set, keys.register["eu"], keys.register["us"]} {
			if got := topology.PartitionOf("default", key, 16); int(got) != p {
				t.Errorf("%s is in partition %d, not %d", key, got, p)
			}
		}
	}
}

func TestLongestGap(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	acks := []time.Time{at(100), at(200), at(290), at(900), at(1000)}
	for _, c := range []struct {
		name             string
		begin, end, want int
	}{
		{"in the middle", 250, 1000, 610},
		{"at the beginning", 310, 1000, 590},
		{"none before", 50, 280, 100},
		{"reaches to the end", 1050, 2000, 950},
		{"none at all", 1, 99, 98},
	} {
		if got := longestGap(acks, at(c.begin), at(c.end)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: %v, want %d ms", c.name, got, c.want)
		}
	}
}

func TestLedgerBecomesExpectation(t *testing.T) {
	keys := probeKeys{counter: "c", set: "s", register: map[string]string{"eu": "r-eu", "us": "r-us", "ap": "r-ap"}}
	writerOf := func(region string, l ledger) *writer {
		w := &writer{region: region, keys: keys}
		w.mu.ledger = l
		return w
	}
	w := &writers{all: []*writer{
		writerOf("eu", ledger{added: 3, elements: []string{"a", "b"}, register: "eu-2"}),
		writerOf("us", ledger{added: 4, perhaps: 2, elementsMaybe: []string{"b", "c"}, register: "us-2", registerMaybe: []string{"us-5"}}),
		writerOf("ap", ledger{registerMaybe: []string{"ap-2"}}),
	}}
	e := w.expectation()
	if got := e.counters["c"]; got != (bounds{7, 9}) {
		t.Errorf("counter %v", got)
	}
	if got := fmt.Sprint(e.sets["s"]); got != "map[a:true b:true c:false]" {
		t.Errorf("set %s", got)
	}
	if got := fmt.Sprint(e.registers); got != "map[r-eu:[eu-2] r-us:[us-5 us-2]]" {
		t.Errorf("registers %s", got)
	}
}

func TestExpectCities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cities.json")
	const text = `[{"country": "AD", "name": "Vila"}, {"country":"AD","name":"Vila"}, {"country":"FR","name":"Vila"}, {"country":"FR","name":"Left out"}]`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	records, err := loadCities(file, 3)
	if err != nil {
		t.Fatal(err)
	}
	e, err := expectCities(records)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(names(e.registers)); got != "[city/AD/Vila/0 city/AD/Vila/1 city/FR/Vila/0]" {
		t.Errorf("keys %s", got)
	}
	if got := e.registers["city/AD/Vila/0"][0]; got != `{"country":"AD","name":"Vila"}` {
		t.Errorf("value %s", got)
	}
	if e.counters["cities/AD"] != (bounds{2, 2}) || e.counters["cities/FR"] != (bounds{1, 1}) {
		t.Errorf("counters %v", e.counters)
	}
	if got := fmt.Sprint(e.sets); got != "map[names/AD:map[Vila:true] names/FR:map[Vila:true]]" {
		t.Errorf("sets %s", got)
	}
	if _, err := expectCities([]json.RawMessage{[]byte(`7`)}); err == nil {
		t.Error("a record that is no object passed")
	}
}

func TestCompareSetsNamesWhatIsWrong(t *testing.T) {
	want := members{"must": true, "may": false}
	for _, c := range []struct {
		found members
		want  string
	}{
		{members{"must": true}, ""},
		{members{"must": true, "may": true}, ""},
		{members{"may": true}, `lacks "must"`},
		{members{"must": true, "ghost": true}, `has "ghost"`},
	} {
		var f faults
		compareSets(&f, "s", c.found, want)
		if err := f.err(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("found %v: %v, want %q", c.found, err, c.want)
		}
	}
}

func TestCompareDigestsNamesWhatDiffers(t *testing.T) {
	reply := func(change func(*atollv1.PartitionDigest)) *atollv1.DigestResponse {
		p := &atollv1.PartitionDigest{
			Vector: []*atollv1.VectorEntry{{Region: "us", Seq: 2, Hlc: 7}, {Region: "eu", Seq: 1}},
			Digest: make([]byte, 16),
		}
		change(p)
		return &atollv1.DigestResponse{Partitions: []*atollv1.PartitionDigest{p}}
	}
	same := func(*atollv1.PartitionDigest) {}
	for _, c := range []struct {
		name   string
		change func(*atollv1.PartitionDigest)
		want   string
	}{
		{"equal", same, ""},
		{"in another order, with a clock and a region never heard of", func(p *atollv1.PartitionDigest) {
			p.Vector = []*atollv1.VectorEntry{{Region: "eu", Seq: 1}, {Region: "ap"}, {Region: "us", Seq: 2, Hlc: 9}}
		}, ""},
		{"behind", func(p *atollv1.PartitionDigest) { p.Vector[0].Seq = 1 }, "us/0:1"},
		{"equal vectors, other state", func(p *atollv1.PartitionDigest) { p.Digest[3] = 1 }, "equal vectors"},
		{"no digest", func(p *atollv1.PartitionDigest) { p.Digest = nil }, "0 bytes"},
		{"an error", func(p *atollv1.PartitionDigest) { p.Error = &atollv1.Error{Message: "no leader"} }, "no leader"},
	} {
		err := compareDigests([]string{"eu", "us"}, 1, map[string]*atollv1.DigestResponse{"eu": reply(same), "us": reply(c.change)})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	err := compareDigests([]string{"eu"}, 2, map[string]*atollv1.DigestResponse{"eu": reply(same)})
	if err == nil {
		t.Error("a missing partition passed")
	}
}

func TestReportFailsOnOneFailedCheckAndOnNone(t *testing.T) {
	none := &report{out: io.Discard}
	if none.finish() {
		t.Error("a run without checks passed")
	}
	good := &report{out: io.Discard}
	good.check("a", nil)
	if !good.finish() {
		t.Error("a good run failed")
	}
	bad := &report{out: io.Discard}
	bad.check("a", errors.New("no"))
	bad.check("b", nil)
	if bad.finish() {
		t.Error("a failed check passed")
	}
}

func TestProcessesAreStartedKilledAndStopped(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := start(log, "sh", "-c", "echo hello; exec sleep 100")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() error {
		if !strings.Contains(tail(log), "hello") {
			return errors.New("its output is not in the log")
		}
		return nil
	})
	if _, err := p.cpuNow(); err != nil {
		t.Error(err)
	}
	p.kill()
	if p.running() || p.err == nil || p.used().peakRSS <= 0 {
		t.Errorf("after kill -9: running %v, error %v, used %+v", p.running(), p.err, p.used())
	}
	if p, err = start(log, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.01; done"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() error { // the trap is set once it has used some CPU
		if used, err := p.cpuNow(); err != nil || used == 0 {
			return fmt.Errorf("used %v, %w", used, err)
		}
		return nil
	})
	if err := p.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := start(log, "/nonexistent"); err == nil {
		t.Error("a program that does not exist was started")
	}
}
