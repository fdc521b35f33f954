package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// answer is what one region answered.
type answer[T any] struct {
	region string
	value  T
	err    error
}

// askRegions asks every region of the deployment, all at once, and returns the answers by region
// name. Its own error means that the regions could not be found.
func askRegions[T any](ctx context.Context, a *app, ask func(context.Context, *client.Client) (T, error)) ([]answer[T], error) {
	clients, err := a.regionClients(ctx)
	if err != nil {
		return nil, err
	}
	return askAll(ctx, clients, ask), nil
}

type namedClient struct {
	region string
	*client.Client
	err error
}

func (a *app) regionClients(ctx context.Context) ([]namedClient, error) {
	if err := probe(ctx, a.servers()); err != nil {
		return nil, err
	}
	c, err := a.dial(a.servers())
	if err != nil {
		return nil, err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the regions: %w", err)
	}
	var clients []namedClient
	for _, r := range status.GetRegions() {
		if a.flags.region != "" && r.GetName() != a.flags.region {
			continue
		}
		rc, err := a.regionClient(r)
		clients = append(clients, namedClient{r.GetName(), rc, err})
	}
	if len(clients) == 0 {
		return nil, usagef("there is no region %q", a.flags.region)
	}
	slices.SortFunc(clients, func(x, y namedClient) int { return cmp.Compare(x.region, y.region) })
	return clients, nil
}

func askAll[T any](ctx context.Context, clients []namedClient, ask func(context.Context, *client.Client) (T, error)) []answer[T] {
	answers := make([]answer[T], len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		answers[i] = answer[T]{region: c.region, err: c.err}
		if c.err == nil {
			wg.Go(func() { answers[i].value, answers[i].err = ask(ctx, c.Client) })
		}
	}
	wg.Wait()
	return answers
}

// unanswered returns an error if any region did not answer, after its name was printed.
func unanswered[T any](answers []answer[T]) error {
	var faults []error
	for _, ans := range answers {
		if ans.err != nil {
			faults = append(faults, fmt.Errorf("region %s did not answer: %w", ans.region, ans.err))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &codeError{withHint(errors.Join(faults...), "atoll status"), exitUnavailable}
}

func regionState(s atollv1.RegionState) string {
	switch s {
	case atollv1.RegionState_REGION_STATE_ACTIVE:
		return "active"
	case atollv1.RegionState_REGION_STATE_UNREACHABLE:
		return "unreachable"
	default:
		return "unknown"
	}
}
