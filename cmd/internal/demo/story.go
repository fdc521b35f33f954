package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// storyPatience bounds each wait of the story.
const storyPatience = time.Minute

// storyPoll is how often the story looks whether the regions agree.
const storyPoll = 20 * time.Millisecond

// Story plays what a newcomer would try on a running demo, printing every step to w: a write travels,
// a link is cut, both sides go on writing, the link heals, and every region has the same answer. The
// error says at which step the demo did not do as it should.
func (d *Demo) Story(ctx context.Context, w io.Writer) error {
	s := story{w: w, demo: d, clients: map[string]*client.Client{}, clock: d.cfg.Clock}
	for name, endpoints := range d.Endpoints() {
		c, err := client.New(endpoints, client.WithTimeout(storyPatience))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // closes idle connections
		s.clients[name] = c
	}
	for _, step := range []struct {
		title string
		run   func(context.Context) error
	}{
		{"1. A write in eu is seen in us and ap", s.travel},
		{"2. The link between eu and us is cut, and both sides go on writing", s.cut},
		{"3. eu and us differ meanwhile, and both answer", s.differ},
		{"4. The link heals, and every region has the same answer", s.heal},
	} {
		s.say("\n%s\n", step.title)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	s.say("\nNothing was lost: no write was refused, and no increment or element is missing.\n")
	return nil
}

type story struct {
	w       io.Writer
	demo    *Demo
	clients map[string]*client.Client
	clock   func() time.Time
}

const (
	storyGreeting = "story/greeting"
	storyVisits   = "story/visits"
	storyCart     = "story/cart"
)

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

func (s *story) travel(ctx context.Context) error {
	// Data may be kept from an earlier demo: start from nothing, everywhere.
	s.demo.Heal()
	for _, key := range []string{storyGreeting, storyVisits, storyCart} {
		if _, err := s.clients["eu"].Delete(ctx, key); err != nil {
			return err
		}
	}
	s.say("   eu$ atoll put %s hello\n", storyGreeting)
	if _, err := s.clients["eu"].Put(ctx, storyGreeting, []byte("hello")); err != nil {
		return err
	}
	start := s.clock()
	for _, region := range []string{"us", "ap"} {
		if err := s.await(ctx, region, "hello"); err != nil {
			return err
		}
		s.say("   %s$ atoll get %s   hello   (seen %v after the acknowledgement in eu)\n",
			region, storyGreeting, s.clock().Sub(start).Round(time.Millisecond))
	}
	return nil
}

func (s *story) await(ctx context.Context, region, want string) error {
	return s.poll(ctx, func(ctx context.Context) (bool, error) {
		v, err := s.clients[region].Get(ctx, storyGreeting)
		if errors.Is(err, client.ErrNotFound) {
			return false, nil
		}
		return err == nil && string(v.Bytes) == want, err
	})
}

func (s *story) cut(ctx context.Context) error {
	s.say("   atoll demo cut eu us\n")
	if err := s.demo.Cut("eu", "us"); err != nil {
		return err
	}
	for _, side := range []struct {
		region, greeting string
		visits           int64
		cart             []string
	}{
		{"eu", "bonjour", 5, []string{"cheese", "wine"}},
		{"us", "howdy", 7, []string{"bagel", "wine"}},
	} {
		c := s.clients[side.region]
		s.say("   %s$ atoll put %s %s; atoll incr %s %d; atoll set-add %s %s\n", side.region,
			storyGreeting, side.greeting, storyVisits, side.visits, storyCart, strings.Join(side.cart, " "))
		if _, err := c.Put(ctx, storyGreeting, []byte(side.greeting)); err != nil {
			return err
		}
		if _, err := c.Counter(storyVisits).Add(ctx, side.visits); err != nil {
			return err
		}
		elements := make([][]byte, len(side.cart))
		for i, e := range side.cart {
			elements[i] = []byte(e)
		}
		if _, err := c.Set(storyCart).Add(ctx, elements); err != nil {
			return err
		}
	}
	return nil
}

// answer is what one region answers to the story's three questions.
type answer struct {
	greeting string
	visits   int64
	cart     []string
}

func (a answer) String() string {
	return fmt.Sprintf("greeting=%s visits=%d cart=%s", a.greeting, a.visits, strings.Join(a.cart, ","))
}

func (s *story) ask(ctx context.Context, region string) (a answer, err error) {
	c := s.clients[region]
	v, err := c.Get(ctx, storyGreeting)
	if err != nil {
		return a, err
	}
	a.greeting = string(v.Bytes)
	if a.visits, err = c.Counter(storyVisits).Value(ctx); err != nil && !errors.Is(err, client.ErrNotFound) {
		return a, err
	}
	for member, err := range c.Set(storyCart).Members(ctx) {
		if err != nil {
			return a, err
		}
		a.cart = append(a.cart, string(member))
	}
	return a, nil
}

func (s *story) differ(ctx context.Context) error {
	want := map[string]answer{
		"eu": {"bonjour", 5, []string{"cheese", "wine"}},
		"us": {"howdy", 7, []string{"bagel", "wine"}},
	}
	for _, region := range []string{"eu", "us"} {
		got, err := s.ask(ctx, region)
		if err != nil {
			return err
		}
		s.say("   %s   %s\n", region, got)
		if got.String() != want[region].String() {
			return fmt.Errorf("%s should answer %s while it is cut off", region, want[region])
		}
	}
	return nil
}

func (s *story) heal(ctx context.Context) error {
	s.say("   atoll demo heal\n")
	start := s.clock()
	s.demo.Heal()
	answers := map[string]answer{}
	err := s.poll(ctx, func(ctx context.Context) (bool, error) {
		for _, region := range Regions() {
			a, err := s.ask(ctx, region)
			if err != nil {
				return false, err
			}
			answers[region] = a
		}
		eu := answers["eu"]
		return eu.visits == 12 && eu.String() == answers["us"].String() && eu.String() == answers["ap"].String(), nil
	})
	for _, region := range Regions() {
		s.say("   %s   %s\n", region, answers[region])
	}
	if err != nil {
		return err
	}
	if eu := answers["eu"]; !slices.Equal(eu.cart, []string{"bagel", "cheese", "wine"}) || eu.greeting != "howdy" {
		return errors.New("the merged answer should be greeting=howdy visits=12 cart=bagel,cheese,wine")
	}
	if err := s.poll(ctx, s.digestsEqual); err != nil {
		return fmt.Errorf("compare digests: %w", err)
	}
	s.say("   Every partition has the same digest in all regions, %v after the link healed.\n",
		s.clock().Sub(start).Round(time.Millisecond))
	return nil
}

func (s *story) digestsEqual(ctx context.Context) (bool, error) {
	var first []*atollv1.PartitionDigest
	for i, region := range Regions() {
		response, err := s.clients[region].Digest(ctx)
		if err != nil {
			return false, err
		}
		digests := response.GetPartitions()
		if i == 0 {
			first = digests
		}
		same := slices.EqualFunc(first, digests, func(a, b *atollv1.PartitionDigest) bool {
			return a.GetError() == nil && b.GetError() == nil && bytes.Equal(a.GetDigest(), b.GetDigest())
		})
		if !same {
			return false, nil
		}
	}
	return true, nil
}

// poll calls check until it is true, fails, or the story's patience ends.
func (s *story) poll(ctx context.Context, check func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, storyPatience)
	defer cancel()
	tick := time.NewTicker(storyPoll)
	defer tick.Stop()
	for {
		if ok, err := check(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v", storyPatience)
		case <-tick.C:
		}
	}
}
