package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"buf.build/go/protoyaml"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
	"github.com/atolldb/atoll/topology"
)

// maxFileBytes bounds a configuration file; one of 16 regions with 64 nodes each stays below it.
const maxFileBytes = 1 << 20

// Defaults of a configuration.
const (
	DefaultPartitions  = 16
	DefaultMaxStoreMiB = 4096
	DefaultMinFreeMiB  = 512
	// DefaultWriteBufferMiB is for a node, over all its partitions.
	DefaultWriteBufferMiB = 256
	// DefaultOutboxQuotaMiB is for one partition. MinOutboxQuotaMiB has room for the largest write and the largest
	// run a few times over.
	DefaultOutboxQuotaMiB = 256
	MinOutboxQuotaMiB     = 16
	DefaultMaxOffsetMS    = 500
	DefaultMaxAheadMS     = 10000
	// MinProcs is the least default of MaxProcs: a thread that waits for fsync is not handed over at
	// once, so fewer leave cores idle.
	MinProcs = 8
)

// Config is a checked configuration. It is read-only, and safe for concurrent use.
type Config struct {
	// Cluster is the deployment; its Validate has returned nil.
	Cluster *topology.Cluster
	// Region and Node are this node's own, inside Cluster; nil if this is the witness.
	Region *topology.Region
	Node   *topology.Node
	// DataDir is where all of this node's data goes. It need not exist.
	DataDir  string
	NATS     NATS
	LogLevel slog.Level
	// MaxProcs is how many threads may run Go code at once.
	MaxProcs int
	// PeerTLS encrypts the connections between the region's nodes; nil leaves them plain.
	PeerTLS *PeerTLS
	// SecretFile has the deployment's secret; empty if it has none.
	SecretFile string
	// MinFreeBytes is the free disk space below which no writes are taken.
	MinFreeBytes uint64
	// WriteBufferBytes bounds the writes that are not in the state files yet.
	WriteBufferBytes int64
	// OutboxQuotaBytes bounds the outbox of one partition.
	OutboxQuotaBytes uint64
	// MaxClockOffset is how far the clocks of the region's nodes may be apart, MaxClockAhead how far in the future events of
	// other regions may be.
	MaxClockOffset, MaxClockAhead time.Duration

	effective *configv1.Server
}

// NATS says where the region's JetStream runs and how much the embedded one may use.
type NATS struct {
	// URL is that of an external server; empty means embedded.
	URL           string
	MaxStoreBytes int64
}

// PeerTLS names the PEM files of a node's certificate, its key, and the region's authority.
type PeerTLS struct{ CertFile, KeyFile, CAFile string }

// Overrides are values from flags; empty means not given.
type Overrides struct {
	Node, DataDir, NATSURL, LogLevel string
}

// InvalidError lists the faults of a configuration.
type InvalidError struct {
	Path   string
	Faults error
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("configuration %s is not valid:\n%s", e.Path, maskSecrets(e.Faults.Error()))
}

// Unwrap returns the faults, joined.
func (e *InvalidError) Unwrap() error { return e.Faults }

// Load reads and checks the file at path. Values are taken from flags, then from the environment
// through getenv, then from the file, then from the defaults.
// Errors: *InvalidError with every fault; an error of the file system.
func Load(path string, flags Overrides, getenv func(string) string) (*Config, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	server, err := decode(filepath.Base(path), data, collect(flags, getenv))
	if err != nil {
		return nil, &InvalidError{Path: path, Faults: err}
	}
	c, err := convert(server)
	if err != nil {
		return nil, &InvalidError{Path: path, Faults: err}
	}
	return c, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, &InvalidError{Path: path, Faults: fmt.Errorf("the file is larger than %d bytes", maxFileBytes)}
	}
	return data, nil
}

// decode returns the message with overrides and defaults in it, or all faults.
func decode(name string, data []byte, over []override) (*configv1.Server, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: not UTF-8", name)
	}
	// protoyaml splits lines at \n only and indexes them with the parser's line numbers, which count
	// every line break that YAML knows, and may be one behind the last line.
	data = []byte(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(data)) + "\n")
	v := &validator{overrides: over}
	server := &configv1.Server{}
	shape := checkShape(name, data)
	if errors.Is(shape, errSyntax) {
		return nil, shape
	}
	err := protoyaml.UnmarshalOptions{Path: name, Validator: v}.Unmarshal(data, server)
	if err == nil && !v.ran {
		// protoyaml does not validate an empty document.
		err = v.Validate(server)
	}
	if err := errors.Join(shape, trim(err), v.outside); err != nil {
		return nil, err
	}
	return server, nil
}

func applyDefaults(s *configv1.Server) {
	if s.Nats == nil {
		s.Nats = &configv1.Nats{}
	}
	setDefault(&s.Nats.MaxStoreMib, DefaultMaxStoreMiB)
	setDefault(&s.MaxProcs, uint32(max(MinProcs, runtime.NumCPU())))
	setDefault(&s.MinFreeMib, DefaultMinFreeMiB)
	setDefault(&s.WriteBufferMib, DefaultWriteBufferMiB)
	setDefault(&s.OutboxQuotaMib, DefaultOutboxQuotaMiB)
	if s.Clock == nil {
		s.Clock = &configv1.Clock{}
	}
	setDefault(&s.Clock.MaxOffsetMs, DefaultMaxOffsetMS)
	setDefault(&s.Clock.MaxAheadMs, DefaultMaxAheadMS)
	if s.Cluster != nil {
		setDefault(&s.Cluster.Partitions, DefaultPartitions)
	}
	if s.LogLevel == "" {
		s.LogLevel = "info"
	}
}

func setDefault(field *uint32, value uint32) {
	if *field == 0 {
		*field = value
	}
}

func convert(s *configv1.Server) (*Config, error) {
	c := &Config{
		Cluster:    Cluster(s.GetCluster()),
		DataDir:    s.GetDataDir(),
		SecretFile: s.GetCluster().GetSecretFile(),
		NATS: NATS{
			URL:           s.GetNats().GetUrl(),
			MaxStoreBytes: int64(s.GetNats().GetMaxStoreMib()) << 20,
		},
		MaxProcs:         int(s.GetMaxProcs()),
		MinFreeBytes:     uint64(s.GetMinFreeMib()) << 20,
		WriteBufferBytes: int64(s.GetWriteBufferMib()) << 20,
		OutboxQuotaBytes: uint64(s.GetOutboxQuotaMib()) << 20,
		MaxClockOffset:   time.Duration(s.GetClock().GetMaxOffsetMs()) * time.Millisecond,
		MaxClockAhead:    time.Duration(s.GetClock().GetMaxAheadMs()) * time.Millisecond,
		effective:        s,
	}
	if t := s.GetPeerTls(); t != nil {
		c.PeerTLS = &PeerTLS{CertFile: t.GetCertFile(), KeyFile: t.GetKeyFile(), CAFile: t.GetCaFile()}
	}
	if err := c.Cluster.Validate(); err != nil {
		return nil, err
	}
	if err := c.LogLevel.UnmarshalText([]byte(s.GetLogLevel())); err != nil {
		return nil, err
	}
	var ok bool
	if c.Node, c.Region, ok = c.Cluster.Node(topology.NodeID(s.GetNode())); !ok && !c.IsWitness() {
		return nil, fmt.Errorf("node %s is in no region", s.GetNode())
	}
	return c, nil
}

// IsWitness reports whether this is the configuration of the witness, which is no node of a region.
func (c *Config) IsWitness() bool {
	return c.Cluster.Witness.Name != "" && c.Cluster.Witness.Name == c.effective.GetNode()
}

// Cluster turns the file's description of a deployment into topology's. It checks nothing.
func Cluster(c *configv1.Cluster) *topology.Cluster {
	out := &topology.Cluster{
		Name:              c.GetName(),
		Partitions:        c.GetPartitions(),
		ReplicationFactor: int(c.GetReplicationFactor()),
	}
	out.Witness = topology.Witness{Name: c.GetWitness().GetName(), Address: c.GetWitness().GetAddress()}
	for _, n := range c.GetNamespaces() {
		of, _ := crdt.TypeNamed(n.GetType())
		out.Namespaces = append(out.Namespaces, topology.Namespace{
			Name: n.GetName(), Type: of, GrowOnly: n.GetGrowOnly(), Home: regionNamed(c, n.GetHome()),
		})
	}
	for _, r := range c.GetRegions() {
		region := topology.Region{
			ID:       topology.RegionID(r.GetId()),
			Name:     r.GetName(),
			Epoch:    topology.Epoch(r.GetEpoch()),
			NATSURLs: r.GetNatsUrls(), Membership: r.GetMembership(), Joins: r.GetJoins(),
		}
		for _, n := range r.GetNodes() {
			region.Nodes = append(region.Nodes, topology.Node{
				ID: topology.NodeID(n.GetName()), Zone: n.GetZone(),
				API: n.GetApi(), Raft: n.GetRaft(), NATS: n.GetNats(), NATSCluster: n.GetNatsCluster(),
				GRPC: n.GetGrpc(),
			})
		}
		out.Regions = append(out.Regions, region)
	}
	return out
}

// Effective returns the configuration in force as YAML, with the secrets in URLs masked.
func (c *Config) Effective() ([]byte, error) {
	shown := proto.CloneOf(c.effective)
	if shown.GetNats().GetUrl() != "" {
		shown.Nats.Url = redact(shown.Nats.Url)
	}
	for _, r := range shown.GetCluster().GetRegions() {
		for i, u := range r.NatsUrls {
			r.NatsUrls[i] = redact(u)
		}
	}
	out, err := protoyaml.MarshalOptions{Indent: 2, UseProtoNames: true}.Marshal(shown)
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return out, nil
}

// regionNamed returns the number of the region with a name, 0 if there is none.
func regionNamed(c *configv1.Cluster, name string) topology.RegionID {
	for _, r := range c.GetRegions() {
		if r.GetName() == name && name != "" {
			return topology.RegionID(r.GetId())
		}
	}
	return 0
}
