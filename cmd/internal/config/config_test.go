package config

import (
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"buf.build/go/protoyaml"

	"github.com/atolldb/atoll/crdt"
	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
	"github.com/atolldb/atoll/topology"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

func noEnv(string) string { return "" }

// TestFaultsNameTheirLines compares the whole message of every bad file with its golden file.
func TestFaultsNameTheirLines(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if name == "good" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c, err := Load(file, Overrides{}, noEnv)
			var invalid *InvalidError
			if c != nil || !errors.As(err, &invalid) {
				t.Fatalf("got %v, %v", c, err)
			}
			golden(t, name, err.Error()+"\n")
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	// protobuf varies the spaces of its messages on purpose; the golden files have plain ones.
	got = strings.ReplaceAll(got, "\u00a0", " ")
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestGoodFile(t *testing.T) {
	c, err := Load("testdata/good.yaml", Overrides{}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster.Partitions != DefaultPartitions || c.Region.Name != "eu" || c.Node.ID != "eu-1" || c.Node.NATSCluster != "127.0.0.1:7483" {
		t.Errorf("got %+v", c)
	}
	if c.NATS.MaxStoreBytes != DefaultMaxStoreMiB<<20 || c.LogLevel != slog.LevelInfo || c.MaxProcs != 8 {
		t.Errorf("defaults: %+v", c)
	}
	want := []topology.Namespace{{Name: "carts", Type: crdt.TypeAWSet}, {Name: "plays", Type: crdt.TypeCounterZSet}}
	if !slices.Equal(c.Cluster.Namespaces, want) {
		t.Errorf("namespaces are %+v", c.Cluster.Namespaces)
	}
	if err := c.Cluster.Validate(); err != nil {
		t.Error(err)
	}
}

// TestExampleOfNamespaces: the example in the documents is part of a configuration, and every type that there is
// can be given.
func TestExampleOfNamespaces(t *testing.T) {
	page, err := os.ReadFile("../../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(page), "```yaml\n")
	example, _, end := strings.Cut(example, "```")
	if !ok || !end {
		t.Fatal("no example")
	}
	server := &configv1.Server{}
	if err := protoyaml.Unmarshal([]byte(example), server); err != nil {
		t.Fatal(err)
	}
	namespaces := Cluster(server.GetCluster()).Namespaces
	if len(namespaces) < 2 {
		t.Errorf("namespaces %v", namespaces)
	}
	for _, n := range namespaces {
		if !n.Type.Valid() {
			t.Errorf("%+v", n)
		}
	}
	for of := crdt.TypeLWWRegister; of.Valid(); of++ {
		n := &configv1.Namespace{Name: "n", Type: of.String()}
		if err := protovalidate.Validate(n); err != nil {
			t.Errorf("%v: %v", of, err)
		}
	}
}

func TestGoodFileOfTheOtherRegion(t *testing.T) {
	c, err := Load("testdata/good.yaml", Overrides{}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	us, ok := c.Cluster.RegionNamed("us")
	if !ok || us.ID != 2 || us.Epoch != 1 || us.NATSURLs[0] != "nats://user:hidden@us.example:4222" {
		t.Errorf("us is %+v", us)
	}
}

func TestEffectiveShowsNoSecrets(t *testing.T) {
	c, err := Load("testdata/good.yaml", Overrides{}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	effective, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(effective), "hidden") {
		t.Error("the effective configuration shows a password")
	}
	golden(t, "effective", string(effective))
}

func TestEffectiveIsAConfiguration(t *testing.T) {
	c, err := Load("testdata/good.yaml", Overrides{}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	effective, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(path, effective, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, Overrides{}, noEnv); err != nil {
		t.Error(err)
	}
}

func TestFlagBeforeEnvironmentBeforeFile(t *testing.T) {
	env := map[string]string{"ATOLL_NODE": "eu-2", "ATOLL_LOG_LEVEL": "warn", "ATOLL_DATA_DIR": "elsewhere"}
	c, err := Load("testdata/good.yaml", Overrides{Node: "eu-3", LogLevel: "debug"}, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if c.Node.ID != topology.NodeID("eu-3") || c.LogLevel != slog.LevelDebug || c.DataDir != "elsewhere" {
		t.Errorf("got node %s, level %v, dir %s", c.Node.ID, c.LogLevel, c.DataDir)
	}
}

// A file shared by all nodes leaves node and data_dir to the flags.
func TestFlagsFillWhatTheFileLeavesOut(t *testing.T) {
	data, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shared := strings.NewReplacer("node: eu-1\n", "", "data_dir: data/eu-1\n", "").Replace(string(data))
	path := filepath.Join(t.TempDir(), "shared.yaml")
	if err := os.WriteFile(path, []byte(shared), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, Overrides{}, noEnv); err == nil {
		t.Error("a file without a node passed")
	}
	c, err := Load(path, Overrides{Node: "us-1", DataDir: "d", NATSURL: "nats://tok@h:4222"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if c.Region.Name != "us" || c.NATS.URL != "nats://tok@h:4222" {
		t.Errorf("got %+v", c)
	}
	if out, err := c.Effective(); err != nil || strings.Contains(string(out), "tok@") {
		t.Errorf("the token shows: %s, %v", out, err)
	}
}

// A fault in a value from outside blames its origin, not a line of the file.
func TestFaultsOfOverridesBlameTheirOrigin(t *testing.T) {
	env := map[string]string{"ATOLL_LOG_LEVEL": "loud", "ATOLL_NATS_URL": "http://h"}
	_, err := Load("testdata/good.yaml", Overrides{Node: "eu-9"}, func(k string) string { return env[k] })
	if err == nil {
		t.Fatal("no fault")
	}
	golden(t, "overrides", err.Error()+"\n")
}

func TestFileFaults(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml"), Overrides{}, noEnv); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	var invalid *InvalidError
	if _, err := Load(huge, Overrides{}, noEnv); !errors.As(err, &invalid) {
		t.Errorf("huge file: %v", err)
	}
	if _, err := Load(dir, Overrides{}, noEnv); err == nil {
		t.Error("a directory passed")
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decode("f.yaml", data, nil)
		if err != nil {
			return
		}
		// What decodes without a fault must be a deployment that topology accepts.
		if _, err := convert(s); err != nil {
			t.Errorf("checked, but %v", err)
		}
	})
}

// A home is a region's name, of registers.
func TestHomesAreChecked(t *testing.T) {
	cluster := &configv1.Cluster{Regions: []*configv1.Region{{Id: 7, Name: "eu"}}}
	for _, n := range []struct {
		home, of string
		good     bool
	}{{"eu", "register", true}, {"", "set", true}, {"us", "register", false}, {"eu", "set", false}} {
		c := &checker{}
		c.home(cluster, &configv1.Namespace{Home: n.home, Type: n.of}, path{}.field("home"))
		if good := len(c.violations) == 0; good != n.good {
			t.Errorf("%+v: %v", n, c.violations)
		}
	}
	cluster.Namespaces = []*configv1.Namespace{{Name: "locks", Type: "register", Home: "eu"}}
	if got := Cluster(cluster).Namespaces[0].Home; got != 7 {
		t.Errorf("home is %d", got)
	}
}
