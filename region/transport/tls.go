package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/atolldb/atoll/topology"
)

var (
	errCertificates = errors.New("no certificate in the file")
	errAnonymous    = errors.New("tls: the peer has no certificate")
)

// LoadTLS returns what Config.TLS takes: TLS 1.3, and a certificate at both ends that the authority in
// the file ca has signed. A node's certificate carries the node's name as its DNS name. The node's own
// certificate is read again for every connection, so that it can be renewed in place.
func LoadTLS(cert, key, ca string) (*tls.Config, error) {
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load certificate authority: %w: %s", errCertificates, ca)
	}
	load := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(cert, key)
		return &c, err
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              authorities,
		ClientCAs:            authorities,
		ClientAuth:           tls.RequireAndVerifyClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() },
	}, nil
}

// secureAccepted encrypts an accepted connection, if the mux is so configured, and returns what checks
// its peer's name.
func (m *Mux) secureAccepted(c *conn) (func(topology.NodeID) error, error) {
	if m.cfg.TLS == nil {
		return func(topology.NodeID) error { return nil }, nil
	}
	server := tls.Server(c.raw, m.cfg.TLS)
	if err := server.Handshake(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	c.Conn = server
	certificates := server.ConnectionState().PeerCertificates
	if len(certificates) == 0 {
		return nil, errAnonymous
	}
	return func(node topology.NodeID) error { return certificates[0].VerifyHostname(string(node)) }, nil
}

// secureDialed encrypts a dialed connection, if the mux is so configured, and checks its peer's name.
func (m *Mux) secureDialed(c *conn, to topology.NodeID) error {
	if m.cfg.TLS == nil {
		return nil
	}
	config := m.cfg.TLS.Clone()
	config.ServerName = string(to)
	client := tls.Client(c.raw, config)
	if err := client.Handshake(); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	c.Conn = client
	return nil
}
