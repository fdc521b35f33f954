package jetstream

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/topology"
)

func TestStreamRecreatedUnderALiveConsumer(t *testing.T) {
	eu, us := newRegion(t, 1, "eu", 2), newRegion(t, 2, "us", 1)
	eu.start(t, nil, us)
	us.start(t, nil, eu)
	eu.write(2000, 100)
	converge(t, time.Minute, eu, us)
	nc, err := nats.Connect(urls(eu.server)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := js.DeleteStream(t.Context(), streamName(1)); err != nil {
			t.Fatal(err)
		}
		eu.write(100, 100)
		converge(t, time.Minute, eu, us)
		until(t, "new stream", time.Minute, func() bool {
			_, err := js.Stream(t.Context(), streamName(1))
			return err == nil
		})
	}
}

// stallProxy passes bytes on until it is stalled; then it keeps the connections and passes nothing,
// as a router does that lost its way.
type stallProxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup
	mu       struct {
		sync.Mutex
		conns  []net.Conn
		passes chan struct{} // closed while bytes pass
	}
}

func newStallProxy(t *testing.T, target string) *stallProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &stallProxy{listener: l, target: target}
	p.mu.passes = make(chan struct{})
	close(p.mu.passes)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.heal()
		p.mu.Lock()
		for _, c := range p.mu.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *stallProxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.mu.conns = append(p.mu.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(in, out) })
		p.wg.Go(func() { p.copy(out, in) })
	}
}

func (p *stallProxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		passes := p.mu.passes
		p.mu.Unlock()
		<-passes
		if err != nil {
			break
		}
		if _, err := to.Write(buf[:n]); err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
}

func (p *stallProxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.passes = make(chan struct{})
}

func (p *stallProxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.mu.passes:
	default:
		close(p.mu.passes)
	}
}

func TestHalfOpenLinkComesBack(t *testing.T) {
	eu, us := newRegion(t, 1, "eu", 2), newRegion(t, 2, "us", 1)
	toEU, toUS := newStallProxy(t, eu.listen), newStallProxy(t, us.listen)
	eu.start(t, map[topology.RegionID]string{2: toUS.listener.Addr().String()}, us)
	us.start(t, map[topology.RegionID]string{1: toEU.listener.Addr().String()}, eu)
	eu.write(100, 100)
	us.write(100, 100)
	converge(t, time.Minute, eu, us)
	until(t, "first ticks", 10*time.Second, func() bool { return eu.knowsAll() && us.knowsAll() })
	toEU.stall()
	toUS.stall()
	stalled := time.Now()
	eu.write(2000, 100)
	us.write(2000, 100)
	until(t, "notice of a half-open link", 10*time.Second, func() bool { return eu.knowsNothing() && us.knowsNothing() })
	t.Logf("half-open links were noticed after %v", time.Since(stalled))
	// Long enough for both ends to take the connection for dead, and for attempts to connect anew
	// to be stuck in the same way. Who asks for something meanwhile does not wait.
	if slowest := longest(t, 12*time.Second, func() { us.replicator.AskWatermarks(0, 1) }); slowest > time.Second {
		t.Errorf("to ask a region that cannot be reached took %v", slowest)
	}
	if us.Missing(eu.Region) != 2000 || eu.Missing(us.Region) != 2000 {
		t.Error("something crossed a stalled link")
	}
	toEU.heal()
	toUS.heal()
	healed := time.Now()
	converge(t, time.Minute, eu, us)
	if took := time.Since(healed); took > 15*time.Second {
		t.Errorf("it took %v to go on", took)
	}
}

// longest does something over and over, and returns the longest that it took.
func longest(t *testing.T, d time.Duration, do func()) (took time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-timer.C:
			return took
		case <-tick.C:
		}
		began := time.Now()
		do()
		took = max(took, time.Since(began))
	}
}

// plainServer starts a server that is not ours.
func plainServer(t *testing.T, config string) []string {
	t.Helper()
	opts := &server.Options{NoSigs: true, NoLog: true}
	if err := opts.ProcessConfigString("host: 127.0.0.1, port: -1\n" + config); err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("server does not start")
	}
	return []string{srv.ClientURL()}
}

func TestWeakExternalServersAreRefused(t *testing.T) {
	good := fmt.Sprintf("max_payload: 8388608\njetstream { store_dir: %q, max_file: 10GB }", t.TempDir())
	limited := fmt.Sprintf("max_payload: 8388608\njetstream { store_dir: %q }\naccounts { A { jetstream { max_file: 1GB }, users: [ { user: atoll } ] } }\nno_auth_user: atoll", t.TempDir())
	cases := map[string]struct {
		config string
		stream *jetstream.StreamConfig
		want   []string
	}{
		"good":         {good, nil, nil},
		"no JetStream": {"max_payload: 8388608", nil, []string{"JetStream is not enabled"}},
		"small payload, no JetStream": {"", nil, []string{
			"max_payload is 1048576: must be 8388608", "JetStream is not enabled",
		}},
		"small account": {limited, nil, []string{"account storage limit is 1073741824"}},
		"weak stream": {good, &jetstream.StreamConfig{
			Storage: jetstream.MemoryStorage, Retention: jetstream.InterestPolicy, Discard: jetstream.DiscardNew,
			MaxAge: time.Hour, MaxBytes: 1 << 20, MaxMsgs: 10, MaxMsgSize: 1 << 10,
		}, []string{
			"storage is Memory: must be File", "retention is Interest: must be Limits", "discard is DiscardNew: must be DiscardOld",
			"max_age is 1h0m0s", "max_bytes is 1048576", "max_msgs is 10", "max_msg_size is 1024", "allow_direct is not set",
		}},
	}
	for name, c := range cases {
		urls := plainServer(t, c.config)
		if c.stream != nil {
			makeStream(t, urls[0], *c.stream)
		}
		err := CheckExternal(t.Context(), External{URLs: urls, Region: 1, Replicas: 1})
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: fault %q is not named in: %v", name, want, err)
			}
		}
	}
	if err := CheckExternal(t.Context(), External{URLs: []string{"nats://" + freeAddress(t)}, Region: 1, Replicas: 1}); err == nil {
		t.Error("a server that is not there passed")
	}
}

func makeStream(t *testing.T, url string, cfg jetstream.StreamConfig) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.Subjects = streamName(1), []string{"atoll.delta.1.*"}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestWeakerReplicationIsNamed(t *testing.T) {
	want := streamConfig(1, 3, 1<<30)
	have := want
	have.Replicas = 1
	if faults := streamFaults(have, want); len(faults) != 1 || faults[0] != "replicas is 1: must be 3" {
		t.Errorf("%q", faults)
	}
	if faults := streamFaults(want, want); len(faults) != 0 {
		t.Errorf("what is wanted is weak: %q", faults)
	}
	for version, ok := range map[string]bool{"2.14.0": true, "2.15.2": true, "3.0.0": true, "2.13.9": false, "1.99.0": false, "x": false, "": false} {
		if recent(version) != ok {
			t.Errorf("version %q", version)
		}
	}
}

// TestLinkToNowhereEnds proves that a link whose region is not there costs nothing but attempts, and ends.
func TestLinkToNowhereEnds(t *testing.T) {
	own := startServer(t, ServerConfig{Name: "n1", Region: "eu", StoreDir: t.TempDir()})
	l, stop := runLink(t, Config{
		Region: 1, Node: "n1", Server: own,
		Remotes: []Remote{{ID: 2, Name: "us", URLs: []string{"nats://" + freeAddress(t)}}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := l.Inlet(2).Fetch(ctx, 0, nil); err == nil {
		t.Error("an answer from nowhere")
	}
	if err := l.Inlet(2).Report(nil); err == nil {
		t.Error("a report to nowhere")
	}
	stop()
}
