package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/sim/check"
)

const (
	sessionKeys = 12
	// sessionCall bounds one call: one that waits for another region's events gives up, as its client would.
	sessionCall = 2 * time.Second
	// One call in so many is made in another region than the one before.
	sessionMoves = 4
)

// sessions has clients read and write in sessions that move from region to region, while regions are cut off
// from the others in turn, and judges what they saw. Then it does so without the sessions' tokens, which must be
// found out.
func (s *stage) sessions(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	broken, calls, err := s.sessionRun(ctx, "kept", true)
	if err != nil {
		return err
	}
	s.out.figure("calls in sessions", "%s", calls)
	var faults faults
	for _, b := range broken {
		faults.add("%w", b)
	}
	s.out.check("no session reads or writes backwards", faults.err())
	broken, calls, err = s.sessionRun(ctx, "ignored", false)
	if err != nil {
		return err
	}
	s.out.figure("calls without tokens", "%s; %d of %d keys broken", calls, len(broken), sessionKeys)
	if len(broken) == 0 {
		err = errors.New("nothing is broken though no token was sent")
	}
	s.out.check("without tokens that is found out", err)
	return s.reportUse(ctx)
}

// sessionRun has clients call for a while, and returns what no order of the writes explains.
func (s *stage) sessionRun(ctx context.Context, name string, tokens bool) (broken []*check.BrokenSession, calls string, err error) {
	w := &sessionWork{deployment: s.deployment, prefix: "session/" + name + "/", tokens: tokens}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var harm, clients errgroup.Group
	seed := s.random.Uint64()
	harm.Go(func() error { return s.cutInTurn(running, rand.New(rand.NewPCG(seed, 0))) })
	end := time.Now().Add(s.settings.duration)
	for i := range s.settings.clients {
		random := rand.New(rand.NewPCG(seed, uint64(i)+1))
		clients.Go(func() error { w.client(ctx, i, random, end); return nil })
	}
	_ = clients.Wait() // no client returns an error
	stop()
	_ = harm.Wait() // it ends because it was stopped
	s.deployment.heal()
	if _, err := s.converge(ctx, convergeWithin); err != nil {
		return nil, "", err
	}
	final := map[string]string{}
	for i := range sessionKeys {
		value, err := s.deployment.clients[s.deployment.regions[0]].Get(ctx, w.key(i))
		if err != nil && !errors.Is(err, client.ErrNotFound) {
			return nil, "", err
		}
		final[w.key(i)] = string(value.Bytes)
	}
	calls = fmt.Sprintf("%d, %d of them in another region than the one before; %d gave up", len(w.ops), w.moves, w.gaveUp)
	return check.Sessions(w.ops, final), calls, nil
}

// cutInTurn cuts regions off and heals the links, over and over.
func (s *stage) cutInTurn(ctx context.Context, random *rand.Rand) error {
	for {
		s.deployment.cut(s.deployment.regions[random.IntN(len(s.deployment.regions))])
		if err := pause(ctx, 200*time.Millisecond+rand.N(time.Second)); err != nil {
			return err
		}
		s.deployment.heal()
		if err := pause(ctx, 200*time.Millisecond+rand.N(time.Second)); err != nil {
			return err
		}
	}
}

// sessionWork is what the clients of one run share.
type sessionWork struct {
	deployment *deployment
	prefix     string
	tokens     bool

	mu            sync.Mutex
	ops           []check.SessionOp
	moves, gaveUp int
}

func (w *sessionWork) key(i int) string { return w.prefix + strconv.Itoa(i) }

// client is one session: one call after the other.
func (w *sessionWork) client(ctx context.Context, id int, random *rand.Rand, end time.Time) {
	session := client.NewSession()
	region := random.IntN(len(w.deployment.regions))
	for n := 0; time.Now().Before(end) && ctx.Err() == nil; n++ {
		moved := random.IntN(sessionMoves) == 0
		if moved {
			region = (region + 1 + random.IntN(len(w.deployment.regions)-1)) % len(w.deployment.regions)
		}
		op := check.SessionOp{Session: id, Region: w.deployment.regions[region], Key: w.key(random.IntN(sessionKeys))}
		known := false
		if op.Write = random.IntN(3) == 0; op.Write {
			op.Value, known = fmt.Sprintf("%d.%d", id, n), true
			op.Unknown = w.write(ctx, session, &op) != nil
		} else {
			known = w.read(ctx, session, &op) == nil
		}
		w.note(op, known, moved)
	}
}

func (w *sessionWork) note(op check.SessionOp, known, moved bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !known || op.Unknown {
		w.gaveUp++
	}
	if !known {
		return
	}
	if moved {
		w.moves++
	}
	w.ops = append(w.ops, op)
}

func (w *sessionWork) write(ctx context.Context, session *client.Session, op *check.SessionOp) error {
	ctx, cancel := context.WithTimeout(ctx, sessionCall)
	defer cancel()
	var opts []client.WriteOption
	if w.tokens {
		opts = append(opts, client.InSession(session))
	}
	_, err := w.deployment.clients[op.Region].Put(ctx, op.Key, []byte(op.Value), opts...)
	return err
}

func (w *sessionWork) read(ctx context.Context, session *client.Session, op *check.SessionOp) error {
	ctx, cancel := context.WithTimeout(ctx, sessionCall)
	defer cancel()
	var opts []client.ReadOption
	if w.tokens {
		opts = append(opts, client.InSession(session))
	}
	value, err := w.deployment.clients[op.Region].Get(ctx, op.Key, opts...)
	if errors.Is(err, client.ErrNotFound) {
		return nil
	}
	op.Value = string(value.Bytes)
	return err
}
