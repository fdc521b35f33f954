package wan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// patience bounds what must happen; stillness is how long nothing may happen.
const (
	patience  = 20 * time.Second
	stillness = 150 * time.Millisecond
)

// start runs fn until the test ends.
func start(t *testing.T, fn func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// serve listens and gives each accepted connection to handle.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		handlers.Wait()
	})
	return listener.Addr().String()
}

func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

func link(t *testing.T, config Config) *Link {
	t.Helper()
	config.Listen = "127.0.0.1:0"
	l, err := Listen(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	start(t, l.Run)
	return l
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatalf("send: %v", err)
	}
}

func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v; want %q", got, err, want)
	}
}

// silent fails if anything arrives within a moment.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(stillness)); err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if n, err := conn.Read(one[:]); n != 0 || !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Fatalf("received %d bytes, %v through a cut link", n, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestEveryByteTakesTheDelayEachWay(t *testing.T) {
	const delay = 40 * time.Millisecond
	l := link(t, Config{Target: serve(t, echo), Delay: delay})
	conn := dial(t, l.Addr())
	begin := time.Now()
	send(t, conn, "hello")
	expect(t, conn, "hello")
	if took := time.Since(begin); took < 4*delay {
		t.Errorf("the first answer took %v: less than a handshake and a round trip of %v", took, 4*delay)
	}
	// The smallest of several is what the link adds, whatever else the machine does.
	fastest := patience
	for range 5 {
		begin := time.Now()
		send(t, conn, "again")
		expect(t, conn, "again")
		fastest = min(fastest, time.Since(begin))
	}
	if fastest < 2*delay || fastest > 10*delay {
		t.Errorf("a round trip takes %v, want about %v", fastest, 2*delay)
	}
}

func TestCutStallsBothWaysAndHealResumesInOrder(t *testing.T) {
	l := link(t, Config{Target: serve(t, echo)})
	conn := dial(t, l.Addr())
	send(t, conn, "before")
	expect(t, conn, "before")
	l.Cut()
	if !l.IsCut() {
		t.Error("a cut link says that it is not")
	}
	send(t, conn, "first ")
	send(t, conn, "second")
	silent(t, conn)
	l.Heal()
	expect(t, conn, "first second")
	if l.IsCut() {
		t.Error("a healed link says that it is cut")
	}
}

func TestOneWayIsCutAloneAndHealsAlone(t *testing.T) {
	arrived := make(chan string, 8)
	l := link(t, Config{Target: serve(t, func(conn *net.TCPConn) {
		text := make([]byte, 3)
		for {
			if _, err := io.ReadFull(conn, text); err != nil {
				return
			}
			arrived <- string(text)
			_, _ = conn.Write(text)
		}
	})})
	conn := dial(t, l.Addr())
	l.CutWay(Back)
	send(t, conn, "one")
	if got := <-arrived; got != "one" || !l.IsCut() {
		t.Errorf("%q arrived, is cut: %v", got, l.IsCut())
	}
	silent(t, conn)
	l.HealWay(There) // was not cut
	silent(t, conn)
	l.HealWay(Back)
	expect(t, conn, "one")
	l.CutWay(There)
	send(t, conn, "two")
	silent(t, conn)
	l.Heal()
	expect(t, conn, "two")
}

func TestTheWayBackMayTakeLonger(t *testing.T) {
	const delay = 40 * time.Millisecond
	arrived := make(chan time.Time, 1)
	l := link(t, Config{BackDelay: delay, Target: serve(t, func(conn *net.TCPConn) {
		var one [1]byte
		for {
			if _, err := conn.Read(one[:]); err != nil {
				return
			}
			arrived <- time.Now()
			_, _ = conn.Write(one[:])
		}
	})})
	conn := dial(t, l.Addr())
	there, back := patience, patience
	for range 5 {
		begin := time.Now()
		send(t, conn, "x")
		at := <-arrived
		expect(t, conn, "x")
		there, back = min(there, at.Sub(begin)), min(back, time.Since(at))
	}
	if there >= delay || back < delay {
		t.Errorf("a byte takes %v there and %v back", there, back)
	}
}

func TestDialThroughACutLinkWaitsForHeal(t *testing.T) {
	var accepted sync.WaitGroup
	accepted.Add(1)
	l := link(t, Config{Target: serve(t, func(conn *net.TCPConn) { accepted.Done(); echo(conn) })})
	l.Cut()
	conn := dial(t, l.Addr())
	send(t, conn, "hello")
	silent(t, conn)
	l.Heal()
	expect(t, conn, "hello")
	accepted.Wait()
}

func TestWhoHangsUpDuringACutNeverReachesTheTarget(t *testing.T) {
	reached := make(chan string, 2)
	l := link(t, Config{Target: serve(t, func(conn *net.TCPConn) {
		text, _ := io.ReadAll(conn)
		reached <- string(text)
	})})
	l.Cut()
	gone := dial(t, l.Addr())
	send(t, gone, "gone")
	gone.Close()
	// The link has noticed once it lets go of the connection; what is left to see is that nothing of
	// it arrives before a later connection does.
	kept := dial(t, l.Addr())
	send(t, kept, "kept")
	silent(t, kept)
	l.Heal()
	if err := kept.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-reached; got != "kept" {
		t.Errorf("the target saw %q", got)
	}
}

func TestEndsTravelEachWayAlone(t *testing.T) {
	l := link(t, Config{Target: serve(t, func(conn *net.TCPConn) {
		text, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "%d bytes", len(text))
	})})
	conn := dial(t, l.Addr())
	send(t, conn, "hello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "5 bytes" {
		t.Errorf("answer %q, %v", answer, err)
	}
}

func TestNoTargetIsAnErrorToTheCaller(t *testing.T) {
	l := link(t, Config{Target: testkit.FreeAddrs(t, 1)[0], Delay: 50 * time.Millisecond})
	var one [1]byte
	if _, err := dial(t, l.Addr()).Read(one[:]); err == nil || errors.Is(err, io.EOF) || isTimeout(err) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestMuchDataArrivesWholeThroughASmallBuffer(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, size := range []int{1000, 64 << 10} {
		l := link(t, Config{Target: serve(t, echo), Delay: time.Millisecond, BufferBytes: size})
		conn := dial(t, l.Addr())
		go func() {
			_, _ = conn.Write(want)
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("buffer %d: %d bytes, %v; want %d", size, len(got), err, len(want))
		}
	}
}

func TestACutLinkHoldsBackTheSender(t *testing.T) {
	l := link(t, Config{Target: serve(t, echo), BufferBytes: 64 << 10})
	conn := dial(t, l.Addr())
	l.Cut()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	const most = 64 << 20 // far more than the link and the kernel's buffers hold
	written, err := io.Copy(struct{ io.Writer }{conn}, io.LimitReader(zeros{}, most))
	if !isTimeout(err) || written == most {
		t.Errorf("the link took %d bytes, %v", written, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestRunEndsWithConnectionsOpenAndCut(t *testing.T) {
	l, err := Listen(context.Background(), Config{Listen: "127.0.0.1:0", Target: serve(t, echo)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	conn := dial(t, l.Addr())
	send(t, conn, "hello")
	expect(t, conn, "hello")
	l.Cut()
	send(t, conn, "stuck")
	dial(t, l.Addr())
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("run goes on after its context is done")
	}
	if err := l.Close(); err != nil {
		t.Errorf("close after run: %v", err)
	}
	if _, err := io.ReadAll(conn); isTimeout(err) {
		t.Error("a connection stays open after the link is gone")
	}
}

func TestListenNamesTheTargetOfALinkThatCannot(t *testing.T) {
	l, err := Listen(context.Background(), Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(context.Background(), Config{Listen: l.Addr(), Target: "us"}); err == nil {
		t.Error("two links listen on one address")
	}
}
