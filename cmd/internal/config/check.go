package config

import (
	"fmt"
	"math/bits"
	"net"
	"net/url"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
)

// checker collects faults that no rule of a single field can find.
type checker struct {
	violations []*protovalidate.Violation
	blamed     map[string]bool
	addresses  map[string]string // host:port -> the first field that has it
	names      map[string]string // kind and name -> the first field that has it
}

// crossCheck returns the faults between fields. A field that a rule already refused gets no second
// fault.
func crossCheck(s *configv1.Server, known []*protovalidate.Violation) []*protovalidate.Violation {
	c := &checker{blamed: map[string]bool{}, addresses: map[string]string{}, names: map[string]string{}}
	for _, v := range known {
		c.blamed[protovalidate.FieldPathString(v.Proto.GetField())] = true
	}
	cluster := path{}.field("cluster")
	if n := s.GetCluster().GetPartitions(); s.Cluster != nil && bits.OnesCount32(n) != 1 {
		c.fault(cluster.field("partitions"), "power_of_two", "must be a power of two, 1 to 4096, is %d", n)
	}
	own := -1
	for i, r := range s.GetCluster().GetRegions() {
		for _, n := range r.GetNodes() {
			if n.GetName() == s.GetNode() {
				own = i
			}
		}
	}
	for i, r := range s.GetCluster().GetRegions() {
		c.region(s, r, cluster.item("regions", i), i == own)
	}
	for i, n := range s.GetCluster().GetNamespaces() {
		c.unique("namespace", n.GetName(), cluster.item("namespaces", i).field("name"))
		c.home(s.GetCluster(), n, cluster.item("namespaces", i).field("home"))
	}
	c.witness(s, cluster.field("witness"))
	names, w := nodeNames(s), s.GetCluster().GetWitness().GetName()
	if own < 0 && s.GetNode() != "" && names != "" && s.GetNode() != w {
		c.fault(path{}.field("node"), "node_in_region", "%q is not a node of any region: the nodes are %s", s.GetNode(), names)
	}
	c.bounds(s)
	if u := s.GetNats().GetUrl(); u != "" {
		c.natsURL(path{}.field("nats").field("url"), u)
	}
	return c.violations
}

func (c *checker) witness(s *configv1.Server, p path) {
	w := s.GetCluster().GetWitness()
	if w == nil {
		return
	}
	c.unique("node", w.GetName(), p.field("name"))
	c.address(p.field("address"), w.GetAddress())
	if regions := s.GetCluster().GetRegions(); len(regions) > 0 && regions[0].GetMembership() == "" {
		c.fault(p, "witness", "needs regions that vote: give each an address in membership")
	}
}

func (c *checker) bounds(s *configv1.Server) {
	if q := s.GetOutboxQuotaMib(); q != 0 && q < MinOutboxQuotaMiB {
		c.fault(path{}.field("outbox_quota_mib"), "outbox_quota", "must be at least %d, is %d", MinOutboxQuotaMiB, q)
	}
	if offset, ahead := s.GetClock().GetMaxOffsetMs(), s.GetClock().GetMaxAheadMs(); ahead < 2*offset {
		c.fault(path{}.field("clock").field("max_ahead_ms"), "clock_bounds",
			"must be at least twice clock.max_offset_ms, %d: regions whose clocks are right could refuse each other", offset)
	}
}

func (c *checker) home(cluster *configv1.Cluster, n *configv1.Namespace, p path) {
	if home := n.GetHome(); home != "" && (regionNamed(cluster, home) == 0 || n.GetType() != "register") {
		c.fault(p, "home", "must be the name of a region, of a namespace of registers, is %q", home)
	}
}

func (c *checker) region(s *configv1.Server, r *configv1.Region, p path, own bool) {
	c.unique("region", r.GetName(), p.field("name"))
	if r.GetId() != 0 {
		c.unique("region id", strconv.Itoa(int(r.GetId())), p.field("id"))
	}
	if rf := s.GetCluster().GetReplicationFactor(); int(rf) > len(r.GetNodes()) && len(r.GetNodes()) > 0 {
		c.fault(p.field("nodes"), "replication_factor", "has %d nodes: replication factor %d needs as many", len(r.GetNodes()), rf)
	}
	c.address(p.field("membership"), r.GetMembership())
	if first := s.GetCluster().GetRegions()[0]; (r.GetMembership() == "") != (first.GetMembership() == "") {
		c.fault(p.field("membership"), "membership", "must be given for all regions or for none: region %s differs from region %s", r.GetName(), first.GetName())
	}
	for i, u := range r.GetNatsUrls() {
		c.natsURL(p.item("nats_urls", i), u)
	}
	external := len(r.GetNatsUrls()) > 0
	if own {
		external = s.GetNats().GetUrl() != ""
	}
	if own && external && len(r.GetNatsUrls()) == 0 && len(s.GetCluster().GetRegions()) > 1 {
		c.fault(p.field("nats_urls"), "nats_urls", "must be given when nats.url is: it is how the other regions reach region %s", r.GetName())
	}
	external = external || len(s.GetCluster().GetRegions()) == 1 // nothing to ship to: no NATS at all
	for i, n := range r.GetNodes() {
		c.node(n, p.item("nodes", i), external, len(r.GetNodes()))
	}
}

func (c *checker) node(n *configv1.Node, p path, external bool, nodes int) {
	c.unique("node", n.GetName(), p.field("name"))
	c.address(p.field("api"), n.GetApi())
	c.address(p.field("raft"), n.GetRaft())
	c.address(p.field("nats"), n.GetNats())
	c.address(p.field("nats_cluster"), n.GetNatsCluster())
	c.address(p.field("grpc"), n.GetGrpc())
	if external {
		return
	}
	if n.GetNats() == "" {
		c.fault(p.field("nats"), "nats", "must be given: host:port of the embedded NATS; leave it out only with an external NATS (nats.url, nats_urls)")
	}
	if nodes >= 3 && n.GetNatsCluster() == "" {
		c.fault(p.field("nats_cluster"), "nats_cluster", "must be given in a region of three nodes or more: host:port of the embedded NATS cluster's routes")
	}
}

// address checks host:port. Port 0 is refused because other nodes must know the port, an empty host
// because they must know the host.
func (c *checker) address(p path, addr string) {
	if addr == "" {
		return
	}
	host, port, err := net.SplitHostPort(addr)
	number, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		c.fault(p, "address", "%q is not host:port, as in \"10.0.0.1:7480\" or \"[::1]:7480\"", addr)
	case host == "":
		c.fault(p, "address", "%q has no host: other nodes must be able to reach it", addr)
	case strings.ContainsAny(host, " /@?#"):
		c.fault(p, "address", "%q is not a host", host)
	case portErr != nil || number == 0:
		c.fault(p, "address", "port %q is not a number from 1 to 65535", port)
	case c.addresses[addr] != "":
		c.fault(p, "address_unique", "%s is used twice: also in %s", addr, c.addresses[addr])
	default:
		c.addresses[addr] = p.String()
	}
}

func (c *checker) natsURL(p path, raw string) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "nats" && u.Scheme != "tls") {
		c.fault(p, "nats_url", "%q is not a NATS URL, as in \"nats://10.0.0.1:4222\"", redact(raw))
	}
}

func (c *checker) unique(kind, name string, p path) {
	if name == "" {
		return
	}
	if first := c.names[kind+" "+name]; first != "" {
		c.fault(p, "unique", "%s %s is used twice: also in %s", kind, name, first)
		return
	}
	c.names[kind+" "+name] = p.String()
}

func (c *checker) fault(p path, rule, format string, args ...any) {
	if c.blamed[p.String()] {
		return
	}
	c.violations = append(c.violations, &protovalidate.Violation{Proto: &validate.Violation{
		Field:   &validate.FieldPath{Elements: p},
		RuleId:  proto.String(rule),
		Message: proto.String(fmt.Sprintf(format, args...)),
	}})
}

func nodeNames(s *configv1.Server) string {
	var names []string
	for _, r := range s.GetCluster().GetRegions() {
		for _, n := range r.GetNodes() {
			if len(names) == 12 {
				return strings.Join(append(names, "..."), ", ")
			}
			if n.GetName() != "" {
				names = append(names, n.GetName())
			}
		}
	}
	return strings.Join(names, ", ")
}

// path is where a field is in the message.
type path []*validate.FieldPathElement

func (p path) field(name string) path {
	return append(p[:len(p):len(p)], &validate.FieldPathElement{FieldName: proto.String(name)})
}

func (p path) item(name string, index int) path {
	return append(p[:len(p):len(p)], &validate.FieldPathElement{
		FieldName: proto.String(name),
		Subscript: &validate.FieldPathElement_Index{Index: uint64(index)},
	})
}

func (p path) String() string { return protovalidate.FieldPathString(&validate.FieldPath{Elements: p}) }

// redact masks the password of a URL, and a user without a password, which is how NATS writes a
// token. What cannot be parsed is masked whole if it may hold either.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil && strings.Contains(raw, "@") {
		return "xxxxx"
	}
	if err != nil || u.User == nil {
		return raw
	}
	if _, ok := u.User.Password(); !ok {
		u.User = url.User("xxxxx")
	}
	return u.Redacted()
}

// maskSecrets masks what stands between :// and @ in quoted lines of a file, at the same length so
// that the caret under the line still points at its column.
func maskSecrets(text string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "://")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		out.WriteString("://")
		end := strings.IndexAny(after, "@/ \t\n\"'")
		if end > 0 && after[end] == '@' {
			out.WriteString(strings.Repeat("x", end))
			after = after[end:]
		}
		text = after
	}
}
