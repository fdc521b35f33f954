package transport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// authority signs nodes' certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("authority", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// sign writes NAME.crt and NAME.key. Without a parent, the certificate is an authority's own.
func (a *authority) sign(name string, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	a.must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.must(err)
	cert, err := x509.ParseCertificate(der)
	a.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	a.must(os.WriteFile(a.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.must(os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// config returns what a node configures that has the certificate of name.
func (a *authority) config(name string) *tls.Config {
	a.t.Helper()
	a.sign(name, a.cert)
	c, err := transport.LoadTLS(a.path(name+".crt"), a.path(name+".key"), a.path("authority.crt"))
	a.must(err)
	return c
}

func TestTLSProvesWhoIsThere(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	n := newNodes()
	n.tls = map[topology.NodeID]*tls.Config{
		"a": ours.config("a"), "b": ours.config("b"), "fake": ours.config("other"), "foreign": theirs.config("foreign"), "plain": nil,
	}
	muxes := map[topology.NodeID]*transport.Mux{}
	for _, id := range []topology.NodeID{"a", "b", "fake", "foreign", "plain"} {
		muxes[id] = n.start(t, id, "c")
		muxes[id].Group(1).Handle(1, 1, echo(string(id)))
		muxes[id].Group(1).HandleStream(2, func(_ topology.NodeID, _ []byte, c net.Conn) { _, _ = c.Write([]byte("x")) })
	}
	call := func(from, to topology.NodeID) error {
		_, err := muxes[from].Group(1).Call(within(t), to, transport.Control, 1, make([]byte, 100_000))
		return err
	}
	for _, pair := range [][2]topology.NodeID{{"a", "b"}, {"b", "a"}} {
		if err := call(pair[0], pair[1]); err != nil {
			t.Errorf("%s to %s: %v", pair[0], pair[1], err)
		}
	}
	for _, pair := range [][2]topology.NodeID{
		{"a", "fake"}, {"fake", "a"}, {"a", "foreign"}, {"foreign", "a"}, {"a", "plain"}, {"plain", "a"},
	} {
		if err := call(pair[0], pair[1]); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("%s to %s: %v", pair[0], pair[1], err)
		}
	}
	if err := call("fake", "a"); err == nil || !strings.Contains(err.Error(), "certificate is not that of the node") {
		t.Errorf("another node's certificate: %v", err)
	}
	s, err := muxes["a"].Group(1).Stream(t.Context(), "b", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, ok := s.(interface{ SetReadDeadline(time.Time) error }); !ok {
		t.Error("a stream without deadlines")
	}
	_ = s.Close()
}

// A certificate can be renewed in place.
func TestTLSReadsRenewedCertificates(t *testing.T) {
	ca := newAuthority(t)
	n := newNodes()
	n.tls = map[topology.NodeID]*tls.Config{"a": ca.config("a"), "b": ca.config("b")}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(ca.path(name+".crt"), []byte("not a certificate"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	b.Group(1).Handle(1, 1, echo("b"))
	if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("with broken files: %v", err)
	}
	ca.sign("a", ca.cert)
	ca.sign("b", ca.cert)
	eventually(t, func() error {
		_, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil)
		return err
	})
}

func TestLoadTLSNamesTheFault(t *testing.T) {
	ca := newAuthority(t)
	ca.sign("a", ca.cert)
	for _, files := range [][3]string{
		{"missing.crt", "a.key", "authority.crt"}, {"a.crt", "missing.key", "authority.crt"},
		{"a.crt", "a.key", "missing.crt"}, {"a.crt", "a.key", "a.key"}, {"a.crt", "authority.key", "authority.crt"},
	} {
		if _, err := transport.LoadTLS(ca.path(files[0]), ca.path(files[1]), ca.path(files[2])); err == nil {
			t.Errorf("%v: no error", files)
		}
	}
}
