package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"buf.build/go/protoyaml"
	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/loopback"
	"github.com/atolldb/atoll/internal/wan"
	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
)

// member is one node of the deployment.
type member struct {
	name, region, api string
	config            *configv1.Server
	configFile        string
	// namespace is the network namespace to run in; empty for the one of this program.
	namespace string
	log       string
	process   *process
	used      usage // of its ended processes
}

// deployment is the nodes, and the links between them or their regions if these can be cut.
type deployment struct {
	settings   *settings
	dir        string
	regions    []string
	partitions uint32
	members    []*member
	clients    map[string]*client.Client // by region
	links      []link
	net        *wan.Net // nil but for what needs one
	// cleanups undo what the scenario did to the machine.
	cleanups []func() error
}

// newDeployment prepares the nodes' configurations and directories, and starts nothing.
func newDeployment(ctx context.Context, s *settings, dir string) (*deployment, error) {
	if err := makeEmpty(dir); err != nil {
		return nil, err
	}
	configs, err := s.nodes()
	if err != nil {
		return nil, err
	}
	if err := relocate(configs, dir); err != nil {
		return nil, err
	}
	d := &deployment{settings: s, dir: dir, clients: map[string]*client.Client{}}
	cluster := configs[0].GetCluster()
	d.partitions = cluster.GetPartitions()
	for _, r := range cluster.GetRegions() {
		d.regions = append(d.regions, r.GetName())
		var endpoints []string
		for _, n := range r.GetNodes() {
			endpoints = append(endpoints, "http://"+n.GetApi())
			i := slices.IndexFunc(configs, func(c *configv1.Server) bool { return c.GetNode() == n.GetName() })
			if i < 0 {
				return nil, fmt.Errorf("%s has no configuration of node %s", s.configs, n.GetName())
			}
			d.members = append(d.members, &member{
				name: n.GetName(), region: r.GetName(), api: n.GetApi(), config: configs[i],
				configFile: filepath.Join(dir, n.GetName()+".yaml"),
				log:        filepath.Join(dir, n.GetName()+".log"),
			})
		}
		if d.clients[r.GetName()], err = client.New(endpoints); err != nil {
			return nil, err
		}
	}
	if s.scenario.prepare != nil {
		if err := s.scenario.prepare(d, ctx); err != nil {
			return nil, errors.Join(err, d.clean())
		}
	}
	return d, d.writeConfigs()
}

// writeConfigs writes the nodes' configurations to where the nodes read them.
func (d *deployment) writeConfigs() error {
	for _, m := range d.members {
		if d.settings.logLevel != "" {
			m.config.LogLevel = d.settings.logLevel
		}
		text, err := protoyaml.MarshalOptions{UseProtoNames: true}.Marshal(m.config)
		if err != nil {
			return err
		}
		if err := os.WriteFile(m.configFile, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// makeEmpty makes the directory if it is absent, and refuses one with anything in it.
func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	found, err := os.ReadDir(dir)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%s is not empty", dir)
	}
	return err
}

// loadConfigs reads the configurations in a directory.
func loadConfigs(dir string) ([]*configv1.Server, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no configurations in %s", dir)
	}
	configs := make([]*configv1.Server, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		configs[i] = &configv1.Server{}
		if err := protoyaml.Unmarshal(text, configs[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return configs, nil
}

// relocate gives the nodes directories below dir and free ports, and the deployment a name of its own,
// so that nodes of another run are refused should they meet.
func relocate(configs []*configv1.Server, dir string) error {
	name := fmt.Sprintf("chaos-%016x", rand.Uint64())
	moved := map[string]string{"": ""} // old address to new
	var fields []*string
	for _, c := range configs {
		c.Cluster.Name = name
		c.DataDir = filepath.Join(dir, c.GetNode())
		for _, r := range c.GetCluster().GetRegions() {
			for _, n := range r.GetNodes() {
				fields = append(fields, &n.Api, &n.Raft, &n.Nats, &n.NatsCluster)
			}
			fields = append(fields, &r.Membership)
		}
	}
	free, err := loopback.Free(len(fields))
	if err != nil {
		return err
	}
	for i, field := range fields {
		if _, known := moved[*field]; !known {
			moved[*field] = free[i]
		}
		*field = moved[*field]
	}
	return nil
}

// run carries the links while fn runs.
func (d *deployment) run(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range d.links {
		group.Go(func() error { return l.Run(ctx) })
	}
	if d.net != nil {
		group.Go(func() error { return d.net.Run(ctx) })
	}
	group.Go(func() error {
		defer cancel()
		return fn(ctx)
	})
	return group.Wait()
}

// of returns the members of a region.
func (d *deployment) of(region string) []*member {
	var members []*member
	for _, m := range d.members {
		if m.region == region {
			members = append(members, m)
		}
	}
	return members
}

// startAll starts members and waits until all are ready.
func (d *deployment) startAll(ctx context.Context, members []*member) error {
	for _, m := range members {
		if err := d.start(m); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := m.process.awaitReady(ctx, m.api); err != nil {
			return fmt.Errorf("%s is not ready: %w%s", m.name, err, tail(m.log))
		}
	}
	return nil
}

func (d *deployment) start(m *member) error {
	command := []string{d.settings.atoll, "server", "--config", m.configFile}
	if m.namespace != "" {
		command = append([]string{"ip", "netns", "exec", m.namespace}, command...)
	}
	p, err := start(m.log, command[0], command[1:]...)
	m.process = p
	return err
}

// stop stops members, all at once.
func (d *deployment) stop(members []*member) error {
	var group errgroup.Group
	for _, m := range members {
		group.Go(func() error {
			if err := m.process.stop(); err != nil {
				return fmt.Errorf("stop %s: %w%s", m.name, err, tail(m.log))
			}
			m.retire()
			return nil
		})
	}
	return group.Wait()
}

// crash kills a member.
func (m *member) crash() {
	m.process.kill()
	m.retire()
}

// retire takes the figures of a member's ended process.
func (m *member) retire() {
	u := m.process.used()
	m.used.cpu += u.cpu
	m.used.peakRSS = max(m.used.peakRSS, u.peakRSS)
	m.process = nil
}

// stopAll stops what runs, and checks that it ran until now and stops as it should.
func (d *deployment) stopAll(out *report) {
	for _, m := range d.members {
		if m.process == nil {
			continue
		}
		if !m.process.running() {
			out.check(m.name+" runs until it is stopped", fmt.Errorf("it ended: %w%s", m.process.err, tail(m.log)))
		} else if err := m.process.stop(); err != nil {
			out.check(m.name+" stops when asked", fmt.Errorf("%w%s", err, tail(m.log)))
		}
		m.retire()
	}
	for _, c := range d.clients {
		c.Close()
	}
	if err := d.clean(); err != nil {
		out.check("the machine is left as it was", err)
	}
}

// clean undoes what the scenario did to the machine.
func (d *deployment) clean() error {
	var errs []error
	for _, undo := range d.cleanups {
		errs = append(errs, undo())
	}
	d.cleanups = nil
	return errors.Join(errs...)
}

// tail returns the last lines of a log, to show below an error.
func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-5):]
	return "\n    " + strings.Join(lines, "\n    ")
}
