package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	corruptPrefix = "corrupt/"
	corruptKeys   = 400
	corruptBytes  = 600
	// mendPatience is how long a node may take to be ready or to end. One that rebuilds what is damaged
	// may take a while.
	mendPatience = 45 * time.Second
	// starts is how often a node is started: damage that shows late may end it once.
	starts = 2
	// setAside is what a node adds to the name of a file that it found damaged and does without.
	setAside = ".damaged"
)

// corruptRun damages files of a node that is stopped, and starts it again. The node may have what is
// damaged rebuilt by its peers, or join them anew, if need be after it has ended once and said what is
// damaged; and where the damage hits nothing that counts, it may go on. What it must not do is to
// answer with anything wrong.
type corruptRun struct {
	*stage
	written map[string][]string // all values of each key, the last one last
	counts  map[string]int
	wrong   faults
	unsaid  faults
	stuck   faults
}

// damage is one way to damage one file.
type damage struct {
	file, how string
	apply     func(content []byte) []byte
}

// corrupt plays the scenario of the same name.
func (s *stage) corrupt(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	r := &corruptRun{stage: s, written: map[string][]string{}, counts: map[string]int{}}
	for n := range s.settings.cycles {
		if err := r.once(ctx, n); err != nil {
			return fmt.Errorf("damage %d: %w", n, err)
		}
	}
	for _, what := range names(r.counts) {
		s.out.figure(what, "%d", r.counts[what])
	}
	s.out.check("no damaged node answers with anything wrong", r.wrong.err())
	s.out.check("a node that ends names the damage", r.unsaid.err())
	s.out.check("a damaged node becomes equal to its peers", r.stuck.err())
	s.out.check("all nodes have equal vectors and digests", s.nodesEqual(ctx, convergeWithin))
	s.out.check("the region has all that was written", r.compare(ctx, nil))
	return nil
}

// once writes, damages one file of one node, and sees what comes of it.
func (r *corruptRun) once(ctx context.Context, n int) error {
	if err := r.write(ctx, n); err != nil {
		return err
	}
	if err := r.nodesEqual(ctx, convergeWithin); err != nil {
		return err
	}
	m := r.deployment.members[r.random.IntN(len(r.deployment.members))]
	if r.random.IntN(2) == 0 {
		m.crash()
	} else if err := r.deployment.stop([]*member{m}); err != nil {
		return err
	}
	d, err := choose(r.random, m.config.GetDataDir())
	if err != nil {
		return err
	}
	for _, earlier := range r.aside(m, d) {
		if err := os.RemoveAll(earlier); err != nil {
			return err
		}
	}
	backup := m.configFile + ".backup"
	if err := os.CopyFS(backup, os.DirFS(m.config.GetDataDir())); err != nil {
		return fmt.Errorf("copy the data directory: %w", err)
	}
	defer os.RemoveAll(backup)
	content, err := os.ReadFile(d.file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.file, d.apply(content), 0o600); err != nil {
		return err
	}
	result, err := r.restart(ctx, m, backup, d)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(d.file, m.config.GetDataDir()+"/")
	r.counts[result]++
	r.out.note("damage %d: %s of %s, %s: %s", n, name, m.name, d.how, result)
	return nil
}

// choose draws a file with something in it, and what to do to it. State and log are hit equally often.
func choose(random *rand.Rand, dir string) (damage, error) {
	part := []string{"partitions", "log"}[random.IntN(2)]
	var files []string
	err := filepath.WalkDir(filepath.Join(dir, part), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := e.Info(); err == nil && info.Size() > 0 && filepath.Ext(path) != setAside {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return damage{}, fmt.Errorf("find something to damage in %s: %w", dir, err)
	}
	d := damage{file: files[random.IntN(len(files))]}
	where := random.Float64()
	at := func(content []byte) int { return somewhere(content, where) }
	switch random.IntN(3) {
	case 0:
		bit := byte(1) << random.IntN(8)
		d.how = "one bit flipped"
		d.apply = func(c []byte) []byte { c[at(c)] ^= bit; return c }
	case 1:
		d.how = "cut off"
		d.apply = func(c []byte) []byte { return c[:at(c)] }
	default:
		d.how = "512 bytes overwritten"
		d.apply = func(c []byte) []byte {
			first := at(c)
			for i := first; i < min(len(c), first+512); i++ {
				c[i] = byte(i * 7)
			}
			return c
		}
	}
	return d, nil
}

// somewhere returns a place in a file, 0 for where being the first and 1 the last, that is not in the
// middle of nothing: files are made larger than what is in them.
func somewhere(content []byte, where float64) int {
	const block = 512
	nothing := make([]byte, block)
	var used []int
	for at := 0; at < len(content); at += block {
		if here := content[at:min(len(content), at+block)]; !bytes.Equal(here, nothing[:len(here)]) {
			used = append(used, at)
		}
	}
	if len(used) == 0 {
		return int(where * float64(len(content)-1))
	}
	exact := where * float64(len(used))
	i := min(int(exact), len(used)-1)
	return min(used[i]+int((exact-float64(i))*block), len(content)-1)
}

// write gives some keys new values.
func (r *corruptRun) write(ctx context.Context, n int) error {
	c := r.deployment.clients[r.deployment.regions[0]]
	var writes []client.Write
	for range corruptKeys / 4 {
		key := fmt.Sprintf("%s%d", corruptPrefix, r.random.IntN(corruptKeys))
		value := bytes.Repeat(fmt.Appendf(nil, "%d-%d,", n, len(writes)), corruptBytes/8)
		writes = append(writes, client.NewPut(key, value))
		r.written[key] = append(r.written[key], string(value))
	}
	results, err := c.Batch(ctx, writes)
	for _, one := range results {
		err = errors.Join(err, one.Err)
	}
	return err
}

// aside returns where a node puts the damaged file itself, and its log.
func (*corruptRun) aside(m *member, d damage) []string {
	return []string{d.file + setAside, filepath.Join(m.config.GetDataDir(), "log") + setAside}
}

// restart starts a damaged node, as often as is allowed, and says what comes of it. Afterwards the node
// runs, if need be with its files as they were before the damage.
func (r *corruptRun) restart(ctx context.Context, m *member, backup string, d damage) (string, error) {
	var err error
	for n := range starts {
		logged := len(textOf(m.log))
		if err := r.deployment.start(m); err != nil {
			return "", err
		}
		if err = r.examineWhenReady(ctx, m); err == nil || ctx.Err() != nil {
			return r.outcome(m, d, n), ctx.Err()
		}
		if m.process.running() {
			m.process.kill()
			m.retire()
			break
		}
		if said := textOf(m.log)[logged:]; !namesDamage(said, d.file, m.config.GetDataDir()) {
			r.unsaid.add("%s, %s: %s", d.file, d.how, tail(m.log))
		}
		m.retire()
	}
	r.stuck.add("%s, %s: %w%s", d.file, d.how, err, tail(m.log))
	dir := m.config.GetDataDir()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(backup))); err != nil {
		return "", err
	}
	return "does not recover", r.deployment.startAll(ctx, []*member{m})
}

// outcome says how a node that runs has got over the damage.
func (r *corruptRun) outcome(m *member, d damage, ended int) string {
	result := "goes on"
	for i, path := range r.aside(m, d) {
		if _, err := os.Stat(path); err == nil {
			result = []string{"has the state rebuilt by its peers", "gives up its log and joins anew"}[i]
		}
	}
	if ended > 0 {
		result += ", at the second start"
	}
	return result
}

// examineWhenReady waits for a node that starts, and examines it.
func (r *corruptRun) examineWhenReady(ctx context.Context, m *member) error {
	waiting, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	if err := m.process.awaitReady(waiting, m.api); err != nil {
		return err
	}
	return r.examine(ctx, m)
}

// examine reads everything from a node that runs after it was damaged. What it has itself may be old
// until it is equal to its peers, but must have been written; what it says for the region must be the
// last. It may end while it is examined.
func (r *corruptRun) examine(ctx context.Context, m *member) error {
	node := m.direct()
	defer node.close()
	for _, key := range names(r.written) {
		for _, options := range []*atollv1.ReadOptions{eventually(), nil} {
			reply, err := node.kv.Get(ctx, &atollv1.GetRequest{Key: key, Options: options})
			if err != nil {
				continue // nothing was served
			}
			last := options == nil
			if fault := r.judge(key, reply.GetFound(), reply.GetValue(), last); fault != "" {
				r.wrong.add("%s of %s (for the region: %v): %s", key, m.name, last, fault)
			}
		}
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-m.process.ended:
			cancel()
		case <-running.Done():
		}
	}()
	err := r.nodesEqual(running, mendPatience)
	cancel()
	<-watched
	if err != nil {
		return err
	}
	if err := r.compare(ctx, node); err != nil {
		r.wrong.add("%s is equal to its peers by digest, and yet: %w", m.name, err)
	}
	return nil
}

// judge says what is wrong with what was read.
func (r *corruptRun) judge(key string, found bool, value []byte, last bool) string {
	versions := r.written[key]
	switch {
	case !last && !found:
		return ""
	case !found:
		return "it is absent"
	case last && string(value) != versions[len(versions)-1]:
		return fmt.Sprintf("%d bytes that are not the last written", len(value))
	case !slices.Contains(versions, string(value)):
		return fmt.Sprintf("%d bytes that nobody wrote", len(value))
	}
	return ""
}

// namesDamage reports whether a log says which part of the data is damaged.
func namesDamage(said, file, dir string) bool {
	name := filepath.Base(file)
	part, _, _ := strings.Cut(strings.TrimPrefix(file, dir+"/"), "/")
	if part == "log" { // which of the log's files does not matter
		return strings.Contains(said, "corrupt log "+filepath.Join(dir, "log"))
	}
	return strings.Contains(said, name) || strings.Contains(said, "partition "+strings.TrimLeft(strings.TrimSuffix(name, ".db"), "0"))
}

func textOf(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	return string(text)
}

// compare compares all keys with the last that was written: as the node has them itself, or, for no
// node, as the region says.
func (r *corruptRun) compare(ctx context.Context, node *direct) error {
	var f faults
	for _, key := range names(r.written) {
		var value []byte
		var err error
		if node == nil {
			var v client.Value
			v, err = r.deployment.clients[r.deployment.regions[0]].Get(ctx, key)
			value = v.Bytes
		} else {
			var reply *atollv1.GetResponse
			reply, err = node.kv.Get(ctx, &atollv1.GetRequest{Key: key, Options: eventually()})
			value = reply.GetValue()
		}
		if err != nil {
			f.add("%s: %w", key, err)
		} else if fault := r.judge(key, true, value, true); fault != "" {
			f.add("%s: %s", key, fault)
		}
	}
	return f.err()
}
