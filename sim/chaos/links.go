package main

import (
	"context"

	"github.com/atolldb/atoll/internal/wan"
)

// link is the path by which the nodes of one region read a node of another, or by which one node
// reaches another.
type link struct {
	from, to string // regions, or nodes
	// votes means that it leads to a region's vote on which regions there are, and not to its data.
	votes bool
	*wan.Link
}

// addLinks puts a link before each node that other regions read from, one for each of these.
func (d *deployment) addLinks(ctx context.Context) error {
	urls := map[[2]string][]string{}
	for _, from := range d.regions {
		for _, m := range d.members {
			if m.region == from {
				continue
			}
			target := ""
			for _, r := range m.config.GetCluster().GetRegions() {
				for _, n := range r.GetNodes() {
					if n.GetName() == m.name {
						target = n.GetNats()
					}
				}
			}
			l, err := wan.Listen(ctx, wan.Config{Listen: "127.0.0.1:0", Target: target, Delay: d.settings.delay})
			if err != nil {
				return err
			}
			d.links = append(d.links, link{from: from, to: m.region, Link: l})
			path := [2]string{from, m.region}
			urls[path] = append(urls[path], "nats://"+l.Addr())
		}
	}
	for _, m := range d.members {
		for _, r := range m.config.GetCluster().GetRegions() {
			r.NatsUrls = urls[[2]string{m.region, r.GetName()}]
		}
	}
	return nil
}

// addVoteLinks puts links before the nodes that other regions read from, as addLinks does, and before each region's vote.
func (d *deployment) addVoteLinks(ctx context.Context) error {
	if err := d.addLinks(ctx); err != nil {
		return err
	}
	for _, from := range d.regions {
		moved := map[string]string{} // region to the link by which its vote is reached from here
		for _, r := range d.of(from)[0].config.GetCluster().GetRegions() {
			if r.GetName() == from {
				continue
			}
			l, err := wan.Listen(ctx, wan.Config{Listen: "127.0.0.1:0", Target: r.GetMembership(), Delay: d.settings.delay})
			if err != nil {
				return err
			}
			d.links = append(d.links, link{from: from, to: r.GetName(), votes: true, Link: l})
			moved[r.GetName()] = l.Addr()
		}
		for _, m := range d.of(from) {
			for _, r := range m.config.GetCluster().GetRegions() {
				r.Membership = orElse(moved[r.GetName()], r.GetMembership())
			}
		}
	}
	return nil
}

// cut stops everything between a region, or a node, and the others; heal undoes it.
func (d *deployment) cut(name string) {
	for _, l := range d.links {
		if l.from == name || l.to == name {
			l.Cut()
		}
	}
}

func (d *deployment) heal() {
	for _, l := range d.links {
		l.Heal()
	}
}

// between returns the links between two regions, either way: those to data, or those to votes.
func (d *deployment) between(a, b string, votes bool) []link {
	var found []link
	for _, l := range d.links {
		if l.votes == votes && (l.from == a && l.to == b || l.from == b && l.to == a) {
			found = append(found, l)
		}
	}
	return found
}

// cutBetween stops what passes between two regions but votes; healBetween undoes it.
func (d *deployment) cutBetween(a, b string) {
	for _, l := range d.between(a, b, false) {
		l.Cut()
	}
}

func (d *deployment) healBetween(a, b string) {
	for _, l := range d.between(a, b, false) {
		l.Heal()
	}
}

// deafen cuts a region off from the votes of all others, or ends that.
func (d *deployment) deafen(region string, deaf bool) {
	for _, other := range d.regions {
		for _, l := range d.between(region, other, true) {
			if deaf {
				l.Cut()
			} else {
				l.Heal()
			}
		}
	}
}
