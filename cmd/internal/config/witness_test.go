package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The witness is named like a node, and is none.
func TestTheWitnessIsNoNode(t *testing.T) {
	const good = `node: third
data_dir: d
cluster:
  name: two
  witness: {name: third, address: "h:9"}
  regions:
    - {name: eu, id: 1, membership: "h:1", nodes: [{name: eu-1, api: "h:2", raft: "h:3", nats: "h:4"}]}
    - {name: us, id: 2, membership: "h:5", nodes: [{name: us-1, api: "h:6", raft: "h:7", nats: "h:8"}]}
`
	load := func(text string) (*Config, error) {
		file := filepath.Join(t.TempDir(), "w.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(file, Overrides{}, func(string) string { return "" })
	}
	c, err := load(good)
	if err != nil || !c.IsWitness() || c.Node != nil || c.Cluster.Witness.Address != "h:9" {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := load(strings.Replace(good, "node: third", "node: us-1", 1)); err != nil || c.IsWitness() {
		t.Errorf("a node of a region: %+v, %v", c, err)
	}
	for what, bad := range map[string]string{
		"has the name of a node":    strings.ReplaceAll(good, "third", "us-1"),
		"has the address of a vote": strings.Replace(good, "h:9", "h:5", 1),
		"has no port":               strings.Replace(good, "h:9", "h", 1),
		"and nobody else votes":     strings.NewReplacer(`membership: "h:1", `, "", `membership: "h:5", `, "").Replace(good),
		"is not who is named":       strings.Replace(good, "node: third", "node: fourth", 1),
	} {
		if c, err := load(bad); err == nil {
			t.Errorf("a witness that %s is taken: %+v", what, c)
		}
	}
}
