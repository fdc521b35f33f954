package api

import (
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

func (s *sessions) client(options ...client.Option) *client.Client {
	s.t.Helper()
	c, err := client.New([]string{s.url("eu-0")}, options...)
	noError(s.t, err)
	s.t.Cleanup(func() { noError(s.t, c.Close()) })
	return c
}

// TestClientSessionGrowsWithEveryCall: whatever kind of call is made in it, and however, the session knows more
// afterwards.
func TestClientSessionGrowsWithEveryCall(t *testing.T) {
	for name, options := range map[string][]client.Option{"streamed": nil, "unary": {client.WithUnary()}} {
		s := setupSessions(t, 2, testClock)
		c, ctx := s.client(options...), testContext(t)
		session := client.NewSession()
		in := client.InSession(session)
		arrived := testNow()
		for _, call := range []struct {
			name string
			do   func() error
			// sees says that the answer depends on what was there.
			sees bool
		}{
			{"put", func() error { _, err := c.Put(ctx, "k", []byte("v"), in); return err }, false},
			{"get", func() error { _, err := c.Get(ctx, "k", in); return err }, true},
			{"get of nothing", func() error {
				if _, err := c.Get(ctx, "nothing", in); !errors.Is(err, client.ErrNotFound) {
					return errors.New("found")
				}
				return nil
			}, true},
			{"delete", func() error { _, err := c.Delete(ctx, "k", in); return err }, true},
			{"counter", func() error { _, err := c.Counter("n").Add(ctx, 1, in); return err }, true},
			{"query", func() error { _, err := c.Counter("n").Value(ctx, in); return err }, true},
			{"batch", func() error { _, err := c.Batch(ctx, []client.Write{client.NewDelete("d")}, in); return err }, true},
			{"many", func() error { _, err := c.GetMany(ctx, []string{"nothing"}, in); return err }, true},
			{"scan", func() error {
				for _, err := range c.Scan(ctx, client.ScanOptions{Session: session}) {
					return err
				}
				return nil
			}, true},
		} {
			arrived += 1 << 16
			s.arrives(arrived, "theirs")
			before, _ := s.seen(session.Bytes())
			noError(t, call.do())
			eu, us := s.seen(session.Bytes())
			if eu < before || eu == 0 || (us == arrived) != call.sees {
				t.Errorf("%s, %s: seen %v (before %v) and %v, want %v", name, call.name, eu, before, us, arrived)
			}
		}
	}
}

func TestClientSessionOfManyCallsAtOnce(t *testing.T) {
	s := setupSessions(t, 2, testClock)
	c, ctx, session := s.client(), testContext(t), client.NewSession()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			key := strconv.Itoa(i)
			if _, err := c.Put(ctx, key, []byte("v"), client.InSession(session)); err != nil {
				t.Error(err)
			}
			if _, err := c.Get(ctx, key, client.InSession(session)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eu, _ := s.seen(session.Bytes())
	if view := (&fakeReplica{s.groups[0], "eu-0"}).View(); eu != view.HLCs[euActor] {
		t.Errorf("the session has seen %v of %v", eu, view.HLCs)
	}
	again, err := client.ResumeSession(session.Bytes())
	noError(t, err)
	if _, err := c.Get(ctx, "7", client.InSession(again)); err != nil {
		t.Error(err)
	}
	equal(t, "resumed", string(again.Bytes()), string(session.Bytes()))
	if _, err := client.ResumeSession([]byte("x")); err == nil {
		t.Error("anything is a token")
	}
}

func TestClientSessionThatIsAhead(t *testing.T) {
	s := setupSessions(t, 2, testClock)
	c, ctx := s.client(), testContext(t)
	s.arrives(testNow(), "k")
	ahead, err := client.ResumeSession(s.token(map[crdt.Actor]hlc.Time{usActor: testNow() + 5<<16}))
	noError(t, err)
	var fault *client.Error
	_, err = c.Get(ctx, "k", client.InSession(ahead), client.WithOnStale(client.OnStaleRedirect))
	if !errors.Is(err, client.ErrStale) || !errors.As(err, &fault) || fault.Metadata["region_to_use"] != "us" {
		t.Errorf("redirected by %v", err)
	}
	var info client.Info
	_, err = c.Get(ctx, "k", client.InSession(ahead), client.WithOnStale(client.OnStaleServe), client.WithInfo(&info))
	if err != nil || !info.Stale || info.Served != client.ConsistencyEventual {
		t.Errorf("served %+v, %v", info, err)
	}
	if _, err = c.Get(ctx, "k", client.InSession(ahead), client.Eventual()); err != nil {
		t.Errorf("an eventual read: %v", err)
	}
	s.arrives(testNow()+5<<16, "k")
	_, err = c.Get(ctx, "k", client.InSession(ahead), client.WithInfo(&info))
	if err != nil || info.Stale || info.Served != client.ConsistencySession {
		t.Errorf("served %+v, %v", info, err)
	}
	s.membership[usActor] = testNow()
	lost, err := client.ResumeSession(s.token(map[crdt.Actor]hlc.Time{usActor: testNow() + 9<<16}))
	noError(t, err)
	if _, err = c.Get(ctx, "k", client.InSession(lost)); !errors.Is(err, client.ErrSessionLost) {
		t.Errorf("lost: %v", err)
	}
}

func TestClientWaitsForRegions(t *testing.T) {
	s := setupSessions(t, 2, testClock) // whose deadlines are long over
	c, ctx := s.client(client.WithMaxAttempts(2)), testContext(t)
	s.others.reach(3, 1)
	_, err := c.Put(ctx, "k", nil, client.WithRegions(2))
	var fault *client.Error
	if !errors.Is(err, client.ErrOutcomeUnknown) || !errors.As(err, &fault) ||
		fault.Metadata["done_in"] != "eu" || fault.Metadata["regions_reached"] != "1" || fault.Metadata["op_id"] == "" {
		t.Errorf("%v, %+v", err, fault)
	}
	equal(t, "writes done", (&fakeReplica{s.groups[0], "eu-0"}).View().Outbox.Head, 1)
	if _, err = c.Put(ctx, "k", nil, client.WithRegions(1), client.WithOpID(fault.Metadata["op_id"])); err != nil {
		t.Errorf("with fewer: %v", err)
	}
}
