package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// nodesEqual waits until the nodes of a region hold the same: each is asked for what it has itself.
func (s *stage) nodesEqual(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var names []string
	nodes := map[string]*direct{}
	for _, m := range s.deployment.members {
		names = append(names, m.name)
		nodes[m.name] = m.direct()
		defer nodes[m.name].close()
	}
	var differ error
	err := until(ctx, 250*time.Millisecond, func(ctx context.Context) (bool, error) {
		replies := map[string]*atollv1.DigestResponse{}
		for name, node := range nodes {
			reply, err := node.regions.Digest(ctx, &atollv1.DigestRequest{Options: eventually()})
			if err != nil {
				differ = fmt.Errorf("digest of %s: %w", name, err)
				return false, nil
			}
			replies[name] = reply
		}
		differ = compareDigests(names, int(s.deployment.partitions), replies)
		return differ == nil, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("the nodes differ after %v", within), differ)
	}
	return nil
}

// eventually has a node answer with what it has itself.
func eventually() *atollv1.ReadOptions {
	return &atollv1.ReadOptions{Consistency: atollv1.Consistency_CONSISTENCY_EVENTUAL}
}
