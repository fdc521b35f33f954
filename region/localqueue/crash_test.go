package localqueue

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region/raftlog"
)

const crashDirEnv = "ATOLL_LOCALQUEUE_CRASH_DIR"

// crashWriter queues writes for ever, says which were acknowledged and which submitted, and is killed.
func crashWriter(dir string) {
	log, err := raftlog.Open(dir, raftlog.Options{})
	if err != nil {
		panic(err)
	}
	group, err := log.Group(Group(3))
	if err != nil {
		panic(err)
	}
	var out sync.Mutex
	say := func(what string, a ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(what+"\n", a...)
	}
	q, err := Open(Config{Log: group, Logger: slog.New(slog.DiscardHandler), Submit: func(_ context.Context, writes [][]byte) error {
		for _, data := range writes {
			w := &logv1.WriteCommand{}
			if err := proto.Unmarshal(data, w); err != nil {
				panic(err)
			}
			say("submit %d %s", w.GetQueue().GetSeq(), w.GetOpId())
		}
		return nil
	}})
	if err != nil {
		panic(err)
	}
	go func() { panic(q.Run(context.Background())) }()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d.%d.%d", os.Getpid(), w, i)
				data, err := proto.Marshal(&logv1.WriteCommand{OpId: name})
				if err != nil {
					panic(err)
				}
				seq, err := q.Append(context.Background(), data)
				if err != nil {
					panic(err)
				}
				say("ack %d %s", seq, name)
			}
		})
	}
	writers.Wait()
}

// record is what was acknowledged and submitted, over all processes.
type record struct {
	acked, submitted map[uint64]string
	last             uint64 // highest number submitted
}

// submit notes a submission, which may be a repeat.
func (r *record) submit(seq uint64, name string) error {
	if known, ok := r.submitted[seq]; ok {
		if known != name {
			return fmt.Errorf("%d was %s and is %s", seq, known, name)
		}
		return nil
	}
	if seq <= r.last {
		return fmt.Errorf("%d after %d", seq, r.last)
	}
	r.submitted[seq], r.last = name, seq
	return nil
}

// listen runs a writer, kills it after some lines and notes all that it said.
func (r *record) listen(dir string, kill int) error {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDirEnv+"="+dir)
	stderr := &strings.Builder{}
	child.Stderr = stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer child.Wait()
	lines, count := bufio.NewScanner(stdout), 0
	for ; lines.Scan(); count++ {
		var seq uint64
		var what, name string
		if n, _ := fmt.Sscanf(lines.Text(), "%s %d %s", &what, &seq, &name); n != 3 {
			break // cut off by the kill
		}
		if what == "ack" {
			r.acked[seq] = name
		} else if err := r.submit(seq, name); err != nil {
			return err
		}
		if count == kill { // go on reading: what is in the pipe was said too
			if err := child.Process.Kill(); err != nil {
				return err
			}
		}
	}
	if count < kill {
		return fmt.Errorf("the child said little; %s", stderr)
	}
	return nil
}

// Every acknowledged write is submitted, by the process that took it or a later one, always under one
// number, and in the order of the numbers.
func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	dir := t.TempDir()
	r := &record{acked: map[uint64]string{}, submitted: map[uint64]string{}}
	for round := range 5 {
		if err := r.listen(dir, 500+round*137); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	// What was said is all that can have left the queue, so the rest is still in it.
	drained := make(chan struct{}, 1)
	b := open(t, dir, Config{Submit: func(_ context.Context, writes [][]byte) error {
		for _, data := range writes {
			w := &logv1.WriteCommand{}
			if err := proto.Unmarshal(data, w); err != nil {
				return err
			}
			if err := r.submit(w.GetQueue().GetSeq(), w.GetOpId()); err != nil {
				t.Error(err)
			}
			if w.GetOpId() == "last" {
				drained <- struct{}{}
			}
		}
		return nil
	}})
	b.append(t, "last")
	stop := b.run(t)
	<-drained
	stop()
	for seq, name := range r.acked {
		if r.submitted[seq] != name {
			t.Fatalf("%s, acknowledged as %d, was never submitted", name, seq)
		}
	}
}
