package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/sim/check"
)

const (
	// linearKeys is how many keys are in use at once: few, so that operations meet.
	linearKeys = 32
	// linearOps is after how many operations a key gives way to a new one, linearBusy how many
	// operations it may have under way at once.
	linearOps     = 1000
	linearBusy    = 3
	operationTime = 5 * time.Second
	// hastyOf is which part of the clients does not repeat writes, so that outcomes stay unknown.
	hastyOf       = 4
	judgePatience = 5 * time.Minute
	// leastPerStrategy is which part of the reads each way of reading must have answered.
	leastPerStrategy = 0.02
)

// linearRun records what clients do to a few keys while nodes are killed, stopped and cut off, and
// has the record judged.
type linearRun struct {
	*stage
	history    check.History
	begin      time.Time
	nodes      []*direct
	strategies []atollv1.Strategy
	keys       *hotKeys
	enough     chan struct{}
	once       sync.Once

	mu struct {
		sync.Mutex
		seen     map[string]seenValue // the last that any client has seen, by key
		answered map[string]int       // reads, by strategy
		refused  map[string]int
		weaker   []string // reads served with less than asked for
	}
}

type seenValue struct{ value, version string }

// linearizable plays the scenario of the same name.
func (s *stage) linearizable(ctx context.Context) error {
	r := &linearRun{stage: s, begin: time.Now(), keys: newHotKeys("linear/", linearKeys, linearOps, linearBusy), enough: make(chan struct{})}
	r.mu.seen, r.mu.answered, r.mu.refused = map[string]seenValue{}, map[string]int{}, map[string]int{}
	var err error
	if r.strategies, err = strategiesOf(s.settings.strategies); err != nil {
		return err
	}
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	for _, m := range s.deployment.members {
		d := m.direct()
		defer d.close()
		r.nodes = append(r.nodes, d)
	}
	var load errgroup.Group
	for i := range s.settings.clients {
		options := []client.Option{client.WithTimeout(operationTime), client.WithAttemptTimeout(attemptTime)}
		if i%hastyOf == 0 {
			options = append(options, client.WithMaxAttempts(1))
		}
		c, err := client.New(rotated(s.deployment.endpoints(), i), options...)
		if err != nil {
			return err
		}
		defer c.Close()
		w := &linearClient{linearRun: r, number: i, sdk: c, random: rand.New(rand.NewPCG(s.settings.seed, uint64(i)+1))}
		load.Go(func() error { w.run(ctx); return nil })
	}
	faults, err := s.harmInside(ctx, r.enough)
	r.once.Do(func() { close(r.enough) })
	_ = load.Wait() // clients return no errors
	if err != nil {
		return err
	}
	return r.judge(ctx, faults)
}

// strategiesOf reads names such as "follower".
func strategiesOf(names string) ([]atollv1.Strategy, error) {
	var out []atollv1.Strategy
	for name := range strings.SplitSeq(names, ",") {
		value, known := atollv1.Strategy_value["STRATEGY_"+strings.ToUpper(name)]
		if !known || value == 0 {
			return nil, fmt.Errorf("unknown strategy %q: want auto, leader, follower or majority", name)
		}
		out = append(out, atollv1.Strategy(value))
	}
	return out, nil
}

// linearClient does one operation after another.
type linearClient struct {
	*linearRun
	number, count int
	sdk           *client.Client
	random        *rand.Rand
}

func (c *linearClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-c.enough:
			return
		default:
		}
		c.operate(ctx)
		if c.history.Len() >= c.settings.operations {
			c.once.Do(func() { close(c.enough) })
		}
	}
}

// operate does one operation: half are reads.
func (c *linearClient) operate(ctx context.Context) {
	key := c.keys.take(c.random)
	if key == nil {
		_ = pause(ctx, readPause) // run looks at ctx
		return
	}
	o := check.Operation{Client: c.number, Key: key.name}
	defer func() { c.keys.giveBack(key, o.Outcome == check.Unknown) }()
	c.count++
	o.Value = fmt.Sprintf("%d-%d", c.number, c.count)
	o.Call = int64(time.Since(c.begin))
	switch dice := c.random.IntN(100); {
	case dice < 50:
		c.get(ctx, &o)
	case dice < 70:
		o.Kind = check.Put
		o.Version, o.Outcome, o.Held = c.put(ctx, &o)
	case dice < 80:
		o.Kind = check.Delete
		existed, err := c.sdk.Delete(ctx, o.Key)
		o.Outcome, o.Held = outcomeOf(err), existed
	case dice < 85:
		o.Kind = check.Replace
		o.Version, o.Outcome, o.Held = c.put(ctx, &o, client.IfPresent())
	default:
		o.Kind = check.Swap
		c.swap(ctx, &o)
	}
	o.Return = int64(time.Since(c.begin))
	c.remember(&o)
	c.history.Add(o)
}

// put writes a value. A condition that does not hold is an answer, too.
func (c *linearClient) put(ctx context.Context, o *check.Operation, opts ...client.WriteOption) (version string, outcome check.Outcome, held bool) {
	version, err := c.sdk.Put(ctx, o.Key, []byte(o.Value), opts...)
	for _, refusal := range []error{client.ErrAlreadyExists, client.ErrNotPresent, client.ErrValueMismatch, client.ErrVersionMismatch} {
		if errors.Is(err, refusal) {
			return "", check.Done, false
		}
	}
	return version, outcomeOf(err), err == nil
}

// swap writes if the key is still as it was last seen: by value, by version, or absent.
func (c *linearClient) swap(ctx context.Context, o *check.Operation) {
	c.mu.Lock()
	seen := c.mu.seen[o.Key]
	c.mu.Unlock()
	o.Expected = seen.value
	condition := client.IfValue([]byte(seen.value))
	switch {
	case seen.value == "":
		condition = client.IfAbsent()
	case seen.version != "" && c.random.IntN(2) == 0:
		condition, o.Note = client.IfVersion(seen.version), "by version"
	}
	o.Version, o.Outcome, o.Held = c.put(ctx, o, condition)
}

// get reads from any node in any of the ways.
func (c *linearClient) get(ctx context.Context, o *check.Operation) {
	ctx, cancel := context.WithTimeout(ctx, operationTime)
	defer cancel()
	o.Kind, o.Value, o.Outcome = check.Get, "", check.NotDone
	node := c.nodes[c.random.IntN(len(c.nodes))]
	strategy := c.strategies[c.random.IntN(len(c.strategies))]
	reply, err := node.kv.Get(ctx, &atollv1.GetRequest{Key: o.Key, Options: &atollv1.ReadOptions{
		Consistency: atollv1.Consistency_CONSISTENCY_LINEARIZABLE, Strategy: strategy,
	}})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.mu.refused[strategy.String()]++
		return
	}
	c.mu.answered[strategy.String()]++
	o.Note = fmt.Sprintf("%s asked for %s, %s answered", node.node, strategy, reply.GetInfo().GetNode())
	if served := reply.GetInfo().GetServed(); served != atollv1.Consistency_CONSISTENCY_LINEARIZABLE {
		c.mu.weaker = append(c.mu.weaker, o.Note+" with "+served.String())
	}
	o.Outcome, o.Found, o.Version = check.Done, string(reply.GetValue()), reply.GetVersion()
	if !reply.GetFound() {
		o.Version = ""
	}
}

// remember keeps what was seen, for conditions to come.
func (c *linearClient) remember(o *check.Operation) {
	value := o.Value
	switch {
	case o.Outcome != check.Done || o.Kind != check.Get && !o.Held:
		return
	case o.Kind == check.Get:
		value = o.Found
	case o.Kind == check.Delete:
		value = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.seen[o.Key] = seenValue{value, o.Version}
}

func (r *linearRun) judge(ctx context.Context, faults map[string]int) error {
	took := time.Since(r.begin)
	r.out.note("%d operations are recorded; they are judged now", r.history.Len())
	begin := time.Now()
	v := r.history.Linearizable(judgePatience, runtime.NumCPU())
	r.out.figure("operations", "%d on %d keys, %d of unknown outcome", v.Operations, v.Keys, v.Unknown)
	r.out.figure("operations per second", "%.0f, faults included", float64(v.Operations)/took.Seconds())
	r.out.figure("judged in", "%s", ms(time.Since(begin)))
	total := 0
	for _, name := range names(faults) {
		r.out.figure("fault: "+name, "%d", faults[name])
		total += faults[name]
	}
	var err error
	if len(v.Illegal) > 0 {
		err = fmt.Errorf("%d are not, such as %s: %s", len(v.Illegal), v.Illegal[0], r.show(v.Illegal[0]))
	}
	r.out.check("the history of every key is linearizable", err)
	if err = nil; len(v.Undecided) > 0 {
		err = fmt.Errorf("not that of %v", v.Undecided)
	}
	r.out.check(fmt.Sprintf("each is judged within %v", judgePatience), err)
	if err = nil; len(v.Versions) > 0 {
		key := names(v.Versions)[0]
		err = fmt.Errorf("not of %d keys, such as %s: %w", len(v.Versions), key, v.Versions[key])
	}
	r.out.check("a version belongs to one value and a value to one version", err)
	if err = nil; total == 0 {
		err = errors.New("there were none")
	}
	r.out.check("there were faults", err)
	r.judgeStrategies()
	r.out.check("all nodes have equal vectors and digests", r.nodesEqual(ctx, convergeWithin))
	return nil
}

// show draws a key's history, and says where.
func (r *linearRun) show(key string) string {
	file := filepath.Join(r.deployment.dir, strings.ReplaceAll(key, "/", "-")+".html")
	if err := r.history.Visualize(key, file, judgePatience); err != nil {
		return err.Error()
	}
	return "see " + file
}

func (r *linearRun) judgeStrategies() {
	all := 0
	for _, n := range r.mu.answered {
		all += n
	}
	var few []error
	for _, strategy := range r.strategies {
		name := strategy.String()
		r.out.figure("reads, "+name, "%d answered, %d not", r.mu.answered[name], r.mu.refused[name])
		if float64(r.mu.answered[name]) < leastPerStrategy*float64(all) || all == 0 {
			few = append(few, fmt.Errorf("%s has %d of %d", name, r.mu.answered[name], all))
		}
	}
	r.out.check("reads of every strategy are answered", errors.Join(few...))
	var err error
	if len(r.mu.weaker) > 0 {
		err = fmt.Errorf("%d were not, such as: %s", len(r.mu.weaker), r.mu.weaker[0])
	}
	r.out.check("reads are served as linearizable as asked", err)
}
